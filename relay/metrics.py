"""The node's metrics: one table in the code, served as ``/metrics`` in Prometheus' text format.

Each node has a registry of its own, so several can live in one process (tests). Labels are bounded: peers, lanes, codes and
outcomes; never an id, never content. Label children are looked up once and kept by the caller where the path is hot.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_COUNTS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Every metric of a node."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.submitted = self._counter("relay_submitted_messages", "Messages answered with success.", "lane")
        self.refused = self._counter("relay_refused_messages", "Messages refused at submit.", "code")
        self.sent = self._counter("relay_sent_envelopes", "Envelopes confirmed by the broker.", "lane")
        self.resent = self._counter("relay_resent_envelopes", "Envelopes sent again because a peer lacked them.", "peer")
        self.publish_failures = self._counter("relay_publish_failures", "Publications the broker did not confirm.", "code")
        self.received = self._counter("relay_received_envelopes", "Envelopes taken from the broker.", "lane")
        self.accepted = self._counter("relay_accepted_messages", "Messages verified and stored.", "peer")
        self.duplicates = self._counter("relay_duplicate_messages", "Messages that were already here.", "peer")
        self.rejected = self._counter("relay_rejected_messages", "Authentic messages refused on arrival.", "peer", "code")
        self.dropped = self._counter("relay_dropped_envelopes", "Envelopes dropped, unsigned about.", "code")
        self.faults = self._counter("relay_peer_faults", "Envelopes a peer signed that were not taken, by why.", "peer", "code")
        self.forks = self._counter("relay_forked_messages", "Messages whose origin contradicts itself.", "peer")
        self.delivered = self._counter("relay_delivered_messages", "Messages the centre's system took.")
        self.nacked = self._counter("relay_nacked_messages", "Messages the centre's system did not take, by state.", "state")
        self.poison = self._counter("relay_poison_envelopes", "Envelopes that are not opened any more.", "peer")
        self.voided = self._counter("relay_voided_messages", "Messages that their origin won't send (again).", "peer", "state")
        self.purged = self._counter("relay_purged_messages", "Messages whose content was purged, by why.", "code")
        self.receipts = self._counter("relay_receipt_statements", "Statements of peers about our messages.", "peer", "state")
        self.ended = self._counter("relay_ended_messages", "Messages that this centre ended at a peer.", "peer", "state")
        self.marks = self._counter("relay_marks", "Marks sent to a peer.", "peer")
        self.nacks = self._counter("relay_nacks", "Nacks, by peer and direction.", "peer", "direction")
        self.reminders = self._counter("relay_request_reminders", "Reminders of reply clocks, by side and step.", "side", "step")
        self.peer_heard = self._gauge("relay_peer_heard_timestamp_seconds", "Unix time of a peer's last heartbeat.", "peer")
        self.peer_offset = self._gauge("relay_peer_clock_offset_seconds", "A peer's clock less ours.", "peer")
        self.peer_directory = self._gauge("relay_peer_directory_version", "Version of the directory that a peer goes by.", "peer")
        self.peer_alarms = self._counter("relay_peer_alarms", "Alarms about a peer's store or directory.", "peer", "code")
        self.batch = self._histogram("relay_batch_messages", "Messages in a sealed envelope.", _COUNTS)
        self.commit = self._histogram("relay_commit_seconds", "Seconds from submit to commit.", _SECONDS)
        self.unsent = self._gauge("relay_unsent_envelopes", "Envelopes waiting to be published.")
        self.requests_open = self._gauge(
            "relay_requests_open", "Answers awaited from a peer (asked) or of us (received).", "side"
        )
        self.requests_overdue = self._gauge("relay_requests_overdue", "Answers whose time is over, by side.", "side")
        self.alarms = self._gauge(
            "relay_alarms",
            "Messages for which a peer is late, by promise (half: of their time).",
            "peer",
            "precedence",
            "promise",
        )
        self.key_expiry = self._gauge(
            "relay_key_expiry_timestamp_seconds",
            "Unix time until which the keys or the certificate held for a use are valid.",
            "use",
        )
        self.checkpoint_size = self._gauge("relay_audit_checkpoint_entries", "Entries under the last checkpoint.")
        self.checkpoint_time = self._gauge("relay_audit_checkpoint_timestamp_seconds", "Unix time of the last checkpoint.")
        self.audit_uncountersigned = self._gauge(
            "relay_audit_uncountersigned_entries", "Entries that no witness countersigned yet."
        )
        self.audit_verified = self._gauge("relay_audit_verified_timestamp_seconds", "Unix time of the last check of all entries.")
        self.audit_damaged = self._gauge("relay_audit_damaged", "1 when the record is not what was signed.")
        self.countersignatures = self._counter("relay_countersignatures", "Countersignatures under our checkpoints.", "witness")
        self.witnessed = self._gauge("relay_witnessed_entries", "Entries of a peer's log that we countersigned.", "peer")
        self.connected = self._gauge("relay_broker_connected", "1 while the broker is reachable.")
        self.retention_run = self._gauge("relay_retention_run_seconds", "Unix time at which a run of retention last ended.")
        self.waiting = self._gauge("relay_waiting_envelopes", "Envelopes that wait for a newer directory.")
        self.directory_version = self._gauge("relay_directory_version", "Version of the directory in force here.")
        self.directory_warning = self._gauge(
            "relay_directory_warning_seconds", "Seconds until the directory in force should be renewed; below 0: overdue."
        )
        self.directory_expiry = self._gauge(
            "relay_directory_expiry_seconds", "Seconds until the directory in force expires; below 0: it has."
        )
        self.directories = self._counter(
            "relay_directories", "Versions of the directory that came, by source and outcome.", "source", "outcome"
        )
        self.disk_free = self._gauge("relay_store_disk_free_bytes", "Free disk where the store lies.")

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, registry=self.registry, buckets=buckets)
