"""What waits for a second person, and what became of it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text

from relay.store.tables.columns import METADATA, number, words

# ``state``: pending, approved (not done yet), done, failed or refused; a pending one whose time is over is over.
APPROVAL = Table(
    "approval",
    METADATA,
    Column("id", Text, primary_key=True),
    words("action"),
    words("subject"),
    words("reason"),
    words("asked_by"),
    words("person"),
    number("asked_at"),
    number("expires_at"),
    words("state"),
    Column("decided_by", Text),
    Column("decided_at", BigInteger),
    Column("decided_why", Text),
    sqlite_with_rowid=False,
)
