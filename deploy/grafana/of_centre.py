"""One centre: its peers, its stages, its troubles, what it is trusted by, its broker, its store."""

from __future__ import annotations

from typing import Any

from deploy.grafana import of_node
from deploy.grafana.boards import CENTRES, board, choice, to_link
from deploy.grafana.columns import Rows
from deploy.grafana.panels import Row, lines, number, table
from deploy.grafana.parts import (
    GOOD_IF_ONE,
    HEARD,
    NONE_OR_NOTE,
    NONE_OR_SOME,
    RATE,
    SECONDS,
    UNRECEIPTED,
    WAITED,
    Query,
    end_to_end,
    rate,
    waited,
)

OF = 'centre="$centre"'
LINK = ("peer", "precedence")


def dashboard() -> dict[str, Any]:
    """Return the dashboard of one centre."""
    meaning = "One centre as its own node sees it: its peers, what moves through its stages, its troubles, its means."
    variables = [choice("centre", "Centre", f"label_values({CENTRES}, centre)")]
    rows = [_now(), _peers(), _stages(), _flow(), _trouble(), *of_node.rows(OF)]
    return board("relay-centre", meaning, variables, rows)


def _now() -> Row:
    return Row(
        "Now",
        [
            number(
                "Oldest message without a receipt",
                "The age of this centre's oldest message whose recipient has not given its last word, by a signed receipt. "
                "The word says how much of its time is gone: 4 minutes for flash, 20 for immediate, 2 hours for priority, 16 "
                "for the rest. See which peer below, then call its duty officer.",
                f"max(relay_oldest_unreceipted_seconds{{{OF}}})",
                WAITED,
                judged=waited(OF),
                unit=SECONDS,
                runbooks=UNRECEIPTED,
            ),
            number(
                "Silent peers",
                "Peers of whom three heartbeats are missing. All at once: this node is cut off, look at the broker below.",
                f"sum(relay_peer_silent{{{OF}}})",
                NONE_OR_SOME,
                runbooks=("RelayPeerSilent",),
            ),
            number(
                "Deadlines at risk",
                "Open messages with less than a tenth of their time left, at least 15 minutes. What is not delivered by then "
                "ends as expired.",
                f"sum(relay_deadlines_at_risk{{{OF}}})",
                NONE_OR_SOME,
                runbooks=("RelayDeadlineAtRisk",),
            ),
            number(
                "Answers overdue",
                "Requests whose reply clock is over: `asked` waits for a peer, `received` is ours to answer.",
                f"sum(relay_requests_overdue{{{OF}}})",
                NONE_OR_NOTE,
                runbooks=("RelayRequestOverdue",),
            ),
            number(
                "Ready",
                "Whether the node can sign, write its store and reach the broker. If not, `relay check` says which; what it "
                "promised is safe.",
                f"min(relay_ready{{{OF}}})",
                GOOD_IF_ONE,
                runbooks=("RelayNotReady",),
            ),
            number(
                "Broker connected",
                "Whether the node reaches RabbitMQ. If not it stores what is submitted and goes on trying.",
                f"min(relay_broker_connected{{{OF}}})",
                GOOD_IF_ONE,
                runbooks=("RelayBrokerDisconnected",),
            ),
        ],
    )


