"""The network: every centre whose node is scraped, the number that matters first."""

from __future__ import annotations

from typing import Any

from deploy.grafana.boards import CENTRES, board, choice, to_centre, to_link
from deploy.grafana.columns import Rows
from deploy.grafana.panels import Row, lines, number, states, table
from deploy.grafana.parts import (
    BAD_IF_ONE,
    BYTES,
    GOOD_IF_ONE,
    HEARD,
    NONE_OR_NOTE,
    NONE_OR_SOME,
    RATE,
    SECONDS,
    UNRECEIPTED,
    WAITED,
    Column,
    Query,
    end_to_end,
    rate,
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
    return Row(
        "Links",
        [
            table(
                "Links, the oldest message first",
                "Each direction and precedence: the age of the oldest message without a receipt, how many are open, how many "
                "of them run out of time. A click on the centre leads to the link. An age that grows with the clock is a link "
                "that stands still; many open ones with a young oldest is a link that works hard.",
                [*Rows(OF, LINK).under_way()],
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
    return Row(
        "Traffic",
        [
            lines(
                "Messages submitted",
                "Messages a second that each centre's own system submitted and its node answered with success. A centre that "
                "falls to nothing has a quiet night, or a system that can't reach its node: look at refused messages there.",
                [Query(rate("relay_submitted_messages_total", OF, "centre"), "{{centre}}")],
                unit=RATE,
                width=12,
            ),
            lines(
                "Messages by crime type",
                "Messages an hour that came to the centres shown, by crime type; one of several crime types counts under each, "
                "and one for several centres at each of them. A type that rises by itself may be a new trend, or a system that "
                "repeats itself: the page Messages of a centre's console says which.",
                [Query(f'sum by (crime_type) (increase(relay_messages_total{{{OF}, side="received"}}[1h]))', "{{crime_type}}")],
                width=12,
            ),
            lines(
                "Messages delivered",
                "Messages a second that each centre's own system took. Below what arrives for long: that system is slow or gone, "
                "and its inbox grows.",
                [Query(rate("relay_delivered_messages_total", OF, "centre"), "{{centre}}")],
                unit=RATE,
                width=12,
            ),
            lines(
                "Seconds from submit to receipt",
                "From the submit to the peer's signed receipt, by the times in the receipts: half, nineteen of twenty and 99 of "
                "a hundred messages were faster than this. `accepted`: the peer's node stored it; `delivered`: its system took "
                "it.",
                [end_to_end(share, promise, OF) for promise in ("accepted", "delivered") for share in ("0.5", "0.95", "0.99")],
                unit=SECONDS,
                runbooks=UNRECEIPTED,
                width=12,
            ),
        ],
    )


def _trouble() -> Row:
    each = Rows(OF, ("centre",))
    return Row(
        "Trouble",
        [
            table(
                "What needs somebody",
                "Per centre: dead (nobody tries again by itself), held (parked by an operator) and for how long, deferred (tried "
                "again by itself), quarantined (refused on arrival, kept), recalls not confirmed by everybody and the age of the "
                "oldest, messages known to be missing, forks (an origin that contradicts itself: call both centres), entries of "
                "the audit record that no witness countersigned. Act on the page Trouble of that centre's console.",
                [
                    each.all("relay_dead_messages", "Dead"),
                    each.all("relay_held_messages", "Held"),
                    each.most("relay_oldest_held_seconds", "Held for", SECONDS),
                    each.all("relay_deferred_messages", "Deferred"),
                    each.all("relay_quarantined_messages", "Quarantined"),
                    each.all("relay_recalls_open", "Recalls open"),
                    each.most("relay_oldest_recall_seconds", "Oldest recall", SECONDS),
                    each.all("relay_gap_messages", "Missing"),
                    each.all("relay_forked_messages_total", "Forks since start"),
                    each.all("relay_audit_uncountersigned_entries", "Not countersigned"),
                    each.most("relay_audit_damaged", "Record damaged", words=BAD_IF_ONE),
                ],
                by=each.by,
                sort="Dead",
                runbooks=(
                    "RelayMessageDead",
                    "RelayMessageHeldLong",
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
    each = Rows(OF, ("centre",))
    return Row(
        "Nodes",
        [
            table(
                "Nodes",
                "What runs where and for how long it can go on: version, configuration's schema, directory and its expiry, the "
                "first key to expire, disk, lag, and the peer whose clock is furthest from this one's.",
                [
                    each.least("up", "Answers", words=GOOD_IF_ONE),
                    each.least("relay_ready", "Ready", words=GOOD_IF_ONE),
                    each.least("relay_broker_connected", "Broker", words=GOOD_IF_ONE),
                    each.most("relay_directory_version", "Directory"),
                    each.first("relay_directory_expiry_timestamp_seconds", "Expires"),
                    each.first("relay_key_expiry_timestamp_seconds", "First key expires"),
                    each.least("relay_store_disk_free_bytes", "Disk free", BYTES),
                    each.most("relay_event_loop_lag_seconds", "Lag", SECONDS),
                    Column(f"max by (centre) (abs(relay_peer_clock_offset_seconds{{{OF}}}))", "Worst clock offset", SECONDS),
                    Rows(OF, ("centre", "version")).most("relay_build_info", "Build", words=GOOD_IF_ONE),
                ],
                by=("centre", "version"),
                sort="Lag",
                runbooks=("RelayDown", "RelayNotReady", "RelayDirectoryExpires", "RelayKeyExpires", "RelayDiskLow"),
                links=(to_centre(),),
                height=9,
            ),
        ],
    )
