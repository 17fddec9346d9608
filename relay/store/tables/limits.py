"""What bounds the cost of one sender: when each of its epochs was first heard, whose the samples are."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text

from relay.store.tables.columns import METADATA, number

EPOCH_HEARD = Table(
    "epoch_heard",
    METADATA,
    Column("origin", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    number("at"),
    sqlite_with_rowid=False,
)

# Apart from the samples, whose rows hold up to 64 kB in front of any column that would be added. ``sender`` is empty when none
# was verified.
SAMPLE_OF = Table(
    "sample_of",
    METADATA,
    Column("sender", Text, primary_key=True),
    Column("sample", BigInteger, primary_key=True),
    sqlite_with_rowid=False,
)