def _peers() -> Row:
    each = Rows(OF, ("peer",))
    return Row(
        "Peers",
        [
            table(
                "What is under way, the oldest first",
                "To each peer by precedence: the age of the oldest message without a receipt, how many are open, how many run "
                "out of time, whether the node's own alarm (`relay alarm list`) calls it late.",
                [*Rows(OF, LINK).under_way()],
                by=LINK,
                sort="Oldest",
                runbooks=(*UNRECEIPTED, "RelayUrgentUnaccepted", "RelayPeerLate", "RelayDeadlineAtRisk"),
                links=(to_link("${centre}"),),
                width=12,
                height=10,
            ),
            table(
                "Peers, the longest unheard first",
                "Each peer: whether its heartbeats come and when the last one did, how far its clock is from ours, the version "
                "of the directory that it goes by, recalls that it has not confirmed and the age of the oldest, messages of it "
                "that are known to be missing.",
                [
                    each.most("relay_peer_silent", "Heartbeats", words=HEARD),
                    each.ago("relay_peer_heard_timestamp_seconds", "Unheard for"),
                    each.most("relay_peer_clock_offset_seconds", "Clock offset", SECONDS),
                    each.most("relay_peer_directory_version", "Directory"),
                    each.most("relay_recalls_open", "Recalls open"),
                    each.most("relay_oldest_recall_seconds", "Oldest recall", SECONDS),
                    each.most("relay_gap_messages", "Missing"),
                ],
                by=each.by,
                sort="Unheard for",
                runbooks=(
                    "RelayPeerSilent",
                    "RelayPeerNeverHeard",
                    "RelayPeerClockOff",
                    "RelayPeerDirectoryBehind",
                    "RelayRecallOpen",
                    "RelayGapStays",
                ),
                links=(to_link("${centre}"),),
                width=12,
                height=10,
            ),
        ],
    )


def _stages() -> Row:
    each = Rows(OF, ("stage",))
    return Row(
        "Stages",
        [
            table(
                "Each stage: in, in progress, out, last",
                "The ways through a node: submit, publish, take, handover, receipt-out, receipt-in. More in than out for long, "
                "or items in progress while the last is long ago: that stage stands still. An old last with nothing in is quiet.",
                [
                    each.rate("relay_stage_items_in_total", "In", RATE),
                    each.all("relay_stage_in_progress", "In progress"),
                    each.rate("relay_stage_items_out_total", "Out", RATE),
                    each.ago("relay_stage_processed_timestamp_seconds", "Last"),
                ],
                by=each.by,
                sort="In progress",
                runbooks=("RelayCommitSlow", "RelayEventLoopLag"),
                width=10,
                height=8,
            ),
            lines(
                "Out of each stage",
                "Items a second that left each stage. A stage whose line falls away from the one before it is where to look.",
                [Query(rate("relay_stage_items_out_total", OF, "stage"), "{{stage}}")],
                unit=RATE,
                width=7,
            ),
            lines(
                "In progress",
                "Items inside each stage. A line that only grows is a stage that can't keep up.",
                [Query(each.say("relay_stage_in_progress", "sum"), "{{stage}}")],
                width=7,
            ),
        ],
    )


def _flow() -> Row:
    def each_second(metric: str, legend: str, by: str = "") -> Query:
        return Query(rate(metric, OF, by), legend)

    return Row(
        "Flow",
        [
            lines(
                "In and out",
                "Messages a second: submitted by this centre's system, accepted from peers, delivered to its system.",
                [
                    each_second("relay_submitted_messages_total", "submitted"),
                    each_second("relay_accepted_messages_total", "accepted from peers"),
                    each_second("relay_delivered_messages_total", "delivered to its system"),
                ],
                unit=RATE,
                width=6,
            ),
            lines(
                "Envelopes by lane",
                "Sealed batches a second, to the broker and from it, by lane. Flash never waits for routine.",
                [
                    each_second("relay_sent_envelopes_total", "sent, {{lane}}", "lane"),
                    each_second("relay_received_envelopes_total", "received, {{lane}}", "lane"),
                ],
                unit=RATE,
                width=6,
            ),
            lines(
                "Seconds from submit to receipt",
                "By the times in the peers' signed receipts: half, nineteen of twenty and 99 of a hundred were faster than this.",
                [end_to_end(share, promise, OF) for promise in ("accepted", "delivered") for share in ("0.5", "0.95", "0.99")],
                unit=SECONDS,
                runbooks=UNRECEIPTED,
                width=6,
            ),
            lines(
                "Waiting",
                "Envelopes that wait for the broker, and envelopes that wait for a newer directory than the one in force here.",
                [
                    Query(f"sum(relay_unsent_envelopes{{{OF}}})", "for the broker"),
                    Query(f"sum(relay_waiting_envelopes{{{OF}}})", "for a newer directory"),
                ],
                runbooks=(
                    "RelayUnsentGrowing",
                    "RelayOutboxFilling",
                    "RelayWaitingForDirectory",
                ),
                width=6,
            ),
        ],
    )


