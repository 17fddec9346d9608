"""Rows that accompany a message, sent or received: what it refers to, its place in the index, the reply clocks it moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select

from relay.keeping import Kept
from relay.store import clocks, found
from relay.store.rows import Insert
from relay.store.tables import REFERENCE

_ADD_REFERENCES = Insert("reference", ("target", "relation", "origin", "id"), known="ON CONFLICT DO NOTHING")


class Message(NamedTuple):
    """A message with what is kept of it; ``number`` is its place in the index, ``peers`` are who was sent it or who sent it."""

    id: str
    kept: Kept
    number: int
    peers: tuple[str, ...]


def add(connection: Connection, origin: str, messages: Sequence[Message], at: int, *, received: bool) -> None:
    """Store what accompanies new messages of one origin."""
    found.add(connection, [found.Entry(one.number, one.id, one.kept.tokens) for one in messages])
    refer(connection, origin, {one.id: one.kept for one in messages if one.kept.refers})
    for one in messages:
        if one.kept.hours is not None:
            clocks.begin(connection, one.id, one.peers, one.kept.hours, at if received else None)
        for answer in one.kept.answers:
            clocks.answer(connection, answer, one.peers, at, received=received)
        if (recall := one.kept.recall) is not None and recall.kind == "cancel":
            everyone = ("cancels", recall.target) in one.kept.refers  # else it withdraws from those whom an update left out
            clocks.cancel(
                connection, recall.target, at, received=received, peers=None if everyone and not received else one.peers
            )


def refer(connection: Connection, origin: str, messages: Mapping[str, Kept]) -> None:
    """Note to what messages of an origin, by id, refer; doing it again changes nothing."""
    rows = [
        (target, relation, origin, identity)
        for identity, kept in messages.items()
        for relation, target in dict.fromkeys(kept.refers)
    ]
    _ADD_REFERENCES.add(connection, rows)


def referring(connection: Connection, target: str, origin: str, relations: Sequence[str]) -> list[tuple[str, str]]:
    """Return (relation, id) of the messages of an origin that refer to a message by one of these relations, by id."""
    rows = connection.execute(
        select(REFERENCE.c.relation, REFERENCE.c.id)
        .where(REFERENCE.c.target == target, REFERENCE.c.origin == origin, REFERENCE.c.relation.in_(relations))
        .order_by(REFERENCE.c.id)
    )
    return [(row.relation, row.id) for row in rows]
