"""Everything a node has to say: one table of events, with how much each matters, what it means, and its fields.

``docs/reference/logs.md`` is written from it; a test compares it with every call in the code and with what nodes wrote.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

Level = Literal["debug", "info", "warning", "error"]

FIELDS = {
    "accepted": "how many messages were taken in, or so many statements say",
    "actor": "the client that did it",
    "added": "ids of the keys that are held now and were not before",
    "age_ms": "milliseconds since the message got its id, by this centre's clock",
    "attempts": "how often the system put it off",
    "before": "the version or epoch before",
    "client": "name of the client of the API",
    "clients": "names of the clients",
    "code": "why, as `relay explain CODE` says",
    "contact": "whom to call",
    "correlation": "trace id that the sending system gave; absent: it gave none",
    "days": "how many days before the end it is said",
    "delivered": "so many statements say",
    "detail": "the sentence of the error; never content",
    "directory": "version of the directory in force",
    "duplicate": "how many messages were here already",
    "envelope": "id of the envelope",
    "envelopes": "how many envelopes",
    "epoch": "the epoch",
    "error": "name of the kind of error",
    "expires_at": "until when it counts",
    "first": "the first sequence, or a message's own; of a time its beginning",
    "given": "entries under the checkpoint that came",
    "held": "entries under the checkpoint that was held; of a run of retention: messages under legal hold",
    "highest": "the highest sequence of the lane",
    "key": "id of a public key",
    "keys": "how many keys of the store were destroyed",
    "kind": "kind of the message",
    "lane": "lane: a precedence, or exercise",
    "last": "the last sequence",
    "left_out": "how many recipients an envelope did not go to, or those to whom a message did not go, yet",
    "message": "id of the message, the same at every centre",
    "messages": "how many messages",
    "method": "HTTP method",
    "missing": "how many ranges of sequences",
    "needed": "messages kept since others need them",
    "number": "number of the mark",
    "oldest_seconds": "age of the oldest of them",
    "ours": "what is counted here",
    "peer": "the other centre",
    "percent": "how much of the time to answer is over",
    "promise": "accepted, delivered, or half: half of the time to the deadline",
    "purged": "how many messages were purged, or so many statements say",
    "queues": "how many queues are consumed",
    "reason": "why something is asked for again",
    "received": "received messages that were purged",
    "rejected": "so many statements say",
    "removed": "ids of the keys that are not held any more",
    "request": "id of the request",
    "root": "Merkle root of the log",
    "samples": "samples that were purged",
    "sent": "sent messages that were purged",
    "side": "sent or received; of a reply clock: asked or received",
    "size": "bytes of the message; of a checkpoint its entries",
    "source": "where it came from",
    "state": "the state it is in now",
    "theirs": "what the peer counts",
    "to": "ids of the centres it goes to",
    "type": "type of the envelope",
    "until": "until when",
    "use": "what the key or certificate is for",
    "version": "version of the directory",
    "what": "what was done",
}
"""What each field says; every line has `timestamp` (RFC 3339, UTC), `level`, `event` and `centre` besides."""


class Event(StrEnum):
    """Everything a node has to say: the name, the level, what it means, the fields that it may have."""

    level: Level
    meaning: str
    fields: tuple[str, ...]

    def __new__(cls, name: str, level: Level, meaning: str, fields: str = "") -> Event:
        """Make a member that is its name and carries the rest."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.level, member.meaning, member.fields = level, meaning, tuple(fields.split())
        return member

    NODE_STARTED = "node.started", "info", "The node runs.", "epoch directory"
    NODE_READY = "node.ready", "info", "The broker is reached for the first time."
    NODE_STOPPING = "node.stopping", "info", "The node was asked to stop, and finishes what is under way."
    NODE_STOPPED = "node.stopped", "info", "The store is closed."
    NODE_FAILED = "node.failed", "error", "A part of the node failed, and the node ends.", "error detail"
    BROKER_CONNECTED = "broker.connected", "info", "The broker takes envelopes again.", "queues"
    BROKER_LOST = "broker.lost", "warning", "The broker can't be reached.", "code detail"
    BROKER_BLOCKED = "broker.blocked", "warning", "The broker takes nothing, for want of memory or disk.", "code detail"
    TOPOLOGY_MISSING = "topology.missing", "warning", "A queue or exchange is not there.", "code detail"
    STORE_TROUBLE = "store.trouble", "error", "The store, or one row in it, can't be used now.", "code detail"
    RECALL_NOT_PASSED_ON = (
        "recall.not-passed-on",
        "error",
        "What a message's origin took back could not be taken back from those to whom this centre released it.",
        "code detail",
    )
    STORE_RECOVERED = "store.recovered", "info", "The store works again."
    MESSAGE_SUBMITTED = (
        "message.submitted",
        "info",
        "A message of this centre is committed, and its submitter was told so.",
        "message envelope to lane kind size correlation age_ms",
    )
    MESSAGE_SENT = (
        "message.sent",
        "info",
        "The broker confirmed the envelope of a message.",
        "message envelope to left_out lane age_ms",
    )
    MESSAGE_CAUGHT_UP = (
        "message.caught-up",
        "info",
        "The broker confirmed a message to a peer that had been left out.",
        "message envelope peer lane age_ms",
    )
    MESSAGE_RESENT = (
        "message.resent",
        "info",
        "A message was sent again to a peer that lacked it.",
        "message envelope peer lane age_ms",
    )
    MESSAGE_DEAD = (
        "message.dead",
        "warning",
        "A message can't be sent to a peer, and nobody tries by itself again.",
        "message envelope peer lane code age_ms",
    )
    MESSAGE_ACCEPTED = (
        "message.accepted",
        "info",
        "A peer's node signed that it verified and stored a message.",
        "message envelope peer lane age_ms",
    )
    MESSAGE_DELIVERED = (
        "message.delivered",
        "info",
        "A peer signed that its own system took a message.",
        "message envelope peer lane age_ms",
    )
    MESSAGE_REJECTED = (
        "message.rejected",
        "info",
        "A peer signed its final no to a message.",
        "message envelope peer lane code age_ms",
    )
    MESSAGE_PURGED = (
        "message.purged",
        "info",
        "A peer signed that nothing of what a message takes back is left with it.",
        "message envelope peer lane age_ms",
    )
    MESSAGE_EXPIRED = (
        "message.expired",
        "info",
        "The deadline and the grace passed without a peer's final word.",
        "message envelope peer lane code age_ms",
    )
    MESSAGE_CANCELLED = (
        "message.cancelled",
        "info",
        "An operator ended a message for a peer.",
        "message envelope peer lane code age_ms",
    )
    MESSAGE_VOIDED = (
        "message.voided",
        "info",
        "A peer asked for a message that won't come (again), and was told so.",
        "message envelope peer lane epoch first state code age_ms",
    )
    MESSAGE_TAKEN = (
        "message.taken",
        "info",
        "A message of a peer is verified and stored here.",
        "message envelope peer lane kind size correlation age_ms",
    )
    MESSAGE_REPEATED = (
        "message.repeated",
        "debug",
        "A message of a peer came that is here already.",
        "message envelope peer lane size age_ms",
    )
    MESSAGE_RECALLED = (
        "message.recalled",
        "info",
        "A message of a peer, which the envelope takes back, was purged here.",
        "message envelope peer code age_ms",
    )
    MESSAGE_GIVEN = "message.given", "info", "A received message was given to the centre's system.", "message peer size age_ms"
    MESSAGE_HANDED_OVER = (
        "message.handed-over",
        "info",
        "The centre's system acknowledged a received message.",
        "message peer lane age_ms",
    )
    OUTBOX_STORED = "outbox.stored", "debug", "A group of messages is committed.", "envelopes messages"
    OUTBOX_SENT = "outbox.sent", "debug", "The broker confirmed envelopes.", "envelopes left_out"
    OUTBOX_RESENT = "outbox.resent", "info", "A peer was sent again what it lacked.", "peer lane envelopes"
    OUTBOX_CAUGHT_UP = "outbox.caught-up", "info", "A peer was sent what it had been left out of.", "peer lane envelopes"
    OUTBOX_DEAD = "outbox.dead", "warning", "Nobody tries by itself any more.", "peer lane code envelopes"
    OUTBOX_ENDED = "outbox.ended", "warning", "This centre ended messages at a peer.", "peer lane state messages"
    OUTBOX_STEERED = "outbox.steered", "warning", "An operator did something to a message on its way.", "message what"
    ALARM_RAISED = (
        "alarm.raised",
        "warning",
        "A peer is late with what it owes.",
        "peer lane promise messages oldest_seconds contact",
    )
    ALARM_OVER = "alarm.over", "info", "A peer is no longer late.", "peer lane promise"
    INBOX_TAKEN = "inbox.taken", "debug", "An envelope of a peer was taken in.", "peer envelope accepted duplicate"
    INBOX_DROPPED = "inbox.dropped", "debug", "An envelope that is not for this centre was dropped.", "code detail"
    INBOX_SAMPLED = "inbox.sampled", "warning", "An envelope was not taken; a sample may be kept.", "code detail"
    INBOX_REJECTED = (
        "inbox.rejected",
        "warning",
        "An authentic message was refused on arrival.",
        "message envelope peer lane kind size code correlation age_ms",
    )
    INBOX_FORKED = (
        "inbox.forked",
        "error",
        "A message contradicts what its origin said before under its id.",
        "message envelope peer lane size age_ms",
    )
    INBOX_RECALLED = "inbox.recalled", "warning", "A peer took messages back; they were purged.", "peer envelope purged code"
    INBOX_POISON = (
        "inbox.poison",
        "error",
        "An envelope ended or failed this node, and is not opened any more.",
        "peer envelope type messages",
    )
    INBOX_VOIDED = (
        "inbox.voided",
        "warning",
        "A peer said that messages with these sequences won't come (again); their ids are known there alone.",
        "peer envelope lane epoch first last messages state",
    )
    RECEIPT_TAKEN = "receipt.taken", "debug", "A peer's receipt was taken.", "peer envelope accepted delivered rejected purged"
    HANDOVER_GIVEN = "handover.given", "debug", "Messages were given to the centre's system.", "messages"
    HANDOVER_DELIVERED = "handover.delivered", "debug", "The centre's system acknowledged messages.", "messages"
    HANDOVER_DEFERRED = (
        "handover.deferred",
        "warning",
        "The centre's system wants a message later.",
        "message peer lane code attempts age_ms",
    )
    HANDOVER_REJECTED = (
        "handover.rejected",
        "warning",
        "The centre's system does not take a message, ever.",
        "message peer lane code attempts age_ms",
    )
    HANDOVER_DEAD = (
        "handover.dead",
        "error",
        "The system put a message off too often or too long.",
        "message peer lane code attempts age_ms",
    )
    HANDOVER_FAILED = (
        "handover.failed",
        "error",
        "Messages were not given out with what arrived; they are by themselves.",
        "error",
    )
    RECEIVED_HELD = "received.held", "warning", "An operator parked a received message.", "message peer state actor"
    RECEIVED_RELEASED = "received.released", "warning", "An operator released one.", "message peer state actor"
    RECEIVED_REPLAYED = "received.replayed", "warning", "An operator let one go again.", "message peer state actor"
    RECEIVED_DISCARDED = "received.discarded", "warning", "An operator discarded one.", "message peer state actor"
    MARK_SENT = "mark.sent", "debug", "A mark was sent.", "peer lane highest number"
    NACK_SENT = "nack.sent", "warning", "A peer was asked for what is missing here.", "peer lane missing reason"
    NACK_TAKEN = "nack.taken", "warning", "A peer asks for what is missing there.", "peer lane envelopes reason"
    PEER_SILENT = "peer.silent", "warning", "Three heartbeats of a peer are missing.", "peer"
    PEER_RETURNED = "peer.returned", "info", "A silent peer is heard again.", "peer"
    PEER_ALARM = "peer.alarm", "error", "Something is wrong with a peer's store, directory or log.", "peer code"
    COMPARISON_DIFFERS = (
        "comparison.differs",
        "error",
        "What was sent is not what was received.",
        "peer side lane first until ours theirs",
    )
    STORE_WENT_BACK = "store.went-back", "error", "This store is an older copy: nothing is sent.", "code detail"
    STORE_LACKS = "store.lacks", "error", "A peer holds messages that this store does not know.", "peer epoch lane first last"
    EPOCH_BEGUN = "epoch.begun", "warning", "The store begins a new epoch.", "epoch before"
    AUDIT_CHECKPOINT = "audit.checkpoint", "debug", "The record was signed.", "epoch size root"
    AUDIT_COUNTERSIGNED = "audit.countersigned", "debug", "A witness countersigned the record.", "peer size"
    AUDIT_WITNESSED = "audit.witnessed", "debug", "A peer's record was countersigned.", "peer size"
    AUDIT_VERIFIED = "audit.verified", "info", "All of the record is what was signed.", "epoch size"
    AUDIT_DAMAGED = "audit.damaged", "error", "The record is not what was signed: the node stops.", "epoch code detail"
    PEER_CAUGHT = "peer.caught", "error", "A peer has two histories.", "peer code source epoch held given"
    DIRECTORY_CHANGED = "directory.changed", "info", "A new version of the directory is in force.", "source peer version before"
    DIRECTORY_REFUSED = (
        "directory.refused",
        "warning",
        "A version of the directory was not taken.",
        "source peer code detail version",
    )
    DIRECTORY_WARNING = "directory.warning", "warning", "The directory should be renewed.", "version expires_at"
    DIRECTORY_EXPIRED = "directory.expired", "error", "The directory's time is over.", "version expires_at code"
    DIRECTORY_SENT = "directory.sent", "info", "A peer was sent the directory.", "peer version"
    REQUEST_REMINDED = "request.reminded", "info", "Part of the time to answer is over.", "request peer side percent"
    REQUEST_OVERDUE = "request.overdue", "warning", "The time to answer a request is over.", "request peer side"
    KEY_UNUSABLE = "key.unusable", "error", "The node holds no key that may be used.", "code detail"
    KEY_USABLE = "key.usable", "info", "It holds one again."
    KEY_TAKEN_UP = "key.taken-up", "info", "The key files were read anew, and what they hold counts.", "added removed"
    KEY_REFUSED = (
        "key.refused",
        "error",
        "The key files were read anew and can't be used: the node goes on with the keys that it has.",
        "code detail",
    )
    KEY_EXPIRING = "key.expiring", "warning", "The last key or certificate of a use ends soon.", "use days until"
    KEY_DESTROYABLE = "key.destroyable", "info", "A key is needed no more.", "key use"
    KEY_SUSPECTS = "key.suspects", "error", "Messages came under a key that is revoked.", "peer key messages"
    RETENTION_PURGED = (
        "retention.purged",
        "info",
        "The content of a message was purged here: its time was up.",
        "message side actor age_ms",
    )
    RETENTION_REJECTED = (
        "retention.rejected",
        "warning",
        "The time of a received message was up, and the centre's system had never taken it: its origin is told.",
        "message peer code actor age_ms",
    )
    RETENTION_RUN = "retention.run", "info", "What was due was purged.", "received sent held needed samples keys"
    CLOCK_DOUBTED = (
        "clock.doubted",
        "error",
        "This machine's clock seems to be ahead: nothing is purged or expired until it is right or peers confirm it.",
        "code detail",
    )
    CLOCK_TRUSTED = "clock.trusted", "info", "This machine's clock agrees again: what is due is purged and expires."
    HOLD_SET = "hold.set", "warning", "A message is under legal hold.", "message"
    HOLD_LIFTED = "hold.lifted", "warning", "A legal hold ended.", "message purged"
    API_REFUSED = "api.refused", "info", "A request was refused.", "code client"
    SIGNED_IN = "console.signed-in", "info", "Somebody signed in at the console.", "client"
    API_FAILED = "api.failed", "error", "A request failed by a fault of the node.", "error method"
    CERTIFICATE_REFUSED = "certificate.refused", "warning", "A renewed certificate can't be used.", "code detail"
    CLIENTS_CHANGED = "clients.changed", "info", "The clients' file changed.", "clients"
    CLIENTS_UNREADABLE = "clients.unreadable", "error", "The clients' file can't be read.", "code detail"
