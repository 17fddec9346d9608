"""What proves the audit record: the hashes of its Merkle tree, checkpoints and who countersigned them, what is held of peers.

A *tile* is the hashes of 256 consecutive leaves, a *subtree* the root over ``2**level`` of them (from level 8 up); both are
written when their leaves are complete and never change. ``statement`` is the exact text that a signature covers.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text

from relay.store.tables.columns import METADATA, number, octets, serial, words

AUDIT_TILE = Table(
    "audit_tile",
    METADATA,
    Column("epoch", BigInteger, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    octets("hashes"),
)

AUDIT_SUBTREE = Table(
    "audit_subtree",
    METADATA,
    Column("epoch", BigInteger, primary_key=True),
    Column("level", BigInteger, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    octets("hash"),
    sqlite_with_rowid=False,
)

# The checkpoints of this centre.
CHECKPOINT = Table(
    "checkpoint",
    METADATA,
    Column("epoch", BigInteger, primary_key=True),
    Column("size", BigInteger, primary_key=True),
    number("time"),
    words("statement"),
    words("key"),
    words("signature"),
    sqlite_with_rowid=False,
)

# Who countersigned them.
COUNTERSIGNATURE = Table(
    "countersignature",
    METADATA,
    Column("epoch", BigInteger, primary_key=True),
    Column("size", BigInteger, primary_key=True),
    Column("witness", Text, primary_key=True),
    number("at"),
    words("statement"),
    words("key"),
    words("signature"),
    sqlite_with_rowid=False,
)

# The checkpoints of peers: ``proved`` ones continue what was held before and are countersigned here; of the others this centre
# heard (``source`` says from whom) and asks their origin for a proof.
WITNESSED = Table(
    "witnessed",
    METADATA,
    Column("origin", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("size", BigInteger, primary_key=True),
    Column("root", Text, primary_key=True),
    number("proved"),
    number("at"),
    words("source"),
    words("statement"),
    words("key"),
    words("signature"),
    sqlite_with_rowid=False,
)

# What shows that a peer has two histories: kept for good.
EVIDENCE = Table(
    "evidence",
    METADATA,
    serial(),
    words("origin"),
    words("code"),
    number("at"),
    words("shown"),
    Index("evidence_origin", "origin"),
)
