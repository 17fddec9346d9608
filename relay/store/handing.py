"""Rows on their way to the centre's system: given out, acknowledged, deferred, refused, given out again.

What may be given out (``waiting``, ``handed``) stands in an index of its own. A deferred message leaves it and comes back when
its time has come (:func:`wake`), so however many are deferred, held or dead, giving out the others costs the same.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Executable, Integer, bindparam, func, select, text, update

from relay.store import flags, recalled
from relay.store.incoming import OPEN, Place, places
from relay.store.tables import DEFERRED, INBOX_ENVELOPE, INBOX_MESSAGE

WOKEN_AT_ONCE = 1000
GIVEN = ("handed", "deferred", "held", "dead", "withdrawn", "delivered")
_DEFERRED = text(f"inbox_message.{DEFERRED}")  # as in the index

# Built once: these run for every poll of the centre's system, and to build them took ten times as long as to run them.
_TO_HAND_OUT = (
    select(INBOX_MESSAGE, INBOX_ENVELOPE.c.received_at, func.length(INBOX_ENVELOPE.c.body).label("size"))
    .join(INBOX_ENVELOPE, INBOX_ENVELOPE.c.n == INBOX_MESSAGE.c.envelope)
    .where(OPEN, INBOX_MESSAGE.c.rank.in_(bindparam("lanes", expanding=True)))
    .order_by(INBOX_MESSAGE.c.rank, INBOX_MESSAGE.c.n)
    .limit(bindparam("most", type_=Integer))
)
_GIVEN = select(INBOX_MESSAGE).where(
    INBOX_MESSAGE.c.id.in_(bindparam("ids", expanding=True)),
    INBOX_MESSAGE.c.state.in_(GIVEN),
    INBOX_MESSAGE.c.given_at.is_not(None),
)


@dataclass(frozen=True, slots=True)
class Handed:
    """A message on its way to the centre's system."""

    id: str
    origin: str
    received_at: int
    envelope: int
    position: int
    flags: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What an acknowledgement did: messages newly delivered, withdrawn ones that it closed, and the ids by what they are.

    ``settled`` are delivered now or before, ``unconfirmed`` wait until the system confirms their restriction (H3).
    """

    delivered: tuple[Place, ...]
    recalled: tuple[Place, ...]
    settled: frozenset[str]
    unconfirmed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The system's no to a message: its ``code``, its words (sealed), and when it wants it again, or None: never.

    ``most`` is how often it may be deferred before it is dead.
    """

    id: str
    code: str
    reason: bytes | None
    retry_at: int | None
    most: int


@dataclass(frozen=True, slots=True)
class NotTaken:
    """What a refusal did: where the message stands now, and with which code; ``changed`` says whether this refusal moved it.

    ``closed`` are withdrawn messages that the end of their recall closed; ``withdrawn`` says that this was one, and is over now.
    """

    state: str
    code: str | None
    attempts: int
    retry_at: int | None
    place: Place
    changed: bool
    closed: tuple[Place, ...] = ()
    withdrawn: bool = False


def hand_out(
    connection: Connection, lanes: Sequence[int], limit: int, most_bytes: int, now: int, *, expire: bool = True
) -> tuple[list[Handed], list[Place]]:
    """Give out the oldest open messages of the highest precedence; return them and those whose deadline had passed.

    ``lanes`` are the ranks of the lanes that may be given out of.

    The first is given whatever its size, others while their envelopes have no more than ``most_bytes``. The deadline is judged
    here, when a message is first handed out, and never again; unless this may not ``expire`` any, since the clock is doubted.
    """
    rows = _within(connection.execute(_TO_HAND_OUT, {"lanes": list(lanes), "most": limit}).all(), most_bytes)
    late = [row for row in rows if expire and row.state == "waiting" and 0 < row.deadline <= now]
    expired = {row.n for row in late}
    handed = [row for row in rows if row.n not in expired]
    move(connection, [row for row in handed if row.state == "waiting"], now, state="handed", code=None, given_at=now)
    move(connection, late, now, state="rejected", code="expired")
    given = [Handed(row.id, row.origin, row.received_at, row.envelope, row.position, row.flags) for row in handed]
    return given, places(connection, late)


def wake(connection: Connection, now: int, *, expire: bool = True) -> tuple[list[Place], int | None]:
    """Let deferred messages be given out again whose time has come; return those that are dead instead, and when to look again.

    A message is dead when its deadline passed meanwhile; unless this may not ``expire`` any, since the clock is doubted.
    """
    due = select(INBOX_MESSAGE).where(_DEFERRED, INBOX_MESSAGE.c.retry_at <= now).order_by(INBOX_MESSAGE.c.retry_at)
    rows = connection.execute(due.limit(WOKEN_AT_ONCE)).all()
    over = [row for row in rows if expire and 0 < row.deadline <= now]
    dead = {row.n for row in over}
    move(connection, over, now, state="dead", retry_at=None)
    move(connection, [row for row in rows if row.n not in dead], now, state="handed", retry_at=None)
    following = connection.execute(select(func.min(INBOX_MESSAGE.c.retry_at)).where(_DEFERRED)).scalar()
    return places(connection, over) if over else [], following


