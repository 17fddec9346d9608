"""Trust: directories taken at run time, keys, operators, checkpoints and witnesses, limits per sender.

A migration is a record of what was done: it is never edited after a release, and it does not import the tables as they are now.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add what trust needs."""
    _directories()


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
