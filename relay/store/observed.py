"""Reads of all that is open, set aside or late, for :mod:`relay.observing`: a bounded number of rows at a time.

Only rows that an index names are looked at: those of ``outbox_delivery_open`` for what is open, of the indexes of what is set
aside or waits for the rest. Rows are grouped in the database, and of each mask of messages one is counted, since few differ: a
backlog has whole envelopes. A :class:`Count` goes through what is open in steps of :data:`STEP_ROWS`, each on a snapshot of its
own: what changes meanwhile is counted as it was when its step came by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, select, text

from relay.observation import AGES, Lane
from relay.store import threads
from relay.store.common import unsigned
from relay.store.history import DEAD
from relay.store.incoming import OPEN, SET_ASIDE
from relay.store.outgoing import lanes_open
from relay.store.tables import (
    INBOX_CLOSED,
    INBOX_ENVELOPE,
    INBOX_MESSAGE,
    OUTBOX_DELIVERY,
    OUTBOX_ENVELOPE,
    OUTBOX_MESSAGE,
    RECALLS,
    REFERENCE,
)

STEP_ROWS = 4_000
LEAST_LEFT_MS = 900_000
"""Less time than this to the deadline, or than a tenth of the message's whole time, is a risk."""
_END = 2**62

_D, _E, _M, _I, _C = OUTBOX_DELIVERY.c, OUTBOX_ENVELOPE.c, OUTBOX_MESSAGE.c, INBOX_MESSAGE.c, INBOX_CLOSED.c
# The conditions stand as they do in the indexes: SQLite would not see that a bound value fits them.
_IS_OPEN = text("outbox_delivery.open <> 0")
_IS_HELD = text("outbox_message.held_at IS NOT NULL")
_BEHIND = (
    _D.recipient == bindparam("peer"),
    _D.lane == bindparam("lane"),
    _IS_OPEN,
    _D.first > bindparam("behind"),
)
_LAST = select(_D.first).where(*_BEHIND).order_by(_D.first).limit(1).offset(bindparam("rows"))
_left = _D.deadline - bindparam("now")
_AGE = case(*((_E.created_at > bindparam("now") - 1000 * age, bucket) for bucket, age in enumerate(AGES)), else_=len(AGES))
_RISK = case((_left < LEAST_LEFT_MS, 1), (10 * _left < _D.deadline - _E.created_at, 1), else_=0)
_DEFERRED, _DEAD = 1, 2
_WAITS = case((_D.behind == 0, 0), (_D.behind.op("&")(DEAD) == 0, _DEFERRED), else_=_DEAD)
_OPEN_ROWS = (
    select(
        _D.open,
        _AGE.label("age"),
        _RISK.label("risk"),
        _WAITS.label("waits"),
        func.count().label("rows"),
        func.min(_E.created_at).label("oldest_at"),
    )
    .join(OUTBOX_ENVELOPE, _E.n == _D.envelope)
    .where(*_BEHIND, _D.first <= bindparam("last"))
    .group_by(_D.open, text("age"), text("risk"), text("waits"))
)
# Begins with the few that are held, not with all that is open: of a sum SQLite looks up no message.
_HELD = (
    select(
        _D.recipient,
        _D.lane,
        func.count().label("held"),
        func.min(_M.held_at).label("since"),
        func.sum(case((_WAITS == _DEFERRED, 1), else_=0)).label("deferred"),
    )
    .select_from(OUTBOX_MESSAGE)
    .join(OUTBOX_DELIVERY, _D.envelope == _M.envelope + 0)
    .where(_IS_HELD, _D.open.op(">>")(_M.position).op("&")(1) == 1)
    .group_by(_D.recipient, _D.lane)
)
_MISSING = select(_C.origin, _C.epoch, (func.max(_C.last) - func.sum(_C.last - _C.first + 1)).label("missing")).group_by(
    _C.origin, _C.epoch, _C.lane
)
_OLDEST_WAITING = (
    select(INBOX_ENVELOPE.c.received_at)
    .join(INBOX_MESSAGE, _I.envelope == INBOX_ENVELOPE.c.n)
    .where(OPEN, _I.rank == bindparam("rank"))
    .order_by(_I.n)
    .limit(1)
)
_OLDEST_HELD = select(func.min(_I.at)).where(SET_ASIDE, _I.state == "held")
_MADE_AT = (
    select(_M.id, _E.created_at).join(OUTBOX_ENVELOPE, _E.n == _M.envelope).where(_M.id.in_(bindparam("ids", expanding=True)))
)
_RECALLS = (
    select(REFERENCE.c.id, REFERENCE.c.target)
    .where(text(f"reference.{RECALLS}"), REFERENCE.c.origin == bindparam("me"), REFERENCE.c.id > bindparam("after"))
    .order_by(REFERENCE.c.id)
    .limit(bindparam("most"))
)


@dataclass(slots=True)
class _Found:
    """What was counted of a lane so far."""

    ages: list[int] = field(default_factory=lambda: [0] * (len(AGES) + 1))
    waits: list[int] = field(default_factory=lambda: [0, 0, 0])
    at_risk: int = 0
    oldest_at: int | None = None

    def add(self, row: Any) -> None:
        """Count rows of the same mask, age, risk and reason to wait."""
        messages = row.rows * unsigned(row.open).bit_count()
        self.ages[row.age] += messages
        self.waits[row.waits] += messages
        self.at_risk += messages * row.risk
        self.oldest_at = row.oldest_at if self.oldest_at is None else min(self.oldest_at, row.oldest_at)


