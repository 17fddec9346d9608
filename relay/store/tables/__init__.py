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

from relay.store.tables.approvals import APPROVAL
from relay.store.tables.audited import AUDIT_SUBTREE, AUDIT_TILE, CHECKPOINT, COUNTERSIGNATURE, EVIDENCE, WITNESSED
from relay.store.tables.centre import AUDIT, META, PEER
from relay.store.tables.columns import METADATA
from relay.store.tables.compared import COMPARISON_DIFFERENCE, COMPARISON_DUE
from relay.store.tables.directories import DIRECTORY
from relay.store.tables.limits import EPOCH_HEARD, SAMPLE_OF
from relay.store.tables.received import (
    ASIDE,
    ATTEMPT,
    DEFERRED,
    HEARD,
    INBOX_CLOSED,
    INBOX_ENVELOPE,
    INBOX_MESSAGE,
    RECEIPT_OUT,
    RECEIPT_RANGE,
    SAMPLE,
    VOID_IN,
)
from relay.store.tables.sent import (
    IDEMPOTENCY,
    OUTBOX_DEAD,
    OUTBOX_DELIVERY,
    OUTBOX_ENVELOPE,
    OUTBOX_MESSAGE,
    OUTBOX_SEALED,
    OUTBOX_STEP,
    RECEIPT_IN,
    SEQUENCE,
    STEP_ENDED,
    VOID_OUT,
)
from relay.store.tables.suspect import REVOCATION, SUSPECT
from relay.store.tables.threads import CLOCK, CLOCK_WATCHED, LEGAL_HOLD, RECALLS, REFERENCE, TOMBSTONE

__all__ = [
    "APPROVAL",
    "ASIDE",
    "ATTEMPT",
    "AUDIT",
    "AUDIT_SUBTREE",
    "AUDIT_TILE",
    "CHECKPOINT",
    "CLOCK",
    "CLOCK_WATCHED",
    "COMPARISON_DIFFERENCE",
    "COMPARISON_DUE",
    "COUNTERSIGNATURE",
    "DEFERRED",
    "DIRECTORY",
    "EPOCH_HEARD",
    "EVIDENCE",
    "HEARD",
    "IDEMPOTENCY",
    "INBOX_CLOSED",
    "INBOX_ENVELOPE",
    "INBOX_MESSAGE",
    "LEGAL_HOLD",
    "META",
    "METADATA",
    "OUTBOX_DEAD",
    "OUTBOX_DELIVERY",
    "OUTBOX_ENVELOPE",
    "OUTBOX_MESSAGE",
    "OUTBOX_SEALED",
    "OUTBOX_STEP",
    "PEER",
    "RECALLS",
    "RECEIPT_IN",
    "RECEIPT_OUT",
    "RECEIPT_RANGE",
    "REFERENCE",
    "REVOCATION",
    "SAMPLE",
    "SAMPLE_OF",
    "SEQUENCE",
    "STEP_ENDED",
    "SUSPECT",
    "TOMBSTONE",
    "VOID_IN",
    "VOID_OUT",
    "WITNESSED",
]
