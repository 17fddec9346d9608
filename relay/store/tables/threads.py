"""What binds messages together or holds them: references, tombstones, reply clocks, legal holds."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text, text

from relay.store.tables.columns import METADATA, number, words

# Which message refers to which: ``origin`` and ``id`` say who refers, ``target`` to what. What takes something back has an index.
RECALLS = "relation IN ('updates', 'cancels', 'withdraws')"
REFERENCE = Table(
    "reference",
    METADATA,
    Column("target", Text, primary_key=True),
    Column("relation", Text, primary_key=True),
    Column("origin", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Index("reference_recalls", "origin", "id", sqlite_where=text(RECALLS), postgresql_where=text(RECALLS)),
    sqlite_with_rowid=False,
)

# What an origin recalled from this centre: every version of ``target`` older than ``id``, the update or cancel that says so.
TOMBSTONE = Table(
    "tombstone",
    METADATA,
    Column("origin", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    words("kind"),
    number("at"),
    sqlite_with_rowid=False,
)

# A request's reply clock, one per peer: asked by this centre (``asked``) or of it. Without ``started_at`` it has not begun;
# ``answered_at`` is when it stopped, for whatever reason. Few of them are still to be looked at: they have an index.
CLOCK_WATCHED = "answered_at IS NULL OR (started_at IS NULL AND state IN ('full', 'refusal'))"
CLOCK = Table(
    "clock",
    METADATA,
    Column("request", Text, primary_key=True),
    Column("peer", Text, primary_key=True),
    number("asked"),
    number("hours"),
    Column("started_at", BigInteger),
    Column("due_at", BigInteger),
    words("state"),
    number("reminded"),
    Column("answered_at", BigInteger),
    Index("clock_watched", "request", sqlite_where=text(CLOCK_WATCHED), postgresql_where=text(CLOCK_WATCHED)),
    sqlite_with_rowid=False,
)

LEGAL_HOLD = Table(
    "legal_hold",
    METADATA,
    Column("id", Text, primary_key=True),
    words("reason"),
    words("actor"),
    number("at"),
    sqlite_with_rowid=False,
)
