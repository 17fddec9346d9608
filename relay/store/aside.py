"""Rows of received messages that an operator looks after: deferred, held, dead, quarantined; what he may do with each.

Only ``waiting`` and ``handed`` messages are given out, so a row that is moved to another state here waits until it is moved back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from relay.keeping import Kept
from relay.store import kept, purged
from relay.store.handing import move
from relay.store.incoming import OPEN, SET_ASIDE, Place, places
from relay.store.tables import INBOX_ENVELOPE, INBOX_MESSAGE, LEGAL_HOLD

STATES = ("deferred", "held", "dead", "quarantined")
_PLACE = (INBOX_ENVELOPE.c.lane, INBOX_ENVELOPE.c.received_at, INBOX_ENVELOPE.c.id.label("envelope_id"))


@dataclass(frozen=True, slots=True)
class Received:
    """Where a received message stands here; ``since`` when it got there, times in milliseconds.

    ``code`` says why it was refused or put off, ``reason`` the words of who did (sealed), ``given_at`` when the centre's system
    was first given it. ``deadline`` is 0 when an operator overruled it. ``n`` is its row.
    """

    n: int
    id: str
    origin: str
    lane: str
    envelope: str
    state: str
    since: int
    received_at: int
    deadline: int
    given_at: int | None
    code: str | None
    reason: bytes | None
    attempts: int
    retry_at: int | None
    purged_at: int | None


@dataclass(frozen=True, slots=True)
class Placed:
    """A received message's row, and its place in its origin's sequences."""

    row: Any
    place: Place


def listed(connection: Connection, state: str, after: int, limit: int, origin: str = "", code: str = "") -> list[Received]:
    """Return received messages in a state, the oldest first, from rows numbered above ``after``; of an origin, with a code."""
    within = SET_ASIDE if state in STATES else OPEN
    query = _query().where(within, INBOX_MESSAGE.c.state == state, INBOX_MESSAGE.c.n > after)
    query = query.where(INBOX_MESSAGE.c.origin == origin) if origin else query
    query = query.where(INBOX_MESSAGE.c.code == code) if code else query
    return [_received(row) for row in connection.execute(query.order_by(INBOX_MESSAGE.c.n).limit(limit))]


def counts(connection: Connection) -> dict[str, int]:
    """Return how many received messages stand in each of :data:`STATES`."""
    query = select(INBOX_MESSAGE.c.state, func.count()).where(SET_ASIDE).group_by(INBOX_MESSAGE.c.state)
    found = {row[0]: int(row[1]) for row in connection.execute(query)}
    return {state: found.get(state, 0) for state in STATES}


def find(connection: Connection, message: str) -> Received | None:
    """Return where a received message stands, or None."""
    row = connection.execute(_query().where(INBOX_MESSAGE.c.id == message)).first()
    return None if row is None else _received(row)


def place(connection: Connection, number: int) -> Placed:
    """Return a received message's row, and where it stands in its origin's sequences."""
    row = connection.execute(select(INBOX_MESSAGE).where(INBOX_MESSAGE.c.n == number)).one()
    return Placed(row, places(connection, [row])[0])


def is_on_legal_hold(connection: Connection, message: str) -> bool:
    """Return whether a legal hold keeps a message."""
    return connection.execute(select(LEGAL_HOLD.c.id).where(LEGAL_HOLD.c.id == message)).scalar() is not None


def hold(connection: Connection, row: Any, reason: bytes, now: int) -> None:
    """Park a message: it is not given out until :func:`give_again`."""
    move(connection, [row], now, state="held", reason=reason, retry_at=None)


def give_again(connection: Connection, row: Any, now: int, *, anew: bool = False) -> str:
    """Let a message be given out; return its state. ``anew`` overrules its deadline and forgets how often it was put off."""
    state = "waiting" if row.given_at is None else "handed"
    values: dict[str, Any] = {"deadline": 0, "attempts": 0} if anew else {}
    move(connection, [row], now, state=state, retry_at=None, reason=None, **values)
    return state


def overrule(connection: Connection, row: Any, one: Kept, marks: int, now: int) -> None:
    """Let a quarantined message be given out after all, with what accompanies a message that is taken; overrules its deadline."""
    values = {"state": "waiting", "code": None, "reason": None, "deadline": 0, "flags": marks, "purge_at": one.purge_at}
    move(connection, [row], now, **values)
    kept.add(connection, row.origin, [kept.Message(row.id, one, row.found, (row.origin,))], now, received=True)


def discard(connection: Connection, row: Any, code: str | None, now: int) -> list[str]:
    """End a message and purge its content; return the commitments purged. Without a ``code`` its own one stays."""
    values = {} if code is None else {"code": code}
    move(connection, [row], now, state="rejected", retry_at=None, **values)
    return purged.received(connection, [row], now)


def _query() -> Select[Any]:
    return select(INBOX_MESSAGE, *_PLACE).join(INBOX_ENVELOPE, INBOX_ENVELOPE.c.n == INBOX_MESSAGE.c.envelope)


def _received(row: Row[Any]) -> Received:
    return Received(
        n=row.n,
        id=row.id,
        origin=row.origin,
        lane=row.lane,
        envelope=row.envelope_id,
        state=row.state,
        since=row.at,
        received_at=row.received_at,
        deadline=row.deadline,
        given_at=row.given_at,
        code=row.code,
        reason=row.reason,
        attempts=row.attempts,
        retry_at=row.retry_at,
        purged_at=row.purged_at,
    )
