"""Rows of the tables that every message touches, added by statements of fixed text, as many rows at once as there are.

SQLAlchemy prepares the parameters of each row of an ``executemany`` in Python, and SQLite's driver gives up the interpreter's
lock once a row. What is added here goes 64 rows to a statement, then eight, then one, so that the driver has each text prepared.
Other tables are written as usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection

Row = tuple[Any, ...]

_AT_ONCE = (64, 8, 1)


class Insert:
    """Adds rows to a table; a row has the values of ``columns``, in order. ``known`` says what becomes of one known already."""

    def __init__(self, table: str, columns: tuple[str, ...], known: str = "") -> None:
        self._head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608 - names of the code, no value
        self._width = len(columns)
        self._tail = f" {known}" if known else ""
        self._text = cache(self._written)

    def add(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Add rows, if there are any."""
        start = 0
        for count in _AT_ONCE:
            while len(rows) - start >= count:
                given = tuple(chain.from_iterable(rows[start : start + count]))
                connection.exec_driver_sql(self._text(connection.dialect.paramstyle, count), given)
                start += count

    def number(self, connection: Connection, row: Row) -> int:
        """Add a row to a table that numbers its rows; return its number."""
        text = f"{self._text(connection.dialect.paramstyle, 1)} RETURNING n"
        return int(connection.exec_driver_sql(text, row).scalar_one())

    def _written(self, style: str, count: int) -> str:
        mark = "?" if style == "qmark" else "%s"
        row = f"({', '.join([mark] * self._width)})"
        return self._head + ", ".join([row] * count) + self._tail