def acknowledge(connection: Connection, ids: Sequence[str], confirmed: Collection[str], now: int) -> Acknowledged:
    """Note that the centre's system took these messages; those it ``confirmed`` it took with their restriction in words.

    An id that was never handed out changes nothing. A message that was given out and is deferred, held or dead since is delivered
    all the same: the system has it. What a recall withdrew from the system before it acknowledged it is closed with the
    acknowledgement of that recall.
    """
    rows = connection.execute(_GIVEN, {"ids": list(ids)}).all()
    open_ = [row for row in rows if row.state != "delivered"]
    restricted = {row.id for row in open_ if flags.handling(row.flags) == "H3" and row.id not in confirmed}
    fresh = [row for row in open_ if row.id not in restricted]
    move(connection, fresh, now, state="delivered", code=None)
    settled = frozenset(row.id for row in rows if row.id not in restricted)
    closed = _settle(connection, fresh, now)
    return Acknowledged(tuple(places(connection, fresh)), closed, settled, frozenset(restricted))


def refuse(connection: Connection, refusal: Refusal, now: int) -> NotTaken | None:
    """Note that the centre's system does not take a message, now or ever; None when it was never given out.

    A message that is deferred, held, dead or over already stays so when the system asks for it again later; a final no ends all
    that is open.
    """
    row = connection.execute(
        select(INBOX_MESSAGE).where(INBOX_MESSAGE.c.id == refusal.id, INBOX_MESSAGE.c.given_at.is_not(None))
    ).one_or_none()
    if row is None:
        return None
    place = places(connection, [row])[0]
    if row.state in ("delivered", "rejected") or (refusal.retry_at is not None and row.state in ("deferred", "held", "dead")):
        return NotTaken(row.state, row.code, row.attempts, row.retry_at, place, changed=False)
    if row.state == "withdrawn" and refusal.retry_at is not None:
        move(connection, [row], now, state="rejected", code="recalled")
        return NotTaken("rejected", "recalled", row.attempts, None, place, changed=True, withdrawn=True)
    if refusal.retry_at is None:
        move(connection, [row], now, state="rejected", code=refusal.code, reason=refusal.reason, retry_at=None)
        closed = _settle(connection, [row], now)
        return NotTaken("rejected", refusal.code, row.attempts, None, place, changed=True, closed=closed)
    return _defer(connection, row, refusal, refusal.retry_at, place, now)


def _defer(connection: Connection, row: Any, refusal: Refusal, retry_at: int, place: Place, now: int) -> NotTaken:
    """Put a message off, or let it be dead: it was tried often enough, or its deadline comes before the next attempt."""
    attempts = row.attempts + 1
    dead = attempts >= refusal.most or 0 < row.deadline <= retry_at
    state, at = ("dead", None) if dead else ("deferred", retry_at)
    values = {"state": state, "code": refusal.code, "reason": refusal.reason, "attempts": attempts, "retry_at": at}
    move(connection, [row], now, **values)
    return NotTaken(state, refusal.code, attempts, at, place, changed=True)


def bury(connection: Connection, one: Handed, code: str, now: int) -> None:
    """Let a message that was given out and can't be opened be dead: an operator decides."""
    mine = (INBOX_MESSAGE.c.origin == one.origin) & (INBOX_MESSAGE.c.id == one.id)
    rows = connection.execute(select(INBOX_MESSAGE).where(mine, INBOX_MESSAGE.c.state == "handed")).all()
    move(connection, rows, now, state="dead", code=code)


def move(connection: Connection, rows: Sequence[Any], now: int, **values: Any) -> None:
    """Change columns of received messages, given their rows, and note when."""
    if rows:
        changed = {f"new_{name}": value for name, value in values.items()}
        connection.execute(_move(tuple(values)), {"numbers": [row.n for row in rows], "new_at": now, **changed})


@cache
def _move(names: tuple[str, ...]) -> Executable:
    changed: dict[str, Any] = {name: bindparam(f"new_{name}") for name in ("at", *names)}
    return update(INBOX_MESSAGE).where(INBOX_MESSAGE.c.n.in_(bindparam("numbers", expanding=True))).values(changed)


def _settle(connection: Connection, rows: Sequence[Any], now: int) -> tuple[Place, ...]:
    """Close what was withdrawn by those of these messages that are recalls."""
    recalls: dict[str, list[str]] = {}
    for row in rows:
        if row.flags & flags.RECALL:
            recalls.setdefault(row.origin, []).append(row.id)
    closed = [row for origin, by in recalls.items() for row in recalled.settle(connection, origin, by, now)]
    return tuple(places(connection, closed))


def _within(rows: Sequence[Any], most_bytes: int) -> list[Any]:
    """Return the first rows whose envelopes, each counted once, have at most so many bytes; the first one in any case."""
    counted: set[int] = set()
    taken: list[Any] = []
    size = 0
    for row in rows:
        size += 0 if row.envelope in counted else row.size
        counted.add(row.envelope)
        if taken and size > most_bytes:
            break
        taken.append(row)
    return taken
