"""Rows of the reply clocks: which request awaits whose answer, since when and until when.

A clock of a request that this centre sent (``asked`` 1) begins with the peer's signed word that it has the request; one of a
request that it received (``asked`` 0) begins at arrival, so both sides count from the same moment. A sent request's clock is
begun by :func:`settle`, on a look at what peers said, so that taking their receipts costs nothing more.

States that run: ``open``, ``partial``, ``clarification``, ``delay``. States that stopped: ``full`` and ``refusal`` (answered),
``cancelled`` (its origin took the request back), ``rejected`` (it never reached the peer, or expired before the peer's system
took it). What has stopped never moves again. An answer to a newer version of a request is an answer to the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, func, insert, or_, select, text, true, update

from relay.envelope import commitments
from relay.keeping import HOUR_MS, Answer
from relay.store.common import bit, unsigned
from relay.store.tables import (
    CLOCK,
    INBOX_ENVELOPE,
    INBOX_MESSAGE,
    OUTBOX_ENVELOPE,
    OUTBOX_MESSAGE,
    OUTBOX_SEALED,
    OUTBOX_STEP,
    REFERENCE,
)

Step = Literal["50", "90", "overdue"]
Which = Literal["open", "overdue", "answered", "all"]

STEPS: dict[Step, int] = {"50": 50, "90": 90, "overdue": 100}
"""What is reminded of, and at how many percent of the clock; a step's bit in ``reminded`` is its place here."""

ANSWERED = frozenset({"full", "refusal"})
LOST_MS = 60_000
"""How long after the peer's system took a request its node's word that it has it is still waited for."""

_RUNS = CLOCK.c.answered_at.is_(None)
# The condition of the index ``clock_watched``, word for word: SQLite would not see that a bound value fits it.
_WATCHED = text("(clock.answered_at IS NULL OR (clock.started_at IS NULL AND clock.state IN ('full', 'refusal')))")
_VERSION_ENDED = ("recalled", "superseded")  # codes that speak of one version: the request itself may live on
_SAID = (
    select(CLOCK, OUTBOX_STEP.c.state.label("said"), OUTBOX_STEP.c.at, OUTBOX_STEP.c.mask, OUTBOX_MESSAGE.c.position)
    .join(OUTBOX_MESSAGE, OUTBOX_MESSAGE.c.id == CLOCK.c.request)
    .join(
        OUTBOX_STEP,
        and_(OUTBOX_STEP.c.envelope == OUTBOX_MESSAGE.c.envelope, OUTBOX_STEP.c.recipient == CLOCK.c.peer),
    )
    .where(
        _WATCHED,
        CLOCK.c.asked == 1,
        or_(
            and_(CLOCK.c.started_at.is_(None), OUTBOX_STEP.c.state.in_(("accepted", "delivered"))),
            and_(OUTBOX_STEP.c.state == "rejected", func.coalesce(OUTBOX_STEP.c.code, "").not_in(_VERSION_ENDED)),
        ),
    )
    .order_by(OUTBOX_STEP.c.n)
)
_EXPIRED = select(CLOCK).where(
    _RUNS,
    CLOCK.c.asked == 0,
    select(INBOX_MESSAGE.c.n)  # no join: the many messages would be looked through, not the few clocks
    .where(
        INBOX_MESSAGE.c.id == CLOCK.c.request,
        INBOX_MESSAGE.c.origin == CLOCK.c.peer,
        INBOX_MESSAGE.c.state == "rejected",
        INBOX_MESSAGE.c.code.not_in(_VERSION_ENDED),
    )
    .exists(),
)
# The first half of a clock is nobody's concern; what is left is looked at one by one.
_NEAR = select(CLOCK).where(
    _RUNS, CLOCK.c.reminded < (1 << len(STEPS)) - 1, CLOCK.c.started_at + CLOCK.c.due_at <= 2 * bindparam("now")
)
_COUNT = (
    select(CLOCK.c.asked, func.count().label("running"), func.count().filter(CLOCK.c.due_at <= bindparam("now")).label("overdue"))
    .where(_RUNS)
    .group_by(CLOCK.c.asked)
)


