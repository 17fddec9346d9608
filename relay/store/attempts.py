"""Rows of envelopes that were begun and not ended: what kills the process is found by them.

An attempt is written in a transaction of its own before an envelope is opened that the broker delivered again, and removed in the
one that takes it in. So a row that stays counts the processes that ended in between.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from relay.keeping import DAY_MS
from relay.store.common import upsert
from relay.store.tables import ATTEMPT

LIMIT = 3
KEPT_MS = 90 * DAY_MS  # longer than anything is sent again


def begin(connection: Connection, digest: bytes, at: int) -> bool:
    """Return whether an envelope may be opened once more, and count it as begun; its ``digest`` is SHA-256 of its bytes."""
    before = connection.execute(select(ATTEMPT.c.count).where(ATTEMPT.c.digest == digest)).scalar() or 0
    if before >= LIMIT:
        return False
    if not before:
        connection.execute(delete(ATTEMPT).where(ATTEMPT.c.at < at - KEPT_MS))
    upsert(connection, ATTEMPT, [{"digest": digest, "count": before + 1, "at": at}], ["count", "at"])
    return True


def end(connection: Connection, digest: bytes) -> None:
    """Note that an envelope was taken in: it harms nobody."""
    connection.execute(delete(ATTEMPT).where(ATTEMPT.c.digest == digest))


def shut(connection: Connection) -> set[bytes]:
    """Return the digests of the envelopes that are not opened any more."""
    return set(connection.execute(select(ATTEMPT.c.digest).where(ATTEMPT.c.count >= LIMIT)).scalars())