def _trouble() -> Row:
    def many(metric: str, legend: str, by: str = "code") -> Query:
        return Query(f"sum by ({by}) ({metric}{{{OF}}})", legend)

    return Row(
        "Trouble",
        [
            lines(
                "Set aside",
                "Dead: nobody tries again by itself. Held: parked by an operator. Deferred: tried again by itself. Quarantined: "
                "authentic, refused on arrival, kept. Act on the page Trouble of this centre's console.",
                [
                    Query(f"sum by (side) (relay_dead_messages{{{OF}}})", "dead, {{side}}"),
                    Query(f"sum by (side) (relay_held_messages{{{OF}}})", "held, {{side}}"),
                    Query(f"sum by (side) (relay_deferred_messages{{{OF}}})", "deferred, {{side}}"),
                    Query(f"sum(relay_quarantined_messages{{{OF}}})", "quarantined"),
                ],
                runbooks=("RelayMessageDead", "RelayMessageHeldLong", "RelayMessageQuarantined"),
                width=8,
            ),
            lines(
                "For how long",
                "How long the message has been held that was parked first, and how old the oldest recall is that some peer has "
                "not confirmed. Held for longer than a watch: ask who held it. A recall open for two hours: call that peer's "
                "duty officer.",
                [
                    Query(f"max by (side) (relay_oldest_held_seconds{{{OF}}})", "held, {{side}}"),
                    Query(f"max(relay_oldest_recall_seconds{{{OF}}})", "recall not confirmed"),
                ],
                unit=SECONDS,
                runbooks=("RelayMessageHeldLong", "RelayRecallOpen"),
                width=8,
            ),
            lines(
                "Refused",
                "Since the node's start: refused at submit (this centre's system sends what is not valid or not allowed), "
                "rejected on arrival, and dropped without an answer (not authentic, or not for us), by code. `relay explain "
                "CODE` says what each means.",
                [
                    many("relay_refused_messages_total", "at submit, {{code}}"),
                    many("relay_rejected_messages_total", "on arrival, {{code}}"),
                    many("relay_dropped_envelopes_total", "dropped, {{code}}"),
                ],
                runbooks=("RelayMessageQuarantined", "RelayMessageRejected"),
                width=8,
            ),
            lines(
                "Repair",
                "Since the node's start: marks that ask what arrived, nacks of what did not, envelopes sent again, publications "
                "that the broker did not confirm. Some repair is normal after an outage; repair that goes on all day is a link "
                "that loses.",
                [
                    Query(f"sum(relay_marks_total{{{OF}}})", "marks"),
                    many("relay_nacks_total", "nacks {{direction}}", "direction"),
                    Query(f"sum(relay_resent_envelopes_total{{{OF}}})", "sent again"),
                    many("relay_publish_failures_total", "not confirmed, {{code}}"),
                ],
                runbooks=("RelayGapStays", "RelayUnsentGrowing"),
                width=12,
            ),
            lines(
                "Requests",
                "Answers awaited from peers (asked) and of us (received), and those whose time is over.",
                [
                    Query(f"sum by (side) (relay_requests_open{{{OF}}})", "open, {{side}}"),
                    Query(f"sum by (side) (relay_requests_overdue{{{OF}}})", "overdue, {{side}}"),
                ],
                runbooks=("RelayRequestOverdue",),
                width=12,
            ),
        ],
    )
