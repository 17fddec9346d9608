"""Rows of samples: bytes that could not be trusted or taken, kept for an operator in a bounded number, per sender and in all.

So neither a flood without a sender nor one member's faults push out what is known of another's.
"""

from __future__ import annotations

from sqlalchemy import Connection, and_, delete, insert, or_, select

from relay.store.common import inserted
from relay.store.tables import SAMPLE, SAMPLE_OF

KEPT = 1000
KEPT_OF_ONE = 100
KEPT_IN_ALL = 5000


def add(connection: Connection, code: str, detail: str, raw: bytes, at: int, sender: str = "") -> None:
    """Keep bytes with why; of each verified ``sender``, and of all without one, only the newest are kept."""
    values = {"code": code, "detail": detail, "raw": raw, "received_at": at}
    number = inserted(connection.execute(insert(SAMPLE).values(values)))
    of = SAMPLE_OF.c
    connection.execute(delete(SAMPLE_OF).where(of.sample >= number))  # retention deletes samples, and SQLite gives numbers again
    connection.execute(insert(SAMPLE_OF).values(sender=sender, sample=number))
    newest = select(of.sample).where(of.sender == sender).order_by(of.sample.desc()).offset(_most(sender))
    too_many = list(connection.execute(newest).scalars())
    connection.execute(delete(SAMPLE).where(or_(SAMPLE.c.n.in_(too_many), SAMPLE.c.n <= number - KEPT_IN_ALL)))
    connection.execute(
        delete(SAMPLE_OF).where(or_(of.sample <= number - KEPT_IN_ALL, and_(of.sender == sender, of.sample.in_(too_many))))
    )


def _most(sender: str) -> int:
    """Return how many samples are kept of a sender; those of nobody are the most, and tell least."""
    return KEPT_OF_ONE if sender else KEPT


def listed(connection: Connection) -> list[tuple[str, str]]:
    """Return (code, detail) of the kept samples, oldest first."""
    rows = connection.execute(select(SAMPLE.c.code, SAMPLE.c.detail).order_by(SAMPLE.c.n))
    return [(row.code, row.detail) for row in rows]
