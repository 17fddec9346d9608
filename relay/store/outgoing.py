"""Rows of what this centre sends: envelopes, their messages, and what each recipient has said about them.

The functions here take the connection of a transaction and are run by the store's writer or readers. What recipients say is
taken in :mod:`relay.store.said`; a message's state is never stored twice: it is read off the steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, join, select, text, update

from relay.envelope import MAX_MESSAGES, Envelope, is_whole
from relay.keeping import Kept
from relay.store import found, kept
from relay.store.common import Resting, bits, resting, signed, unsigned, upsert
from relay.store.history import DEAD, NEVER_SENT, Step, history
from relay.store.rows import Insert, Row
from relay.store.tables import (
    IDEMPOTENCY,
    OUTBOX_DELIVERY,
    OUTBOX_ENVELOPE,
    OUTBOX_MESSAGE,
    OUTBOX_SEALED,
    OUTBOX_STEP,
    SEQUENCE,
)

# Built once: these run for every envelope.
_KEPT = join(OUTBOX_ENVELOPE, OUTBOX_SEALED, OUTBOX_SEALED.c.n == OUTBOX_ENVELOPE.c.n)
_SEALED = (OUTBOX_SEALED.c.content_key, OUTBOX_SEALED.c.header, OUTBOX_SEALED.c.body)
_LOAD = select(OUTBOX_ENVELOPE, *_SEALED).select_from(_KEPT).where(OUTBOX_ENVELOPE.c.n == bindparam("number"))
_DUE = (
    select(OUTBOX_ENVELOPE.c.rank, OUTBOX_ENVELOPE.c.n)
    .where(OUTBOX_ENVELOPE.c.sent_at.is_(None), OUTBOX_ENVELOPE.c.n > bindparam("after"))
    .order_by(OUTBOX_ENVELOPE.c.n)
    .limit(bindparam("most"))
)
_LAST = select(SEQUENCE.c.last).where(SEQUENCE.c.recipient == bindparam("of_recipient"), SEQUENCE.c.lane == bindparam("of_lane"))
_MARK_SENT = update(OUTBOX_ENVELOPE).where(OUTBOX_ENVELOPE.c.n == bindparam("number")).values(sent_at=bindparam("at"))
_ADD_ENVELOPE = Insert("outbox_envelope", ("id", "epoch", "lane", "rank", "keys", "created_at"))
_ADD_SEALED = Insert("outbox_sealed", ("n", "content_key", "header", "body"))
_ADD_MESSAGES = Insert("outbox_message", ("id", "envelope", "position", "purge_at", "found"))
_ADD_DELIVERIES = Insert(
    "outbox_delivery",
    ("recipient", "epoch", "lane", "first", "last", "envelope", "open", "unaccepted", "size", "deadline", "behind"),
)

# The condition stands as it does in the index: SQLite would not see that a bound value fits it.
_IS_OPEN = text("outbox_delivery.open <> 0")
_OPEN_LANES = (
    select(SEQUENCE.c.recipient, SEQUENCE.c.lane)
    .where(
        select(OUTBOX_DELIVERY.c.first)
        .where(OUTBOX_DELIVERY.c.recipient == SEQUENCE.c.recipient, OUTBOX_DELIVERY.c.lane == SEQUENCE.c.lane, _IS_OPEN)
        .exists()
    )
    .order_by(SEQUENCE.c.recipient, SEQUENCE.c.lane)
)
_OPEN = (
    select(OUTBOX_DELIVERY, OUTBOX_ENVELOPE.c.sent_at)
    .join(OUTBOX_ENVELOPE, OUTBOX_ENVELOPE.c.n == OUTBOX_DELIVERY.c.envelope)
    .where(
        OUTBOX_DELIVERY.c.recipient == bindparam("of_recipient"),
        OUTBOX_DELIVERY.c.lane == bindparam("of_lane"),
        OUTBOX_ENVELOPE.c.sent_at.is_not(None),
        OUTBOX_DELIVERY.c.behind.op("&")(NEVER_SENT | DEAD) == 0,
        _IS_OPEN,
    )
)
_OLDEST_OPEN = _OPEN.order_by(OUTBOX_DELIVERY.c.first).limit(1024)
_NEWEST_OPEN = _OPEN.order_by(OUTBOX_DELIVERY.c.first.desc()).limit(64)


@dataclass(frozen=True, slots=True)
class NewEnvelope:
    """A sealed batch on its way into the outbox; ``keys`` are its routing keys, the main one first.

    ``kept`` is what is kept of each message, in order.
    """

    envelope: Envelope
    content_key: bytes
    keys: tuple[str, ...]
    rank: int
    created_at: int
    kept: tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class Idempotent:
    """What an idempotency key stands for: the digest of the body, the message it became and who gets it."""

    key: str
    digest: bytes
    message: str
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Due:
    """An envelope to publish; ``raw`` as it goes on the wire, its last ``size`` bytes the ciphertexts.

    One that lost a message to purging is not ``whole``: to a peer it would look forged.
    """

    n: int
    id: str
    lane: str
    rank: int
    keys: tuple[str, ...]
    raw: bytes
    size: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that this centre submitted: where it rests, and per recipient its history, oldest first."""

    id: str
    position: int
    resting: Resting
    submitted_at: int
    lane: str
    purged_at: int | None
    recipients: dict[str, tuple[Step, ...]]


