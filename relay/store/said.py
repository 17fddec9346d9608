"""Rows of what recipients said about messages of this centre: their receipts as evidence, and the steps that follow.

A statement is matched by epoch, lane, sequence *and* commitment; what it changes becomes one step row per envelope, whose mask
says which messages of the envelope it speaks of. The SQL is built once: this runs for every envelope that is sent.

The first terminal state stands (:mod:`relay.store.history`); another one that comes later is kept as a step, too, and shown as a
note.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from relay.envelope import MAX_MESSAGES, Envelope, outline
from relay.receipts import TERMINAL, Statement
from relay.store.common import mask_of, signed, unsigned
from relay.store.history import NEVER_SENT
from relay.store.rows import Insert
from relay.store.tables import OUTBOX_DELIVERY, OUTBOX_SEALED, OUTBOX_STEP, RECEIPT_IN

_KNOWN = select(RECEIPT_IN.c.n).where(RECEIPT_IN.c.sender == bindparam("sender"), RECEIPT_IN.c.id == bindparam("id"))
_ADD_RECEIPT = Insert("receipt_in", ("sender", "id", "header", "body", "content_key", "received_at"))
_FORGET_RECEIPT = delete(RECEIPT_IN).where(RECEIPT_IN.c.n == bindparam("number"))
_SPOKEN_OF = (
    select(OUTBOX_DELIVERY, OUTBOX_SEALED.c.header)
    .join(OUTBOX_SEALED, OUTBOX_SEALED.c.n == OUTBOX_DELIVERY.c.envelope)
    .where(
        OUTBOX_DELIVERY.c.recipient == bindparam("sender"),
        OUTBOX_DELIVERY.c.epoch == bindparam("epoch"),
        OUTBOX_DELIVERY.c.lane == bindparam("lane"),
        OUTBOX_DELIVERY.c.first <= bindparam("last"),
        OUTBOX_DELIVERY.c.first > bindparam("below"),
        OUTBOX_DELIVERY.c.last >= bindparam("first"),
    )
)
_STEPS = select(OUTBOX_STEP.c.state, OUTBOX_STEP.c.mask).where(
    OUTBOX_STEP.c.envelope == bindparam("envelope"), OUTBOX_STEP.c.recipient == bindparam("sender")
)
_ADD_STEP = Insert("outbox_step", ("envelope", "recipient", "state", "mask", "at", "code", "receipt"))
_MOVE = (
    update(OUTBOX_DELIVERY)
    .where(
        OUTBOX_DELIVERY.c.recipient == bindparam("of_recipient"),
        OUTBOX_DELIVERY.c.epoch == bindparam("of_epoch"),
        OUTBOX_DELIVERY.c.lane == bindparam("of_lane"),
        OUTBOX_DELIVERY.c.first == bindparam("of_first"),
    )
    .values(open=bindparam("now_open"), unaccepted=bindparam("now_unaccepted"), behind=bindparam("now_behind"))
)


@dataclass(frozen=True, slots=True)
class Settled:
    """A delivery of which the last message got its first receipt, or its end: so many bytes less are under way to the peer."""

    recipient: str
    lane: str
    envelope: int
    size: int


@dataclass(frozen=True, slots=True)
class Applied:
    """What a statement did: the commitments of the messages it changed, and the deliveries it settled.

    ``messages`` are the ids of those messages by their envelope's.
    """

    changed: list[str]
    settled: list[Settled]
    messages: dict[str, list[str]] = field(default_factory=dict)


def add_receipt(connection: Connection, sender: str, envelope: Envelope, content_key: bytes, at: int) -> int | None:
    """Store a receipt as evidence; return its number, or None when it is already there."""
    if connection.execute(_KNOWN, {"sender": sender, "id": envelope.core.id}).scalar() is not None:
        return None
    row = (sender, envelope.core.id, envelope.header, envelope.body, content_key, at)
    return _ADD_RECEIPT.number(connection, row)


def forget_receipt(connection: Connection, number: int) -> None:
    """Remove a receipt that said nothing new of anything."""
    connection.execute(_FORGET_RECEIPT, {"number": number})


def apply(connection: Connection, sender: str, statement: Statement, receipt: int) -> Applied:
    """Take a peer's statement about messages sent to it; return what it changed.

    A statement counts only for the sender's own deliveries and for the very commitments that were sent; a second one for the
    same state changes nothing.
    """
    given = {
        "sender": sender,
        "epoch": statement.epoch,
        "lane": statement.lane,
        "first": statement.first,
        "last": statement.last,
        "below": statement.first - MAX_MESSAGES,
    }
    applied = Applied([], [])
    for row in connection.execute(_SPOKEN_OF, given).all():
        _apply_to(connection, row, statement, receipt, applied)
    return applied


def move(connection: Connection, row: Any, opened: int, unaccepted: int) -> list[Settled]:
    """Note which messages of a delivery are still open and not accepted, given its row; return it when that settled it."""
    moved = {
        "of_recipient": row.recipient,
        "of_epoch": row.epoch,
        "of_lane": row.lane,
        "of_first": row.first,
        "now_open": signed(opened),
        "now_unaccepted": signed(unaccepted),
        "now_behind": row.behind if unaccepted else 0,
    }
    connection.execute(_MOVE, moved)
    if not row.unaccepted or unaccepted:
        return []
    return [Settled(row.recipient, row.lane, row.envelope, 0 if row.behind & NEVER_SENT else row.size)]


def _apply_to(connection: Connection, row: Any, statement: Statement, receipt: int, applied: Applied) -> None:
    """Apply the part of a statement that speaks of one delivery."""
    about, offset = outline(row.header), statement.first - row.first
    start = max(offset, 0)  # the first position of this envelope that the statement speaks of
    pairs = zip(about.commitments[start:], statement.commitments[start - offset :], strict=False)
    before = _said_already(connection, row, statement)
    fresh = [at for at, (mine, theirs) in enumerate(pairs, start) if mine == theirs and not before >> at & 1]
    if not fresh:
        return
    mask = mask_of(fresh)
    _add_step(connection, row, statement, mask, receipt)
    closed = mask if statement.state in TERMINAL else 0
    applied.settled.extend(move(connection, row, unsigned(row.open) & ~closed, unsigned(row.unaccepted) & ~mask))
    applied.changed.extend(about.commitments[position] for position in fresh)
    applied.messages[about.id] = [about.messages[position] for position in fresh]


def _said_already(connection: Connection, row: Any, statement: Statement) -> int:
    """Return the messages of which this recipient has said this state already."""
    said = 0
    for step in connection.execute(_STEPS, {"envelope": row.envelope, "sender": row.recipient}):
        if step.state == statement.state:
            said |= unsigned(step.mask)
    return said


def _add_step(connection: Connection, row: Any, statement: Statement, mask: int, receipt: int) -> None:
    step = (row.envelope, row.recipient, statement.state, signed(mask), statement.time, statement.code, receipt)
    _ADD_STEP.add(connection, [step])
