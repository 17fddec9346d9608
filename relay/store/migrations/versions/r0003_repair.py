"""Repair in full: windows, deadlines, voids, holds, retries, peers, attempts.

A migration is a record of what was done: it is never edited after a release, and it does not import the tables as they are now.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

NEVER = "9223372036854775807"


def upgrade() -> None:
    """Add what repair needs."""
    op.add_column("outbox_delivery", sa.Column("size", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("outbox_delivery", sa.Column("deadline", sa.BigInteger(), nullable=False, server_default=NEVER))
    op.add_column("outbox_delivery", sa.Column("behind", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("outbox_step", sa.Column("void", sa.BigInteger(), nullable=True))
    op.add_column("outbox_message", sa.Column("held_at", sa.BigInteger(), nullable=True))
    op.add_column("inbox_message", sa.Column("attempts", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("inbox_message", sa.Column("retry_at", sa.BigInteger(), nullable=True))
    op.add_column("inbox_message", sa.Column("reason", sa.LargeBinary(), nullable=True))
    op.create_table(
        "void_out",
        sa.Column("n", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("content_key", sa.LargeBinary(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("n"),
    )
    op.create_table(
        "peer",
        sa.Column("centre", sa.Text(), nullable=False),
        sa.Column("heard_at", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("directory", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("echo", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("centre"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attempt",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        sqlite_with_rowid=False,
    )
