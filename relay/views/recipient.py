"""Where a message stands at one recipient: its promises, each by whose word, why it waits, and how far it is taken back there.

Of a message of this centre ``accepted``, ``delivered`` and ``rejected`` are the peer's signed receipts, with the time of the
peer's clock; ``sent``, ``expired`` and ``cancelled`` are this node's words. What became of a received one at the others is
known to its origin alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import Field

from relay.receipts import TERMINAL
from relay.store.aside import Received
from relay.store.history import ENDED, FINAL, WAITS, Step
from relay.store.traces import SentEvidence
from relay.views.peers import Duty, Liveness
from relay.views.times import Moment, Shown


class Promise(Shown):
    """A signed word of a peer about a message."""

    at: Moment = Field(description="by the clock of who says it")
    receipt: str | None = Field(description="id of the signed receipt; null: it is this centre's own word, or not kept")


class LateWord(Shown):
    """What a recipient said after a message's terminal state, and against it; it changes nothing."""

    state: str
    at: Moment
    code: str | None


class TakenBack(Shown):
    """How far a message is taken back at a centre that was sent it."""

    by: str | None = Field(description="the update or cancel that it was sent last; null: it could not be reached")
    purged_at: Moment | None = Field(description="when it signed that nothing older is left with it; null: not yet")


class Reached(Shown):
    """What is said of a recipient of a message wherever one is shown; null: it is not so, or nothing is known of it here."""

    centre: str
    sent_at: Moment | None = Field(description="when the broker had it for this recipient")
    ended_at: Moment | None = Field(description="when this centre ended it: expired or cancelled")
    code: str | None = Field(description="why it was rejected, ended, or is dead")


class AtRecipient(Reached):
    """Where a message stands with a recipient."""

    state: str | None = Field(description="its last state; null: its origin alone knows")
    since: Moment | None
    queued_at: Moment | None = Field(description="when it was committed here to be sent")
    accepted: Promise | None = Field(description="the peer's node verified and stored it")
    delivered: Promise | None = Field(description="the peer's own system took it")
    rejected: Promise | None = Field(description="the peer's final no")
    next_attempt: Moment | None = Field(description="when what is deferred is tried again, where that is known")
    notes: list[LateWord] = Field(description="what came after the terminal state and against it")
    recall: TakenBack | None = Field(description="how far it is taken back there; null: nothing takes it back")
    peer: Liveness | None = Field(default=None, description="whether the peer lives whose word is awaited; null: none is")
    duty: Duty | None = Field(default=None, description="whom to call there while its word is awaited")


def of_ours(
    evidence: SentEvidence, receipts: dict[int, str], to: str, steps: Sequence[Step], recall: TakenBack | None, due: int | None
) -> AtRecipient:
    """Return where a message of this centre stands at a recipient; ``due`` is when it is tried again if it is deferred."""
    first = _first(step for step in steps if not step.note)
    last = _last(first)
    ended = next((first[state] for state in sorted(ENDED) if state in first), None)
    return AtRecipient(
        centre=to,
        state=last.state,
        since=last.at,
        code=last.code,
        queued_at=_at(first.get("queued")),
        sent_at=_at(first.get("sent")),
        accepted=_promise(evidence, receipts, to, first.get("accepted")),
        delivered=_promise(evidence, receipts, to, first.get("delivered")),
        rejected=_promise(evidence, receipts, to, first.get("rejected")),
        ended_at=_at(ended),
        next_attempt=due if last.state == "deferred" else None,
        notes=[LateWord(state=step.state, at=step.at, code=step.code) for step in steps if step.note],
        recall=recall,
    )


def _first(steps: Iterable[Step]) -> dict[str, Step]:
    found: dict[str, Step] = {}
    for step in steps:
        found.setdefault(step.state, step)
    return found


def _last(first: dict[str, Step]) -> Step:
    """Return where a message stands: its final word, else why it waits, else the furthest promise."""
    for states in (sorted(FINAL), WAITS, ("accepted",), ("sent",)):
        if here := [first[state] for state in states if state in first]:
            return here[0]
    return first["queued"]


def _promise(evidence: SentEvidence, receipts: dict[int, str], to: str, step: Step | None) -> Promise | None:
    if step is None:
        return None
    numbers = (one.receipt for one in evidence.said if (one.recipient, one.state, one.at) == (to, step.state, step.at))
    number = next((one for one in numbers if one is not None), None)
    return Promise(at=step.at, receipt=receipts.get(number) if number is not None else None)


def here(me: str, row: Received) -> AtRecipient:
    """Return where a received message stands at this centre, as one of its recipients."""
    refused = row.state in ("quarantined", "rejected")
    on_arrival = refused and row.since == row.received_at
    state = "accepted" if row.state not in (*TERMINAL, "quarantined", "withdrawn") else row.state
    return AtRecipient(
        **{
            **dict(unknown(me)),
            "state": "rejected" if row.state == "quarantined" else state,
            "since": row.since,
            "code": row.code if refused else None,
            "accepted": None if on_arrival or row.state == "quarantined" else Promise(at=row.received_at, receipt=None),
            "delivered": Promise(at=row.since, receipt=None) if row.state == "delivered" else None,
            "rejected": Promise(at=row.since, receipt=None) if refused else None,
        }
    )


def unknown(centre: str) -> AtRecipient:
    """Return what is known here of another recipient of a received message: nothing."""
    return AtRecipient(
        centre=centre,
        state=None,
        since=None,
        code=None,
        queued_at=None,
        sent_at=None,
        accepted=None,
        delivered=None,
        rejected=None,
        ended_at=None,
        next_attempt=None,
        notes=[],
        recall=None,
    )


def _at(step: Step | None) -> int | None:
    return None if step is None else step.at
