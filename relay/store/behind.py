"""Rows of what a peer is behind with: what was left out of the fan-out for it, and what of an envelope may be sent to it again.

A delivery that is ``behind`` (:mod:`relay.store.history` names the bits) is sent addressed to its recipient alone, the oldest
first. The bytes under way to a peer are those of deliveries that were sent and lack a receipt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, text, update

from relay.envelope import outline
from relay.store.common import Resting, bit, mask_of, resting, signed, unsigned
from relay.store.history import DEAD, ENDED, NEVER_SENT
from relay.store.tables import OUTBOX_DELIVERY, OUTBOX_ENVELOPE, OUTBOX_MESSAGE, OUTBOX_SEALED, OUTBOX_STEP

Lane = tuple[str, str]
"""A recipient and a lane towards it."""

_D = OUTBOX_DELIVERY.c
# The conditions stand as they do in the indexes: SQLite would not see that a bound value fits them.
_IS_BEHIND = text("outbox_delivery.behind <> 0")
_IS_OPEN = text("outbox_delivery.open <> 0")
_ALIVE = _D.behind.op("&")(DEAD) == 0
_WAS_SENT = _D.behind.op("&")(NEVER_SENT) == 0
_PUT = (
    update(OUTBOX_DELIVERY)
    .where(_D.envelope == bindparam("of_envelope"), _D.recipient == bindparam("of_recipient"), _D.open != 0)
    .values(behind=bindparam("now_behind"))
)


@dataclass(frozen=True, slots=True)
class Behind:
    """A delivery that is to be sent to its recipient alone; its envelope's number and the size of its ciphertexts."""

    envelope: int
    size: int
    never_sent: bool


@dataclass(frozen=True, slots=True)
class Named:
    """Messages of one envelope, by their ids."""

    id: str
    lane: str
    messages: list[str]


@dataclass(frozen=True, slots=True)
class Again:
    """An envelope of which something is to be sent again to one peer; masks by position.

    ``open`` messages have no terminal state there; ``purged`` have no content here; ``held`` are held by an operator; ``ended``
    says which were ended here: state, time and code. ``first`` is the sequence of the first message in ``epoch``,
    which is another than its header's after a recovery.
    """

    recipient: str
    n: int
    epoch: int
    lane: str
    first: int
    at_rest: Resting
    open: int
    purged: int
    held: int
    ended: dict[int, tuple[str, int, str | None]]

    @property
    def id(self) -> str:
        """The envelope's id."""
        return outline(self.at_rest.header).id

    def messages(self, mask: int) -> list[str]:
        """Return the ids of the messages of a mask."""
        ids = outline(self.at_rest.header).messages
        return [ids[position] for position in positions(mask)]


def under_way(connection: Connection, lane: Lane | None = None) -> dict[Lane, int]:
    """Return the bytes that were sent and lack a receipt, per recipient and lane, or for one of them."""
    query = (
        select(_D.recipient, _D.lane, func.sum(_D.size).label("size"))
        .join(OUTBOX_ENVELOPE, OUTBOX_ENVELOPE.c.n == _D.envelope)
        .where(_IS_OPEN, _D.unaccepted != 0, _WAS_SENT, OUTBOX_ENVELOPE.c.sent_at.is_not(None))
        .group_by(_D.recipient, _D.lane)
    )
    if lane is not None:
        query = query.where(_D.recipient == lane[0], _D.lane == lane[1])
    return {(row.recipient, row.lane): int(row.size) for row in connection.execute(query)}


def lanes(connection: Connection) -> list[Lane]:
    """Return the lanes in which something is behind and not dead."""
    rows = connection.execute(select(_D.recipient, _D.lane).where(_IS_BEHIND, _ALIVE).distinct())
    return [(row.recipient, row.lane) for row in rows]


def oldest(connection: Connection, lane: Lane, limit: int) -> list[Behind]:
    """Return the oldest deliveries that are behind in a lane."""
    rows = connection.execute(
        select(_D.envelope, _D.size, _D.behind)
        .where(_IS_BEHIND, _ALIVE, _D.recipient == lane[0], _D.lane == lane[1])
        .order_by(_D.epoch, _D.first)
        .limit(limit)
    )
    return [Behind(row.envelope, row.size, bool(row.behind & NEVER_SENT)) for row in rows]


def held(connection: Connection) -> set[int]:
    """Return the numbers of envelopes that were not sent yet and of which an operator holds a message."""
    is_held = text("outbox_message.held_at IS NOT NULL")
    query = select(OUTBOX_MESSAGE.c.envelope).join(OUTBOX_ENVELOPE, OUTBOX_ENVELOPE.c.n == OUTBOX_MESSAGE.c.envelope)
    return set(connection.execute(query.where(is_held, OUTBOX_ENVELOPE.c.sent_at.is_(None))).scalars())


def leave_out(connection: Connection, left: Iterable[tuple[int, str]]) -> None:
    """Note that envelopes (number) were not sent to some of their recipients."""
    rows = [{"of_envelope": n, "of_recipient": recipient, "now_behind": NEVER_SENT} for n, recipient in left]
    if rows:
        connection.execute(_PUT, rows)


