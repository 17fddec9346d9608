"""Rows whose time is up, and rows under legal hold.

What a centre keeps has a time, ``purge_at``, in the row of each message. The functions here find what is due, page by page on a
reader, and purge a page's rows in the writer, which looks at each of them again: whatever was put under hold meanwhile stays.

A received message is due when its time has come. One that this centre sent must also be needed no more: nothing of its envelope
is open at any recipient, or the deadline of everything in it lies ``SENDABLE_MS`` back. An envelope that lost a message is never
sent again as it is (:mod:`relay.copies`): to a peer it would look forged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select, text, update

from relay.envelope import read_core
from relay.keeping import DAY_MS
from relay.store import purged, recalled, threads
from relay.store.recalled import Buried
from relay.store.tables import (
    IDEMPOTENCY,
    INBOX_ENVELOPE,
    INBOX_MESSAGE,
    LEGAL_HOLD,
    OUTBOX_DELIVERY,
    OUTBOX_ENVELOPE,
    OUTBOX_MESSAGE,
    OUTBOX_SEALED,
    SAMPLE,
    TOMBSTONE,
)

Side = Literal["received", "sent"]
Why = Literal["retention", "expired", "unanswered"]

SENDABLE_MS = 7 * DAY_MS
"""How long after its last deadline an envelope with something open is kept for being sent again."""

OPEN = ("waiting", "handed", "deferred", "held", "dead", "withdrawn")
_IS_OPEN = text("outbox_delivery.open <> 0")
_HAS_OPEN = select(OUTBOX_DELIVERY.c.first).where(OUTBOX_DELIVERY.c.envelope == OUTBOX_MESSAGE.c.envelope, _IS_OPEN).exists()


@dataclass(frozen=True, slots=True)
class Due:
    """A message whose content goes; ``size`` is that of its envelope's ciphertexts, ``number`` a received message's row.

    ``why``: ``retention`` (its time is up), ``expired`` (that, and the centre's system never took it: it is rejected first),
    ``unanswered`` (a recipient never answered, and nothing sends it any more).
    """

    side: Side
    id: str
    number: int
    envelope: int
    purge_at: int
    state: str
    why: Why
    size: int


@dataclass(frozen=True, slots=True)
class Page:
    """What one look found: what goes, how many rows a hold keeps and how many are still needed, and where to look next."""

    due: tuple[Due, ...]
    held: int
    needed: int
    last: Any


@dataclass(frozen=True, slots=True)
class Gone:
    """What a transaction purged: ids and commitments, and the rows that it rejected before, as nobody had taken them."""

    ids: frozenset[str]
    commitments: tuple[str, ...]
    expired: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold; ``at`` in milliseconds."""

    id: str
    reason: str
    actor: str
    at: int


@dataclass(frozen=True, slots=True)
class Found:
    """A message that a hold can be set on or lifted from; ``row`` is its row in the inbox or the outbox."""

    side: Side
    row: Any
    commitment: str


def received(connection: Connection, now: int, after: int, limit: int) -> Page | None:
    """Return received messages whose time is up, from rows numbered above ``after``; None when there are no more."""
    rows = connection.execute(
        select(INBOX_MESSAGE, func.length(INBOX_ENVELOPE.c.body).label("size"), LEGAL_HOLD.c.id.label("hold"))
        .join(INBOX_ENVELOPE, INBOX_ENVELOPE.c.n == INBOX_MESSAGE.c.envelope)
        .outerjoin(LEGAL_HOLD, LEGAL_HOLD.c.id == INBOX_MESSAGE.c.id)
        .where(INBOX_MESSAGE.c.n > after, INBOX_MESSAGE.c.purge_at <= now, INBOX_MESSAGE.c.purged_at.is_(None))
        .order_by(INBOX_MESSAGE.c.n)
        .limit(limit)
    ).all()
    if not rows:
        return None
    free = [row for row in rows if row.hold is None]
    due = (_due("received", row, row.state, "expired" if row.state in OPEN else "retention", row.n) for row in free)
    return Page(tuple(due), held=len(rows) - len(free), needed=0, last=rows[-1].n)


def sent(connection: Connection, now: int, after: str, limit: int) -> Page | None:
    """Return messages of this centre whose time is up, with ids above ``after``; None when there are no more."""
    rows = connection.execute(
        select(
            OUTBOX_MESSAGE,
            func.length(OUTBOX_SEALED.c.body).label("size"),
            LEGAL_HOLD.c.id.label("hold"),
            _HAS_OPEN.label("is_open"),
        )
        .join(OUTBOX_SEALED, OUTBOX_SEALED.c.n == OUTBOX_MESSAGE.c.envelope)
        .outerjoin(LEGAL_HOLD, LEGAL_HOLD.c.id == OUTBOX_MESSAGE.c.id)
        .where(OUTBOX_MESSAGE.c.id > after, OUTBOX_MESSAGE.c.purge_at <= now, OUTBOX_MESSAGE.c.purged_at.is_(None))
        .order_by(OUTBOX_MESSAGE.c.id)
        .limit(limit)
    ).all()
    if not rows:
        return None
    free = [row for row in rows if row.hold is None]
    over = _over(connection, {row.envelope for row in free if row.is_open}, now)
    going = [row for row in free if not row.is_open or row.envelope in over]
    due = (_due("sent", row, *(("open", "unanswered") if row.is_open else ("settled", "retention"))) for row in going)
    return Page(tuple(due), held=len(rows) - len(free), needed=len(free) - len(going), last=rows[-1].id)


def purge_received(connection: Connection, numbers: Sequence[int], now: int) -> Gone:
    """Purge received messages, given the numbers of their rows, rejecting first what nobody has taken."""
    rows = connection.execute(
        select(INBOX_MESSAGE).where(
            INBOX_MESSAGE.c.n.in_(numbers),
            INBOX_MESSAGE.c.purged_at.is_(None),
            INBOX_MESSAGE.c.id.not_in(select(LEGAL_HOLD.c.id)),
        )
    ).all()
    expired = [row for row in rows if row.state in OPEN]
    _reject(connection, expired, state="rejected", code="expired", at=now)
    # What was refused on arrival is no longer kept for an operator; why it was refused stays.
    _reject(connection, [row for row in rows if row.state == "quarantined"], state="rejected")
    return Gone(_ids(rows), tuple(purged.received(connection, rows, now)), tuple(expired))


def purge_sent(connection: Connection, ids: Sequence[str], now: int) -> Gone:
    """Purge messages of this centre that were found due."""
    rows = connection.execute(
        select(OUTBOX_MESSAGE).where(
            OUTBOX_MESSAGE.c.id.in_(ids),
            OUTBOX_MESSAGE.c.purged_at.is_(None),
            OUTBOX_MESSAGE.c.id.not_in(select(LEGAL_HOLD.c.id)),
        )
    ).all()
    return Gone(_ids(rows), tuple(purged.sent(connection, rows, now)))


def find(connection: Connection, message: str) -> Found | None:
    """Return a message that was received or sent here, or None."""
    for side, table, envelope in (("received", INBOX_MESSAGE, INBOX_ENVELOPE), ("sent", OUTBOX_MESSAGE, OUTBOX_SEALED)):
        query = select(table, envelope.c.header).join(envelope, envelope.c.n == table.c.envelope).where(table.c.id == message)
        if (row := connection.execute(query).first()) is not None:
            committed = read_core(row.header).messages[row.position].commitment
            return Found("received" if side == "received" else "sent", row, committed)
    return None


def holds(connection: Connection) -> list[Hold]:
    """Return every legal hold, the oldest first."""
    rows = connection.execute(select(LEGAL_HOLD).order_by(LEGAL_HOLD.c.at, LEGAL_HOLD.c.id))
    return [Hold(row.id, row.reason, row.actor, row.at) for row in rows]


def held(connection: Connection, message: str) -> Hold | None:
    """Return the hold that a message is under, or None."""
    row = connection.execute(select(LEGAL_HOLD).where(LEGAL_HOLD.c.id == message)).one_or_none()
    return None if row is None else Hold(row.id, row.reason, row.actor, row.at)


def hold(connection: Connection, new: Hold) -> None:
    """Put a message under legal hold."""
    connection.execute(insert(LEGAL_HOLD), {"id": new.id, "reason": new.reason, "actor": new.actor, "at": new.at})


def lift(connection: Connection, message: str) -> None:
    """End a message's legal hold."""
    connection.execute(delete(LEGAL_HOLD).where(LEGAL_HOLD.c.id == message))


def carry_out(connection: Connection, row: Any, at: int) -> list[tuple[Buried, Any]]:
    """Carry out the recalls that a received message's hold kept from it; return what each did, with the recall's own row.

    A recall that still finds something under hold is left out: its last hold carries it out.
    """
    done: list[tuple[Buried, Any]] = []
    for recall in _recalls(connection, row):
        buried = recalled.sweep(connection, row.origin, recall.target, recall.id, recall.kind, at)
        by = connection.execute(
            select(INBOX_MESSAGE).where(INBOX_MESSAGE.c.origin == row.origin, INBOX_MESSAGE.c.id == recall.id)
        ).one_or_none()
        done.append((buried, by if by is not None and recalled.complete(connection, row.origin, recall.id) else None))
    return done


def old_keys(connection: Connection, before: int, after: str, limit: int) -> list[str]:
    """Return idempotency keys made before a time, in order, from above ``after``."""
    query = select(IDEMPOTENCY.c.key).where(IDEMPOTENCY.c.key > after, IDEMPOTENCY.c.created_at < before)
    return list(connection.execute(query.order_by(IDEMPOTENCY.c.key).limit(limit)).scalars())


def drop_keys(connection: Connection, keys: Sequence[str]) -> None:
    """Forget idempotency keys."""
    connection.execute(delete(IDEMPOTENCY).where(IDEMPOTENCY.c.key.in_(keys)))


def old_samples(connection: Connection, before: int) -> int:
    """Return how many samples were kept before a time."""
    return connection.execute(select(func.count()).select_from(SAMPLE).where(SAMPLE.c.received_at < before)).scalar_one()


def drop_samples(connection: Connection, before: int) -> None:
    """Drop the samples that were kept before a time."""
    connection.execute(delete(SAMPLE).where(SAMPLE.c.received_at < before))


def _ids(rows: Sequence[Any]) -> frozenset[str]:
    return frozenset(row.id for row in rows)


def _due(side: Side, row: Any, state: str, why: Why, number: int = 0) -> Due:
    return Due(side, row.id, number, row.envelope, row.purge_at, state, why, row.size)


def _over(connection: Connection, numbers: Iterable[int], now: int) -> set[int]:
    """Return which envelopes of this centre nobody will ask for again: the last of their deadlines lies far enough back."""
    query = select(OUTBOX_SEALED.c.n, OUTBOX_SEALED.c.header, OUTBOX_ENVELOPE.c.created_at)
    query = query.join(OUTBOX_ENVELOPE, OUTBOX_ENVELOPE.c.n == OUTBOX_SEALED.c.n).where(OUTBOX_SEALED.c.n.in_(list(numbers)))
    return {row.n for row in connection.execute(query) if _last_deadline(row) + SENDABLE_MS <= now}


def _last_deadline(row: Any) -> int:
    return max(int(row.created_at), *(item.deadline for item in read_core(row.header).messages))


def _recalls(connection: Connection, row: Any) -> list[Any]:
    """Return the tombstones that cover a received message, the oldest first."""
    first = threads.first_version(connection, row.origin, row.id)
    query = select(TOMBSTONE).where(TOMBSTONE.c.origin == row.origin, TOMBSTONE.c.target == first, TOMBSTONE.c.id > row.id)
    return list(connection.execute(query.order_by(TOMBSTONE.c.id)).all())


def _reject(connection: Connection, rows: Sequence[Any], **values: Any) -> None:
    if rows:
        connection.execute(update(INBOX_MESSAGE).where(INBOX_MESSAGE.c.n.in_([row.n for row in rows])).values(**values))
