"""The index that finds messages by keyed tokens: a full-text table of SQLite (FTS5) that holds digests and no words.

An entry's number orders it by time: 42 bits of milliseconds, 20 bits that tell apart what is stored in one millisecond, one bit
that says whether this centre sent it (0) or received it (1). So a time range is a range of numbers, newest first is the order of
numbers, and a page goes on below the last number of the one before. See ``docs/adr/0006``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select, text

from relay.store.rows import Insert
from relay.store.tables import INBOX_MESSAGE, OUTBOX_MESSAGE

_ADD = Insert("found", ("rowid", "id", "tokens"))
_DROP = text("DELETE FROM found WHERE rowid = :number")
_TOKENS = text("SELECT rowid, tokens FROM found WHERE rowid IN :numbers").bindparams(bindparam("numbers", expanding=True))
_RANGE = "rowid >= :low AND rowid < :high ORDER BY rowid DESC LIMIT :limit"
_ANY = text(f"SELECT rowid, id FROM found WHERE {_RANGE}")  # noqa: S608 - all values are bound
_MATCHING = text(f"SELECT rowid, id FROM found WHERE found MATCH :match AND {_RANGE}")  # noqa: S608 - all values are bound
_TIME_SHIFT = 21
_SERIALS = 1 << 20
END = (1 << 63) - 1  # no number is higher


class Entry(NamedTuple):
    """One message in the index."""

    number: int
    id: str
    tokens: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that a search found; ``received`` says that it came from a peer."""

    number: int
    id: str
    received: bool


@dataclass(frozen=True, slots=True)
class Query:
    """What a search asks for, in tokens: all of ``tokens``, one of ``either`` (when there are any), none of ``without``.

    ``either`` is asked for only where ``tokens`` is empty, since the index can't leave something out of nothing. ``message``
    is an id: the message itself is found beside those that have the token ``about``, if it has the others.
    """

    tokens: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    either: tuple[str, ...] = ()
    about: str | None = None
    message: str | None = None


def number(at: int, serial: int, *, received: bool) -> int:
    """Return an entry's number; ``serial`` differs between entries of the same millisecond and side."""
    return at << _TIME_SHIFT | serial % _SERIALS << 1 | received


def add(connection: Connection, entries: Sequence[Entry]) -> None:
    """Add messages to the index."""
    _ADD.add(connection, entries)


def number_of(connection: Connection, message: str) -> int | None:
    """Return the number under which a message stands in the index, as sent or as received; None when it does not."""
    return next(iter(_numbers(connection, message)), None)


def tokens(connection: Connection, numbers: Sequence[int]) -> dict[int, frozenset[str]]:
    """Return the tokens of entries by number; of a message that is not in the index any more, nothing."""
    rows = connection.execute(_TOKENS, {"numbers": list(numbers)}) if numbers else ()
    return {row.rowid: frozenset(row.tokens.split()) for row in rows}


def drop(connection: Connection, numbers: Iterable[int]) -> None:
    """Take messages out of the index."""
    given = [{"number": number} for number in numbers]
    if given:
        connection.execute(_DROP, given)


def search(
    connection: Connection,
    query: Query,
    *,
    before: int | None = None,
    since: int | None = None,
    until: int | None = None,
    limit: int,
) -> list[Hit]:
    """Return what a query finds, newest first: below the number ``before``, stored from ``since`` and before ``until`` (ms)."""
    low = _at(since, 0)
    high = min(_at(until, END), END if before is None else before)
    given = {"low": low, "high": high, "limit": limit}
    hits = _run(connection, _match(query, query.about), given)
    if query.message is None:
        return hits
    own = [
        hit
        for one in _numbers(connection, query.message)
        if low <= one < high
        for hit in _run(connection, _match(query), {"low": one, "high": one + 1, "limit": 1})
    ]
    return sorted({hit.number: hit for hit in (*own, *hits)}.values(), key=lambda hit: -hit.number)[:limit]


def _at(time: int | None, otherwise: int) -> int:
    """Return the first number of a time, within what a column can hold."""
    return otherwise if time is None else max(0, min(time << _TIME_SHIFT, END))


def _run(connection: Connection, match: str, given: dict[str, int]) -> list[Hit]:
    rows = connection.execute(_MATCHING, {**given, "match": match}) if match else connection.execute(_ANY, given)
    return [Hit(row.rowid, row.id, bool(row.rowid & 1)) for row in rows]


def _match(query: Query, *more: str | None) -> str:
    """Return a query as FTS5 takes it; a token is quoted, so that it is a word and nothing else."""
    wanted = _quoted((*query.tokens, *(one for one in more if one is not None)), " AND ")
    if not query.without:
        return wanted
    return f"({wanted or _quoted(query.either, ' OR ')}) NOT ({_quoted(query.without, ' OR ')})"


def _quoted(tokens: Sequence[str], joint: str) -> str:
    return joint.join(f'"{token}"' for token in tokens)


def _numbers(connection: Connection, message: str) -> list[int]:
    """Return the numbers under which a message stands in the index, as sent or as received."""
    found: list[int] = []
    for table in (OUTBOX_MESSAGE, INBOX_MESSAGE):
        where = (table.c.id == message) & table.c.purged_at.is_(None)
        found += connection.execute(select(table.c.found).where(where)).scalars()
    return found