def caught_up(connection: Connection, recipient: str, n: int, sent: int, at: int) -> int:
    """Note that what may be sent of an envelope was sent to one peer: ``sent`` is the mask of it.

    Return how many bytes that adds to what is under way to it: none when it was sent before, or has a receipt by now.
    """
    where = (_D.envelope == n) & (_D.recipient == recipient)
    row = connection.execute(select(_D.behind, _D.unaccepted, _D.size).where(where)).one()
    connection.execute(_PUT, [{"of_envelope": n, "of_recipient": recipient, "now_behind": 0}])
    if row.behind & NEVER_SENT or _has_gone_alone(connection, recipient, n):
        _step(connection, recipient, n, "sent", sent, at, None)
    return int(row.size) if row.behind & NEVER_SENT and row.unaccepted else 0


def bury(connection: Connection, recipient: str, code: str, at: int, n: int | None = None) -> dict[int, int]:
    """Note that nobody tries by itself again to send a peer what is open, of one envelope or all.

    Return the numbers of the envelopes that this is new for, with the mask of their messages.
    """
    query = select(OUTBOX_DELIVERY).where(_IS_OPEN, _D.recipient == recipient, _ALIVE)
    rows = connection.execute(query if n is None else query.where(_D.envelope == n)).all()
    for row in rows:
        values = {"of_envelope": row.envelope, "of_recipient": recipient, "now_behind": row.behind | DEAD}
        connection.execute(_PUT, [values])
        _step(connection, recipient, row.envelope, "dead", unsigned(row.open), at, code)
    return {row.envelope: unsigned(row.open) for row in rows}


def named(connection: Connection, masks: Mapping[int, int]) -> list[Named]:
    """Return the envelopes of these numbers with the messages of each one's mask."""
    message = OUTBOX_MESSAGE.c
    query = (
        select(OUTBOX_ENVELOPE.c.id.label("envelope"), OUTBOX_ENVELOPE.c.lane, message.id, message.position, OUTBOX_ENVELOPE.c.n)
        .join(OUTBOX_ENVELOPE, OUTBOX_ENVELOPE.c.n == message.envelope)
        .where(message.envelope.in_(list(masks)))
        .order_by(message.envelope, message.position)
    )
    found: dict[int, Named] = {}
    for row in connection.execute(query):
        if masks[row.n] & bit(row.position):
            found.setdefault(row.n, Named(row.envelope, row.lane, [])).messages.append(row.id)
    return list(found.values())


def revive(connection: Connection, but: Collection[str] = ()) -> None:
    """Let everything dead be tried once more, but for some recipients: what stood in the way of the others may be gone."""
    dead = (_IS_BEHIND, ~_ALIVE, _D.recipient.not_in(but))
    connection.execute(update(OUTBOX_DELIVERY).where(*dead).values(behind=_D.behind.op("&")(~DEAD)))


def recipients(connection: Connection) -> list[str]:
    """Return the peers towards whom something is open."""
    return list(connection.execute(select(_D.recipient).where(_IS_OPEN).distinct()).scalars())


def recipients_of(connection: Connection, n: int) -> list[str]:
    """Return to whom an envelope is addressed."""
    return list(connection.execute(select(_D.recipient).where(_D.envelope == n).order_by(_D.recipient)).scalars())


def load(connection: Connection, recipient: str, n: int) -> Again | None:
    """Return an envelope as it may be sent again to one of its recipients, or None when it is not one."""
    row = connection.execute(
        select(OUTBOX_DELIVERY, OUTBOX_SEALED)
        .join(OUTBOX_SEALED, OUTBOX_SEALED.c.n == _D.envelope)
        .where(_D.envelope == n, _D.recipient == recipient)
    ).one_or_none()
    if row is None:
        return None
    messages = connection.execute(select(OUTBOX_MESSAGE).where(OUTBOX_MESSAGE.c.envelope == n)).all()
    present = [message.position for message in messages]
    return Again(
        recipient=recipient,
        n=n,
        epoch=row.epoch,
        lane=row.lane,
        first=row.first,
        at_rest=resting(row),
        open=unsigned(row.open),
        purged=mask_of(message.position for message in messages if message.purged_at is not None),
        held=mask_of(message.position for message in messages if message.held_at is not None),
        ended=_ended(connection, recipient, n, present),
    )


def _ended(connection: Connection, recipient: str, n: int, positions: Collection[int]) -> dict[int, tuple[str, int, str | None]]:
    rows = connection.execute(
        select(OUTBOX_STEP)
        .where(OUTBOX_STEP.c.envelope == n, OUTBOX_STEP.c.recipient == recipient, OUTBOX_STEP.c.state.in_(ENDED))
        .order_by(OUTBOX_STEP.c.n)
    ).all()
    found: dict[int, tuple[str, int, str | None]] = {}
    for row in rows:
        for position in positions:
            if unsigned(row.mask) & bit(position):
                found.setdefault(position, (row.state, row.at, row.code))
    return found


def _has_gone_alone(connection: Connection, recipient: str, n: int) -> bool:
    """Return whether steps say when messages of an envelope were sent to this recipient, and not the envelope's own time."""
    step = OUTBOX_STEP.c
    query = select(step.n).where(step.envelope == n, step.recipient == recipient, step.state == "sent").limit(1)
    return connection.execute(query).first() is not None


def _step(connection: Connection, recipient: str, n: int, state: str, mask: int, at: int, code: str | None) -> None:
    values: dict[str, Any] = {"envelope": n, "recipient": recipient, "state": state, "mask": signed(mask), "at": at, "code": code}
    connection.execute(insert(OUTBOX_STEP), values)


def positions(mask: int) -> Sequence[int]:
    """Return the positions in a mask, in order."""
    return [position for position in range(mask.bit_length()) if mask & bit(position)]
