"""The leaves of the audit record about one message, in order, a piece at a time, since a record may have millions.

A leaf names an envelope (the message's own, or a receipt about it) or binds a digest that stands for the message alone. A piece
looks at so many leaves, in the database, and says where to look further.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, LargeBinary, bindparam, func, literal, or_, select, tuple_

from relay.store import traces
from relay.store.listed import first_at
from relay.store.tables import AUDIT
from relay.store.traces import Leaf

LOOKED = 100_000
"""How many leaves one piece looks at."""
EARLIER_MS = 1_000  # a transaction's time is taken before it begins

_A = AUDIT.c
_ENVELOPE = b'"envelope":"'
_ID_LENGTH = 36
_AT = select(_A.leaf).where(_A.epoch == bindparam("of_epoch"), _A.position == bindparam("at"))

Place = tuple[int, int]
"""An epoch and a position."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What was found, and where to look further: None when the record was looked through to its end."""

    leaves: tuple[Leaf, ...]
    following: Place | None


def begin(connection: Connection, time: int) -> Place | None:
    """Return where the record of a time (milliseconds) begins; None when it has nothing that late."""
    for epoch in traces.epochs(connection):
        last = connection.execute(select(func.max(_A.position)).where(_A.epoch == epoch)).scalar() or 0
        first = first_at(lambda at, of=epoch: _time(connection, of, at), 0, last, time - EARLIER_MS)  # type: ignore[misc]
        if first <= last:
            return epoch, first
    return None


def piece(connection: Connection, place: Place, envelopes: Collection[str], texts: Sequence[str], looked: int = LOOKED) -> Piece:
    """Return the leaves from a place on that name one of these envelopes, or hold one of these texts."""
    epoch, position = place
    end = position + looked
    near = (_A.epoch == epoch, _A.position >= position, _A.position < end)
    rows = connection.execute(select(AUDIT).where(*near, or_(*_holds(envelopes, texts))).order_by(_A.position))
    return Piece(tuple(Leaf(row.epoch, row.position, row.leaf) for row in rows), _following(connection, epoch, end))


def _holds(envelopes: Collection[str], texts: Sequence[str]) -> list[ColumnElement[bool]]:
    """Return what a leaf must meet; an envelope's id is cut out once, however many are looked for."""
    named = func.substr(_A.leaf, func.instr(_A.leaf, literal(_ENVELOPE, LargeBinary)) + len(_ENVELOPE), _ID_LENGTH)
    ids = [one.encode() for one in envelopes]
    return [named.in_(ids), *(func.instr(_A.leaf, literal(text.encode(), LargeBinary)) > 0 for text in texts)]


def _following(connection: Connection, epoch: int, position: int) -> Place | None:
    query = select(_A.epoch, _A.position).where(tuple_(_A.epoch, _A.position) >= tuple_(epoch, position))
    row = connection.execute(query.order_by(_A.epoch, _A.position).limit(1)).first()
    return None if row is None else (row.epoch, row.position)


def _time(connection: Connection, epoch: int, position: int) -> int | None:
    leaf = connection.execute(_AT, {"of_epoch": epoch, "at": position}).scalar()
    return None if leaf is None else int(json.loads(leaf)["time"])
