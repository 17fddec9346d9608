"""What the row modules share: bit masks that fit a signed 64-bit column, sealed bytes at rest, and the portable upsert."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Executable, Table
from sqlalchemy.dialects import postgresql, sqlite

from relay.envelope import MAX_MESSAGES


@dataclass(frozen=True, slots=True)
class Resting:
    """A sealed envelope at rest: header, ciphertexts, and its content key under the storage key."""

    header: bytes
    body: bytes
    content_key: bytes


def resting(row: Any) -> Resting:
    """Return the sealed bytes of a row that has them."""
    return Resting(row.header, row.body, row.content_key)


def inserted(result: Any) -> int:
    """Return the number that an insert gave its row."""
    return int(result.inserted_primary_key[0])


def bit(position: int) -> int:
    """Return the mask of one message."""
    return 1 << position


def bits(count: int) -> int:
    """Return the mask of the first ``count`` messages of an envelope."""
    return (1 << count) - 1


def mask_of(positions: Iterable[int]) -> int:
    """Return the mask of the messages at these positions."""
    mask = 0
    for position in positions:
        mask |= 1 << position
    return mask


def signed(mask: int) -> int:
    """Return a mask as the signed 64-bit number that a column holds."""
    return mask - (1 << MAX_MESSAGES) if mask >> (MAX_MESSAGES - 1) & 1 else mask


def unsigned(column: int) -> int:
    """Return the mask that a column's signed number stands for."""
    return column & bits(MAX_MESSAGES)


def upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], values: Sequence[str]) -> None:
    """Insert rows, replacing ``values`` where the primary key is already there."""
    if not rows:
        return
    connection.execute(_upsert(connection.dialect.name, table, tuple(values)), list(rows))


@cache
def _upsert(name: str, table: Table, values: tuple[str, ...]) -> Executable:
    """Return the statement; to write it anew each time took longer than to run it."""
    dialect: Any = postgresql if name == "postgresql" else sqlite
    statement = dialect.insert(table)
    keys = [column.name for column in table.primary_key.columns]
    replaced = {name: statement.excluded[name] for name in values}
    built: Executable = statement.on_conflict_do_update(index_elements=keys, set_=replaced)
    return built
