"""What this centre sent: sequences, sealed envelopes, messages, deliveries and their steps, receipts taken, voids said."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text, UniqueConstraint, text

from relay.store.tables.columns import METADATA, SERIAL, number, octets, serial, words

SEQUENCE = Table(
    "sequence",
    METADATA,
    Column("recipient", Text, primary_key=True),
    Column("lane", Text, primary_key=True),
    number("last"),
)

OUTBOX_ENVELOPE = Table(
    "outbox_envelope",
    METADATA,
    serial(),
    words("id"),
    number("epoch"),
    words("lane"),
    number("rank"),
    words("keys"),
    number("created_at"),
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
    Column("n", SERIAL, primary_key=True, autoincrement=False),
    octets("content_key"),
    octets("header"),
    octets("body"),
)

OUTBOX_MESSAGE = Table(
    "outbox_message",
    METADATA,
    Column("id", Text, primary_key=True),
    number("envelope"),
    number("position"),
    number("purge_at"),
    number("found"),
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

# Deliveries that nobody tries again by itself, as :data:`relay.store.history.DEAD` marks them: operators list them.
OUTBOX_DEAD = "behind & 2 <> 0"
OUTBOX_DELIVERY = Table(
    "outbox_delivery",
    METADATA,
    Column("recipient", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("lane", Text, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    number("last"),
    number("envelope"),
    number("open"),
    number("unaccepted"),
    number("size"),
    number("deadline"),
    number("behind"),
    Index("outbox_delivery_envelope", "envelope"),
    Index("outbox_delivery_recipient", "recipient", "envelope"),
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
        "outbox_delivery_dead",
        "recipient",
        "lane",
        "first",
        sqlite_where=text(OUTBOX_DEAD),
        postgresql_where=text(OUTBOX_DEAD),
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
    serial(),
    number("envelope"),
    words("recipient"),
    words("state"),
    number("mask"),
    number("at"),
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
    octets("digest"),
    words("message"),
    number("created_at"),
    sqlite_with_rowid=False,
)

RECEIPT_IN = Table(
    "receipt_in",
    METADATA,
    serial(),
    words("sender"),
    words("id"),
    octets("header"),
    octets("body"),
    octets("content_key"),
    number("received_at"),
    UniqueConstraint("sender", "id", name="receipt_in_id"),
)

# What this centre, as origin, says for good about messages that it won't send (again): signed, kept as evidence.
VOID_OUT = Table(
    "void_out",
    METADATA,
    serial(),
    words("recipient"),
    words("id"),
    number("created_at"),
    octets("content_key"),
    octets("raw"),
)
