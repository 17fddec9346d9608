"""Rows of what an origin took back: an update or cancel buries every version before it, also those that come later.

A *tombstone* says: of the message whose first version is ``target``, every version older than ``id`` is dead. Ids of one origin's
versions increase (``relay.versions`` sees to that), so no clock decides. Only the origin of a message can bury it: its ids carry
its tag, and tombstones are looked up under the verified sender.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from relay.keeping import Kept, Recall
from relay.store import kept, purged
from relay.store.common import upsert
from relay.store.tables import INBOX_MESSAGE, LEGAL_HOLD, TOMBSTONE

CODES = frozenset({"recalled", "superseded"})
_CODE = {"cancel": "recalled", "update": "superseded"}
_BURIED = select(TOMBSTONE).where(
    TOMBSTONE.c.origin == bindparam("of_origin"), TOMBSTONE.c.target.in_(bindparam("targets", expanding=True))
)
VERSIONS = ("updates",)
NOT_IN_HAND = ("waiting", "deferred", "held", "dead")
"""The open states in which the centre's system does not have a message, or said that it doesn't want it yet."""


@dataclass(frozen=True, slots=True)
class Buried:
    """What a recall did here: the messages that the system does not have, the commitments purged, and whether nothing is left.

    ``messages`` are the ids of those that were purged.
    """

    rejected: tuple[Any, ...]
    code: str
    purged: tuple[str, ...]
    complete: bool
    messages: tuple[str, ...] = ()


def dead(connection: Connection, origin: str, arrived: Mapping[str, Kept | None]) -> dict[str, str]:
    """Return which arriving messages (by id) were taken back before they came, each with the code that says so."""
    targets = {one: _first(one, kept) for one, kept in arrived.items()}
    if not targets:
        return {}
    rows = connection.execute(_BURIED, {"of_origin": origin, "targets": list(set(targets.values()))}).all()
    found: dict[str, str] = {}
    for one, target in targets.items():
        kept = arrived[one]
        above = {row.kind for row in rows if row.target == target and row.id > one}
        if above and not (kept and kept.recall and kept.recall.kind == "cancel"):
            found[one] = _CODE["cancel" if "cancel" in above else "update"]
    return found


def bury(connection: Connection, origin: str, recall: Recall, by: str, at: int) -> Buried:
    """Carry out a recall of ``origin``: remember it, reject what waits, purge every older version that is held here."""
    row = {"origin": origin, "target": recall.target, "id": by, "kind": recall.kind, "at": at}
    upsert(connection, TOMBSTONE, [row], ["kind", "at"])
    return sweep(connection, origin, recall.target, by, recall.kind, at)


def sweep(connection: Connection, origin: str, target: str, by: str, kind: str, at: int) -> Buried:
    """Reject and purge what is held of a message's versions older than ``by``, except what is under legal hold."""
    versions = [target, *(one for _, one in kept.referring(connection, target, origin, VERSIONS))]
    rows = connection.execute(
        select(INBOX_MESSAGE).where(INBOX_MESSAGE.c.origin == origin, INBOX_MESSAGE.c.id.in_(versions), INBOX_MESSAGE.c.id < by)
    ).all()
    on_hold = set(connection.execute(select(LEGAL_HOLD.c.id).where(LEGAL_HOLD.c.id.in_(versions))).scalars())
    waiting = [row for row in rows if row.state in NOT_IN_HAND]
    _set(connection, waiting, at, state="rejected", code=_CODE[kind])
    _set(connection, [row for row in rows if row.state == "handed"], at, state="withdrawn")
    free = [row for row in rows if row.id not in on_hold]
    gone = purged.received(connection, free, at)
    ids = tuple(row.id for row in free if row.purged_at is None)
    return Buried(tuple(waiting), _CODE[kind], tuple(gone), complete=not on_hold, messages=ids)


def settle(connection: Connection, origin: str, by: Sequence[str], at: int) -> list[Any]:
    """Close what was given out, withdrawn and never acknowledged, once the system took the recalls ``by``; return the rows."""
    targets = connection.execute(select(TOMBSTONE.c.target).where(TOMBSTONE.c.origin == origin, TOMBSTONE.c.id.in_(by))).scalars()
    rows: list[Any] = []
    for target in set(targets):
        versions = [target, *(one for _, one in kept.referring(connection, target, origin, VERSIONS))]
        rows += connection.execute(
            select(INBOX_MESSAGE).where(
                INBOX_MESSAGE.c.origin == origin,
                INBOX_MESSAGE.c.id.in_(versions),
                INBOX_MESSAGE.c.id < max(by),
                INBOX_MESSAGE.c.state == "withdrawn",
            )
        ).all()
    _set(connection, rows, at, state="rejected", code="recalled")
    return rows


def complete(connection: Connection, origin: str, by: str) -> bool:
    """Return whether nothing is held any more of what the recall ``by`` took back."""
    targets = connection.execute(select(TOMBSTONE.c.target).where(TOMBSTONE.c.origin == origin, TOMBSTONE.c.id == by)).scalars()
    for target in targets:
        versions = [target, *(one for _, one in kept.referring(connection, target, origin, VERSIONS))]
        left = select(INBOX_MESSAGE.c.n).where(
            INBOX_MESSAGE.c.origin == origin,
            INBOX_MESSAGE.c.id.in_(versions),
            INBOX_MESSAGE.c.id < by,
            INBOX_MESSAGE.c.purged_at.is_(None),
        )
        if connection.execute(left.limit(1)).scalar() is not None:
            return False
    return True


def _first(one: str, kept: Kept | None) -> str:
    """Return the first version of an arriving message: what an update names, else the message itself."""
    return kept.recall.target if kept and kept.recall else one


def _set(connection: Connection, rows: Sequence[Any], at: int, **values: str) -> None:
    if rows:
        numbers = [row.n for row in rows]
        connection.execute(update(INBOX_MESSAGE).where(INBOX_MESSAGE.c.n.in_(numbers)).values(at=at, **values))
