"""What is compared between this centre and its peers: which times are still to be compared, and where the two sides differ."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text

from relay.store.tables.columns import METADATA, number

# A time (ids given from ``first`` on, before ``until``) in which messages were sent to a peer, until both agreed on it.
COMPARISON_DUE = Table(
    "comparison_due",
    METADATA,
    Column("peer", Text, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    number("until"),
    number("asked"),
    sqlite_with_rowid=False,
)

# Where the two sides differ: ``side`` is sent or received; ``ours`` and ``theirs`` count messages, ``times`` how often that was
# seen.
COMPARISON_DIFFERENCE = Table(
    "comparison_difference",
    METADATA,
    Column("peer", Text, primary_key=True),
    Column("side", Text, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("lane", Text, primary_key=True),
    number("until"),
    number("ours"),
    number("theirs"),
    number("since"),
    number("times"),
    sqlite_with_rowid=False,
)
