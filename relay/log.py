"""The node's log: structlog events of a closed vocabulary, pretty on a terminal, one JSON object a line otherwise.

An event is a member of :class:`Event`; its fields name centres, ids, counts, codes and times, never content, keys or tokens. One
line is written per envelope and step, not per message, so the log stays within the budget of a saturated node.
"""

from __future__ import annotations

import logging
import sys
from enum import StrEnum

import structlog
from structlog.types import EventDict, Processor


class Event(StrEnum):
    """Everything a node has to say."""

    NODE_STARTED = "node.started"
    NODE_READY = "node.ready"
    NODE_STOPPING = "node.stopping"
    NODE_STOPPED = "node.stopped"
    NODE_FAILED = "node.failed"
    BROKER_CONNECTED = "broker.connected"
    BROKER_LOST = "broker.lost"
    BROKER_BLOCKED = "broker.blocked"
    TOPOLOGY_MISSING = "topology.missing"
    STORE_TROUBLE = "store.trouble"
    STORE_RECOVERED = "store.recovered"
    OUTBOX_STORED = "outbox.stored"
    OUTBOX_SENT = "outbox.sent"
    OUTBOX_RESENT = "outbox.resent"
    OUTBOX_CAUGHT_UP = "outbox.caught-up"
    OUTBOX_DEAD = "outbox.dead"
    OUTBOX_ENDED = "outbox.ended"
    OUTBOX_STEERED = "outbox.steered"
    ALARM_RAISED = "alarm.raised"
    ALARM_OVER = "alarm.over"
    INBOX_TAKEN = "inbox.taken"
    INBOX_DROPPED = "inbox.dropped"
    INBOX_SAMPLED = "inbox.sampled"
    INBOX_REJECTED = "inbox.rejected"
    INBOX_FORKED = "inbox.forked"
    INBOX_RECALLED = "inbox.recalled"
    INBOX_POISON = "inbox.poison"
    INBOX_VOIDED = "inbox.voided"
    RECEIPT_TAKEN = "receipt.taken"
    HANDOVER_GIVEN = "handover.given"
    HANDOVER_DELIVERED = "handover.delivered"
    HANDOVER_DEFERRED = "handover.deferred"
    HANDOVER_REJECTED = "handover.rejected"
    HANDOVER_DEAD = "handover.dead"
    RECEIVED_HELD = "received.held"
    RECEIVED_RELEASED = "received.released"
    RECEIVED_REPLAYED = "received.replayed"
    RECEIVED_DISCARDED = "received.discarded"
    MARK_SENT = "mark.sent"
    NACK_SENT = "nack.sent"
    NACK_TAKEN = "nack.taken"
    PEER_SILENT = "peer.silent"
    PEER_RETURNED = "peer.returned"
    PEER_ALARM = "peer.alarm"
    COMPARISON_DIFFERS = "comparison.differs"
    STORE_WENT_BACK = "store.went-back"
    STORE_LACKS = "store.lacks"
    EPOCH_BEGUN = "epoch.begun"
    AUDIT_CHECKPOINT = "audit.checkpoint"
    AUDIT_COUNTERSIGNED = "audit.countersigned"
    AUDIT_WITNESSED = "audit.witnessed"
    AUDIT_VERIFIED = "audit.verified"
    AUDIT_DAMAGED = "audit.damaged"
    PEER_CAUGHT = "peer.caught"
    DIRECTORY_CHANGED = "directory.changed"
    DIRECTORY_REFUSED = "directory.refused"
    DIRECTORY_WARNING = "directory.warning"
    DIRECTORY_EXPIRED = "directory.expired"
    DIRECTORY_SENT = "directory.sent"
    REQUEST_REMINDED = "request.reminded"
    REQUEST_OVERDUE = "request.overdue"
    KEY_UNUSABLE = "key.unusable"
    KEY_USABLE = "key.usable"
    KEY_EXPIRING = "key.expiring"
    KEY_DESTROYABLE = "key.destroyable"
    KEY_SUSPECTS = "key.suspects"
    RETENTION_RUN = "retention.run"
    HOLD_SET = "hold.set"
    HOLD_LIFTED = "hold.lifted"
    API_REFUSED = "api.refused"
    API_FAILED = "api.failed"
    CERTIFICATE_REFUSED = "certificate.refused"
    CLIENTS_CHANGED = "clients.changed"
    CLIENTS_UNREADABLE = "clients.unreadable"


class Log:
    """A structlog logger that takes only the closed vocabulary."""

    def __init__(self, centre: str) -> None:
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger(centre=centre)

    def debug(self, event: Event, **fields: object) -> None:
        """Write an event that only somebody who looks for it needs."""
        self._log.debug(event, **fields)

    def info(self, event: Event, **fields: object) -> None:
        """Write an event of normal operation."""
        self._log.info(event, **fields)

    def warning(self, event: Event, **fields: object) -> None:
        """Write an event that the node deals with by itself, and that an operator may want to know."""
        self._log.warning(event, **fields)

    def error(self, event: Event, **fields: object) -> None:
        """Write an event that needs somebody."""
        self._log.error(event, **fields)


def configure(style: str, level: str) -> None:
    """Set up the process's log; ``style`` is ``auto``, ``json`` or ``pretty``, ``level`` a name of the standard library's."""
    pretty = style == "pretty" or (style == "auto" and sys.stderr.isatty())
    final: Processor = structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"), _plain, final],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries speak through the standard library; what they have to say below a warning is not ours to repeat.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it repeats as errors what the broker's supervisor says better
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")


def _plain(_logger: object, _method: str, event: EventDict) -> EventDict:
    event["event"] = str(event["event"])
    return event
