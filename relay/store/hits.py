"""What is shown of the messages that a search found: where each rests, how far it is, and its sealed bytes.

Rows of many messages are read at once, never one by one. Nothing is opened here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, join, select

from relay.store import incoming
from relay.store.common import Resting, resting
from relay.store.found import Hit
from relay.store.history import Step, history
from relay.store.tables import (
    INBOX_ENVELOPE,
    INBOX_MESSAGE,
    OUTBOX_DELIVERY,
    OUTBOX_ENVELOPE,
    OUTBOX_MESSAGE,
    OUTBOX_SEALED,
    OUTBOX_STEP,
)

_SENT = select(
    OUTBOX_MESSAGE.c.id,
    OUTBOX_MESSAGE.c.envelope,
    OUTBOX_MESSAGE.c.position,
    OUTBOX_MESSAGE.c.found,
    OUTBOX_MESSAGE.c.held_at,
    OUTBOX_ENVELOPE.c.created_at,
    OUTBOX_ENVELOPE.c.sent_at,
    func.length(OUTBOX_SEALED.c.body).label("size"),
).select_from(
    join(OUTBOX_MESSAGE, OUTBOX_ENVELOPE, OUTBOX_ENVELOPE.c.n == OUTBOX_MESSAGE.c.envelope).join(
        OUTBOX_SEALED, OUTBOX_SEALED.c.n == OUTBOX_MESSAGE.c.envelope
    )
)
_RECEIVED = select(INBOX_MESSAGE, INBOX_ENVELOPE.c.received_at, func.length(INBOX_ENVELOPE.c.body).label("size")).join(
    INBOX_ENVELOPE, INBOX_ENVELOPE.c.n == INBOX_MESSAGE.c.envelope
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A found message in the store: its envelope (of ``size`` bytes) and place in it, and how far it is.

    ``at`` in milliseconds is when it was submitted or received. Of a message that this centre sent ``recipients`` has the
    history at each; of one that it received ``origin`` says from whom and ``state`` where it stands here.
    """

    hit: Hit
    envelope: int
    position: int
    size: int
    at: int
    origin: str | None = None
    state: Step | None = None
    recipients: dict[str, tuple[Step, ...]] = field(default_factory=dict)


def stored(connection: Connection, hits: Sequence[Hit]) -> list[Stored]:
    """Return the rows of hits, in their order; one that was purged meanwhile is left out."""
    ids: dict[bool, list[str]] = {True: [], False: []}
    for hit in hits:
        ids[hit.received].append(hit.id)
    found = _sent(connection, ids[False]) | _received(connection, ids[True])
    return [_stored(hit, *found[hit.number]) for hit in hits if hit.number in found]


def sealed(connection: Connection, numbers: Collection[int], *, received: bool) -> dict[int, Resting]:
    """Return envelopes at rest by number."""
    if received:
        return incoming.envelopes(connection, numbers)
    rows = connection.execute(select(OUTBOX_SEALED).where(OUTBOX_SEALED.c.n.in_(numbers)))
    return {row.n: resting(row) for row in rows}


def _stored(hit: Hit, row: Any, recipients: dict[str, tuple[Step, ...]]) -> Stored:
    if hit.received:
        state = Step(row.state, row.at, row.code)
        return Stored(hit, row.envelope, row.position, row.size, row.received_at, row.origin, state)
    return Stored(hit, row.envelope, row.position, row.size, row.created_at, recipients=recipients)


def _received(connection: Connection, ids: Sequence[str]) -> dict[int, tuple[Any, dict[str, tuple[Step, ...]]]]:
    where = INBOX_MESSAGE.c.id.in_(ids) & INBOX_MESSAGE.c.purged_at.is_(None)
    return {row.found: (row, {}) for row in connection.execute(_RECEIVED.where(where))} if ids else {}


def _sent(connection: Connection, ids: Sequence[str]) -> dict[int, tuple[Any, dict[str, tuple[Step, ...]]]]:
    if not ids:
        return {}
    where = OUTBOX_MESSAGE.c.id.in_(ids) & OUTBOX_MESSAGE.c.purged_at.is_(None)
    rows = connection.execute(_SENT.where(where)).all()
    envelopes = {row.envelope for row in rows}
    recipients = _by_envelope(connection, OUTBOX_DELIVERY, OUTBOX_DELIVERY.c.recipient, envelopes)
    steps = _by_envelope(connection, OUTBOX_STEP, OUTBOX_STEP.c.n, envelopes)
    return {row.found: (row, history(row, recipients[row.envelope], steps[row.envelope])) for row in rows}


def _by_envelope(connection: Connection, table: Any, order: Any, envelopes: Collection[int]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for row in connection.execute(select(table).where(table.c.envelope.in_(envelopes)).order_by(order)):
        found[row.envelope].append(row)
    return found
