"""Rows that show what became of one message: its signed header, what recipients signed about it, and the record's leaves of it.

Everything here is read and nothing is changed. A leaf binds the digest of a list of commitments; which list that was is found
again from the rows of the step that it records (:func:`said_in`, :func:`given_at`), and whoever uses it checks the digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, LargeBinary, bindparam, func, literal, or_, select

from relay.envelope import commitments
from relay.store import trees
from relay.store.common import Resting, bit, resting, unsigned
from relay.store.tables import (
    AUDIT,
    AUDIT_TILE,
    DIRECTORY,
    INBOX_ENVELOPE,
    INBOX_MESSAGE,
    META,
    OUTBOX_DELIVERY,
    OUTBOX_ENVELOPE,
    OUTBOX_MESSAGE,
    OUTBOX_SEALED,
    OUTBOX_STEP,
    RECEIPT_IN,
)

ABOUT_MS = 1000
MOST_ABOUT = 2048


@dataclass(frozen=True, slots=True)
class Said:
    """A state that a message reached at a recipient; ``receipt`` numbers what says so, None of what its origin itself ended."""

    recipient: str
    state: str
    at: int
    code: str | None
    receipt: int | None


@dataclass(frozen=True, slots=True)
class SentEvidence:
    """A message that this centre sent: its envelope at rest, its place there, and all that was said of it, in order."""

    envelope: str
    position: int
    lane: str
    resting: Resting
    submitted_at: int
    sent_at: int | None
    recipients: tuple[str, ...]
    said: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class ReceivedEvidence:
    """A message that this centre received: its envelope at rest, its place there, and where it stands."""

    origin: str
    envelope: str
    position: int
    lane: str
    resting: Resting
    received_at: int
    state: str
    at: int
    code: str | None
    given_at: int | None
    purged_at: int | None


@dataclass(frozen=True, slots=True)
class KeptReceipt:
    """A receipt as it came from a peer."""

    n: int
    sender: str
    id: str
    resting: Resting
    received_at: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf of the record and where it stands."""

    epoch: int
    position: int
    leaf: bytes


def centre_of(connection: Connection) -> tuple[str, str]:
    """Return whose store this is: the centre's id and the network's."""
    meta = {row.name: row.value for row in connection.execute(select(META).where(META.c.name.in_(("centre", "network"))))}
    return meta["centre"], meta["network"]


def sent(connection: Connection, message: str) -> SentEvidence | None:
    """Return what is known of a message that this centre sent, or None."""
    row = connection.execute(
        select(
            OUTBOX_MESSAGE.c.position,
            OUTBOX_ENVELOPE,
            OUTBOX_SEALED.c.content_key,
            OUTBOX_SEALED.c.header,
            OUTBOX_SEALED.c.body,
        )
        .join(OUTBOX_ENVELOPE, OUTBOX_ENVELOPE.c.n == OUTBOX_MESSAGE.c.envelope)
        .join(OUTBOX_SEALED, OUTBOX_SEALED.c.n == OUTBOX_ENVELOPE.c.n)
        .where(OUTBOX_MESSAGE.c.id == message)
    ).one_or_none()
    if row is None:
        return None
    recipients = connection.execute(
        select(OUTBOX_DELIVERY.c.recipient).where(OUTBOX_DELIVERY.c.envelope == row.n).order_by(OUTBOX_DELIVERY.c.recipient)
    ).scalars()
    steps = connection.execute(select(OUTBOX_STEP).where(OUTBOX_STEP.c.envelope == row.n).order_by(OUTBOX_STEP.c.n))
    said = tuple(
        Said(step.recipient, step.state, step.at, step.code, step.receipt)
        for step in steps
        if unsigned(step.mask) & bit(row.position)
    )
    return SentEvidence(
        row.id, row.position, row.lane, resting(row), row.created_at, row.sent_at, tuple(dict.fromkeys(recipients)), said
    )


