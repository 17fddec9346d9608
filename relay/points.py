"""Crash points: the named places at which a test can end the node, so that all of them are tried and not only some by chance.

A point stands directly before and directly after every commit, publish and acknowledgement, and where something was posted. Each
names one place in the source. :func:`reach` does nothing while no handler is armed. A handler is armed by tests alone; it is this
module's, so all nodes of a process share it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Point(StrEnum):
    """Every place at which a node is ended by the tests, once each."""

    # How a message leaves: the transaction of what was submitted, the publish and its confirm, the note that it was sent.
    OUTBOX_COMMIT_BEFORE = "outbox-commit-before"
    OUTBOX_COMMIT_AFTER = "outbox-commit-after"
    PUBLISH_BEFORE = "publish-before"
    PUBLISH_CONFIRMED = "publish-confirmed"
    SENT_COMMIT_BEFORE = "sent-commit-before"
    SENT_COMMIT_AFTER = "sent-commit-after"

    # A slow or refusing peer: each recipient alone, what is behind at the start, catching up, what nobody tries again.
    PUBLISH_ALONE_BEFORE = "publish-alone-before"
    PUBLISH_ALONE_CONFIRMED = "publish-alone-confirmed"
    BEHIND_COMMIT_BEFORE = "behind-commit-before"
    BEHIND_COMMIT_AFTER = "behind-commit-after"
    CATCH_UP_BEFORE = "catch-up-before"
    CATCH_UP_CONFIRMED = "catch-up-confirmed"
    CATCH_UP_COMMIT_BEFORE = "catch-up-commit-before"
    CATCH_UP_COMMIT_AFTER = "catch-up-commit-after"
    DEAD_COMMIT_BEFORE = "dead-commit-before"
    DEAD_COMMIT_AFTER = "dead-commit-after"

    # How a message arrives, and a receipt at its origin: the counted attempt, the group, what follows it, the acknowledgement.
    ATTEMPT_COMMIT_BEFORE = "attempt-commit-before"
    ATTEMPT_COMMIT_AFTER = "attempt-commit-after"
    INBOX_COMMIT_BEFORE = "inbox-commit-before"
    INBOX_COMMIT_AFTER = "inbox-commit-after"
    INBOX_POSTED = "inbox-posted"
    INBOX_SCRUBBED = "inbox-scrubbed"
    RECALL_CARRIED_OUT = "recall-carried-out"
    ACK_BEFORE = "ack-before"
    ACK_AFTER = "ack-after"

    # The centre's system: what it is given, its word, its no; the receipts of these.
    HANDOUT_COMMIT_BEFORE = "handout-commit-before"
    HANDOUT_COMMIT_AFTER = "handout-commit-after"
    ACKNOWLEDGE_COMMIT_BEFORE = "acknowledge-commit-before"
    ACKNOWLEDGE_COMMIT_AFTER = "acknowledge-commit-after"
    REFUSE_COMMIT_BEFORE = "refuse-commit-before"
    REFUSE_COMMIT_AFTER = "refuse-commit-after"
    HANDOVER_POSTED = "handover-posted"

    # What nodes tell each other: receipts, nacks and voids leave, a number is used up, a mark goes through its lane.
    CONTROL_PUBLISH_BEFORE = "control-publish-before"
    CONTROL_PUBLISH_CONFIRMED = "control-publish-confirmed"
    NUMBER_COMMIT_BEFORE = "number-commit-before"
    NUMBER_COMMIT_AFTER = "number-commit-after"
    MARK_PUBLISH_BEFORE = "mark-publish-before"
    MARK_PUBLISH_CONFIRMED = "mark-publish-confirmed"
    MARK_ANSWERED = "mark-answered"

    # Repair: what is sent again, what does not come any more.
    RESEND_BEFORE = "resend-before"
    RESEND_CONFIRMED = "resend-confirmed"
    VOID_POSTED = "void-posted"
    GONE_COMMIT_BEFORE = "gone-commit-before"
    GONE_COMMIT_AFTER = "gone-commit-after"

    # What ends at its origin: by its deadline, by an operator's order at the desk.
    EXPIRE_COMMIT_BEFORE = "expire-commit-before"
    EXPIRE_COMMIT_AFTER = "expire-commit-after"
    EXPIRE_POSTED = "expire-posted"
    DESK_COMMIT_BEFORE = "desk-commit-before"
    DESK_COMMIT_AFTER = "desk-commit-after"
    DESK_POSTED = "desk-posted"

    # What an operator does with received messages.
    RECEIVED_COMMIT_BEFORE = "received-commit-before"
    RECEIVED_COMMIT_AFTER = "received-commit-after"
    RECEIVED_POSTED = "received-posted"
    RECEIVED_SCRUBBED = "received-scrubbed"

    # Taking back what was passed on of another centre's message.
    ONWARD_RECALL_BEFORE = "onward-recall-before"
    ONWARD_RECALL_AFTER = "onward-recall-after"

    # Retention and legal holds.
    PURGE_COMMIT_BEFORE = "purge-commit-before"
    PURGE_COMMIT_AFTER = "purge-commit-after"
    KEYS_COMMIT_BEFORE = "keys-commit-before"
    KEYS_COMMIT_AFTER = "keys-commit-after"
    SAMPLES_COMMIT_BEFORE = "samples-commit-before"
    SAMPLES_COMMIT_AFTER = "samples-commit-after"
    SCRUB_BEFORE = "scrub-before"
    SCRUB_AFTER = "scrub-after"
    HOLD_COMMIT_BEFORE = "hold-commit-before"
    HOLD_COMMIT_AFTER = "hold-commit-after"
    LIFT_COMMIT_BEFORE = "lift-commit-before"
    LIFT_COMMIT_AFTER = "lift-commit-after"
    LIFT_SCRUBBED = "lift-scrubbed"
    RETENTION_POSTED = "retention-posted"

    # Heartbeats, and stores that went back: what the start writes, what an operator asks for, what peers are told.
    HEARTBEAT_COMMIT_BEFORE = "heartbeat-commit-before"
    HEARTBEAT_COMMIT_AFTER = "heartbeat-commit-after"
    HEARTBEAT_POSTED = "heartbeat-posted"
    RECOVER_COMMIT_BEFORE = "recover-commit-before"
    RECOVER_COMMIT_AFTER = "recover-commit-after"
    EPOCH_COMMIT_BEFORE = "epoch-commit-before"
    EPOCH_COMMIT_AFTER = "epoch-commit-after"
    NUMBERS_COMMIT_BEFORE = "numbers-commit-before"
    NUMBERS_COMMIT_AFTER = "numbers-commit-after"
    STATEMENT_COMMIT_BEFORE = "statement-commit-before"
    STATEMENT_COMMIT_AFTER = "statement-commit-after"
    STATEMENT_POSTED = "statement-posted"

    # A checkpoint is signed, and given to its witnesses.
    CHECKPOINT_COMMIT_BEFORE = "checkpoint-commit-before"
    CHECKPOINT_COMMIT_AFTER = "checkpoint-commit-after"
    CHECKPOINT_POSTED = "checkpoint-posted"

    # A new version of the directory comes into force; what contradicts one is kept.
    DIRECTORY_COMMIT_BEFORE = "directory-commit-before"
    DIRECTORY_COMMIT_AFTER = "directory-commit-after"
    CONTRADICTION_COMMIT_BEFORE = "contradiction-commit-before"
    CONTRADICTION_COMMIT_AFTER = "contradiction-commit-after"

    # What was sent is compared with what peers hold: what is noted of it, and a summary leaves.
    COMPARISON_COMMIT_BEFORE = "comparison-commit-before"
    COMPARISON_COMMIT_AFTER = "comparison-commit-after"
    COMPARISON_POSTED = "comparison-posted"

    # A proof was made, or the record exported, and that goes on record.
    PROOF_COMMIT_BEFORE = "proof-commit-before"
    PROOF_COMMIT_AFTER = "proof-commit-after"
    EXPORT_COMMIT_BEFORE = "export-commit-before"
    EXPORT_COMMIT_AFTER = "export-commit-after"

    # What is recorded: a request's clock, who let a message be passed on, a search, a refusal.
    REMIND_COMMIT_BEFORE = "remind-commit-before"
    REMIND_COMMIT_AFTER = "remind-commit-after"
    RELEASE_COMMIT_BEFORE = "release-commit-before"
    RELEASE_COMMIT_AFTER = "release-commit-after"
    SEARCH_COMMIT_BEFORE = "search-commit-before"
    SEARCH_COMMIT_AFTER = "search-commit-after"
    REFUSAL_COMMIT_BEFORE = "refusal-commit-before"
    REFUSAL_COMMIT_AFTER = "refusal-commit-after"

    # Who was turned away from the API, which clients changed, what waits for a second person.
    ACCESS_COMMIT_BEFORE = "access-commit-before"
    ACCESS_COMMIT_AFTER = "access-commit-after"

    # A key that the directory revoked, and what was taken under it.
    REVOCATION_COMMIT_BEFORE = "revocation-commit-before"
    REVOCATION_COMMIT_AFTER = "revocation-commit-after"


Handler = Callable[[Point], None]

_handler: Handler | None = None


def reach(point: Point) -> None:
    """Tell the armed handler, if any, that a point was reached; what it raises leaves here."""
    if _handler is not None:
        _handler(point)


def arm(handler: Handler) -> None:
    """Let a handler take every point from now on, in whatever task reaches it. For tests."""
    global _handler  # noqa: PLW0603 - the one handler of the process is what this module owns
    _handler = handler


def disarm() -> None:
    """Let points pass again. For tests."""
    global _handler  # noqa: PLW0603 - as above
    _handler = None
