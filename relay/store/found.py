"""The index that finds messages by keyed tokens: a full-text table of SQLite (FTS5) that holds digests and no words.

An entry's number orders it by time: 42 bits of milliseconds, 20 bits that tell apart what is stored in one millisecond, one bit
that says whether this centre sent it (0) or received it (1). See ``docs/adr/0006``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

_ADD = text("INSERT INTO found (rowid, tokens, id) VALUES (:number, :tokens, :id)")
_DROP = text("DELETE FROM found WHERE rowid = :number")
_TIME_SHIFT = 21
_SERIALS = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One message in the index."""

    number: int
    id: str
    tokens: str


def number(at: int, serial: int, *, received: bool) -> int:
    """Return an entry's number; ``serial`` differs between entries of the same millisecond and side."""
    return at << _TIME_SHIFT | serial % _SERIALS << 1 | received


def add(connection: Connection, entries: Sequence[Entry]) -> None:
    """Add messages to the index."""
    if entries:
        connection.execute(_ADD, [{"number": one.number, "tokens": one.tokens, "id": one.id} for one in entries])


def drop(connection: Connection, numbers: Iterable[int]) -> None:
    """Take messages out of the index."""
    given = [{"number": number} for number in numbers]
    if given:
        connection.execute(_DROP, given)
