"""The tables of a centre's store, as SQLAlchemy Core sees them; the migrations create exactly these.

Per message there is one row at its origin (``outbox_message``) and one at each recipient (``inbox_message``). Everything else
is per envelope: the sealed bytes once, one ``outbox_delivery`` a recipient, one ``outbox_step`` a recipient and state. Which
messages of an envelope a row speaks of is a bit mask by position (bit 0 is the first), kept as a signed 64-bit integer. Times
are milliseconds since the Unix epoch. Content rests only as ciphertext, under a content key wrapped with the storage key. Sealed
bytes stand apart from what is updated, and last in their row: SQLite writes a row whole and reads it up to the last column asked
for.

The index that finds messages, ``found``, is a full-text table of SQLite and no table of SQLAlchemy's: see
:mod:`relay.store.found`.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text, UniqueConstraint, text

METADATA = MetaData()

# SQLite aliases only INTEGER PRIMARY KEY to its row id; elsewhere the same column is a bigint.
_Serial = BigInteger().with_variant(Integer, "sqlite")


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _bytes(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


def _serial() -> Column[int]:
    return Column("n", _Serial, primary_key=True, autoincrement=True)


META = Table("meta", METADATA, Column("name", Text, primary_key=True), _text("value"))

SEQUENCE = Table(
    "sequence",
    METADATA,
    Column("recipient", Text, primary_key=True),
    Column("lane", Text, primary_key=True),
    _number("last"),
)

OUTBOX_ENVELOPE = Table(
    "outbox_envelope",
    METADATA,
    _serial(),
    _text("id"),
    _number("epoch"),
    _text("lane"),
    _number("rank"),
    _text("keys"),
    _number("created_at"),
    Column("sent_at", BigInteger),
    Index(
        "outbox_envelope_due",
        "rank",
        "n",
        sqlite_where=text("sent_at IS NULL"),
        postgresql_where=text("sent_at IS NULL"),
    ),
)

OUTBOX_SEALED = Table(
    "outbox_sealed",
    METADATA,
    Column("n", _Serial, primary_key=True, autoincrement=False),
    _bytes("content_key"),
    _bytes("header"),
    _bytes("body"),
)

OUTBOX_MESSAGE = Table(
    "outbox_message",
    METADATA,
    Column("id", Text, primary_key=True),
    _number("envelope"),
    _number("position"),
    _number("purge_at"),
    _number("found"),
    Column("purged_at", BigInteger),
    Column("held_at", BigInteger),
    Index("outbox_message_envelope", "envelope"),
    Index(
        "outbox_message_held",
        "envelope",
        sqlite_where=text("held_at IS NOT NULL"),
        postgresql_where=text("held_at IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

OUTBOX_DELIVERY = Table(
    "outbox_delivery",
    METADATA,
    Column("recipient", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("lane", Text, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    _number("last"),
    _number("envelope"),
    _number("open"),
    _number("unaccepted"),
    _number("size"),
    _number("deadline"),
    _number("behind"),
    Index("outbox_delivery_envelope", "envelope"),
    Index(
        "outbox_delivery_deadline",
        "deadline",
        sqlite_where=text("open <> 0"),
        postgresql_where=text("open <> 0"),
    ),
    Index(
        "outbox_delivery_behind",
        "recipient",
        "lane",
        "first",
        sqlite_where=text("behind <> 0"),
        postgresql_where=text("behind <> 0"),
    ),
    Index(
        "outbox_delivery_open",
        "recipient",
        "lane",
        "first",
        sqlite_where=text("open <> 0"),
        postgresql_where=text("open <> 0"),
    ),
    sqlite_with_rowid=False,
)

# What this centre itself ended, without a word of the recipient's: there is little of it, and operators look for it.
STEP_ENDED = "state IN ('expired', 'cancelled')"
OUTBOX_STEP = Table(
    "outbox_step",
    METADATA,
    _serial(),
    _number("envelope"),
    _text("recipient"),
    _text("state"),
    _number("mask"),
    _number("at"),
    Column("code", Text),
    Column("receipt", BigInteger),
    Column("void", BigInteger),
    Index("outbox_step_envelope", "envelope"),
    Index("outbox_step_ended", "state", "envelope", sqlite_where=text(STEP_ENDED), postgresql_where=text(STEP_ENDED)),
)

IDEMPOTENCY = Table(
    "idempotency",
    METADATA,
    Column("key", Text, primary_key=True),
    _bytes("digest"),
    _text("message"),
    _number("created_at"),
    sqlite_with_rowid=False,
)

RECEIPT_IN = Table(
    "receipt_in",
    METADATA,
    _serial(),
    _text("sender"),
    _text("id"),
    _bytes("header"),
    _bytes("body"),
    _bytes("content_key"),
    _number("received_at"),
    UniqueConstraint("sender", "id", name="receipt_in_id"),
)

INBOX_ENVELOPE = Table(
    "inbox_envelope",
    METADATA,
    _serial(),
    _text("origin"),
    _text("id"),
    _number("epoch"),
    _text("lane"),
    _number("first"),
    _number("received_at"),
    _bytes("content_key"),
    _bytes("header"),
    _bytes("body"),
    UniqueConstraint("origin", "id", name="inbox_envelope_id"),
)

# A received message is given out from the first index, while it is ``waiting`` or ``handed``. What is set aside stands in the
# other two, so that however much of it there is it slows no hand-out.
ASIDE = "state IN ('deferred', 'held', 'dead', 'quarantined')"
DEFERRED = "state = 'deferred'"
INBOX_MESSAGE = Table(
    "inbox_message",
    METADATA,
    _serial(),
    _text("origin"),
    _text("id"),
    _number("envelope"),
    _number("position"),
    _number("rank"),
    _number("deadline"),
    _text("state"),
    Column("code", Text),
    _number("at"),
    _number("flags"),
    Column("given_at", BigInteger),
    _number("attempts"),
    Column("retry_at", BigInteger),
    Column("reason", LargeBinary),
    _number("purge_at"),
    _number("found"),
    Column("purged_at", BigInteger),
    UniqueConstraint("id", "origin", name="inbox_message_id"),
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
    _number("last"),
    sqlite_with_rowid=False,
)

HEARD = Table(
    "heard",
    METADATA,
    Column("origin", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("kind", Text, primary_key=True),
    _number("number"),
)

RECEIPT_OUT = Table(
    "receipt_out",
    METADATA,
    _serial(),
    _text("recipient"),
    _text("id"),
    _bytes("raw"),
    _number("created_at"),
)

RECEIPT_RANGE = Table(
    "receipt_range",
    METADATA,
    _serial(),
    _number("receipt"),
    _text("origin"),
    _number("epoch"),
    _text("lane"),
    _number("first"),
    _number("last"),
    Index("receipt_range_sequence", "origin", "epoch", "lane", "last"),
)

SAMPLE = Table(
    "sample",
    METADATA,
    _serial(),
    _text("code"),
    _text("detail"),
    _bytes("raw"),
    _number("received_at"),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("epoch", BigInteger, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    _bytes("leaf"),
    sqlite_with_rowid=False,
)

# Which message refers to which: ``origin`` and ``id`` say who refers, ``target`` to what.
REFERENCE = Table(
    "reference",
    METADATA,
    Column("target", Text, primary_key=True),
    Column("relation", Text, primary_key=True),
    Column("origin", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    sqlite_with_rowid=False,
)

# What an origin recalled from this centre: every version of ``target`` older than ``id``, the update or cancel that says so.
TOMBSTONE = Table(
    "tombstone",
    METADATA,
    Column("origin", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    _text("kind"),
    _number("at"),
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
    _number("asked"),
    _number("hours"),
    Column("started_at", BigInteger),
    Column("due_at", BigInteger),
    _text("state"),
    _number("reminded"),
    Column("answered_at", BigInteger),
    Index("clock_watched", "request", sqlite_where=text(CLOCK_WATCHED), postgresql_where=text(CLOCK_WATCHED)),
    sqlite_with_rowid=False,
)

LEGAL_HOLD = Table(
    "legal_hold",
    METADATA,
    Column("id", Text, primary_key=True),
    _text("reason"),
    _text("actor"),
    _number("at"),
    sqlite_with_rowid=False,
)

# What this centre, as origin, says for good about messages that it won't send (again): signed, kept as evidence.
VOID_OUT = Table(
    "void_out",
    METADATA,
    _serial(),
    _text("recipient"),
    _text("id"),
    _number("created_at"),
    _bytes("content_key"),
    _bytes("raw"),
)

# Which sequences of an origin are closed by its word that it sends nothing there (again), with no message held here.
VOID_IN = Table(
    "void_in",
    METADATA,
    Column("origin", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("lane", Text, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    _number("last"),
    _text("state"),
    _number("at"),
    sqlite_with_rowid=False,
)

# What is known of a peer from its heartbeats; ``echo`` is what it said it holds of this centre, as JSON.
PEER = Table(
    "peer",
    METADATA,
    Column("centre", Text, primary_key=True),
    _number("heard_at"),
    _number("offset"),
    _number("epoch"),
    _number("directory"),
    _text("digest"),
    _text("release"),
    _text("echo"),
    sqlite_with_rowid=False,
)

# How often an envelope was begun that the broker delivered again: what kills the process is found by this.
ATTEMPT = Table(
    "attempt",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
    _number("count"),
    _number("at"),
    sqlite_with_rowid=False,
)
