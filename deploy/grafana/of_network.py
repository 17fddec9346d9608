"""The network: every centre whose node is scraped, the number that matters first."""

from __future__ import annotations

from typing import Any

from deploy.grafana.boards import CENTRES, board, choice, to_centre, to_link
from deploy.grafana.panels import Row, lines, number, states, table
from deploy.grafana.parts import (
    BAD_IF_ONE,
    BYTES,
    GOOD_IF_ONE,
    HEARD,
    LATE,
    MOMENT,
    NONE_OR_NOTE,
    NONE_OR_SOME,
    RATE,
    SECONDS,
    UNRECEIPTED,
    WAITED,
    Column,
    Query,
    waited,
)

OF = 'centre=~"$centre"'
LINK = ("centre", "peer", "precedence")


def dashboard() -> dict[str, Any]:
    """Return the dashboard of the network."""
    meaning = (
        "All centres whose nodes this Prometheus scrapes: who is silent, what is late, what moves, which node needs a hand. "
        "Begin at the top left; a row leads to its link or its centre."
    )
    variables = [choice("centre", "Centres", f"label_values({CENTRES}, centre)", many=True)]
    return board("relay-network", meaning, variables, [_now(), _links(), _traffic(), _trouble(), _nodes()])


def _now() -> Row:
    return Row(
        "Now",
        [
            number(
                "Oldest message without a receipt",
                "The age of the oldest message whose recipient has not given its last word by a signed receipt, over all links: "
                "the number that matters. The word says how much of its time is gone: 4 minutes for flash, 20 for immediate, 2 "
                "hours for priority, 16 for the rest. See which link in the table below, then call that centre's duty officer.",
                f"max(relay_oldest_unreceipted_seconds{{{OF}}})",
                WAITED,
                judged=waited(OF),
                unit=SECONDS,
                runbooks=UNRECEIPTED,
            ),
            number(
                "Silent links",
                "Directions in which three heartbeats of a peer are missing. One silent centre shows once for each centre that "
                "listens to it. See who below, and call its duty officer.",
                f"sum(relay_peer_silent{{{OF}}})",
                NONE_OR_SOME,
                runbooks=("RelayPeerSilent",),
            ),
            number(
                "Deadlines at risk",
                "Open messages with less than a tenth of their time left, at least 15 minutes. What is not delivered by then "
                "ends as expired. Look at the link, and reach the recipient another way if it is a controlled delivery.",
                f"sum(relay_deadlines_at_risk{{{OF}}})",
                NONE_OR_SOME,
                runbooks=("RelayDeadlineAtRisk",),
            ),
            number(
                "Answers overdue",
                "Requests whose reply clock is over, asked here or received here. See the page Requests of that centre's "
                "console.",
                f"sum(relay_requests_overdue{{{OF}}})",
                NONE_OR_NOTE,
                runbooks=("RelayRequestOverdue",),
            ),
            number(
                "Nodes that do not answer",
                "Nodes whose metrics Prometheus could not get at its last try. Their numbers on this page are the last known or "
                "missing. Start the node, or see why it ended in its log.",
                f"sum(up{{{OF}}} == bool 0)",
                NONE_OR_SOME,
                runbooks=("RelayDown",),
            ),
            number(
                "Nodes not ready",
                "Nodes that answer and can't sign, write their store or reach the broker. `relay check` at that node says which.",
                f"sum(relay_ready{{{OF}}} == bool 0)",
                NONE_OR_SOME,
                runbooks=("RelayNotReady",),
            ),
        ],
    )


def _links() -> Row:
    def of(metric: str) -> str:
        return f"sum by (centre, peer, precedence) ({metric}{{{OF}}})"

    return Row(
        "Links",
        [
            table(
                "Links, the oldest message first",
                "Each direction and precedence: the age of the oldest message without a receipt, how many are open, how many "
                "of them run out of time. A click on the centre leads to the link. An age that grows with the clock is a link "
                "that stands still; many open ones with a young oldest is a link that works hard.",
                [
                    Column(f"max by (centre, peer, precedence) (relay_oldest_unreceipted_seconds{{{OF}}})", "Oldest", SECONDS),
                    Column(of("relay_open_messages"), "Open"),
                    Column(of("relay_deadlines_at_risk"), "Deadlines at risk"),
                    Column(
                        f"(sum by (centre, peer, precedence) (relay_alarms{{{OF}}}) > bool 0) "
                        f"or (0 * max by (centre, peer, precedence) (relay_oldest_unreceipted_seconds{{{OF}}}))",
                        "By its own alarm",
                        words=LATE,
                    ),
                ],
                by=LINK,
                sort="Oldest",
                runbooks=(*UNRECEIPTED, "RelayDeadlineAtRisk"),
                links=(to_link(),),
                width=14,
                height=11,
            ),
            states(
                "Who hears whom",
                "For each centre and peer whether the peer's heartbeats come. Many lines about one peer turn silent: that peer "
                "is gone or cut off. All lines of one centre: that centre is cut off from the broker.",
                [Query(f"relay_peer_silent{{{OF}}}", "{{centre}} hears {{peer}}")],
                HEARD,
                runbooks=("RelayPeerSilent",),
                width=10,
                height=11,
            ),
        ],
    )


