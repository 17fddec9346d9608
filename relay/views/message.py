"""One message's whole way: where it stands at every centre, what took it back, whose answer it awaits, what the record says.

Of a message of this centre every ``accepted`` and ``delivered`` is a peer's signed receipt, with the time of the peer's clock;
``sent``, ``expired`` and ``cancelled`` are this node's words. Of a received one it is known to whom it was addressed (its origin
signed that) and what became of it here; where it stands at the others their origin alone knows.

Nothing of the content is read here: :mod:`relay.views.content` does, with a reason.

Errors raised: ``NotFound`` (``not-kept-here``), ``StoreTrouble``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import Field

from relay import messages as models
from relay.centre import Centre
from relay.envelope import Core, read_core
from relay.errors import NotFound
from relay.receipts import TERMINAL
from relay.store import Connection, aside, clocks, found, kept, outgoing, threads, traces
from relay.store.aside import Received
from relay.store.clocks import Clock
from relay.store.history import ENDED, FINAL, WAITS, Step
from relay.store.outgoing import Sent
from relay.store.traces import ReceivedEvidence, SentEvidence
from relay.views.requests import OpenClock, shown
from relay.views.times import Moment, Shown
from relay.web.served import Served

VERSIONS = ("updates", "cancels")


class Promise(Shown):
    """A signed word of a peer about a message."""

    at: Moment = Field(description="by the clock of who says it")
    receipt: str | None = Field(description="id of the signed receipt; null: it is this centre's own word, or not kept")


class Late(Shown):
    """What a recipient said after a message's terminal state, and against it; it changes nothing."""

    state: str
    at: Moment
    code: str | None


class Recall(Shown):
    """How far a message is taken back at a centre that was sent it."""

    by: str | None = Field(description="the update or cancel that it was sent last; null: it could not be reached")
    purged_at: Moment | None = Field(description="when it signed that nothing older is left with it; null: not yet")


class Recipient(Shown):
    """Where a message stands with a recipient."""

    centre: str
    state: str | None = Field(description="its last state; null: its origin alone knows")
    since: Moment | None
    code: str | None = Field(description="why it was rejected, ended, or is dead")
    queued_at: Moment | None = Field(description="when it was committed here to be sent")
    sent_at: Moment | None = Field(description="when the broker had it for this recipient")
    accepted: Promise | None = Field(description="the peer's node verified and stored it")
    delivered: Promise | None = Field(description="the peer's own system took it")
    rejected: Promise | None = Field(description="the peer's final no")
    ended_at: Moment | None = Field(description="when this centre ended it: expired or cancelled")
    next_attempt: Moment | None = Field(description="when what is deferred is tried again, where that is known")
    notes: list[Late] = Field(description="what came after the terminal state and against it")
    recall: Recall | None = Field(description="how far it is taken back there; null: nothing takes it back")


class HereNow(Shown):
    """Where a received message stands here."""

    state: str
    since: Moment
    code: str | None
    given_at: Moment | None = Field(description="when the centre's system was first given it")
    attempts: int = Field(description="how often the system put it off")
    retry_at: Moment | None = Field(description="when it is given out again")
    deadline: Moment | None = Field(description="after it the message is not given out for the first time; null: overruled")


class Way(Shown):
    """A message's whole way, from what is known here."""

    id: str
    direction: Literal["sent", "received"]
    origin: str
    kind: str | None = Field(description="null: it is not known without opening it, or there is nothing left to open")
    precedence: str = Field(description="its lane: a precedence, or exercise")
    envelope: str
    submitted_at: Moment = Field(description="received: when its origin sealed it, by the origin's clock")
    received_at: Moment | None = Field(description="when this centre's node had it")
    purged_at: Moment | None = Field(description="when its content was purged here")
    legal_hold: bool = Field(description="whether an order keeps it from being purged")
    recipients: list[Recipient]
    here: HereNow | None = Field(description="of a received message")
    versions: list[str] = Field(description="its first version and the updates that are known here, oldest first")
    cancelled_by: list[str] = Field(description="the cancels that take it back, or that its node sent to withdraw it")
    clocks: list[OpenClock] = Field(description="of a request: whose answer is awaited, and until when")


