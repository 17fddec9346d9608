"""What a centre knows of itself and its peers: its marks, its audit record, what peers said in heartbeats."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text

from relay.store.tables.columns import METADATA, number, octets, words

META = Table("meta", METADATA, Column("name", Text, primary_key=True), words("value"))

AUDIT = Table(
    "audit",
    METADATA,
    Column("epoch", BigInteger, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    octets("leaf"),
    sqlite_with_rowid=False,
)

# What is known of a peer from its heartbeats; ``echo`` is what it said it holds of this centre, as JSON.
PEER = Table(
    "peer",
    METADATA,
    Column("centre", Text, primary_key=True),
    number("heard_at"),
    number("offset"),
    number("epoch"),
    number("directory"),
    words("digest"),
    words("release"),
    words("echo"),
    sqlite_with_rowid=False,
)