@dataclass(frozen=True, slots=True)
class OpenLane:
    """What is open towards a peer in one lane: sequences sent without a terminal receipt, as ranges.

    ``open`` and ``unaccepted`` count messages among the oldest; ``silent`` says that of the newest the peer accepted none.
    """

    recipient: str
    lane: str
    highest: int
    ranges: tuple[tuple[int, int], ...]
    open: int
    unaccepted: int
    silent: bool
    oldest: int


def sequences(connection: Connection) -> dict[tuple[str, str], int]:
    """Return the last number used, per (recipient, lane or kind of control)."""
    rows = connection.execute(select(SEQUENCE.c.recipient, SEQUENCE.c.lane, SEQUENCE.c.last))
    return {(row.recipient, row.lane): row.last for row in rows}


def next_number(connection: Connection, recipient: str, lane: str) -> int:
    """Use up and return the next number towards a recipient in a lane or kind of control."""
    number = (connection.execute(_LAST, {"of_recipient": recipient, "of_lane": lane}).scalar() or 0) + 1
    _store_sequences(connection, {(recipient, lane): number})
    return number


def add(connection: Connection, envelopes: Sequence[NewEnvelope], idempotent: Sequence[Idempotent]) -> list[int]:
    """Store sealed envelopes with their messages, deliveries and sequences; return their numbers in order."""
    numbers = [_add_envelope(connection, new) for new in envelopes]
    pairs = list(zip(numbers, envelopes, strict=True))
    _ADD_MESSAGES.add(connection, [row for n, new in pairs for row in _message_rows(n, new)])
    _ADD_DELIVERIES.add(connection, [row for n, new in pairs for row in _delivery_rows(n, new)])
    for n, new in pairs:
        kept.add(connection, new.envelope.core.origin, _kept(n, new), new.created_at, received=False)
    _store_sequences(
        connection,
        {(to.centre, new.envelope.core.lane): to.last for new in envelopes for to in new.envelope.core.to},
    )
    if idempotent:
        now = envelopes[0].created_at
        connection.execute(
            insert(IDEMPOTENCY),
            [{"key": i.key, "digest": i.digest, "message": i.message, "created_at": now} for i in idempotent],
        )
    return numbers


def idempotent(connection: Connection, keys: Sequence[str]) -> dict[str, Idempotent]:
    """Return what these idempotency keys already stand for."""
    rows = connection.execute(
        select(IDEMPOTENCY, OUTBOX_DELIVERY.c.recipient)
        .join(OUTBOX_MESSAGE, OUTBOX_MESSAGE.c.id == IDEMPOTENCY.c.message)
        .join(OUTBOX_DELIVERY, OUTBOX_DELIVERY.c.envelope == OUTBOX_MESSAGE.c.envelope)
        .where(IDEMPOTENCY.c.key.in_(keys))
        .order_by(OUTBOX_DELIVERY.c.recipient)
    ).all()
    recipients: dict[str, list[str]] = {}
    for row in rows:
        recipients.setdefault(row.key, []).append(row.recipient)
    return {row.key: Idempotent(row.key, row.digest, row.message, tuple(recipients[row.key])) for row in rows}


