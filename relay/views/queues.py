"""The shape of the queues: what is open at each peer, and what waits for the centre's own system, by age.

As Postfix's ``qshape``: a row a queue, a column an age. A backlog that is young everywhere is traffic; one that is old at one
peer is a peer that does not take, and one that is old everywhere is this node's broker. What is open was counted by the node's
observer some seconds ago (``at`` says when); what waits here is counted now.

Errors raised: ``StoreTrouble`` when the store can't be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from pydantic import Field

from relay.observation import AGES, Lane, Observation
from relay.store.listed import received
from relay.store.listed.received import Ages
from relay.views.times import Moment, Shown
from relay.web.served import Served

NAMES = ("1m", "5m", "15m", "1h", "6h", "1d", "1d+")
"""What the columns are called: up to a minute, up to five, and so on; the last is everything older."""


class Queue(Shown):
    """What waits in one queue, by age."""

    centre: str | None = Field(description="the peer that has not ended it; null: this centre's own system has not taken it")
    precedence: str | None = Field(description="its lane, when asked for by precedence: a precedence, or exercise")
    messages: int
    ages: list[int] = Field(description="how many are of each age, as `ages` above; every message counts in one of them")
    oldest_seconds: float | None = Field(description="age of the oldest; null when there is none")
    deferred: int = Field(description="of these: tried again by itself")
    held: int = Field(description="of these: parked by an operator")
    dead: int = Field(description="of these: tried by nobody any more")
    at_risk: int = Field(description="of these: with little time left to their deadline")


class Queues(Shown):
    """The shape of the queues."""

    at: Moment | None = Field(description="when what is open at the peers was counted; null: not yet since the node's start")
    ages: list[str] = Field(description="the columns: ages up to a minute, up to 5, and so on; the last is everything older")
    outgoing: list[Queue] = Field(description="what peers have not ended, the oldest first; nothing open, no row")
    inbox: list[Queue] = Field(description="what the centre's own system has not acknowledged")
    total: list[int] = Field(description="all of it by age")


async def queues(node: Served, *, by_precedence: bool = False) -> Queues:
    """Return the shape of the queues: a row a peer, or a peer and lane."""
    now, seen = node.centre.now(), node.observer.latest
    waiting = await node.centre.store.read(partial(received.ages, now=now, ages=AGES))
    outgoing = _outgoing(seen, by_precedence=by_precedence)
    inbox = _inbox(waiting, now, by_precedence=by_precedence)
    return Queues(
        at=None if seen is None else seen.at,
        ages=list(NAMES),
        outgoing=sorted(outgoing, key=lambda one: (-(one.oldest_seconds or 0), one.centre or "", one.precedence or "")),
        inbox=inbox,
        total=_sum(one.ages for one in (*outgoing, *inbox)),
    )


def _outgoing(seen: Observation | None, *, by_precedence: bool) -> list[Queue]:
    if seen is None:
        return []
    rows = [(peer.id, [lane]) for peer in seen.peers for lane in peer.lanes]
    if not by_precedence:
        rows = [(peer.id, list(peer.lanes)) for peer in seen.peers]
    return [_queue(peer, lanes, seen.at, by_precedence=by_precedence) for peer, lanes in rows if any(one.open for one in lanes)]


def _queue(peer: str, lanes: Sequence[Lane], at: int, *, by_precedence: bool) -> Queue:
    return Queue(
        centre=peer,
        precedence=lanes[0].precedence if by_precedence else None,
        messages=sum(one.open for one in lanes),
        ages=_sum(one.ages for one in lanes),
        oldest_seconds=max(one.oldest_seconds(at) for one in lanes),
        deferred=sum(one.deferred for one in lanes),
        held=sum(one.held for one in lanes),
        dead=sum(one.dead for one in lanes),
        at_risk=sum(one.at_risk for one in lanes),
    )


def _inbox(waiting: dict[str, Ages], now: int, *, by_precedence: bool) -> list[Queue]:
    """Return what waits here, as one row or one a lane."""
    groups = [(lane, [ages]) for lane, ages in waiting.items()]
    if not by_precedence:
        groups = [("", list(waiting.values()))] if waiting else []
    return [_waiting(lane or None, some, now) for lane, some in groups]


def _waiting(precedence: str | None, some: Sequence[Ages], now: int) -> Queue:
    since = min((one.since for one in some if one.since is not None), default=None)
    counts = _sum(one.counts for one in some)
    return Queue(
        centre=None,
        precedence=precedence,
        messages=sum(counts),
        ages=counts,
        oldest_seconds=None if since is None else max(now - since, 0) / 1000,
        deferred=0,
        held=0,
        dead=0,
        at_risk=0,
    )


def _sum(rows: Iterable[Sequence[int]]) -> list[int]:
    """Return the sum of rows by column."""
    total = [0] * (len(AGES) + 1)
    for row in rows:
        total = [a + b for a, b in zip(total, row, strict=True)]
    return total
