"""What this centre received: envelopes, messages, closed sequences, receipts said, samples, attempts."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text, UniqueConstraint, text

from relay.store.tables.columns import METADATA, number, octets, serial, words

INBOX_ENVELOPE = Table(
    "inbox_envelope",
    METADATA,
    serial(),
    words("origin"),
    words("id"),
    number("epoch"),
    words("lane"),
    number("first"),
    number("received_at"),
    octets("content_key"),
    octets("header"),
    octets("body"),
    UniqueConstraint("origin", "id", name="inbox_envelope_id"),
)

# A received message is given out from the first index, while it is ``waiting`` or ``handed``. What is set aside stands in the
# other two, so that however much of it there is it slows no hand-out.
ASIDE = "state IN ('deferred', 'held', 'dead', 'quarantined')"
DEFERRED = "state = 'deferred'"
INBOX_MESSAGE = Table(
    "inbox_message",
    METADATA,
    serial(),
    words("origin"),
    words("id"),
    number("envelope"),
    number("position"),
    number("rank"),
    number("deadline"),
    words("state"),
    Column("code", Text),
    number("at"),
    number("flags"),
    Column("given_at", BigInteger),
    number("attempts"),
    Column("retry_at", BigInteger),
    Column("reason", LargeBinary),
    number("purge_at"),
    number("found"),
    Column("purged_at", BigInteger),
    UniqueConstraint("id", "origin", name="inbox_message_id"),
    Index("inbox_message_origin", "origin", "n"),
    Index(
        "inbox_message_waiting",
        "rank",
        "n",
        sqlite_where=text("state IN ('waiting', 'handed')"),
        postgresql_where=text("state IN ('waiting', 'handed')"),
    ),
    Index("inbox_message_aside", "state", "n", sqlite_where=text(ASIDE), postgresql_where=text(ASIDE)),
    Index("inbox_message_deferred", "retry_at", sqlite_where=text(DEFERRED), postgresql_where=text(DEFERRED)),
)

INBOX_CLOSED = Table(
    "inbox_closed",
    METADATA,
    Column("origin", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("lane", Text, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    number("last"),
    sqlite_with_rowid=False,
)

HEARD = Table(
    "heard",
    METADATA,
    Column("origin", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("kind", Text, primary_key=True),
    number("number"),
)

RECEIPT_OUT = Table(
    "receipt_out",
    METADATA,
    serial(),
    words("recipient"),
    words("id"),
    octets("raw"),
    number("created_at"),
)

RECEIPT_RANGE = Table(
    "receipt_range",
    METADATA,
    serial(),
    number("receipt"),
    words("origin"),
    number("epoch"),
    words("lane"),
    number("first"),
    number("last"),
    Index("receipt_range_sequence", "origin", "epoch", "lane", "last"),
)

SAMPLE = Table(
    "sample",
    METADATA,
    serial(),
    words("code"),
    words("detail"),
    octets("raw"),
    number("received_at"),
)

# Which sequences of an origin are closed by its word that it sends nothing there (again), with no message held here.
VOID_IN = Table(
    "void_in",
    METADATA,
    Column("origin", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("lane", Text, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    number("last"),
    words("state"),
    number("at"),
    sqlite_with_rowid=False,
)

# How often an envelope was begun that the broker delivered again: what kills the process is found by this.
ATTEMPT = Table(
    "attempt",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
    number("count"),
    number("at"),
    sqlite_with_rowid=False,
)
