"""Received messages that come again under new sequences: their origin counts anew and must learn again how far each of them is.

Such a message moves to the envelope that came last, header and content, so that whatever is said of it from now on names the
sequences that its origin goes by. Nothing else of it changes. Its content never rests twice, or a purge would leave half of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from relay.envelope import without
from relay.receipts import State
from relay.store import flags, recalled
from relay.store.tables import INBOX_ENVELOPE, INBOX_MESSAGE

_DELIVERED = "delivered"
_REFUSED = frozenset({"rejected", "quarantined"})


@dataclass(frozen=True, slots=True)
class Again:
    """A known message at its place in an envelope, what is to be stated of it, and whether it is a recall that is carried out."""

    position: int
    state: State
    code: str | None
    purged: bool


def find(connection: Connection, origin: str, positions: Mapping[str, int]) -> list[Any]:
    """Return the rows of known messages (id to position in the new envelope), each with the epoch of its present envelope."""
    if not positions:
        return []
    query = (
        select(INBOX_MESSAGE, INBOX_ENVELOPE.c.epoch)
        .join(INBOX_ENVELOPE, INBOX_ENVELOPE.c.n == INBOX_MESSAGE.c.envelope)
        .where(INBOX_MESSAGE.c.origin == origin, INBOX_MESSAGE.c.id.in_(list(positions)))
    )
    return list(connection.execute(query))


def newer(rows: Sequence[Any], epoch: int) -> list[Any]:
    """Return the rows that move: those of an earlier epoch than the one that just came."""
    return [row for row in rows if row.epoch < epoch]


def whole(rows: Sequence[Any], positions: Mapping[str, int]) -> Collection[int]:
    """Return the positions of those whose content is still kept."""
    return {positions[row.id] for row in rows if row.purged_at is None}


def move(connection: Connection, rows: Sequence[Any], number: int, positions: Mapping[str, int]) -> None:
    """Let messages rest in another envelope from now on, and take their content out of the one in which they rested."""
    for row in rows:
        place = {"envelope": number, "position": positions[row.id]}
        connection.execute(update(INBOX_MESSAGE).where(INBOX_MESSAGE.c.n == row.n).values(**place))
        old = connection.execute(select(INBOX_ENVELOPE).where(INBOX_ENVELOPE.c.n == row.envelope)).one()
        body = without(old.header, old.body, [row.position])
        connection.execute(update(INBOX_ENVELOPE).where(INBOX_ENVELOPE.c.n == row.envelope).values(body=body))


def again(connection: Connection, rows: Sequence[Any], positions: Mapping[str, int]) -> tuple[Again, ...]:
    """Return what is to be stated of messages under their new sequences."""
    return tuple(sorted((_again(connection, row, positions[row.id]) for row in rows), key=lambda one: one.position))


def _again(connection: Connection, row: Any, position: int) -> Again:
    purged = bool(row.flags & flags.RECALL) and recalled.complete(connection, row.origin, row.id)
    if row.state in _REFUSED:
        return Again(position, "rejected", row.code, purged)
    return Again(position, "delivered" if row.state == _DELIVERED else "accepted", None, purged)
