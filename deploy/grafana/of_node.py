"""What one node stands on: trust, broker, store and process. Rows of the dashboard of a centre."""

from __future__ import annotations

from deploy.grafana.columns import Rows
from deploy.grafana.panels import Panel, Row, lines, number, states, table
from deploy.grafana.parts import BAD_IF_ONE, BYTES, MOMENT, NONE_OR_NOTE, SECONDS, Column, Query, Step, Words, quantile, rate

DAY = 86_400
EXPIRES: Words = (
    Step(None, "red", "EXPIRED"),
    Step(0, "red", "within a week"),
    Step(7 * DAY, "orange", "within a month"),
    Step(30 * DAY, "green", "later"),
)
LAG: Words = (Step(None, "green", "prompt"), Step(0.25, "orange", "slow"), Step(1, "red", "TOO SLOW"))


def rows(of: str) -> list[Row]:
    """Return the rows, for the node that a selector names."""
    return [_trust(of), _broker(of), _store(of), _process(of)]


def _trust(of: str) -> Row:
    return Row("Trust", [*_expiring(of), *_recorded(of)])


def _expiring(of: str) -> list[Panel]:
    return [
        number(
            "Directory expires in",
            "When the directory in force here stops being valid; then nothing new is sent or taken. The authorities must "
            "issue the next version before.",
            f"min(relay_directory_expiry_timestamp_seconds{{{of}}}) - time()",
            EXPIRES,
            unit=SECONDS,
            runbooks=("RelayDirectoryExpires", "RelayDirectoryExpiring", "RelayDirectoryBehind"),
        ),
        number(
            "First key expires in",
            "When the first of the keys and certificates held for a use expires. Make the next one and have it listed: "
            "docs/howto/rotate-and-revoke-keys.md.",
            f"min(relay_key_expiry_timestamp_seconds{{{of}}}) - time()",
            EXPIRES,
            unit=SECONDS,
            runbooks=("RelayKeyExpires", "RelayKeyExpiring"),
        ),
        number(
            "Not countersigned",
            "Entries of this centre's audit record that no witness has countersigned yet. A few minutes' worth is normal; "
            "one that only grows means that no witness is heard.",
            f"max(relay_audit_uncountersigned_entries{{{of}}})",
            (Step(None, "green", "few"), Step(10_000, "orange", "many")),
            runbooks=(
                "RelayAuditUncountersigned",
                "RelayAuditUnverified",
            ),
        ),
        number(
            "Record damaged",
            "Whether the audit record is not what this centre signed. Then the node stops: keep the store as evidence.",
            f"max(relay_audit_damaged{{{of}}})",
            BAD_IF_ONE,
            runbooks=("RelayAuditDamaged",),
        ),
        number(
            "Forks since the start",
            "Messages whose origin contradicts itself: two contents under one id. Call the origin by telephone.",
            f"sum(relay_forked_messages_total{{{of}}})",
            NONE_OR_NOTE,
            runbooks=("RelayForkedMessage",),
        ),
        number(
            "Alarms about peers",
            "Alarms about a peer's store or directory since the start: `relay peer list` names peer and code.",
            f"sum(relay_peer_alarms_total{{{of}}})",
            NONE_OR_NOTE,
            runbooks=(
                "RelayPeerKeyRevoked",
                "RelayPeerStoreChanged",
                "RelayPeerRecordDoubtful",
            ),
        ),
    ]


def _recorded(of: str) -> list[Panel]:
    uses = Rows(of, ("use",))
    return [
        table(
            "Keys and certificates",
            "Until when what is held for each use is valid.",
            [uses.first("relay_key_expiry_timestamp_seconds", "Expires")],
            by=uses.by,
            sort="Expires",
            runbooks=("RelayKeyExpires",),
            width=8,
            height=8,
        ),
        lines(
            "Age of the record's checks",
            "Seconds since the last checkpoint was signed, and since all entries were last read and verified.",
            [
                Query(f"time() - max(relay_audit_checkpoint_timestamp_seconds{{{of}}})", "last checkpoint"),
                Query(f"time() - max(relay_audit_verified_timestamp_seconds{{{of}}})", "last verification"),
            ],
            unit=SECONDS,
            runbooks=(
                "RelayAuditUncountersigned",
                "RelayAuditUnverified",
            ),
        ),
        lines(
            "Witnesses",
            "Countersignatures a second under this centre's checkpoints, by witness; and how many entries of each peer's "
            "record this centre countersigned.",
            [
                Query(rate("relay_countersignatures_total", of, "witness"), "by {{witness}}"),
                Query(f"max by (peer) (relay_witnessed_entries{{{of}}})", "entries of {{peer}}"),
            ],
            runbooks=(
                "RelayAuditUncountersigned",
                "RelayAuditUnverified",
            ),
        ),
    ]


