"""The audit record as JSON lines: entries in order, and each checkpoint behind the last entry that it covers.

An entry's line is ``{"epoch":E,"position":P,"leaf":{...}}`` with the leaf's very bytes, so that whoever has the lines can hash
them anew; one that is no JSON object (it was damaged) stands as ``"damaged"`` in base64. A checkpoint's line is
``{"checkpoint":{...},"countersignatures":[...]}``. Times choose entries by what they say of themselves.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass

from relay.store import Connection, checkpoints, traces
from relay.store.checkpoints import Kept
from relay.store.traces import Leaf

PAGE = 2000


@dataclass(frozen=True, slots=True)
class Span:
    """Which entries: from a time on, before a time (milliseconds); None is no bound."""

    since: int | None = None
    until: int | None = None

    def holds(self, at: object) -> bool:
        """Return whether an entry of this time is asked for; one without a time is, so that no damage is passed over."""
        if not isinstance(at, int):
            return True
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


def page(connection: Connection, after: tuple[int, int], span: Span) -> tuple[bytes, tuple[int, int] | None]:
    """Return the lines of the next entries behind an (epoch, position), and where to go on, or None at the end."""
    found = traces.page(connection, after, PAGE)
    if not found:
        return b"", None
    signed = {(kept.epoch, kept.size): kept for kept in _signed(connection, found)}
    lines = list[bytes]()
    for leaf, says in traces.entries(found):
        if span.holds(says.get("time")):
            lines.append(_entry(leaf, says))
        kept = signed.get((leaf.epoch, leaf.position + 1))
        if kept is not None and span.holds(kept.time):
            lines.append(_checkpoint(kept))
    return b"".join(lines), (found[-1].epoch, found[-1].position)


def lines(connection: Connection, span: Span) -> Iterator[bytes]:
    """Yield the whole record, some lines at a time."""
    after: tuple[int, int] | None = (0, -1)
    while after is not None:
        some, after = page(connection, after, span)
        if some:
            yield some


def _signed(connection: Connection, found: list[Leaf]) -> Iterator[Kept]:
    """Yield the checkpoints that end with one of these entries."""
    for epoch in dict.fromkeys(leaf.epoch for leaf in found):
        positions = [leaf.position for leaf in found if leaf.epoch == epoch]
        yield from checkpoints.between(connection, epoch, positions[0], positions[-1] + 1)


def _entry(leaf: Leaf, says: dict[str, object]) -> bytes:
    head = f'{{"epoch":{leaf.epoch},"position":{leaf.position},'.encode()
    if not says or b"\n" in leaf.leaf:
        return head + b'"damaged":"' + base64.b64encode(leaf.leaf) + b'"}\n'
    return head + b'"leaf":' + leaf.leaf + b"}\n"


def _checkpoint(kept: Kept) -> bytes:
    notes = [note.model_dump() for note in kept.countersignatures.values()]
    line = {"checkpoint": kept.note.model_dump(), "countersignatures": notes}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
