"""The network as this centre sees it: itself, and every peer, those that need somebody first.

Peers stand in this order: silent, then late, then not yet heard since this node's start, then the others; by id among equals.
What the store knows is left open while it can't be read, and ``trouble`` says why; who lives, who is late, what was open at the
last look, and whom to call is known without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pydantic import Field

import relay
from relay import observation
from relay.clock import to_ms
from relay.directory import Member
from relay.errors import StoreTrouble
from relay.observation import SPAN_SECONDS, Observation
from relay.views import peers
from relay.views.peers import PeerState, Rows
from relay.views.times import Moment, Shown, local
from relay.web.served import Readiness, Served


class LateAlarm(Shown):
    """A promise that a peer has not kept in time."""

    precedence: str = Field(description="lane of the messages: a precedence, or exercise")
    promise: str = Field(description="accepted, delivered, or half: half of the time to their deadline is over")
    messages: int = Field(description="how many, counted up to some thousands")
    oldest_at: Moment = Field(description="when the oldest of them was submitted")


class Unreceipted(Shown):
    """What is open at a peer in one lane: no terminal receipt of it came."""

    precedence: str = Field(description="lane of the messages: a precedence, or exercise")
    messages: int
    oldest_seconds: float = Field(description="age of the oldest of what was open at `observed_at`")


class Rate(Shown):
    """How many messages went one way, lately."""

    per_second: float = Field(description="over the last whole ten seconds")
    tens: list[int] = Field(description="messages in each ten seconds of the last hour, the newest last")


class Peer(PeerState):
    """A peer: whether it lives, what it owes, what it goes by, and whom to call."""

    name: str
    heard_seconds: float | None = Field(description="age of its last heartbeat; null when none is known")
    oldest: list[Unreceipted] = Field(description="what it has not receipted, the most urgent lane first; empty: nothing")
    sent: Rate = Field(description="messages to it")
    received: Rate = Field(description="messages of it")
    local_time: str | None = Field(description="what clocks show at its seat; null: its time zone is not known here")
    utc_offset: str | None = Field(description="of its local time, such as +01:00")
    late: list[LateAlarm] = Field(description="promises that it has not kept in time, the most urgent lane first")


class ThisCentre(Shown):
    """The centre whose node this is, and how the node does."""

    id: str
    name: str
    ready: bool
    problems: list[str] = Field(description="sentences; empty when the node is ready")
    warnings: list[str] = Field(description="sentences: what to see to soon; it works all the same")
    epoch: int
    directory_version: int
    directory_warn_after: Moment
    directory_expires_at: Moment
    release: str
    broker_connected: bool
    unsent_envelopes: int = Field(description="envelopes that wait for the broker")
    open_messages: int | None = Field(
        description="messages without a terminal receipt, once for each recipient; null: not looked at yet"
    )
    local_time: str | None
    utc_offset: str | None


class Stuck(Shown):
    """What does not go on by itself here, of both sides, and answers that are overdue, as the node last saw."""

    dead: int = Field(description="messages that nobody tries again by itself; what was sent counts once for each recipient")
    held: int = Field(description="messages that an operator parked")
    quarantined: int = Field(description="messages that were refused on arrival")
    deferred: int = Field(description="messages that are tried again by themselves, later")
    owed: int = Field(description="overdue answers that this centre owes")
    awaited: int = Field(description="overdue answers that peers owe this centre")


class Network(Shown):
    """The network as this centre sees it now."""

    at: Moment
    centre: ThisCentre
    peers: list[Peer] = Field(description="silent ones first, then late ones, then those not heard yet")
    stuck: Stuck | None = Field(description="what does not go on by itself, and what is overdue; null: not looked at yet")
    observed_at: Moment | None = Field(description="when what is open and the rates were looked at; null: not yet")
    trouble: list[str] = Field(description="sentences: what can't be known now, and why")


_ORDER = {"silent": 0, "never": 2, "heard": 3}
_LATE = 1


class Asked(Protocol):
    """Who knows whether the node is ready."""

    async def problems(self) -> tuple[str, ...]:
        """Return the sentences that say why it is not; none when it is."""


async def network(node: Served, readiness: Asked | None = None) -> Network:
    """Return the network as this centre sees it; without ``readiness`` the node is asked anew whether it is ready."""
    problems = await (readiness or Readiness(node)).problems()
    found, trouble = await _read(node)
    now, seen = node.centre.now(), node.observer.latest
    shown = [_peer(node, member, found, seen, now) for member in peers.others(node)]
    return Network(
        at=now,
        centre=_centre(node, problems, seen, now),
        peers=sorted(shown, key=_urgency),
        stuck=_stuck(seen) if seen else None,
        observed_at=seen.at if seen else None,
        trouble=list(dict.fromkeys([*trouble, *([node.observer.trouble.detail] if node.observer.trouble else [])])),
    )


async def _read(node: Served) -> tuple[Rows, list[str]]:
    try:
        return await node.centre.store.read(peers.rows), []
    except StoreTrouble as trouble:
        return Rows(), [trouble.detail]


def _centre(node: Served, problems: tuple[str, ...], seen: Observation | None, now: int) -> ThisCentre:
    centre, register = node.centre, node.centre.directory
    member = register.member(centre.id)
    time, offset = _clock(now, member)
    return ThisCentre(
        id=centre.id,
        name=member.name if member else centre.id,
        ready=not problems,
        problems=list(problems),
        warnings=[*node.custody.warnings, *filter(None, [centre.doubt()])],
        epoch=centre.store.epoch,
        directory_version=register.version,
        directory_warn_after=to_ms(register.warn_after),
        directory_expires_at=to_ms(register.expires_at),
        release=relay.__version__,
        broker_connected=node.broker.connected.is_set(),
        unsent_envelopes=node.pump.waiting,
        open_messages=seen.open if seen else None,
        local_time=time,
        utc_offset=offset,
    )


def _stuck(seen: Observation) -> Stuck:
    sent, received = seen.sent_aside, seen.received_aside
    return Stuck(
        dead=sent.dead + received.dead,
        held=sent.held + received.held,
        quarantined=sent.quarantined + received.quarantined,
        deferred=sent.deferred + received.deferred,
        owed=seen.received.overdue,
        awaited=seen.asked.overdue,
    )


def _peer(node: Served, member: Member, found: Rows, seen: Observation | None, now: int) -> Peer:
    state = peers.peer(node, member, found)
    here = seen.peer(member.id) if seen else observation.Peer(member.id)
    time, offset = _clock(now, member)
    return Peer(
        **dict(state),
        name=member.name,
        heard_seconds=None if state.heard_at is None else max(0.0, (now - state.heard_at) / 1000),
        oldest=[
            Unreceipted(precedence=lane.precedence, messages=lane.open, oldest_seconds=lane.oldest_seconds(now))
            for lane in here.lanes
        ],
        sent=_rate(here.traffic.sent),
        received=_rate(here.traffic.received),
        local_time=time,
        utc_offset=offset,
        late=[
            LateAlarm(precedence=one.lane, promise=one.promise, messages=one.messages, oldest_at=one.since)
            for one in node.deadlines.alarms
            if one.peer == member.id
        ],
    )


def _rate(spans: Sequence[int]) -> Rate:
    return Rate(per_second=spans[-1] / SPAN_SECONDS, tens=list(spans))


def _clock(now: int, member: Member | None) -> tuple[str | None, str | None]:
    """Return what clocks show at a centre's seat, to the second, and its offset from UTC."""
    shown = local(now, member.time_zone) if member else None
    if shown is None:
        return None, None
    text = shown.isoformat(timespec="seconds")
    return text, text[-6:]


def _urgency(peer: Peer) -> tuple[int, str]:
    order = _ORDER[peer.state]
    return min(order, _LATE) if peer.late else order, peer.centre
