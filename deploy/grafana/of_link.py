"""One link: a centre and a peer, each direction as the node at its end sees it."""

from __future__ import annotations

from typing import Any

from deploy.grafana.boards import CENTRES, board, choice
from deploy.grafana.columns import Rows
from deploy.grafana.panels import Panel, Row, lines, number, states, table
from deploy.grafana.parts import COUNT, HEARD, RATE, SECONDS, UNRECEIPTED, WAITED, Query, Step, end_to_end, rate, waited

OUT = 'centre="$centre", peer="$peer"'
BACK = 'centre="$peer", peer="$centre"'
CLOCK = (Step(None, "red", "behind"), Step(-2, "green", "together"), Step(2, "red", "ahead"))


def dashboard() -> dict[str, Any]:
    """Return the dashboard of one link."""
    meaning = (
        "One link between two centres, both directions. What the peer's own node says is shown too, where this Prometheus "
        "scrapes it; in life each centre scrapes its own, and the panels about the other side stay empty."
    )
    variables = [
        choice("centre", "Centre", f"label_values({CENTRES}, centre)"),
        choice("peer", "Peer", 'label_values(relay_peer_silent{centre="$centre"}, peer)'),
    ]
    return board("relay-link", meaning, variables, [_now(), _open(), _flow(), _repair()])


def _now() -> Row:
    return Row(
        "Now",
        [
            number(
                "Oldest without a receipt, $centre to $peer",
                "The age of the oldest message to this peer for which it has not given its last word, by a signed receipt. "
                "The word says how much of its time is gone: 4 minutes for flash, 20 for immediate, 2 hours for priority, 16 "
                "for the rest. Late: call the peer's duty officer.",
                f"max(relay_oldest_unreceipted_seconds{{{OUT}}})",
                WAITED,
                judged=waited(OUT),
                unit=SECONDS,
                runbooks=UNRECEIPTED,
            ),
            number(
                "Oldest without a receipt, $peer to $centre",
                "The same the other way, by the peer's own node.",
                f"max(relay_oldest_unreceipted_seconds{{{BACK}}})",
                WAITED,
                judged=waited(BACK),
                unit=SECONDS,
                runbooks=UNRECEIPTED,
            ),
            number(
                "Is $peer heard",
                "Whether the peer's heartbeats come to this centre.",
                f"max(relay_peer_silent{{{OUT}}})",
                HEARD,
                runbooks=("RelayPeerSilent",),
            ),
            number(
                "Is $centre heard",
                "Whether this centre's heartbeats come to the peer, by the peer's own node. Heard one way only: look at the "
                "queue of the one that hears nothing.",
                f"max(relay_peer_silent{{{BACK}}})",
                HEARD,
                runbooks=("RelayPeerSilent",),
            ),
            number(
                "Clock of $peer less ours",
                "How far the peer's clock is ahead of this one's. Beyond two seconds one of them is wrong: times in receipts and "
                "deadlines are.",
                f"max(relay_peer_clock_offset_seconds{{{OUT}}})",
                CLOCK,
                unit=SECONDS,
                runbooks=("RelayPeerClockOff",),
            ),
            number(
                "Directories apart",
                "How many versions the peer's directory is from this centre's. Not 0 for more than a minute: one of them does "
                "not get new versions.",
                f'abs(max(relay_peer_directory_version{{{OUT}}}) - max(relay_directory_version{{centre="$centre"}}))',
                (Step(None, "green", "same"), Step(1, "orange", "differ")),
                runbooks=("RelayDirectoryDiffers",),
            ),
        ],
    )


def _open() -> Row:
    return Row("Under way", [_under_way(OUT, "$centre to $peer"), _under_way(BACK, "$peer to $centre")])


def _under_way(of: str, way: str) -> Panel:
    lanes = Rows(of, ("precedence",))
    return table(
        f"Under way, {way}",
        "By precedence: the age of the oldest message without a receipt, how many are open, how many run out of time.",
        [*lanes.under_way()],
        by=lanes.by,
        sort="Oldest",
        runbooks=(*UNRECEIPTED, "RelayDeadlineAtRisk"),
        width=12,
        height=7,
    )


