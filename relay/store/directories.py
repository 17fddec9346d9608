"""Rows of the directory: every version that was in force here with its signatures, and the evidence of two under one number.

A version is kept for good: a restart with older files goes on with the newest one, and a message that was sealed by a version is
judged by others from it later. Bytes that contradict a version in force change nothing; a bounded number of them is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select

from relay.store.tables import DIRECTORY

MOST_EVIDENCE = 16


@dataclass(frozen=True, slots=True)
class Kept:
    """A version of the directory: its number, the SHA-256 of its bytes in hex, its packed bundle.

    ``source`` says where it came from (``files``, ``http`` or a centre's id), ``at`` when, in milliseconds.
    """

    version: int
    digest: str
    bundle: bytes
    source: str
    at: int


def newest(connection: Connection) -> Kept | None:
    """Return the highest version that was ever in force here, or None."""
    query = select(DIRECTORY).where(DIRECTORY.c.taken == 1).order_by(DIRECTORY.c.version.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else Kept(row.version, row.digest, row.bundle, row.source, row.at)


def of_version(connection: Connection, version: int) -> Kept | None:
    """Return the version of this number that was in force here, or None."""
    row = connection.execute(select(DIRECTORY).where(DIRECTORY.c.taken == 1, DIRECTORY.c.version == version)).first()
    return None if row is None else Kept(row.version, row.digest, row.bundle, row.source, row.at)


def take(connection: Connection, kept: Kept) -> bool:
    """Keep a version that comes into force; return False when it, or a higher one, already was."""
    highest = connection.execute(select(func.max(DIRECTORY.c.version)).where(DIRECTORY.c.taken == 1)).scalar()
    if highest is not None and kept.version <= highest:
        return False
    connection.execute(insert(DIRECTORY), [_row(kept, taken=1)])
    return True


def contradict(connection: Connection, kept: Kept) -> bool:
    """Keep other bytes of a version as evidence; return False when they are known, or enough others are."""
    of = DIRECTORY.c
    known = connection.execute(select(of.version).where(of.version == kept.version, of.digest == kept.digest)).first()
    count = connection.execute(select(func.count()).select_from(DIRECTORY).where(of.taken == 0)).scalar_one()
    if known is not None or count >= MOST_EVIDENCE:
        return False
    connection.execute(insert(DIRECTORY), [_row(kept, taken=0)])
    return True


def evidence(connection: Connection) -> list[Kept]:
    """Return what contradicts a version that was in force here, the oldest first."""
    rows = connection.execute(select(DIRECTORY).where(DIRECTORY.c.taken == 0).order_by(DIRECTORY.c.at))
    return [Kept(row.version, row.digest, row.bundle, row.source, row.at) for row in rows]


def _row(kept: Kept, taken: int) -> dict[str, object]:
    return {
        "version": kept.version,
        "digest": kept.digest,
        "taken": taken,
        "source": kept.source,
        "at": kept.at,
        "bundle": kept.bundle,
    }
