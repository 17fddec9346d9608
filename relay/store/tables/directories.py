"""The versions of the directory that this centre went by, and what contradicts one of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text

from relay.store.tables.columns import METADATA, number, octets, words

# ``taken`` is 1 for a version that was in force here, 0 for other bytes of a version that was: kept as evidence.
DIRECTORY = Table(
    "directory",
    METADATA,
    Column("version", BigInteger, primary_key=True),
    Column("digest", Text, primary_key=True),
    number("taken"),
    words("source"),
    number("at"),
    octets("bundle"),
)
