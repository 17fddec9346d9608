"""Trust: directories taken at run time, keys, operators, checkpoints and witnesses, limits per sender.

A migration is a record of what was done: it is never edited after a release, and it does not import the tables as they are now.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add what trust needs."""
    _limits()
    _directories()
    _audited()
    _comparisons()
    _suspects()
    _approvals()
    _stuck()
    _listed()
    _observed()


def _limits() -> None:
    op.create_table(
        "epoch_heard",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("origin", "epoch"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sample_of",
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("sample", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sender", "sample"),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO sample_of SELECT '', n FROM sample")


def _directories() -> None:
    op.create_table(
        "directory",
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("bundle", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("version", "digest"),
    )


def _audited() -> None:
    op.create_table(
        "audit_tile",
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", "number"),
    )
    op.create_table(
        "audit_subtree",
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", "level", "number"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "checkpoint",
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", "size"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "countersignature",
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("witness", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", "size", "witness"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "witnessed",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("proved", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("origin", "epoch", "size", "root"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "evidence",
        sa.Column("n", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("n"),
    )
    op.create_index("evidence_origin", "evidence", ["origin"])


def _comparisons() -> None:
    op.create_table(
        "comparison_due",
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("asked", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("peer", "first"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "comparison_difference",
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("ours", sa.BigInteger(), nullable=False),
        sa.Column("theirs", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("peer", "side", "first", "lane"),
        sqlite_with_rowid=False,
    )


def _suspects() -> None:
    op.create_table(
        "revocation",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("revoked_from", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("noticed_at", sa.BigInteger(), nullable=False),
        sa.Column("looked_to", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "suspect",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", "id"),
        sqlite_with_rowid=False,
    )


def _approvals() -> None:
    op.create_table(
        "approval",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("decided_why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )


def _stuck() -> None:
    where = sa.text("behind & 2 <> 0")
    columns = ["recipient", "lane", "first"]
    op.create_index("outbox_delivery_dead", "outbox_delivery", columns, sqlite_where=where, postgresql_where=where)


def _listed() -> None:
    op.create_index("outbox_delivery_recipient", "outbox_delivery", ["recipient", "envelope"])
    op.create_index("inbox_message_origin", "inbox_message", ["origin", "n"])


def _observed() -> None:
    where = sa.text("relation IN ('updates', 'cancels', 'withdraws')")
    op.create_index("reference_recalls", "reference", ["origin", "id"], sqlite_where=where, postgresql_where=where)