@dataclass(frozen=True, slots=True)
class Clock:
    """A request's clock at one peer; times in milliseconds, ``reminded`` a mask of ``STEPS``.

    ``started_at`` and ``due_at`` are None until the peer has the request, ``stopped_at`` while the clock runs.
    """

    request: str
    peer: str
    asked: bool
    hours: int
    started_at: int | None
    due_at: int | None
    state: str
    reminded: int = 0
    stopped_at: int | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that were reminded of, in order."""
        return tuple(step for place, step in enumerate(STEPS) if self.reminded >> place & 1)

    def overdue(self, now: int) -> bool:
        """Return whether the answer is awaited and its time is over."""
        return self.stopped_at is None and "overdue" in passed(self.started_at, self.due_at, now)

    @property
    def late(self) -> bool | None:
        """Whether the answer came after its time; None when there is none, or when it is not known since when it ran."""
        if self.state not in ANSWERED or self.stopped_at is None or self.due_at is None:
            return None
        return self.stopped_at > self.due_at


@dataclass(frozen=True, slots=True)
class Moved:
    """A clock that is to begin (``state`` None) or to stop with a state, and when."""

    request: str
    peer: str
    state: str | None
    at: int


def passed(started_at: int | None, due_at: int | None, now: int) -> tuple[Step, ...]:
    """Return the steps of a clock whose time has come, in order; none of a clock that has not begun."""
    if started_at is None or due_at is None:
        return ()
    length = max(due_at - started_at, 0)
    return tuple(step for step, percent in STEPS.items() if now >= started_at + length * percent // 100)


def mask(steps: Sequence[Step]) -> int:
    """Return the mask of steps, as ``reminded`` holds it."""
    return sum(1 << place for place, step in enumerate(STEPS) if step in steps)


def begin(connection: Connection, request: str, peers: Sequence[str], hours: int, started_at: int | None) -> None:
    """Set a request's clock for each peer; ``started_at`` is when this centre received it, None for a request that it sends."""
    begun = {"started_at": started_at, "due_at": None if started_at is None else started_at + hours * HOUR_MS}
    common = {"request": request, "asked": started_at is None, "hours": hours, "state": "open", "reminded": 0, **begun}
    connection.execute(insert(CLOCK), [{"peer": peer, **common} for peer in peers])


def answer(connection: Connection, answer: Answer, peers: Sequence[str], at: int, *, received: bool) -> None:
    """Note an answer on its request's clock: a received one on the clock of its sender, a sent one on that of its addressees.

    A delay moves the clock's end to its date; what of the longer clock is over already is not reminded of again.
    """
    which = or_(CLOCK.c.request == answer.request, _is_version(answer.request))
    query = select(CLOCK).where(_RUNS, CLOCK.c.peer.in_(peers), CLOCK.c.asked == int(received), which)
    for row in connection.execute(query).all():
        changed: dict[str, object] = {"state": answer.outcome}
        if answer.outcome in ANSWERED:
            changed["answered_at"] = at
        if answer.due_at is not None:
            changed |= _moved(row, answer.due_at, at)
        _set(connection, row.request, row.peer, **changed)


def cancel(connection: Connection, request: str, at: int, *, received: bool, peers: Sequence[str] | None = None) -> None:
    """Stop the clocks of a request that its origin took back: this centre, or the one it was ``received`` from.

    ``peers`` are from whom it was taken back; None: from everyone.
    """
    whose = true() if peers is None else CLOCK.c.peer.in_(peers)
    where = and_(CLOCK.c.request == request, CLOCK.c.asked == int(not received), whose, _RUNS)
    connection.execute(update(CLOCK).where(where).values(state="cancelled", answered_at=at))


