"""Rows of the audit record: leaves, numbered without holes per epoch, appended and never changed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, func, select

from relay.store.rows import Insert
from relay.store.tables import AUDIT

_LAST = select(func.max(AUDIT.c.position)).where(AUDIT.c.epoch == bindparam("of_epoch"))
_ADD = Insert("audit", ("epoch", "position", "leaf"))


def append(connection: Connection, epoch: int, leaves: Sequence[bytes]) -> None:
    """Append leaves to an epoch's log in this transaction."""
    if not leaves:
        return
    last = connection.execute(_LAST, {"of_epoch": epoch}).scalar()
    first = 0 if last is None else last + 1
    _ADD.add(connection, [(epoch, position, leaf) for position, leaf in enumerate(leaves, first)])


def leaves(connection: Connection, epoch: int, first: int = 0, limit: int = 1000) -> list[bytes]:
    """Return the leaves of an epoch from a position on, in order."""
    rows = connection.execute(
        select(AUDIT.c.leaf).where(AUDIT.c.epoch == epoch, AUDIT.c.position >= first).order_by(AUDIT.c.position).limit(limit)
    )
    return [row.leaf for row in rows]


def size(connection: Connection, epoch: int) -> int:
    """Return how many leaves an epoch's log has."""
    query = select(func.count()).select_from(AUDIT).where(AUDIT.c.epoch == epoch)
    return connection.execute(query).scalar_one()
