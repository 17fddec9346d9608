"""What alarms are made of: how old the oldest message is, per peer and lane, that was not accepted, not delivered.

A bounded number of rows is looked at, whatever is open, and only the oldest of each lane when nothing is late. Counts are of
messages and end at what was looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select, text

from relay.store.common import unsigned
from relay.store.outgoing import lanes_open
from relay.store.tables import OUTBOX_DELIVERY, OUTBOX_ENVELOPE

LOOKED_AT = 4096
NEAREST = 256

_D = OUTBOX_DELIVERY.c
_IS_OPEN = text("outbox_delivery.open <> 0")
_ROWS = (
    select(_D.recipient, _D.lane, _D.open, _D.unaccepted, _D.deadline, OUTBOX_ENVELOPE.c.created_at)
    .join(OUTBOX_ENVELOPE, OUTBOX_ENVELOPE.c.n == _D.envelope)
    .where(_IS_OPEN)
)
_OF_LANE = (
    _ROWS.where(_D.recipient == bindparam("of_recipient"), _D.lane == bindparam("of_lane"))
    .order_by(_D.first)
    .limit(bindparam("most"))
)
_NEAREST = _ROWS.order_by(_D.deadline).limit(NEAREST)


@dataclass(frozen=True, slots=True)
class Aged:
    """Messages of one lane to a peer: how many, and when the oldest of them was submitted (milliseconds)."""

    recipient: str
    lane: str
    messages: int
    since: int


def unaccepted(connection: Connection, until: Callable[[str], int]) -> list[Aged]:
    """Return what was submitted up to ``until(lane)`` and is not accepted."""
    return _aged(connection, until, "unaccepted")


def undelivered(connection: Connection, until: Callable[[str], int]) -> list[Aged]:
    """Return what was submitted up to ``until(lane)`` and has no terminal state."""
    return _aged(connection, until, "open")


def half_over(connection: Connection, now: int) -> list[Aged]:
    """Return what has no terminal state while half of its time is over, among what has the nearest deadlines."""
    rows = [row for row in connection.execute(_NEAREST).all() if row.created_at + row.deadline <= 2 * now]
    by_lane: dict[tuple[str, str], list[Any]] = {}
    for row in rows:
        by_lane.setdefault((row.recipient, row.lane), []).append(row)
    return [_together(found, "open") for found in by_lane.values()]


def _aged(connection: Connection, until: Callable[[str], int], column: str) -> list[Aged]:
    found = []
    for recipient, lane in lanes_open(connection):
        limit = until(lane)
        given = {"of_recipient": recipient, "of_lane": lane}
        first = connection.execute(_OF_LANE, {**given, "most": 1}).one_or_none()
        if first is None or first.created_at > limit:
            continue
        rows = connection.execute(_OF_LANE, {**given, "most": LOOKED_AT}).all()
        late = [row for row in rows if row.created_at <= limit and getattr(row, column)]
        if late:
            found.append(_together(late, column))
    return found


def _together(rows: list[Any], column: str) -> Aged:
    messages = sum(unsigned(getattr(row, column)).bit_count() for row in rows)
    return Aged(rows[0].recipient, rows[0].lane, messages, min(row.created_at for row in rows))
