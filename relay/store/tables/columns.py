"""The columns and the metadata that all tables share."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Text

METADATA = MetaData()

# SQLite aliases only INTEGER PRIMARY KEY to its row id; elsewhere the same column is a bigint.
SERIAL = BigInteger().with_variant(Integer, "sqlite")


def number(name: str) -> Column[int]:
    """Return a column of a whole number that is always there."""
    return Column(name, BigInteger, nullable=False)


def words(name: str) -> Column[str]:
    """Return a column of text that is always there."""
    return Column(name, Text, nullable=False)


def octets(name: str) -> Column[bytes]:
    """Return a column of bytes that is always there."""
    return Column(name, LargeBinary, nullable=False)


def serial() -> Column[int]:
    """Return the key ``n`` that counts rows as they are added."""
    return Column("n", SERIAL, primary_key=True, autoincrement=True)
