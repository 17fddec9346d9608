"""Canonical lines: one for each message and step, everything to follow it by and nothing of what it says.

A batch's lines share what its messages have in common, and go out in one write: a saturated node writes thousands a second, so
they don't go through the processors one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from pydantic_core import to_json

from relay.envelope import given_at
from relay.log.events import Event
from relay.log.output import Output


class Lines:
    """Writes canonical lines as JSON."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def write(self, event: Event, own: Iterable[Mapping[str, object]], shared: Mapping[str, object], now: int) -> None:
        """Write a line for each message: its ``own`` fields, ``message`` among them, and those that all of them share."""
        moment = datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        head = to_json(shared)[:-1].decode()
        tail = to_json({"event": event.value, "level": event.level, "timestamp": moment})[1:].decode()
        lines = (f'{head},{to_json(one)[1:-1].decode()},"age_ms":{age(one, now)},{tail}\n' for one in own)
        self._output.write("".join(lines))
        self._output.flush()


def age(one: Mapping[str, object], now: int) -> int:
    """Return how many milliseconds ago the id of a line's message was given; below 0 when its origin's clock is ahead."""
    return now - given_at(str(one["message"]))