def due(connection: Connection, after: int, limit: int) -> list[tuple[int, int]]:
    """Return (rank, number) of envelopes numbered above ``after`` that were never confirmed by the broker."""
    return [(row.rank, row.n) for row in connection.execute(_DUE, {"after": after, "most": limit})]


def load(connection: Connection, n: int) -> Due | None:
    """Return an envelope of the outbox, or None when there is none of this number."""
    row = connection.execute(_LOAD, {"number": n}).one_or_none()
    if row is None:
        return None
    keys, raw = tuple(json.loads(row.keys)), row.header + row.body
    return Due(row.n, row.id, row.lane, row.rank, keys, raw, len(row.body), is_whole(row.body))


def as_due(n: int, new: NewEnvelope) -> Due:
    """Return a new envelope, stored under a number, as :func:`load` returns it."""
    core, body = new.envelope.core, new.envelope.body
    return Due(n, core.id, core.lane, new.rank, new.keys, new.envelope.header + body, len(body), whole=True)


def mark_sent(connection: Connection, numbers: Sequence[int], at: int) -> None:
    """Note that the broker confirmed these envelopes for the first time."""
    connection.execute(_MARK_SENT, [{"number": n, "at": at} for n in numbers])


def open_lanes(connection: Connection, most: int) -> list[OpenLane]:
    """Return per peer and lane what was sent and has no terminal receipt, at most ``most`` ranges each.

    A bounded number of rows is looked at, whatever is open: the oldest for the ranges, the newest for what was sent last.
    """
    opened = (_open_lane(connection, recipient, lane, most) for recipient, lane in lanes_open(connection))
    return [lane for lane in opened if lane is not None]


def lanes_open(connection: Connection) -> list[tuple[str, str]]:
    """Return (recipient, lane) of every lane in which something has no terminal state."""
    return [(row.recipient, row.lane) for row in connection.execute(_OPEN_LANES).all()]


def find(
    connection: Connection, recipient: str, epoch: int, lane: str, ranges: Iterable[tuple[int, int]], most: int
) -> list[tuple[int, int, int]]:
    """Return (number, first, last) of the envelopes that carry these sequences to a recipient, each once, at most ``most``.

    Those that were never sent to it are left out: they come by themselves. ``first`` and ``last`` are its sequences.
    """
    found: dict[int, tuple[int, int]] = {}
    for first, last in ranges:
        rows = connection.execute(
            select(OUTBOX_DELIVERY.c.envelope, OUTBOX_DELIVERY.c.first, OUTBOX_DELIVERY.c.last)
            .where(
                OUTBOX_DELIVERY.c.recipient == recipient,
                OUTBOX_DELIVERY.c.epoch == epoch,
                OUTBOX_DELIVERY.c.lane == lane,
                OUTBOX_DELIVERY.c.first <= last,
                OUTBOX_DELIVERY.c.first > first - MAX_MESSAGES,
                OUTBOX_DELIVERY.c.last >= first,
                OUTBOX_DELIVERY.c.behind.op("&")(NEVER_SENT) == 0,
            )
            .order_by(OUTBOX_DELIVERY.c.first)
            .limit(most - len(found))
        )
        found.update({row.envelope: (row.first, row.last) for row in rows})
        if len(found) >= most:
            break
    return [(n, first, last) for n, (first, last) in found.items()]


def message(connection: Connection, message_id: str) -> Sent | None:
    """Return a submitted message with its history per recipient, or None when this centre did not submit it."""
    row = connection.execute(
        select(OUTBOX_MESSAGE.c.position, OUTBOX_MESSAGE.c.purged_at, OUTBOX_MESSAGE.c.held_at, OUTBOX_ENVELOPE, *_SEALED)
        .join(_KEPT, OUTBOX_ENVELOPE.c.n == OUTBOX_MESSAGE.c.envelope)
        .where(OUTBOX_MESSAGE.c.id == message_id)
    ).one_or_none()
    if row is None:
        return None
    return _sent(connection, message_id, row)