def settle(connection: Connection, now: int) -> list[Moved]:
    """Return which clocks are to begin, and which are to stop since their request never came to the peer's system."""
    moved: dict[tuple[str, str], Moved] = {}
    for row in connection.execute(_SAID):
        if unsigned(row.mask) & bit(row.position):
            moved |= _said(row, moved.get((row.request, row.peer)), now)
    moved |= {(row.request, row.peer): Moved(row.request, row.peer, "rejected", now) for row in connection.execute(_EXPIRED)}
    return list(moved.values())


def move(connection: Connection, moved: Sequence[Moved]) -> None:
    """Let clocks begin or stop; what began or stopped before stays as it is."""
    for one in moved:
        row = connection.execute(select(CLOCK).where(CLOCK.c.request == one.request, CLOCK.c.peer == one.peer)).one()
        if one.state is not None and row.answered_at is None:
            _set(connection, one.request, one.peer, state=one.state, answered_at=one.at)
        elif one.state is None and row.started_at is None:
            due_at = one.at + row.hours * HOUR_MS if row.due_at is None else max(row.due_at, one.at)
            _set(connection, one.request, one.peer, started_at=one.at, due_at=due_at)


def near(connection: Connection, now: int) -> list[Clock]:
    """Return the running clocks of which half or more is over and that still have something to be reminded of."""
    return [_clock(row) for row in connection.execute(_NEAR, {"now": now})]


def remind(connection: Connection, clock: Clock, steps: Sequence[Step]) -> None:
    """Note that steps of a clock were reminded of."""
    _set(connection, clock.request, clock.peer, reminded=clock.reminded | mask(steps))


def counts(connection: Connection, now: int) -> dict[bool, tuple[int, int]]:
    """Return per side (``asked``) how many clocks run, and how many of these are overdue."""
    return {bool(row.asked): (row.running, row.overdue) for row in connection.execute(_COUNT, {"now": now})}


def running(connection: Connection, *, asked: bool, limit: int) -> list[Clock]:
    """Return the clocks of a side that run, the first to end first; those that have not begun stand last."""
    query = select(CLOCK).where(_RUNS, CLOCK.c.asked == int(asked))
    rows = connection.execute(
        query.order_by(CLOCK.c.due_at.is_(None), CLOCK.c.due_at, CLOCK.c.request, CLOCK.c.peer).limit(limit)
    )
    return [_clock(row) for row in rows]


def of(connection: Connection, request: str) -> list[Clock]:
    """Return the clocks of a request by peer; none when this centre neither sent nor received such a request."""
    rows = connection.execute(select(CLOCK).where(CLOCK.c.request == request).order_by(CLOCK.c.peer))
    return [_clock(row) for row in rows]


def page(
    connection: Connection, which: Which, *, asked: bool | None, before: str | None, limit: int, now: int
) -> list[list[Clock]]:
    """Return requests as lists of their clocks, the newest first, below the id ``before``; ``asked`` None is both sides.

    ``open`` are those of which an answer is awaited, ``overdue`` those of which one is late, ``answered`` those that somebody
    answered and of which nothing more is awaited.
    """
    found = select(CLOCK.c.request).where(_kind(which, now))
    if asked is not None:
        found = found.where(CLOCK.c.asked == int(asked))
    if before is not None:
        found = found.where(CLOCK.c.request < before)
    requests = list(connection.execute(found.distinct().order_by(CLOCK.c.request.desc()).limit(limit)).scalars())
    rows = connection.execute(select(CLOCK).where(CLOCK.c.request.in_(requests)).order_by(CLOCK.c.peer))
    by: dict[str, list[Clock]] = {request: [] for request in requests}
    for row in rows:
        by[row.request].append(_clock(row))
    return list(by.values())


def answers(connection: Connection, me: str, clocks: Sequence[Clock]) -> list[tuple[str, str]]:
    """Return (id, origin) of the answers to a request, oldest first: those of peers that were asked, or of this centre."""
    request = clocks[0].request
    versions = select(REFERENCE.c.id).where(REFERENCE.c.target == request, REFERENCE.c.relation == "updates")
    origins = [clock.peer for clock in clocks] if clocks[0].asked else [me]
    rows = connection.execute(
        select(REFERENCE.c.id, REFERENCE.c.origin)
        .where(
            or_(REFERENCE.c.target == request, REFERENCE.c.target.in_(versions)),
            REFERENCE.c.relation == "answers",
            REFERENCE.c.origin.in_(origins),
        )
        .distinct()
        .order_by(REFERENCE.c.id)
    )
    return [(row.id, row.origin) for row in rows]


