"""Purging: a message's ciphertext leaves its envelope at rest; the signed header and the row stay as evidence.

The database overwrites what is deleted (``secure_delete``); the index forgets the message. What still lies in the write-ahead log
goes with the next :meth:`relay.store.Store.scrub`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from relay.envelope import commitments, without
from relay.store import found
from relay.store.tables import INBOX_ENVELOPE, INBOX_MESSAGE, OUTBOX_MESSAGE, OUTBOX_SEALED, SAMPLE

_END_OF_ID = re.compile(rb"-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")  # begins with a fixed byte: found in no time


def received(connection: Connection, rows: Sequence[Any], at: int) -> list[str]:
    """Purge received messages, given their rows; return the commitments of those that were not purged before."""
    fresh = [row for row in rows if row.purged_at is None]
    gone = _purge(connection, INBOX_ENVELOPE, fresh)
    if fresh:
        where = INBOX_MESSAGE.c.n.in_([row.n for row in fresh])
        connection.execute(update(INBOX_MESSAGE).where(where).values(purged_at=at, reason=None))
        _drop_samples(connection, [row.id for row in fresh])
    return gone


def sent(connection: Connection, rows: Sequence[Any], at: int) -> list[str]:
    """Purge messages that this centre sent, given their rows; return the commitments of those that were not purged before."""
    fresh = [row for row in rows if row.purged_at is None]
    gone = _purge(connection, OUTBOX_SEALED, fresh)
    if fresh:
        where = OUTBOX_MESSAGE.c.id.in_([row.id for row in fresh])
        connection.execute(update(OUTBOX_MESSAGE).where(where).values(purged_at=at))
    return gone


def _purge(connection: Connection, table: Any, rows: Sequence[Any]) -> list[str]:
    """Take messages out of the envelopes of a table; return their commitments."""
    gone: list[str] = []
    put = update(table).where(table.c.n == bindparam("number")).values(body=bindparam("rest"))
    for n, group in groupby(sorted(rows, key=lambda row: row.envelope), key=lambda row: row.envelope):
        positions = [row.position for row in group]
        sealed = connection.execute(select(table.c.header, table.c.body).where(table.c.n == n)).one()
        connection.execute(put, {"number": n, "rest": without(sealed.header, sealed.body, positions)})
        committed = commitments(sealed.header)
        gone += [committed[position] for position in positions]
    found.drop(connection, [row.found for row in rows])
    return gone


def _drop_samples(connection: Connection, ids: Sequence[str]) -> None:
    """Drop the kept samples that hold a copy of one of these messages; an envelope names its messages in clear."""
    wanted = {one[8:].encode() for one in ids}
    rows = connection.execute(select(SAMPLE.c.n, SAMPLE.c.raw))
    copies = [row.n for row in rows if not wanted.isdisjoint(_END_OF_ID.findall(row.raw))]
    if copies:
        connection.execute(delete(SAMPLE).where(SAMPLE.c.n.in_(copies)))