def _broker(of: str) -> Row:
    return Row(
        "Broker",
        [
            states(
                "Connected",
                "Whether the node reached RabbitMQ. While it is cut off it stores what is submitted, and sends it afterwards.",
                [Query(f"relay_broker_connected{{{of}}}", "broker")],
                (Step(None, "red", "CUT OFF"), Step(1, "green", "connected")),
                runbooks=("RelayBrokerDisconnected",),
                width=8,
            ),
            lines(
                "Connections made",
                "Connections to the broker that were made within the interval. More than one an hour: something between them "
                "fails.",
                [Query(f"sum(relay_broker_connects_total{{{of}}})", "connections")],
                runbooks=("RelayBrokerDisconnected",),
            ),
            table(
                "Broker",
                "What answers, and since when this connection stands.",
                [
                    Column(
                        "1000 * max by (product, version) (relay_broker_info"
                        f"{{{of}}} * on (centre) group_left () relay_broker_incarnation_timestamp_seconds{{{of}}})",
                        "Connected",
                        MOMENT,
                    )
                ],
                by=("product", "version"),
                sort="Connected",
                runbooks=("RelayBrokerDisconnected",),
                width=8,
                height=8,
            ),
        ],
    )


def _store(of: str) -> Row:
    return Row(
        "Store",
        [
            lines(
                "Seconds of a commit",
                "One transaction until it is safe on disk. What a submit waits for, so a slow disk is a slow centre.",
                [quantile(share, "relay_store_commit_seconds", of) for share in ("0.5", "0.95", "0.99")],
                unit=SECONDS,
                runbooks=("RelayCommitSlow",),
                width=6,
            ),
            lines(
                "Disk",
                "Free bytes where the store lies, and the floor: below it no message is taken (507).",
                [
                    Query(f"min(relay_store_disk_free_bytes{{{of}}})", "free"),
                    Query(f"max(relay_store_disk_floor_bytes{{{of}}})", "floor: nothing is taken below"),
                ],
                unit=BYTES,
                runbooks=("RelayDiskLow", "RelayDiskFillsUp"),
                width=6,
            ),
            states(
                "Store troubles",
                "By code whether the store has this trouble. `relay explain CODE` says what to do.",
                [Query(f"max by (code) (relay_store_trouble{{{of}}})", "{{code}}")],
                (Step(None, "green", "no"), Step(1, "red", "TROUBLE")),
                runbooks=("RelayStoreTrouble",),
                width=6,
            ),
            lines(
                "Retention",
                "Since the node's start: messages whose content was purged, by why; and the hours since retention last ran.",
                [
                    Query(f"sum by (code) (relay_purged_messages_total{{{of}}})", "purged, {{code}}"),
                    Query(f"(time() - max(relay_retention_run_timestamp_seconds{{{of}}})) / 3600", "hours since the last run"),
                ],
                runbooks=("RelayRetentionNotRun", "RelayClockDoubted"),
                width=6,
            ),
        ],
    )


def _process(of: str) -> Row:
    return Row(
        "Process",
        [
            number(
                "Event loop lag",
                "The worst delay of the node's own clockwork in the last ten seconds. Above a quarter of a second the machine is "
                "too busy; above one, heartbeats and receipts come late.",
                f"max(relay_event_loop_lag_seconds{{{of}}})",
                LAG,
                unit=SECONDS,
                runbooks=("RelayEventLoopLag", "RelayNotObserved"),
                width=6,
            ),
            table(
                "What runs",
                "The node's version and Python, and its configuration: network (first twelve digits of its id), schema of the "
                "store, lanes. After an upgrade all nodes should say the same.",
                [
                    Column(
                        "max by (version, python, network, schema, lanes) (relay_config_info"
                        f"{{{of}}} * on (centre) group_left (version, python) relay_build_info{{{of}}})",
                        "Runs",
                    )
                ],
                by=("version", "python", "network", "schema", "lanes"),
                sort="version",
                width=18,
                height=4,
            ),
            *_machine(of),
        ],
    )


def _machine(of: str) -> list[Panel]:
    return [
        lines(
            "CPU and memory",
            "Share of one processor, and gigabytes of memory.",
            [
                Query(f"sum(rate(process_cpu_seconds_total{{{of}}}[$__rate_interval]))", "processors"),
                Query(f"sum(process_resident_memory_bytes{{{of}}}) / 1e9", "GB of memory"),
            ],
        ),
        lines(
            "Files open",
            "Open files of the process, and how many it may open.",
            [
                Query(f"sum(process_open_fds{{{of}}})", "open"),
                Query(f"sum(process_max_fds{{{of}}})", "limit"),
            ],
        ),
        lines(
            "Operators",
            "Since the node's start: what operators did (held, released, replayed, discarded), and who signed in at the "
            "console or failed to. Failures that come in a row are somebody who guesses: see the audit record.",
            [
                Query(f"sum by (act) (relay_operator_acts_total{{{of}}})", "{{act}}"),
                Query(
                    f"sum by (outcome) (relay_console_sign_ins_total{{{of}}})",
                    "sign-in: {{outcome}}",
                ),
            ],
            runbooks=("RelaySignInsFail",),
        ),
    ]
