"""Rows of receipts that can't be sent as they are any more, since a key in them was revoked or ran out: what to say anew.

The receipt itself stays as evidence of what was said; only what finds it for its origin is taken away. How far each message is
stands in its own row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select

from relay.envelope import MAX_MESSAGES
from relay.receipts import State
from relay.store import incoming, moved
from relay.store.closing import Range
from relay.store.incoming import Place
from relay.store.tables import INBOX_ENVELOPE, INBOX_MESSAGE, RECEIPT_OUT, RECEIPT_RANGE


@dataclass(frozen=True, slots=True)
class Standing:
    """A received message, the state to state of it with its code, and whether it is a recall that is carried out."""

    place: Place
    state: State
    code: str | None
    purged: bool


def take_back(connection: Connection, recipient: str, ids: Sequence[str]) -> list[Range]:
    """Let stored receipts be found no more; return the sequences of which they spoke, each once."""
    numbers = select(RECEIPT_OUT.c.n).where(RECEIPT_OUT.c.recipient == recipient, RECEIPT_OUT.c.id.in_(list(ids)))
    spoken = RECEIPT_RANGE.c.receipt.in_(list(connection.execute(numbers).scalars()))
    rows = connection.execute(select(RECEIPT_RANGE).where(spoken)).all()
    connection.execute(delete(RECEIPT_RANGE).where(spoken))
    return sorted({Range(row.epoch, row.lane, row.first, row.last) for row in rows}, key=_order)


def standing(connection: Connection, origin: str, ranges: Sequence[Range]) -> list[Standing]:
    """Return how far the messages under these sequences of an origin are, of those that are here."""
    rows = {row.n: row for lane in {(one.epoch, one.lane) for one in ranges} for row in _rows(connection, origin, lane, ranges)}
    places = incoming.places(connection, list(rows.values()))
    found = moved.again(connection, list(rows.values()), {row.id: n for n, row in rows.items()})
    said = {one.position: one for one in found}
    return [Standing(place, said[n].state, said[n].code, said[n].purged) for n, place in zip(rows, places, strict=True)]


def _rows(connection: Connection, origin: str, lane: tuple[int, str], ranges: Sequence[Range]) -> list[Any]:
    """Return the messages of one lane under these sequences; the envelopes are looked through once."""
    wanted = [(one.first, one.last) for one in ranges if (one.epoch, one.lane) == lane]
    of = INBOX_ENVELOPE.c
    query = (
        select(INBOX_MESSAGE, of.first.label("envelope_first"))
        .join(INBOX_ENVELOPE, of.n == INBOX_MESSAGE.c.envelope)
        .where(
            of.origin == origin,
            of.epoch == lane[0],
            of.lane == lane[1],
            of.first > min(wanted)[0] - MAX_MESSAGES,
            of.first <= max(last for _, last in wanted),
        )
    )
    rows = connection.execute(query).all()
    return [row for row in rows if any(low <= row.envelope_first + row.position <= high for low, high in wanted)]


def _order(one: Range) -> tuple[int, str, int]:
    return one.epoch, one.lane, one.first
