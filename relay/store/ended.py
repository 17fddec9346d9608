"""Rows of what this centre, as origin, ends itself: expired by a deadline, cancelled by an operator; and its voids as evidence.

Which messages a delivery's end speaks of is a mask by position. The end clears their open bits, so nothing waits for them any
more; a receipt that comes later is a note (:mod:`relay.store.history`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, text, update

from relay.envelope import Core, Envelope, read_core
from relay.store import said
from relay.store.common import bit, inserted, mask_of, signed, unsigned
from relay.store.said import Settled
from relay.store.tables import OUTBOX_DELIVERY, OUTBOX_MESSAGE, OUTBOX_SEALED, OUTBOX_STEP, VOID_OUT

_D = OUTBOX_DELIVERY.c
_IS_OPEN = text("outbox_delivery.open <> 0")  # as in the index: SQLite would not see that a bound value fits it
_DUE = (
    select(OUTBOX_DELIVERY, OUTBOX_SEALED.c.header)
    .join(OUTBOX_SEALED, OUTBOX_SEALED.c.n == _D.envelope)
    .where(_IS_OPEN, _D.deadline <= bindparam("until"))
    .order_by(_D.deadline)
    .limit(bindparam("most"))
)
NEVER = 2**62
_NEXT = select(func.min(_D.deadline)).where(_IS_OPEN)
_SET_DEADLINE = (
    update(OUTBOX_DELIVERY)
    .where(
        _D.recipient == bindparam("of_recipient"),
        _D.epoch == bindparam("of_epoch"),
        _D.lane == bindparam("of_lane"),
        _D.first == bindparam("of_first"),
    )
    .values(deadline=bindparam("now_deadline"))
)


@dataclass(frozen=True, slots=True)
class Ending:
    """Messages of one delivery that end: ``row`` is the delivery's, ``mask`` says which of those in its envelope's ``core``."""

    row: Any
    mask: int
    core: Core

    @property
    def commitments(self) -> tuple[str, ...]:
        """The commitments of all messages of the envelope."""
        return tuple(item.commitment for item in self.core.messages)

    @property
    def ended(self) -> list[str]:
        """The commitments of the messages that end."""
        return [one for position, one in enumerate(self.commitments) if self.mask & bit(position)]

    @property
    def messages(self) -> list[str]:
        """The ids of the messages that end."""
        return [item.id for position, item in enumerate(self.core.messages) if self.mask & bit(position)]


def next_deadline(connection: Connection) -> int | None:
    """Return the nearest deadline of what is open, in milliseconds, or None."""
    return connection.execute(_NEXT).scalar()


def is_over(connection: Connection, until: int) -> bool:
    """Return whether anything open has a deadline up to ``until``."""
    return connection.execute(_DUE, {"until": until, "most": 1}).first() is not None


def over(connection: Connection, until: int, most: int) -> list[Ending]:
    """Return, of at most ``most`` deliveries, what is open and has a deadline up to ``until``.

    What can't be said of a delivery whose header is damaged is not said: it stays open, dead, and is not looked at again.
    """
    found = []
    for row in connection.execute(_DUE, {"until": until, "most": most}).all():
        try:
            core = read_core(row.header)
        except ValueError:
            _set_deadline(connection, row, NEVER)
            continue
        late = mask_of(at for at, item in enumerate(core.messages) if item.deadline <= until) & unsigned(row.open)
        found.append(Ending(row, late, core))
    return found


def of_message(connection: Connection, message: str) -> list[Ending]:
    """Return a message's deliveries in which it is open."""
    rows = connection.execute(
        select(OUTBOX_DELIVERY, OUTBOX_SEALED.c.header, OUTBOX_MESSAGE.c.position)
        .join(OUTBOX_MESSAGE, OUTBOX_MESSAGE.c.envelope == _D.envelope)
        .join(OUTBOX_SEALED, OUTBOX_SEALED.c.n == _D.envelope)
        .where(OUTBOX_MESSAGE.c.id == message, _IS_OPEN)
    ).all()
    return [Ending(row, bit(row.position), read_core(row.header)) for row in rows if unsigned(row.open) & bit(row.position)]


def of_delivery(connection: Connection, recipient: str, n: int, mask: int) -> list[Ending]:
    """Return those messages of one delivery that are open."""
    row = connection.execute(
        select(OUTBOX_DELIVERY, OUTBOX_SEALED.c.header)
        .join(OUTBOX_SEALED, OUTBOX_SEALED.c.n == _D.envelope)
        .where(_D.envelope == n, _D.recipient == recipient, _IS_OPEN)
    ).one_or_none()
    if row is None or not mask & unsigned(row.open):
        return []
    return [Ending(row, mask & unsigned(row.open), read_core(row.header))]


def end(connection: Connection, ending: Ending, state: str, at: int, code: str | None, void: int | None) -> list[Settled]:
    """Write the end of messages; return the delivery when that settled it. ``void`` is the number of the statement about it."""
    row = ending.row
    if ending.mask:
        values = {
            "envelope": row.envelope,
            "recipient": row.recipient,
            "state": state,
            "mask": signed(ending.mask),
            "at": at,
            "code": code,
            "void": void,
        }
        connection.execute(insert(OUTBOX_STEP), values)
    left = unsigned(row.open) & ~ending.mask
    _put_deadline(connection, row, left)
    return said.move(connection, row, left, unsigned(row.unaccepted) & ~ending.mask)


def add_void(connection: Connection, recipient: str, envelope: Envelope, content_key: bytes, at: int) -> int:
    """Store a signed void as evidence, its content key under the storage key; return its number."""
    raw = envelope.header + envelope.body
    values = {"recipient": recipient, "id": envelope.core.id, "created_at": at, "content_key": content_key, "raw": raw}
    return inserted(connection.execute(insert(VOID_OUT), values))


def voids(connection: Connection, recipient: str) -> Sequence[Any]:
    """Return the rows of the voids for a peer, the oldest first."""
    return connection.execute(select(VOID_OUT).where(VOID_OUT.c.recipient == recipient).order_by(VOID_OUT.c.n)).all()


def _put_deadline(connection: Connection, row: Any, left: int) -> None:
    """Let a delivery's deadline be the smallest of what is left open in it."""
    deadlines = [item.deadline for at, item in enumerate(read_core(row.header).messages) if left & bit(at)]
    if not deadlines:
        return
    _set_deadline(connection, row, min(deadlines))


def _set_deadline(connection: Connection, row: Any, deadline: int) -> None:
    given = {"of_recipient": row.recipient, "of_epoch": row.epoch, "of_lane": row.lane, "of_first": row.first}
    connection.execute(_SET_DEADLINE, {**given, "now_deadline": deadline})
