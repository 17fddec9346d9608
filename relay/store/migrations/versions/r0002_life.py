"""The life of messages: references, recalls, reply clocks, retention, legal holds, and the index that finds them.

A migration is a record of what was done: it is never edited after a release, and it does not import the tables as they are now.
Messages stored before have no index entry and are kept until an operator purges them: their content was never looked at.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NEVER = "9223372036854775807"


def upgrade() -> None:
    """Add what the life of a message needs."""
    for table in ("outbox_message", "inbox_message"):
        op.add_column(table, sa.Column("purge_at", sa.BigInteger(), nullable=False, server_default=NEVER))
        op.add_column(table, sa.Column("found", sa.BigInteger(), nullable=False, server_default="0"))
        op.add_column(table, sa.Column("purged_at", sa.BigInteger(), nullable=True))
    op.add_column("inbox_message", sa.Column("flags", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "reference",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("target", "relation", "origin", "id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tombstone",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("origin", "target", "id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "clock",
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("asked", sa.BigInteger(), nullable=False),
        sa.Column("hours", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reminded", sa.BigInteger(), nullable=False),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("request", "peer"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "clock_watched",
        "clock",
        ["request"],
        sqlite_where=sa.text("answered_at IS NULL OR (started_at IS NULL AND state IN ('full', 'refusal'))"),
    )
    op.create_table(
        "legal_hold",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.execute("CREATE VIRTUAL TABLE found USING fts5(tokens, id UNINDEXED, detail=none, columnsize=0, tokenize='ascii')")
