"""The audit record: one leaf per step, appended in the same transaction as the step itself.

A leaf is compact JSON with its keys in this order: ``v`` (1), ``epoch``, ``time`` (milliseconds), ``step``, ``envelope``,
``peer``, ``count``, ``commitments``, ``code``, ``actor``, ``why``; what does not apply is left out. ``commitments`` is SHA-256
in hex over the prefix and the commitments of the step's messages in order, so a leaf binds what happened and holds no content.
The position of a leaf in its epoch's log is its number; the first leaf of an epoch says that it was opened. These bytes are
final: later releases may add keys at the end and may add steps, and never write an old leaf anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum

from relay.envelope import COMMITMENTS_PREFIX
from relay.envelope import digest_of_commitments as digest
from relay.store import Connection, record

__all__ = ["COMMITMENTS_PREFIX", "Audit", "AuditStep", "digest"]


class AuditStep(StrEnum):
    """What can happen."""

    EPOCH_OPENED = "epoch-opened"
    SUBMITTED = "submitted"
    REFUSED = "refused"
    SENT = "sent"
    RETRIED = "retried"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    REJECTED = "rejected"
    TAKEN = "taken"
    REFUSED_ON_ARRIVAL = "refused-on-arrival"
    TAKEN_BY_SYSTEM = "taken-by-system"
    EXPIRED_ON_HANDOUT = "expired-on-handout"
    RECALLED = "recalled"
    PURGED = "purged"
    RELEASED = "released"
    SEARCHED = "searched"
    EXPIRED_BY_RETENTION = "expired-by-retention"
    HOLD_SET = "hold-set"
    HOLD_LIFTED = "hold-lifted"
    RELEASE_ASKED = "release-asked"
    RELEASE_ANSWERED = "release-answered"
    REQUEST_REMINDED = "request-reminded"
    STORE_WENT_BACK = "store-went-back"
    PEER_ALARM = "peer-alarm"
    STATED_AGAIN = "stated-again"
    EXPIRED = "expired"
    DEFERRED = "deferred"
    DEAD = "dead"
    REJECTED_BY_SYSTEM = "rejected-by-system"
    HELD = "held"
    UNHELD = "unheld"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    OVERRULED = "overruled"
    VOIDED = "voided"
    PROVED = "proved"
    REVEALED = "revealed"
    CONTENT_READ = "content-read"
    EXPORTED = "exported"
    KEY_REVOKED = "key-revoked"
    SUSPECTED = "suspected"
    ACCESS_REFUSED = "access-refused"
    CLIENT_CHANGED = "client-changed"
    SIGNED_IN = "signed-in"
    APPROVAL_ASKED = "approval-asked"
    APPROVAL_GIVEN = "approval-given"
    APPROVAL_REFUSED = "approval-refused"
    DIRECTORY_CHANGED = "directory-changed"
    DIRECTORY_CONTRADICTED = "directory-contradicted"


class Audit:
    """Writes the record of one epoch."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def append(self, connection: Connection, leaves: Iterable[bytes]) -> None:
        """Append leaves in this transaction."""
        record.append(connection, self._epoch, list(leaves))

    def leaf(
        self,
        step: AuditStep,
        time: int,
        *,
        envelope: str | None = None,
        peer: str | None = None,
        commitments: list[str] | None = None,
        code: str | None = None,
        actor: str | None = None,
        why: str | None = None,
    ) -> bytes:
        """Return the bytes of a leaf; ``time`` in milliseconds, ``peer`` a centre's id, ``actor`` who asked for it."""
        given = {
            "v": 1,
            "epoch": self._epoch,
            "time": time,
            "step": step,
            "envelope": envelope,
            "peer": peer,
            "count": len(commitments) if commitments is not None else None,
            "commitments": digest(commitments) if commitments is not None else None,
            "code": code,
            "actor": actor,
            "why": why,
        }
        return json.dumps({key: value for key, value in given.items() if value is not None}, separators=(",", ":")).encode()
