"""Canonical lines: one for each message and step, everything to follow it by and nothing of what it says.

A batch's lines share what its messages have in common, and go out in one write: a saturated node writes thousands a second, so
they don't go through the processors one by one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from relay.envelope import given_at
from relay.log.events import Event
from relay.log.output import Output

_encode = json.JSONEncoder(ensure_ascii=False).encode


class Lines:
    """Writes canonical lines as JSON."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def write(self, event: Event, own: Iterable[Mapping[str, object]], shared: Mapping[str, object], now: int) -> None:
        """Write a line for each message: its ``own`` fields, ``message`` among them, and those that all of them share."""
        moment = datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        head = _encode(shared)[:-1] + ", "
        tail = _encode({"event": event.value, "level": event.level, "timestamp": moment})[1:] + "\n"
        self._output.write("".join(f'{head}{_encode(one)[1:-1]}, "age_ms": {age(one, now)}, {tail}' for one in own))
        self._output.flush()


def age(one: Mapping[str, object], now: int) -> int:
    """Return how many milliseconds ago the id of a line's message was given; below 0 when its origin's clock is ahead."""
    return now - given_at(str(one["message"]))