def _traffic() -> Row:
    def seconds(share: str, promise: str) -> Query:
        rate = f'sum by (le) (rate(relay_end_to_end_seconds_bucket{{{OF}, promise="{promise}"}}[$__rate_interval]))'
        return Query(f"histogram_quantile({share}, {rate})", f"{promise}, p{share[2:].ljust(2, '0')}")

    return Row(
        "Traffic",
        [
            lines(
                "Messages submitted",
                "Messages a second that each centre's own system submitted and its node answered with success. A centre that "
                "falls to nothing has a quiet night, or a system that can't reach its node: look at refused messages there.",
                [Query(f"sum by (centre) (rate(relay_submitted_messages_total{{{OF}}}[$__rate_interval]))", "{{centre}}")],
                unit=RATE,
            ),
            lines(
                "Messages delivered",
                "Messages a second that each centre's own system took. Below what arrives for long: that system is slow or gone, "
                "and its inbox grows.",
                [Query(f"sum by (centre) (rate(relay_delivered_messages_total{{{OF}}}[$__rate_interval]))", "{{centre}}")],
                unit=RATE,
            ),
            lines(
                "Seconds from submit to receipt",
                "From the submit to the peer's signed receipt, by the times in the receipts: half, nineteen of twenty and 99 of "
                "a hundred messages were faster than this. `accepted`: the peer's node stored it; `delivered`: its system took "
                "it.",
                [seconds(share, promise) for promise in ("accepted", "delivered") for share in ("0.5", "0.95", "0.99")],
                unit=SECONDS,
                runbooks=UNRECEIPTED,
            ),
        ],
    )


def _trouble() -> Row:
    def of(metric: str, heading: str) -> Column:
        return Column(f"sum by (centre) ({metric}{{{OF}}})", heading, words=())

    return Row(
        "Trouble",
        [
            table(
                "What needs somebody",
                "Per centre: dead (nobody tries again by itself), held (parked by an operator), deferred (tried again by "
                "itself), quarantined (refused on arrival, kept), recalls not confirmed by everybody, messages known to be "
                "missing, forks (an origin that contradicts itself: call both centres), entries of the audit record that no "
                "witness countersigned. Act on the page Trouble of that centre's console.",
                [
                    of("relay_dead_messages", "Dead"),
                    of("relay_held_messages", "Held"),
                    of("relay_deferred_messages", "Deferred"),
                    of("relay_quarantined_messages", "Quarantined"),
                    of("relay_recalls_open", "Recalls open"),
                    of("relay_gap_messages", "Missing"),
                    of("relay_forked_messages_total", "Forks since start"),
                    of("relay_audit_uncountersigned_entries", "Not countersigned"),
                    Column(f"max by (centre) (relay_audit_damaged{{{OF}}})", "Record damaged", words=BAD_IF_ONE),
                ],
                by=("centre",),
                sort="Dead",
                runbooks=(
                    "RelayMessageDead",
                    "RelayMessageQuarantined",
                    "RelayGapStays",
                    "RelayForkedMessage",
                    "RelayRecallOpen",
                ),
                links=(to_centre(),),
                height=8,
            ),
        ],
    )


def _nodes() -> Row:
    def worst(metric: str, heading: str, unit: str, aggregate: str = "max") -> Column:
        return Column(f"{aggregate} by (centre) ({metric}{{{OF}}})", heading, unit)

    return Row(
        "Nodes",
        [
            table(
                "Nodes",
                "What runs where and for how long it can go on: version, configuration's schema, directory and its expiry, the "
                "first key to expire, disk, lag, and the peer whose clock is furthest from this one's.",
                [
                    Column(f"min by (centre) (up{{{OF}}})", "Answers", words=GOOD_IF_ONE),
                    Column(f"min by (centre) (relay_ready{{{OF}}})", "Ready", words=GOOD_IF_ONE),
                    Column(f"min by (centre) (relay_broker_connected{{{OF}}})", "Broker", words=GOOD_IF_ONE),
                    worst("relay_directory_version", "Directory", "none"),
                    Column(f"1000 * min by (centre) (relay_directory_expiry_timestamp_seconds{{{OF}}})", "Expires", MOMENT),
                    Column(f"1000 * min by (centre) (relay_key_expiry_timestamp_seconds{{{OF}}})", "First key expires", MOMENT),
                    worst("relay_store_disk_free_bytes", "Disk free", BYTES, "min"),
                    worst("relay_event_loop_lag_seconds", "Lag", SECONDS),
                    Column(f"max by (centre) (abs(relay_peer_clock_offset_seconds{{{OF}}}))", "Worst clock offset", SECONDS),
                    Column(f"max by (centre, version) (relay_build_info{{{OF}}})", "Build", words=GOOD_IF_ONE),
                ],
                by=("centre", "version"),
                sort="Lag",
                runbooks=("RelayDown", "RelayNotReady", "RelayDirectoryExpires", "RelayKeyExpires", "RelayDiskLow"),
                links=(to_centre(),),
                height=9,
            ),
        ],
    )
