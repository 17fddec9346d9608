"""Rows of what an operator does to a message on its way, and of the messages that wait in a state.

Errors are the caller's: the functions say what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, select, text, update

from relay.envelope import read_core
from relay.store import outgoing
from relay.store.common import bit, unsigned
from relay.store.history import AGAIN, DEAD
from relay.store.outgoing import Sent
from relay.store.tables import OUTBOX_DELIVERY, OUTBOX_ENVELOPE, OUTBOX_MESSAGE, OUTBOX_SEALED, OUTBOX_STEP

Waiting = Literal["deferred", "held", "dead", "open", "expired", "cancelled"]
"""What messages can be listed by: why they wait, that they are open, or that this centre ended them."""

_D, _M = OUTBOX_DELIVERY.c, OUTBOX_MESSAGE.c
_IS_OPEN = text("outbox_delivery.open <> 0")
_IS_BEHIND = text("outbox_delivery.behind <> 0")
_IS_HELD = text("outbox_message.held_at IS NOT NULL")
_BY_DELIVERY: dict[str, tuple[Any, ...]] = {
    "open": (_IS_OPEN,),
    "deferred": (_IS_BEHIND, _D.behind.op("&")(DEAD) == 0, _M.held_at.is_(None)),
    "dead": (_IS_BEHIND, _D.behind.op("&")(DEAD) != 0),
    "held": (_IS_HELD, _IS_OPEN),
}


@dataclass(frozen=True, slots=True)
class Parked:
    """A message as an operator finds it: its envelope, place and commitment, whether it is held or purged, where it is open."""

    id: str
    envelope: int
    position: int
    commitment: str
    held_at: int | None
    purged_at: int | None
    open: tuple[str, ...]


def find(connection: Connection, message: str) -> Parked | None:
    """Return a message that this centre submitted, or None."""
    row = connection.execute(
        select(OUTBOX_MESSAGE, OUTBOX_SEALED.c.header)
        .join(OUTBOX_SEALED, OUTBOX_SEALED.c.n == _M.envelope)
        .where(_M.id == message)
    ).one_or_none()
    if row is None:
        return None
    deliveries = connection.execute(
        select(_D.recipient, _D.open).where(_D.envelope == row.envelope, _IS_OPEN).order_by(_D.recipient)
    ).all()
    opened = tuple(one.recipient for one in deliveries if unsigned(one.open) & bit(row.position))
    commitment = read_core(row.header).messages[row.position].commitment
    return Parked(message, row.envelope, row.position, commitment, row.held_at, row.purged_at, opened)


def hold(connection: Connection, message: str, at: int | None) -> None:
    """Note that a message is held from now on, or with None that it is not any more."""
    connection.execute(update(OUTBOX_MESSAGE).where(_M.id == message).values(held_at=at))


def holds(connection: Connection, envelope: int) -> bool:
    """Return whether an operator holds a message of an envelope."""
    query = select(_M.id).where(_IS_HELD, _M.envelope == envelope).limit(1)
    return connection.execute(query).first() is not None


def send_again(connection: Connection, parked: Parked) -> None:
    """Let a message's envelope be sent again to those who have not ended it, if it was ever sent; dead ones are tried, too."""
    was_sent = select(OUTBOX_ENVELOPE.c.sent_at).where(OUTBOX_ENVELOPE.c.n == parked.envelope)
    if connection.execute(was_sent).scalar() is None:
        return
    behind = _D.behind.op("&")(~DEAD).op("|")(AGAIN)
    where = (_D.envelope == parked.envelope) & _D.recipient.in_(parked.open)
    connection.execute(update(OUTBOX_DELIVERY).where(where).values(behind=behind))


def waiting(connection: Connection, state: Waiting, before: str | None, limit: int) -> list[Sent]:
    """Return submitted messages that are in a state at some recipient, newest first, starting below the id ``before``."""
    query = _ended(state) if state in ("expired", "cancelled") else _in_deliveries(state)
    if before is not None:
        query = query.where(_M.id < before)
    ids: Sequence[str] = connection.execute(query.order_by(_M.id.desc()).limit(limit)).scalars().all()
    found = (outgoing.message(connection, one) for one in ids)
    return [one for one in found if one is not None]


def _in_deliveries(state: Waiting) -> Any:
    is_in = _D.open.op(">>")(_M.position).op("&")(1) == 1
    joined = select(_M.id).join(OUTBOX_DELIVERY, _D.envelope == _M.envelope)
    return joined.where(*_BY_DELIVERY[state], is_in).distinct()


def _ended(state: Waiting) -> Any:
    ended = text(f"outbox_step.state = '{state}'")  # one of two words, as the index must see it
    is_in = OUTBOX_STEP.c.mask.op(">>")(_M.position).op("&")(1) == 1
    return select(_M.id).join(OUTBOX_STEP, OUTBOX_STEP.c.envelope == _M.envelope).where(ended, is_in).distinct()