def evidence(connection: Connection, clock: Clock) -> tuple[str, list[str]] | None:
    """Return the id of the envelope that carried a request and the request's commitment, or None when neither is kept."""
    if clock.asked:
        query = (
            select(OUTBOX_ENVELOPE.c.id, OUTBOX_SEALED.c.header, OUTBOX_MESSAGE.c.position)
            .join(OUTBOX_SEALED, OUTBOX_SEALED.c.n == OUTBOX_ENVELOPE.c.n)
            .join(OUTBOX_MESSAGE, OUTBOX_MESSAGE.c.envelope == OUTBOX_ENVELOPE.c.n)
            .where(OUTBOX_MESSAGE.c.id == clock.request)
        )
    else:
        query = (
            select(INBOX_ENVELOPE.c.id, INBOX_ENVELOPE.c.header, INBOX_MESSAGE.c.position)
            .join(INBOX_MESSAGE, INBOX_MESSAGE.c.envelope == INBOX_ENVELOPE.c.n)
            .where(INBOX_MESSAGE.c.id == clock.request, INBOX_MESSAGE.c.origin == clock.peer)
        )
    row = connection.execute(query).one_or_none()
    return None if row is None else (row.id, [commitments(row.header)[row.position]])


def _said(row: Row[Any], before: Moved | None, now: int) -> dict[tuple[str, str], Moved]:
    """Return what a peer's word about a request makes of its clock; its node's word counts before its system's."""
    key = (row.request, row.peer)
    if row.said == "rejected":
        return {key: Moved(*key, "rejected", row.at)} if row.answered_at is None else {}
    if row.said == "accepted" and (before is None or before.state is None):
        return {key: Moved(*key, None, row.at)}
    if row.said == "delivered" and before is None and row.at <= now - LOST_MS:
        return {key: Moved(*key, None, row.at)}
    return {}


def _moved(row: Row[Any], due_at: int, at: int) -> dict[str, object]:
    """Return what a delay changes of a clock, when it becomes known."""
    if row.started_at is None:
        return {"due_at": due_at, "reminded": 0}
    end = max(due_at, row.started_at)
    over: list[Step] = [step for step in passed(row.started_at, end, at) if step != "overdue"]
    return {"due_at": end, "reminded": mask(over)}


def _is_version(message: str) -> ColumnElement[bool]:
    """Return the condition that a message is a newer version of a clock's request; only a request's origin can update it."""
    return (
        select(REFERENCE.c.id)
        .where(REFERENCE.c.target == CLOCK.c.request, REFERENCE.c.relation == "updates", REFERENCE.c.id == message)
        .exists()
    )


def _kind(which: Which, now: int) -> ColumnElement[bool]:
    other = CLOCK.alias("other")
    awaited = select(other.c.peer).where(other.c.request == CLOCK.c.request, other.c.answered_at.is_(None)).exists()
    return {
        "open": _RUNS,
        "overdue": and_(_RUNS, CLOCK.c.due_at <= now),
        "answered": and_(CLOCK.c.state.in_(sorted(ANSWERED)), ~awaited),
        "all": true(),
    }[which]


def _set(connection: Connection, request: str, peer: str, **values: object) -> None:
    connection.execute(update(CLOCK).where(CLOCK.c.request == request, CLOCK.c.peer == peer).values(**values))


def _clock(row: Row[Any]) -> Clock:
    return Clock(
        row.request,
        row.peer,
        bool(row.asked),
        row.hours,
        row.started_at,
        row.due_at,
        row.state,
        row.reminded,
        row.answered_at,
    )