@dataclass(frozen=True, slots=True)
class _Sent:
    sent: Sent
    evidence: SentEvidence
    receipts: dict[int, str]
    recalls: tuple[threads.Recalled, ...]


@dataclass(frozen=True, slots=True)
class _Received:
    row: Received
    evidence: ReceivedEvidence


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store knows of a message."""

    of: _Sent | _Received
    tokens: frozenset[str]
    legal_hold: bool
    versions: tuple[str, ...]
    cancels: tuple[str, ...]
    clocks: tuple[Clock, ...]
    answers: int


async def way(node: Served, message: str) -> Way:
    """Return a message's whole way."""
    centre = node.centre
    known = await centre.store.read(partial(_find, me=centre.id, message=message))
    if known is None:
        raise NotFound("not-kept-here", f"Message {message} is not known here, neither sent nor received.")
    if isinstance(known.of, _Sent):
        return _way_of_sent(node, message, known, known.of)
    return _way_of_received(centre, message, known, known.of)


def _find(connection: Connection, me: str, message: str) -> _Known | None:
    sent, evidence = outgoing.message(connection, message), traces.sent(connection, message)
    if sent is not None and evidence is not None:
        return _find_sent(connection, me, sent, evidence)
    row, came = aside.find(connection, message), traces.received(connection, message)
    if row is None or came is None:
        return None
    first = threads.first_version(connection, came.origin, message)
    said = kept.referring(connection, first, came.origin, VERSIONS)
    versions = (first, *(one for relation, one in said if relation == "updates"))
    cancels = tuple(one for relation, one in said if relation == "cancels")
    return _known(connection, me, message, _Received(row, came), versions, cancels)


def _find_sent(connection: Connection, me: str, sent: Sent, evidence: SentEvidence) -> _Known:
    ids = traces.receipt_ids(connection, {one.receipt for one in evidence.said if one.receipt is not None})
    thread = threads.thread(connection, me, threads.first_version(connection, me, sent.id))
    if thread is None:  # its first version is not of this centre: nothing can be taken back
        return _known(connection, me, sent.id, _Sent(sent, evidence, ids, ()), (sent.id,), ())
    later = (*thread.versions[1:], *thread.cancels, *thread.withdrawals)
    recalls = threads.recall_of(thread, threads.purged_by(connection, later)) if later else ()
    of = _Sent(sent, evidence, ids, recalls)
    return _known(connection, me, sent.id, of, thread.versions, (*thread.cancels, *thread.withdrawals))


def _known(
    connection: Connection, me: str, message: str, of: _Sent | _Received, versions: tuple[str, ...], cancels: tuple[str, ...]
) -> _Known:
    running = clocks.of(connection, message)
    number = found.number_of(connection, message)
    return _Known(
        of=of,
        tokens=found.tokens(connection, [number]).get(number, frozenset()) if number is not None else frozenset(),
        legal_hold=aside.is_on_legal_hold(connection, message),
        versions=versions,
        cancels=cancels,
        clocks=tuple(running),
        answers=len(clocks.answers(connection, me, running)) if running else 0,
    )


def _way_of_sent(node: Served, message: str, known: _Known, of: _Sent) -> Way:
    centre, sent = node.centre, of.sent
    recalls = {one.centre: Recall(by=one.by, purged_at=one.purged_at) for one in of.recalls}
    return Way(
        id=message,
        direction="sent",
        origin=centre.id,
        kind=kind_of(centre, known.tokens),
        precedence=sent.lane,
        envelope=of.evidence.envelope,
        submitted_at=sent.submitted_at,
        received_at=None,
        purged_at=sent.purged_at,
        legal_hold=known.legal_hold,
        recipients=[_recipient(node, of, to, steps, recalls.get(to)) for to, steps in sorted(sent.recipients.items())],
        here=None,
        versions=list(known.versions),
        cancelled_by=list(known.cancels),
        clocks=_clocks(centre, known),
    )


