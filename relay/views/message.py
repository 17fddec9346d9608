"""One message's whole way: where it stands at every centre, what took it back, whose answer it awaits, what the record says.

Nothing of the content is read here: :mod:`relay.views.content` does, with a reason.

Errors raised: ``NotFound`` (``not-kept-here``), ``StoreTrouble``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import Field

from relay import messages as models
from relay.centre import Centre
from relay.envelope import Core, read_core
from relay.errors import NotFound
from relay.store import Connection, aside, clocks, found, kept, outgoing, threads, traces
from relay.store.aside import Received
from relay.store.clocks import Clock
from relay.store.history import Step
from relay.store.outgoing import Sent
from relay.store.traces import ReceivedEvidence, SentEvidence
from relay.views import peers, recipient
from relay.views.recipient import AtRecipient, TakenBack
from relay.views.requests import OpenClock, shown
from relay.views.times import Moment, Shown
from relay.web.served import Served

VERSIONS = ("updates", "cancels")
AWAITED = frozenset({"queued", "sent", "accepted", "deferred"})
"""States in which the recipient is expected to act, or the broker for it."""


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
    deadline: Moment | None = Field(description="by when it is to be delivered; null: an operator overruled it")
    purged_at: Moment | None = Field(description="when its content was purged here")
    legal_hold: bool = Field(description="whether an order keeps it from being purged")
    recipients: list[AtRecipient]
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
    recalls = {one.centre: TakenBack(by=one.by, purged_at=one.purged_at) for one in of.recalls}
    return Way(
        id=message,
        direction="sent",
        origin=centre.id,
        kind=kind_of(centre, known.tokens),
        precedence=sent.lane,
        envelope=of.evidence.envelope,
        submitted_at=sent.submitted_at,
        received_at=None,
        deadline=read_core(of.evidence.resting.header).messages[of.evidence.position].deadline,
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
        deadline=row.deadline or None,
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


def _recipient(node: Served, of: _Sent, to: str, steps: Sequence[Step], recall: TakenBack | None) -> AtRecipient:
    found = recipient.of_ours(of.evidence, of.receipts, to, steps, recall, node.pump.next_attempt(to, of.sent.lane))
    if found.state not in AWAITED:
        return found
    return found.model_copy(update={"peer": node.heartbeats.state(to), "duty": peers.duty(node, to)})


def _addressed(centre: Centre, core: Core, row: Received) -> list[AtRecipient]:
    """Return to whom a received message was addressed: this centre first, of the others nothing is known."""
    others = sorted(to.centre for to in core.to if to.centre != centre.id)
    return [recipient.here(centre.id, row), *(recipient.unknown(other) for other in others)]


def _clocks(centre: Centre, known: _Known) -> list[OpenClock]:
    return [shown(clock, known.answers, centre.now()) for clock in known.clocks]
