"""Rows of the epochs that senders were heard in: how many a sender may begin is bounded, since each keeps rows for good."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select

from relay.store.tables import EPOCH_HEARD


def let_in(connection: Connection, origin: str, epoch: int, now: int, since: int, most: int) -> bool:
    """Return whether something of this epoch may be taken, and note a new one; ``most`` new ones are let in after ``since``."""
    of = EPOCH_HEARD.c
    if connection.execute(select(of.at).where(of.origin == origin, of.epoch == epoch)).scalar() is not None:
        return True
    count = connection.execute(
        select(func.count()).select_from(EPOCH_HEARD).where(of.origin == origin, of.at > since)
    ).scalar_one()
    if count >= most:
        return False
    connection.execute(insert(EPOCH_HEARD).values(origin=origin, epoch=epoch, at=now))
    return True
