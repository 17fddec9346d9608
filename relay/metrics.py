"""The node's metrics: one table in the code, served as ``/metrics`` in Prometheus' text format.

Each node has a registry of its own, so several can live in one process (tests); ``prometheus_client``'s figures of the process
and of the platform stand in it, too. Names and units follow Prometheus' conventions (prometheus.io/docs/practices/naming). Labels
are bounded: peers, lanes, kinds, crime types, codes and outcomes (:data:`LABELS`); never an id, never content. Label children are
looked up once and kept by the caller where the path is hot; a peer that left the directory is forgotten (:meth:`Metrics.forget`).

What passes through the node does so in *stages*, and each says the same four things of itself (:class:`Stage`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.metrics import MetricWrapperBase

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 900, 3600, 21600, 86400)
_COUNTS = (1, 2, 4, 8, 16, 32, 64)

STAGES = ("submit", "publish", "take", "handover", "receipt-out", "receipt-in")
SIDES = ("sent", "received")
STORE_TROUBLES = ("store-full", "store-locked", "store-unavailable", "store-damaged", "disk-full")
ACTS = ("hold", "release", "replay", "discard")

LABELS: dict[str, str] = {
    "act": "what an operator did: " + ", ".join(ACTS),
    "centre": "this centre's id",
    "code": "a code of the error catalogue, or of what the relay does by itself",
    "crime_type": "a code of the list of crime types",
    "direction": "sent or taken",
    "kind": "a kind of message",
    "lane": "a queue of its own: a precedence, exercise, control or poison",
    "lanes": "the lanes of messages, the most urgent first",
    "network": "the first 12 hex digits of the network's id",
    "outcome": "how it ended: taken, or the code of why not; of a sign-in: signed-in, refused or too-many",
    "peer": "another centre's id",
    "precedence": "lane of the messages: a precedence, or exercise",
    "product": "what the broker calls itself",
    "promise": "accepted, delivered, or half (of the time to the deadline is over)",
    "python": "version of the interpreter",
    "schema": "version of the message schemas that are written",
    "side": "sent or received; of requests: asked (by this centre) or received",
    "source": "where a version of the directory came from",
    "stage": ", ".join(STAGES),
    "state": "a state of the glossary",
    "step": "50, 90 (percent of the clock) or overdue",
    "use": "what a key or certificate is for",
    "version": "of the relay, or of the broker",
    "witness": "another centre's id",
}
"""Every label there is, and what its values are."""


class Stage:
    """What one stage says of itself: items that came in, that went out, that are in it now, and when the last went out.

    Both calls cost about a microsecond whatever the number of items, so they are made once for each group.
    """

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._in = metrics.items_in.labels(name)
        self._out = metrics.items_out.labels(name)
        self._processed = metrics.processed.labels(name)
        self._in_progress = metrics.in_progress.labels(name)

    def enter(self, items: int = 1) -> None:
        """Count items that came in."""
        self._in.inc(items)

    def leave(self, items: int = 1) -> None:
        """Count items that the stage is done with."""
        if items:
            self._out.inc(items)
            self._processed.set_to_current_time()

    def measure(self, in_progress: Callable[[], float]) -> None:
        """Ask ``in_progress`` at each scrape how many items are in the stage."""
        self._in_progress.set_function(in_progress)

    def set(self, in_progress: int) -> None:
        """Note how many items are in the stage."""
        self._in_progress.set(in_progress)


class Metrics:
    """Every metric of a node."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._about_the_node()
        self._stages()
        self.messages = self._counter(
            "relay_messages",
            "Messages submitted here (sent) or stored from peers (received); one of several crime types counts under each.",
            "side",
            "kind",
            "crime_type",
        )
        self._sending()
        self._open()
        self._receiving()
        self._set_aside()
        self._requests()
        self._peers()
        self._broker()
        self._store()
        self._trust()
        self._audit()
        self._people()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.stages = {name: Stage(self, name) for name in STAGES}
        for code in STORE_TROUBLES:
            self.store_trouble.labels(code).set(0)
        for act in ACTS:
            self.acts.labels(act)

    def count(self, side: str, tally: Mapping[tuple[str, str], int]) -> None:
        """Count messages on a side of :data:`SIDES`, by kind and crime type."""
        for (kind, crime_type), number in tally.items():
            self.messages.labels(side, kind, crime_type).inc(number)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def table(self) -> list[MetricWrapperBase]:
        """Return every metric of the relay's own, in the order of the documentation."""
        return [metric for metric in vars(self).values() if isinstance(metric, MetricWrapperBase)]

    def forget(self, peer: str) -> None:
        """Let go of every gauge about a peer that left the directory; what was counted of it stays counted."""
        for metric in self.table():
            if isinstance(metric, Gauge) and "peer" in metric._labelnames:
                metric.remove_by_labels({"peer": peer})

    def by_peer(self, counter: Counter) -> dict[str, int]:
        """Return what a counter with the label ``peer`` has counted of each peer, whatever its other labels."""
        found: dict[str, int] = {}
        for sample in (sample for family in counter.collect() for sample in family.samples):
            if sample.name.endswith("_total"):
                found[sample.labels["peer"]] = found.get(sample.labels["peer"], 0) + int(sample.value)
        return found

    def _about_the_node(self) -> None:
        self.build = self._gauge("relay_build_info", "1: which release runs, on which interpreter.", "version", "python")
        self.config = self._gauge(
            "relay_config_info", "1: whose node this is, and what it speaks.", "centre", "network", "schema", "lanes"
        )
        self.ready = self._gauge("relay_ready", "1 while the node can sign, write its store and reach its broker.")
        self.loop_lag = self._gauge(
            "relay_event_loop_lag_seconds", "How late the event loop was to run what was due, the worst of the last 10 s."
        )
        self.clock_doubted = self._gauge(
            "relay_clock_doubted", "1 while this machine's clock seems ahead: nothing is purged or expired."
        )
        self.observed = self._gauge(
            "relay_observed_timestamp_seconds", "Unix time at which what is open or set aside was last looked at."
        )

    def _stages(self) -> None:
        items = "messages at submit and handover, envelopes elsewhere"
        self.items_in = self._counter("relay_stage_items_in", f"What came into a stage: {items}.", "stage")
        self.items_out = self._counter("relay_stage_items_out", f"What a stage was done with: {items}.", "stage")
        self.in_progress = self._gauge("relay_stage_in_progress", f"What is in a stage now: {items}.", "stage")
        self.processed = self._gauge(
            "relay_stage_processed_timestamp_seconds", "Unix time at which a stage was last done with something.", "stage"
        )

    def _sending(self) -> None:
        self.submitted = self._counter("relay_submitted_messages", "Messages answered with success.", "lane")
        self.refused = self._counter("relay_refused_messages", "Messages refused at submit.", "code")
        self.batch = self._histogram("relay_batch_messages", "Messages in a sealed envelope.", _COUNTS)
        self.commit = self._histogram("relay_commit_seconds", "Seconds from submit to commit.", _SECONDS)
        self.unsent = self._gauge("relay_unsent_envelopes", "Envelopes waiting to be published.")
        self.sent = self._counter("relay_sent_envelopes", "Envelopes confirmed by the broker.", "lane")
        self.sent_messages = self._counter("relay_sent_messages", "Messages to a peer that the broker confirmed.", "peer")
        self.resent = self._counter("relay_resent_envelopes", "Envelopes sent again because a peer lacked them.", "peer")
        self.publish_failures = self._counter("relay_publish_failures", "Publications the broker did not confirm.", "code")
        self.receipts = self._counter("relay_receipt_statements", "Statements of peers about our messages.", "peer", "state")
        self.end_to_end = self._histogram(
            "relay_end_to_end_seconds",
            "From the submission of a message to the time, by the peer's clock, in its signed receipt.",
            _LONG_SECONDS,
            "peer",
            "precedence",
            "promise",
        )
        self.ended = self._counter("relay_ended_messages", "Messages that this centre ended at a peer.", "peer", "state")
        self.marks = self._counter("relay_marks", "Marks sent to a peer.", "peer")
        self.nacks = self._counter("relay_nacks", "Nacks, by peer and direction.", "peer", "direction")

    def _open(self) -> None:
        lane = ("peer", "precedence")
        self.open = self._gauge("relay_open_messages", "Messages to a peer without a terminal receipt.", *lane)
        self.oldest = self._gauge(
            "relay_oldest_unreceipted_seconds", "Age of the oldest message to a peer without a terminal receipt; 0: none.", *lane
        )
        self.at_risk = self._gauge(
            "relay_deadlines_at_risk",
            "Open messages with less than a tenth of their time left, or less than 15 minutes.",
            *lane,
        )
        self.alarms = self._gauge(
            "relay_alarms", "Messages for which a peer is late, by promise (half: of their time).", *lane, "promise"
        )
        self.recalls = self._gauge(
            "relay_recalls_open", "Messages taken back from a peer that has not signed yet that nothing is left with it.", "peer"
        )
        self.recalls_oldest = self._gauge(
            "relay_oldest_recall_seconds", "Age of the oldest recall that a peer has not signed for; 0: none.", "peer"
        )

    def _receiving(self) -> None:
        self.received = self._counter("relay_received_envelopes", "Envelopes taken from the broker.", "lane")
        self.accepted = self._counter("relay_accepted_messages", "Messages verified and stored.", "peer")
        self.duplicates = self._counter("relay_duplicate_messages", "Messages that were already here.", "peer")
        self.rejected = self._counter("relay_rejected_messages", "Authentic messages refused on arrival.", "peer", "code")
        self.dropped = self._counter("relay_dropped_envelopes", "Envelopes dropped, unsigned about.", "code")
        self.faults = self._counter("relay_peer_faults", "Envelopes a peer signed that were not taken, by why.", "peer", "code")
        self.forks = self._counter("relay_forked_messages", "Messages whose origin contradicts itself.", "peer")
        self.poison = self._counter("relay_poison_envelopes", "Envelopes that are not opened any more.", "peer")
        self.voided = self._counter("relay_voided_messages", "Messages that their origin won't send (again).", "peer", "state")
        self.gaps = self._gauge("relay_gap_messages", "Messages of a peer that are missing below the last that is here.", "peer")
        self.waiting = self._gauge("relay_waiting_envelopes", "Envelopes that wait for a newer directory.")
        self.delivered = self._counter("relay_delivered_messages", "Messages the centre's system took.")
        self.nacked = self._counter("relay_nacked_messages", "Messages the centre's system did not take, by state.", "state")
        self.purged = self._counter("relay_purged_messages", "Messages whose content was purged, by why.", "code")

    def _set_aside(self) -> None:
        counted = "a sent one once for each recipient"
        self.deferred = self._gauge("relay_deferred_messages", f"Messages that are tried again later; {counted}.", "side")
        self.held = self._gauge("relay_held_messages", f"Messages that an operator parked; {counted}.", "side")
        self.held_oldest = self._gauge(
            "relay_oldest_held_seconds", "For how long the message has been held that was parked first; 0: none.", "side"
        )
        self.dead = self._gauge("relay_dead_messages", f"Messages that nobody tries again by itself; {counted}.", "side")
        self.quarantined = self._gauge("relay_quarantined_messages", "Received messages that were refused and are kept.")

    def _requests(self) -> None:
        self.reminders = self._counter("relay_request_reminders", "Reminders of reply clocks, by side and step.", "side", "step")
        self.requests_open = self._gauge(
            "relay_requests_open", "Answers awaited from a peer (asked) or of us (received).", "side"
        )
        self.requests_overdue = self._gauge("relay_requests_overdue", "Answers whose time is over, by side.", "side")

    def _peers(self) -> None:
        self.members = self._gauge("relay_directory_members", "Active members of the network, this centre among them.")
        self.peer_silent = self._gauge("relay_peer_silent", "1 while three heartbeats of a peer are missing.", "peer")
        self.peer_heard = self._gauge("relay_peer_heard_timestamp_seconds", "Unix time of a peer's last heartbeat.", "peer")
        self.peer_offset = self._gauge("relay_peer_clock_offset_seconds", "A peer's clock less ours.", "peer")
        self.peer_directory = self._gauge("relay_peer_directory_version", "Version of the directory that a peer goes by.", "peer")
        self.peer_alarms = self._counter("relay_peer_alarms", "Alarms about a peer's store or directory.", "peer", "code")

    def _broker(self) -> None:
        self.connected = self._gauge("relay_broker_connected", "1 while the broker is reachable.")
        self.connects = self._counter("relay_broker_connects", "Connections that were made to the broker.")
        self.incarnation = self._gauge(
            "relay_broker_incarnation_timestamp_seconds", "Unix time at which the present connection to the broker was made."
        )
        self.broker = self._gauge("relay_broker_info", "1: the broker of the last connection.", "product", "version")

    def _store(self) -> None:
        self.store_commit = self._histogram(
            "relay_store_commit_seconds", "One transaction of the store, until it is on disk.", _SECONDS
        )
        self.store_trouble = self._gauge("relay_store_trouble", "1 while the store can't be written or read, by why.", "code")
        self.disk_free = self._gauge("relay_store_disk_free_bytes", "Free disk where the store lies.")
        self.disk_floor = self._gauge("relay_store_disk_floor_bytes", "Free disk below which nothing is taken.")
        self.epoch = self._gauge("relay_epoch", "The epoch of the store: it increases when a recovery begins the next.")
        self.retention_run = self._gauge(
            "relay_retention_run_timestamp_seconds", "Unix time at which a run of retention last ended."
        )

    def _trust(self) -> None:
        self.directory_version = self._gauge("relay_directory_version", "Version of the directory in force here.")
        self.directory_warning = self._gauge(
            "relay_directory_warning_timestamp_seconds", "Unix time at which the directory in force should be renewed."
        )
        self.directory_expiry = self._gauge(
            "relay_directory_expiry_timestamp_seconds", "Unix time at which the directory in force expires."
        )
        self.directories = self._counter(
            "relay_directories", "Versions of the directory that came, by source and outcome.", "source", "outcome"
        )
        self.key_expiry = self._gauge(
            "relay_key_expiry_timestamp_seconds",
            "Unix time until which the keys or the certificate held for a use are valid.",
            "use",
        )

    def _audit(self) -> None:
        self.checkpoint_size = self._gauge("relay_audit_checkpoint_entries", "Entries under the last checkpoint.")
        self.checkpoint_time = self._gauge("relay_audit_checkpoint_timestamp_seconds", "Unix time of the last checkpoint.")
        self.audit_uncountersigned = self._gauge(
            "relay_audit_uncountersigned_entries", "Entries that no witness countersigned yet."
        )
        self.audit_verified = self._gauge("relay_audit_verified_timestamp_seconds", "Unix time of the last check of all entries.")
        self.audit_damaged = self._gauge("relay_audit_damaged", "1 when the record is not what was signed.")
        self.countersignatures = self._counter("relay_countersignatures", "Countersignatures under our checkpoints.", "witness")
        self.witnessed = self._gauge("relay_witnessed_entries", "Entries of a peer's log that we countersigned.", "peer")

    def _people(self) -> None:
        self.acts = self._counter("relay_operator_acts", "What operators did to messages, sent or received.", "act")
        self.sign_ins = self._counter("relay_console_sign_ins", "Attempts to sign in at the console.", "outcome")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)


_UNITS = {
    "_timestamp_seconds": "Unix time in seconds",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_messages": "messages",
    "_envelopes": "envelopes",
    "_entries": "entries",
}


def unit(metric: MetricWrapperBase) -> str:
    """Return in what a metric counts, as its name says it by Prometheus' conventions."""
    name = next(iter(metric.describe())).name
    for ending, said in _UNITS.items():
        if name.endswith(ending):
            return said
    return ""