class Count:
    """Counts what is open at the peers, as of ``now`` (milliseconds), in bounded steps."""

    def __init__(self, now: int) -> None:
        self._now = now
        self._todo: list[tuple[str, str]] | None = None
        self._place = 0
        self._found: dict[tuple[str, str], _Found] = {}

    def step(self, connection: Connection) -> bool:
        """Look at up to :data:`STEP_ROWS` more rows; return whether there may be more."""
        if self._todo is None:
            self._todo = lanes_open(connection)
        room = STEP_ROWS
        while self._todo and room > 0:
            room -= self._look(connection, self._todo[-1], room)
        return bool(self._todo)

    def lanes(self, connection: Connection) -> list[Lane]:
        """Return what was counted, by peer and lane; a held message is not deferred, wherever it waits."""
        held = {(row.recipient, row.lane): row for row in connection.execute(_HELD)}
        return [_lane(*key, found, held.get(key)) for key, found in self._found.items() if any(found.ages)]

    def _look(self, connection: Connection, lane: tuple[str, str], room: int) -> int:
        """Count some ``room`` rows of a lane behind the present place; return how many, at least one."""
        assert self._todo is not None  # noqa: S101 - a step begins with it
        given = {"peer": lane[0], "lane": lane[1], "behind": self._place}
        last: int | None = connection.execute(_LAST, {**given, "rows": room - 1}).scalar()
        found, rows = self._found.setdefault(lane, _Found()), 0
        for row in connection.execute(_OPEN_ROWS, {**given, "last": _END if last is None else last, "now": self._now}):
            found.add(row)
            rows += row.rows
        self._place = last or 0
        if last is None:
            self._todo.pop()
        return max(rows, 1)


def missing(connection: Connection) -> dict[str, int]:
    """Return per origin how many messages are missing below the last that is here of each lane, in its highest epoch."""
    rows = connection.execute(_MISSING).all()
    newest: dict[str, int] = {}
    for row in rows:
        newest[row.origin] = max(newest.get(row.origin, 0), row.epoch)
    found = dict.fromkeys(newest, 0)
    for row in rows:
        found[row.origin] += row.missing if row.epoch == newest[row.origin] else 0
    return found


def waiting_since(connection: Connection, ranks: Sequence[int]) -> int | None:
    """Return when the oldest message came that the centre's system has not acknowledged, in milliseconds, or None."""
    found = (connection.execute(_OLDEST_WAITING, {"rank": rank}).scalar() for rank in ranks)
    return min((at for at in found if at is not None), default=None)


def held_since(connection: Connection) -> int | None:
    """Return when the received message was parked that has been held for longest, in milliseconds, or None."""
    found: int | None = connection.execute(_OLDEST_HELD).scalar()
    return found


def recalls(connection: Connection, me: str, after: str, most: int) -> list[tuple[str, str]]:
    """Return (id, first version of what it takes back) of this centre's updates and cancels behind an id, in order of ids."""
    rows = connection.execute(_RECALLS, {"me": me, "after": after, "most": most})
    return [(row.id, row.target) for row in rows]


def unconfirmed(connection: Connection, me: str, firsts: Sequence[str]) -> dict[str, dict[str, int | None]]:
    """Return per thread the centres that have not signed yet that nothing is left with them of what was taken back.

    With each stands since when: the time, in milliseconds, of the first update or cancel that it has not signed for.
    """
    found: dict[str, dict[str, str]] = {}
    for first in firsts:
        thread = threads.line(connection, me, first)
        purged = threads.purged_by(connection, thread.recalls)
        stand = threads.recall_of(thread, purged)
        found[first] = {one.centre: _first_unsigned(thread, purged, one.centre) for one in stand if one.purged_at is None}
    ids = {recall for recalls in found.values() for recall in recalls.values()}
    made = {row.id: row.created_at for row in connection.execute(_MADE_AT, {"ids": sorted(ids)})}
    return {first: {centre: made.get(recall) for centre, recall in recalls.items()} for first, recalls in found.items()}


def _first_unsigned(thread: threads.Line, purged: dict[str, dict[str, int]], centre: str) -> str:
    """Return the first of the thread's recalls that takes back what a centre may still hold; its word is for all before it."""
    held = min(version for version in thread.versions if centre in thread.sent_to[version])
    signed = max((one for one in thread.recalls if centre in purged[one]), default="")
    return min(one for one in thread.recalls if one > max(held, signed))


def _lane(peer: str, lane: str, found: _Found, held: Any) -> Lane:
    ages, waits = tuple(found.ages), found.waits
    parked, since, of_deferred = (0, None, 0) if held is None else (held.held, held.since, held.deferred)
    return Lane(
        peer=peer,
        precedence=lane,
        open=sum(ages),
        ages=ages,
        oldest_at=found.oldest_at,
        deferred=max(waits[_DEFERRED] - of_deferred, 0),
        dead=waits[_DEAD],
        held=parked,
        held_since=since,
        at_risk=found.at_risk,
    )
