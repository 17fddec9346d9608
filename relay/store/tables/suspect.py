"""What was taken under a key that is revoked since: which revocations were looked into, and what each casts doubt on."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text

from relay.store.tables.columns import METADATA, number, words

# ``looked_to`` is the last row of ``inbox_envelope`` that was looked at.
REVOCATION = Table(
    "revocation",
    METADATA,
    Column("key", Text, primary_key=True),
    number("revoked_from"),
    words("origin"),
    number("noticed_at"),
    number("looked_to"),
    sqlite_with_rowid=False,
)

SUSPECT = Table(
    "suspect",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    words("origin"),
    words("envelope"),
    number("signed_at"),
    number("received_at"),
    sqlite_with_rowid=False,
)
