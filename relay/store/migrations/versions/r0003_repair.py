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
    op.add_column("inbox_message", sa.Column("given_at", sa.BigInteger(), nullable=True))
    op.add_column("inbox_message", sa.Column("attempts", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("inbox_message", sa.Column("retry_at", sa.BigInteger(), nullable=True))
    op.add_column("inbox_message", sa.Column("reason", sa.LargeBinary(), nullable=True))
    op.execute("UPDATE inbox_message SET given_at = at WHERE state IN ('handed', 'delivered', 'withdrawn')")
    op.create_index(
        "inbox_message_aside",
        "inbox_message",
        ["state", "n"],
        sqlite_where=sa.text("state IN ('deferred', 'held', 'dead', 'quarantined')"),
    )
    op.create_index("inbox_message_deferred", "inbox_message", ["retry_at"], sqlite_where=sa.text("state = 'deferred'"))
    op.create_table(
        "void_in",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("origin", "epoch", "lane", "first"),
        sqlite_with_rowid=False,
    )
    for name, table, columns, where in (
        ("outbox_delivery_deadline", "outbox_delivery", ["deadline"], "open <> 0"),
        ("outbox_delivery_behind", "outbox_delivery", ["recipient", "lane", "first"], "behind <> 0"),
        ("outbox_message_held", "outbox_message", ["envelope"], "held_at IS NOT NULL"),
        ("outbox_step_ended", "outbox_step", ["state", "envelope"], "state IN ('expired', 'cancelled')"),
    ):
        op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
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