def received(connection: Connection, message: str) -> ReceivedEvidence | None:
    """Return what is known of a message that this centre received, or None."""
    row = connection.execute(
        select(
            INBOX_MESSAGE.c.origin,
            INBOX_MESSAGE.c.position,
            INBOX_MESSAGE.c.state,
            INBOX_MESSAGE.c.at,
            INBOX_MESSAGE.c.code,
            INBOX_MESSAGE.c.given_at,
            INBOX_MESSAGE.c.purged_at,
            INBOX_ENVELOPE.c.id.label("envelope_id"),
            INBOX_ENVELOPE.c.lane,
            INBOX_ENVELOPE.c.received_at,
            INBOX_ENVELOPE.c.content_key,
            INBOX_ENVELOPE.c.header,
            INBOX_ENVELOPE.c.body,
        )
        .join(INBOX_ENVELOPE, INBOX_ENVELOPE.c.n == INBOX_MESSAGE.c.envelope)
        .where(INBOX_MESSAGE.c.id == message)
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    return ReceivedEvidence(
        row.origin,
        row.envelope_id,
        row.position,
        row.lane,
        resting(row),
        row.received_at,
        row.state,
        row.at,
        row.code,
        row.given_at,
        row.purged_at,
    )


def receipts(connection: Connection, numbers: Iterable[int]) -> list[KeptReceipt]:
    """Return receipts of peers by their numbers, in order."""
    rows = connection.execute(select(RECEIPT_IN).where(RECEIPT_IN.c.n.in_(sorted(set(numbers)))).order_by(RECEIPT_IN.c.n))
    return [KeptReceipt(row.n, row.sender, row.id, resting(row), row.received_at) for row in rows]


def receipt_ids(connection: Connection, numbers: Iterable[int]) -> dict[int, str]:
    """Return the envelope ids of receipts by their numbers."""
    rows = connection.execute(select(RECEIPT_IN.c.n, RECEIPT_IN.c.id).where(RECEIPT_IN.c.n.in_(sorted(set(numbers)))))
    return {row.n: row.id for row in rows}


def said_in(connection: Connection, receipt: int) -> list[tuple[str, str | None, str]]:
    """Return (state, code, commitment) of every message that a receipt changed, in the order in which it did."""
    rows = connection.execute(
        select(OUTBOX_STEP.c.state, OUTBOX_STEP.c.code, OUTBOX_STEP.c.mask, OUTBOX_SEALED.c.header)
        .join(OUTBOX_SEALED, OUTBOX_SEALED.c.n == OUTBOX_STEP.c.envelope)
        .where(OUTBOX_STEP.c.receipt == receipt)
        .order_by(OUTBOX_STEP.c.n)
    )
    return [
        (row.state, row.code, commitment)
        for row in rows
        for position, commitment in enumerate(commitments(row.header))
        if unsigned(row.mask) & bit(position)
    ]


def given_at(connection: Connection, origin: str, at: int) -> list[str]:
    """Return the commitments of the messages of an origin that the centre's system took at this moment, in a receipt's order."""
    rows = connection.execute(
        select(
            INBOX_MESSAGE.c.position,
            INBOX_ENVELOPE.c.epoch,
            INBOX_ENVELOPE.c.lane,
            INBOX_ENVELOPE.c.first,
            INBOX_ENVELOPE.c.header,
        )
        .join(INBOX_ENVELOPE, INBOX_ENVELOPE.c.n == INBOX_MESSAGE.c.envelope)
        .where(INBOX_MESSAGE.c.origin == origin, INBOX_MESSAGE.c.state == "delivered", INBOX_MESSAGE.c.at == at)
    ).all()
    ordered = sorted(rows, key=lambda row: (row.epoch, row.lane, row.first + row.position))
    return [commitments(row.header)[row.position] for row in ordered]


def leaves_with(connection: Connection, texts: Sequence[str]) -> list[Leaf]:
    """Return, in order, the leaves of every epoch that hold one of these texts (ids): the whole record is looked through."""
    if not texts:
        return []
    holds: list[ColumnElement[bool]] = [func.instr(AUDIT.c.leaf, literal(text.encode(), LargeBinary)) > 0 for text in texts]
    rows = connection.execute(select(AUDIT).where(or_(*holds)).order_by(AUDIT.c.epoch, AUDIT.c.position))
    return [Leaf(row.epoch, row.position, row.leaf) for row in rows]


def leaves_at(connection: Connection, epoch: int, time: int, texts: Sequence[str]) -> list[Leaf]:
    """Return the leaves of an epoch that hold all of these texts and were written about a time: a bounded number is looked at."""
    about = _first_at(connection, epoch, time - ABOUT_MS)
    holds = [func.instr(AUDIT.c.leaf, literal(text.encode(), LargeBinary)) > 0 for text in texts]
    near = (AUDIT.c.epoch == epoch, AUDIT.c.position >= about, AUDIT.c.position < about + MOST_ABOUT)
    rows = connection.execute(select(AUDIT).where(*near, *holds).order_by(AUDIT.c.position))
    return [Leaf(row.epoch, row.position, row.leaf) for row in rows]


def _first_at(connection: Connection, epoch: int, time: int) -> int:
    """Return the first position of an epoch whose leaf is of a time or later, by halves: times go on from leaf to leaf."""
    query = select(AUDIT.c.leaf).where(AUDIT.c.epoch == epoch, AUDIT.c.position == bindparam("at"))
    low, high = 0, trees.size(connection, epoch)
    while low < high:
        middle = (low + high) // 2
        leaf = connection.execute(query, {"at": middle}).scalar()
        if leaf is not None and int(json.loads(leaf)["time"]) < time:
            low = middle + 1
        else:
            high = middle
    return low


def page(connection: Connection, after: tuple[int, int], limit: int) -> list[Leaf]:
    """Return leaves of every epoch behind an (epoch, position), in order."""
    of = AUDIT.c
    later = (of.epoch > after[0]) | ((of.epoch == after[0]) & (of.position > after[1]))
    rows = connection.execute(select(AUDIT).where(later).order_by(of.epoch, of.position).limit(limit))
    return [Leaf(row.epoch, row.position, row.leaf) for row in rows]


def epochs(connection: Connection) -> list[int]:
    """Return the epochs that have a record, in order."""
    found, query = list[int](), select(func.min(AUDIT.c.epoch)).where(AUDIT.c.epoch > bindparam("last"))
    while (following := connection.execute(query, {"last": found[-1] if found else -1}).scalar()) is not None:
        found.append(following)
    return found


def tiled(connection: Connection, epoch: int) -> int:
    """Return how many leaves of an epoch have had their hashes kept in tiles."""
    last = connection.execute(select(func.max(AUDIT_TILE.c.number)).where(AUDIT_TILE.c.epoch == epoch)).scalar()
    return 0 if last is None else (int(last) + 1) * 256


def directories(connection: Connection) -> list[bytes]:
    """Return the packed bundles of all versions of the directory that were in force here."""
    of = DIRECTORY.c
    return [bytes(row.bundle) for row in connection.execute(select(of.bundle).where(of.taken == 1).order_by(of.version))]


def entries(found: Iterable[Leaf]) -> Iterator[tuple[Leaf, dict[str, Any]]]:
    """Return leaves with what they say; one that is no JSON object says nothing."""
    for one in found:
        try:
            said = json.loads(one.leaf)
        except ValueError:
            said = None
        yield one, said if isinstance(said, dict) else {}
