"""Trust: directories taken at run time, keys, operators, checkpoints and witnesses, limits per sender.

A migration is a record of what was done: it is never edited after a release, and it does not import the tables as they are now.
"""

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add what trust needs."""
