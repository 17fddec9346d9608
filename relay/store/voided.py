"""Rows of sequences that their origin declared void: closed by its signed word, with no message held here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, select

from relay.store.common import upsert
from relay.store.tables import INBOX_CLOSED, VOID_IN

CODE = "void"
"""Why a message is refused that comes although its origin had said that it would not."""


def add(
    connection: Connection, origin: str, epoch: int, lane: str, ranges: Iterable[tuple[int, int]], state: str, at: int
) -> None:
    """Note ranges of sequences of an origin's lane as void."""
    common = {"origin": origin, "epoch": epoch, "lane": lane, "state": state, "at": at}
    upsert(connection, VOID_IN, [{**common, "first": first, "last": last} for first, last in ranges], ["last", "state", "at"])


def closed(connection: Connection, origin: str, epoch: int, lane: str, first: int, last: int) -> list[tuple[int, int]]:
    """Return the closed ranges of an origin's lane that reach into ``first`` to ``last``, ascending.

    They are disjoint, so they are among the last few that begin up to there: a lane may have thousands, and a void statements.
    """
    of = INBOX_CLOSED.c
    query = select(of.first, of.last).where(of.origin == origin, of.epoch == epoch, of.lane == lane, of.first <= last)
    rows = connection.execute(query.order_by(of.first.desc()).limit(last - first + 2)).all()
    return [(row.first, row.last) for row in reversed(rows) if row.last >= first]


def trim(connection: Connection, origin: str, most: int) -> None:
    """Forget an origin's oldest void ranges beyond so many: they stay closed."""
    of = VOID_IN.c
    oldest = select(of.at).where(of.origin == origin).order_by(of.at.desc()).offset(most).limit(1)
    before = connection.execute(oldest).scalar()
    if before is not None:
        connection.execute(delete(VOID_IN).where(of.origin == origin, of.at <= before))


def sequences(connection: Connection, origin: str, epoch: int, lane: str, asked: Sequence[int]) -> set[int]:
    """Return which of these sequences of an origin's lane are void."""
    rows = connection.execute(
        select(VOID_IN.c.first, VOID_IN.c.last).where(
            VOID_IN.c.origin == origin,
            VOID_IN.c.epoch == epoch,
            VOID_IN.c.lane == lane,
            VOID_IN.c.first <= max(asked),
            VOID_IN.c.last >= min(asked),
        )
    ).all()
    return {sequence for sequence in asked if any(row.first <= sequence <= row.last for row in rows)}