def _flow() -> Row:
    return Row(
        "Flow",
        [
            lines(
                "Receipts of $peer",
                "Statements a second of the peer about this centre's messages, by what they say. `rejected` is a final no: see "
                "the message's page in the console for the code.",
                [Query(rate("relay_receipt_statements_total", OUT, "state"), "{{state}}")],
                unit=RATE,
            ),
            lines(
                "Accepted of each other",
                "Messages a second that each node verified and stored of the other.",
                [
                    Query(rate("relay_accepted_messages_total", BACK), "by $peer"),
                    Query(rate("relay_accepted_messages_total", OUT), "by $centre"),
                ],
                unit=RATE,
            ),
            lines(
                "Seconds from submit to receipt",
                "By the times in the signed receipts: half and nineteen of twenty messages were faster than this, each way.",
                [
                    end_to_end(share, promise, of, f"{way}, {promise}")
                    for of, way in ((OUT, "to $peer"), (BACK, "from $peer"))
                    for promise in ("accepted", "delivered")
                    for share in ("0.5", "0.95")
                ],
                unit=SECONDS,
                runbooks=UNRECEIPTED,
            ),
        ],
    )


def _many(metric: str, of: str, legend: str, by: str = "") -> Query:
    return Query(f"sum {by and f'by ({by}) '}({metric}{{{of}}})", legend)


def _repair() -> Row:
    return Row(
        "Repair",
        [
            states(
                "Heard over time",
                "Heartbeats of each by the other, over time.",
                [
                    Query(f"max(relay_peer_silent{{{OUT}}})", "$centre hears $peer"),
                    Query(f"max(relay_peer_silent{{{BACK}}})", "$peer hears $centre"),
                ],
                HEARD,
                runbooks=("RelayPeerSilent",),
                width=8,
            ),
            lines(
                "Lost and sent again",
                "Since the node's start: marks that ask what arrived, nacks of what did not, envelopes sent again, copies that "
                "came. On a sound link all but the marks stay at nothing.",
                [
                    _many("relay_marks_total", OUT, "marks to $peer"),
                    _many("relay_nacks_total", OUT, "nacks {{direction}}", "direction"),
                    _many("relay_resent_envelopes_total", OUT, "sent again to $peer"),
                    _many("relay_duplicate_messages_total", OUT, "copies from $peer"),
                ],
                runbooks=("RelayGapStays",),
            ),
            lines(
                "Missing, recalled",
                "Messages of the peer known to be missing here, and recalls that the peer has not confirmed. Data that should be "
                "gone is still there until the second is none.",
                [
                    Query(f"max(relay_gap_messages{{{OUT}}})", "missing of $peer"),
                    Query(f"max(relay_recalls_open{{{OUT}}})", "recalls not confirmed by $peer"),
                ],
                unit=COUNT,
                runbooks=("RelayGapStays", "RelayRecallOpen"),
            ),
            *_refused(),
        ],
    )


def _refused() -> list[Panel]:
    return [
        lines(
            "Recalled, not confirmed",
            "How old the oldest recall is that the peer has not signed for: until then withdrawn data may be in use there. After "
            "two hours call its duty officer.",
            [Query(f"max(relay_oldest_recall_seconds{{{OUT}}})", "$peer, the oldest")],
            unit=SECONDS,
            runbooks=("RelayRecallOpen",),
        ),
        lines(
            "Refused of $peer",
            "Since the node's start: messages of the peer that were rejected, envelopes that it signed and that were not "
            "taken, forks, poison: by code. `relay explain CODE` says what each means; tell the peer.",
            [
                _many("relay_rejected_messages_total", OUT, "rejected, {{code}}", "code"),
                _many("relay_peer_faults_total", OUT, "not taken, {{code}}", "code"),
                _many("relay_forked_messages_total", OUT, "forks"),
            ],
            runbooks=("RelayForkedMessage", "RelayMessageQuarantined"),
            width=8,
        ),
        lines(
            "Ended and voided",
            "Since the node's start: messages to the peer that this centre ended (expired, cancelled), and messages of the "
            "peer that do not come any more.",
            [
                _many("relay_ended_messages_total", OUT, "to $peer: {{state}}", "state"),
                _many("relay_voided_messages_total", OUT, "from $peer: {{state}}", "state"),
            ],
            runbooks=("RelayDeadlineAtRisk",),
            width=8,
        ),
    ]