def _way_of_received(centre: Centre, message: str, known: _Known, of: _Received) -> Way:
    row, core = of.row, read_core(of.evidence.resting.header)
    return Way(
        id=message,
        direction="received",
        origin=row.origin,
        kind=kind_of(centre, known.tokens),
        precedence=row.lane,
        envelope=row.envelope,
        submitted_at=core.time,
        received_at=row.received_at,
        purged_at=row.purged_at,
        legal_hold=known.legal_hold,
        recipients=_addressed(centre, core, row),
        here=HereNow(
            state=row.state,
            since=row.since,
            code=row.code,
            given_at=row.given_at,
            attempts=row.attempts,
            retry_at=row.retry_at,
            deadline=row.deadline or None,
        ),
        versions=list(known.versions),
        cancelled_by=list(known.cancels),
        clocks=_clocks(centre, known),
    )


def kind_of(centre: Centre, tokens: frozenset[str]) -> str | None:
    """Return the kind by whose token a message is found; an update is one, whatever it updates."""
    kinds = [kind for kind in models.MODELS if centre.keeper.tokens([f"kind:{kind}"]) in tokens]
    return "update" if "update" in kinds else next(iter(kinds), None)


def _recipient(node: Served, of: _Sent, to: str, steps: Sequence[Step], recall: Recall | None) -> Recipient:
    first = _first(step for step in steps if not step.note)
    last = _last(first)
    due = node.pump.next_attempt(to, of.sent.lane) if last.state == "deferred" else None
    ended = next((first[state] for state in sorted(ENDED) if state in first), None)
    return Recipient(
        centre=to,
        state=last.state,
        since=last.at,
        code=last.code,
        queued_at=_at(first.get("queued")),
        sent_at=_at(first.get("sent")),
        accepted=_promise(of, to, first.get("accepted")),
        delivered=_promise(of, to, first.get("delivered")),
        rejected=_promise(of, to, first.get("rejected")),
        ended_at=_at(ended),
        next_attempt=due,
        notes=[Late(state=step.state, at=step.at, code=step.code) for step in steps if step.note],
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


def _promise(of: _Sent, to: str, step: Step | None) -> Promise | None:
    if step is None:
        return None
    numbers = (one.receipt for one in of.evidence.said if (one.recipient, one.state, one.at) == (to, step.state, step.at))
    number = next((one for one in numbers if one is not None), None)
    return Promise(at=step.at, receipt=of.receipts.get(number) if number is not None else None)


def _addressed(centre: Centre, core: Core, row: Received) -> list[Recipient]:
    """Return to whom a received message was addressed: this centre first, of the others nothing is known."""
    others = sorted(to.centre for to in core.to if to.centre != centre.id)
    return [_ours(centre.id, row), *(_nothing_known(other) for other in others)]


def _ours(me: str, row: Received) -> Recipient:
    refused = row.state in ("quarantined", "rejected")
    on_arrival = refused and row.since == row.received_at
    state = "accepted" if row.state not in (*TERMINAL, "quarantined", "withdrawn") else row.state
    return Recipient(
        **{
            **dict(_nothing_known(me)),
            "state": "rejected" if row.state == "quarantined" else state,
            "since": row.since,
            "code": row.code if refused else None,
            "accepted": None if on_arrival or row.state == "quarantined" else Promise(at=row.received_at, receipt=None),
            "delivered": Promise(at=row.since, receipt=None) if row.state == "delivered" else None,
            "rejected": Promise(at=row.since, receipt=None) if refused else None,
        }
    )


def _nothing_known(centre: str) -> Recipient:
    return Recipient(
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


def _clocks(centre: Centre, known: _Known) -> list[OpenClock]:
    return [shown(clock, known.answers, centre.now()) for clock in known.clocks]


def _at(step: Step | None) -> int | None:
    return None if step is None else step.at
