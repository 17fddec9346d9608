"""Rows of closed sequences: what of an origin's lane was judged, whatever the verdict, kept as few ranges.

What is not closed below a lane's highest is a gap.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, select

from relay.limits import MOST_RANGES
from relay.store.rows import Insert
from relay.store.tables import INBOX_CLOSED

# Built once: these run for every envelope.
_CLOSED = INBOX_CLOSED.c
_TOUCHES = (
    (_CLOSED.origin == bindparam("of_origin"))
    & (_CLOSED.epoch == bindparam("of_epoch"))
    & (_CLOSED.lane == bindparam("of_lane"))
    & (_CLOSED.first <= bindparam("after"))
    & (_CLOSED.last >= bindparam("before"))
)
_TOUCHING = select(_CLOSED.first, _CLOSED.last).where(_TOUCHES)
_RANGES = (
    select(func.count())
    .select_from(INBOX_CLOSED)
    .where(_CLOSED.origin == bindparam("of_origin"), _CLOSED.epoch == bindparam("of_epoch"), _CLOSED.lane == bindparam("of_lane"))
)
_DROP_TOUCHING = delete(INBOX_CLOSED).where(_TOUCHES)
_ADD_CLOSED = Insert("inbox_closed", ("origin", "epoch", "lane", "first", "last"))


@dataclass(frozen=True, slots=True)
class Range:
    """Consecutive sequences of one origin's lane that a receipt speaks of."""

    epoch: int
    lane: str
    first: int
    last: int


def close(connection: Connection, origin: str, closed: Range) -> list[tuple[int, int]] | None:
    """Note sequences as judged, merging them with their neighbours; return the ranges near them that were closed before.

    Return None, and note nothing, when this would be one range too many of the lane: it has too many gaps.
    """
    near = {"of_origin": origin, "of_epoch": closed.epoch, "of_lane": closed.lane}
    near |= {"after": closed.last + 1, "before": closed.first - 1}
    rows = connection.execute(_TOUCHING, near).all()
    before = [(row.first, row.last) for row in rows]
    if any(first <= closed.first and last >= closed.last for first, last in before):
        return before
    if rows:
        connection.execute(_DROP_TOUCHING, near)
    elif connection.execute(_RANGES, near).scalar_one() >= MOST_RANGES:
        return None
    first = min([closed.first, *(row.first for row in rows)])
    last = max([closed.last, *(row.last for row in rows)])
    _ADD_CLOSED.add(connection, [(origin, closed.epoch, closed.lane, first, last)])
    return before


def held(connection: Connection, origin: str, epoch: int, lane: str) -> list[tuple[int, int]]:
    """Return the closed sequences of an origin's lane as ascending ranges."""
    rows = connection.execute(
        select(INBOX_CLOSED.c.first, INBOX_CLOSED.c.last)
        .where(INBOX_CLOSED.c.origin == origin, INBOX_CLOSED.c.epoch == epoch, INBOX_CLOSED.c.lane == lane)
        .order_by(INBOX_CLOSED.c.first)
    )
    return [(row.first, row.last) for row in rows]