def messages(connection: Connection, before: str | None, limit: int) -> list[Sent]:
    """Return the submitted messages, newest first, starting below the id ``before``."""
    query = (
        select(
            OUTBOX_MESSAGE.c.id.label("message"),
            OUTBOX_MESSAGE.c.position,
            OUTBOX_MESSAGE.c.purged_at,
            OUTBOX_MESSAGE.c.held_at,
            OUTBOX_ENVELOPE,
            *_SEALED,
        )
        .join(_KEPT, OUTBOX_ENVELOPE.c.n == OUTBOX_MESSAGE.c.envelope)
        .order_by(OUTBOX_MESSAGE.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(OUTBOX_MESSAGE.c.id < before)
    return [_sent(connection, row.message, row) for row in connection.execute(query).all()]


def _add_envelope(connection: Connection, new: NewEnvelope) -> int:
    core = new.envelope.core
    keys = json.dumps(new.keys, separators=(",", ":"))
    n = _ADD_ENVELOPE.number(connection, (core.id, core.epoch, core.lane, new.rank, keys, new.created_at))
    _ADD_SEALED.add(connection, [(n, new.content_key, new.envelope.header, new.envelope.body)])
    return n


def _message_rows(n: int, new: NewEnvelope) -> list[Row]:
    return [
        (item.id, n, at, one.purge_at, _found(n, at, new.created_at))
        for at, (item, one) in enumerate(zip(new.envelope.core.messages, new.kept, strict=True))
    ]


def _found(n: int, position: int, at: int) -> int:
    return found.number(at, n * MAX_MESSAGES + position, received=False)


def _kept(n: int, new: NewEnvelope) -> list[kept.Message]:
    core = new.envelope.core
    peers = tuple(to.centre for to in core.to)
    return [
        kept.Message(item.id, one, _found(n, at, new.created_at), peers)
        for at, (item, one) in enumerate(zip(core.messages, new.kept, strict=True))
    ]


def _delivery_rows(n: int, new: NewEnvelope) -> list[Row]:
    core = new.envelope.core
    everything, size = signed(bits(len(core.messages))), len(new.envelope.body)
    deadline = min(item.deadline for item in core.messages)
    return [(to.centre, core.epoch, core.lane, to.first, to.last, n, everything, everything, size, deadline, 0) for to in core.to]


def _store_sequences(connection: Connection, last: dict[tuple[str, str], int]) -> None:
    rows = [{"recipient": recipient, "lane": lane, "last": number} for (recipient, lane), number in last.items()]
    upsert(connection, SEQUENCE, rows, ["last"])


def _open_lane(connection: Connection, recipient: str, lane: str, most: int) -> OpenLane | None:
    given = {"of_recipient": recipient, "of_lane": lane}
    newest = connection.execute(_NEWEST_OPEN, given).all()
    oldest = connection.execute(_OLDEST_OPEN, given).all()
    if not newest or not oldest:
        return None
    merged: list[tuple[int, int]] = []
    for row in oldest:
        for first, last in _runs(unsigned(row.open), row.first):
            if merged and merged[-1][1] == first - 1:
                merged[-1] = (merged[-1][0], last)
            else:
                merged.append((first, last))
    return OpenLane(
        recipient=recipient,
        lane=lane,
        highest=newest[0].last,
        ranges=tuple(merged[:most]),
        open=sum(unsigned(row.open).bit_count() for row in oldest),
        unaccepted=sum(unsigned(row.unaccepted).bit_count() for row in oldest),
        silent=all(row.unaccepted == row.open for row in newest),
        oldest=min(row.sent_at for row in oldest),
    )


def _runs(mask: int, first: int) -> list[tuple[int, int]]:
    """Return the runs of ones of a mask as ranges of sequences, position 0 being ``first``."""
    runs = []
    while mask:
        gap = (mask & -mask).bit_length() - 1
        mask >>= gap
        length = (~mask & (mask + 1)).bit_length() - 1
        runs.append((first + gap, first + gap + length - 1))
        mask >>= length
        first += gap + length
    return runs


def _sent(connection: Connection, message_id: str, row: Any) -> Sent:
    deliveries = connection.execute(
        select(OUTBOX_DELIVERY).where(OUTBOX_DELIVERY.c.envelope == row.n).order_by(OUTBOX_DELIVERY.c.recipient)
    ).all()
    steps = connection.execute(select(OUTBOX_STEP).where(OUTBOX_STEP.c.envelope == row.n).order_by(OUTBOX_STEP.c.n)).all()
    return Sent(message_id, row.position, resting(row), row.created_at, row.lane, row.purged_at, history(row, deliveries, steps))
