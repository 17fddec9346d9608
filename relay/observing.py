"""Observing: looks every few seconds at all that is open, set aside or late, for metrics, views and pages.

A look reads the store in steps of some ten milliseconds and leaves its readers free as long after each step; after a look it
rests twenty times as long as the look kept the processor busy, so what is observed is old, and not the node slow, when there is
very much of it. What a look only waited for counts for nothing, else the next one after the machine stalled for ten seconds would
come minutes later. A million open messages cost 0.1 s of CPU in 4 steps when they are 64 to an envelope, and 3.3 s in 250 steps,
then a minute of rest, when each has its own; what is settled costs nothing, and of a million received messages the half that
waits or is dead 30 to 90 ms (two cores shared with others, by the process's own clock of CPU).

:attr:`Observer.latest` says when it was made. While the store can't be read it stays, and :attr:`Observer.trouble` says why.

Recalls are followed by thread: once every centre that held something has signed that nothing is left, a thread is not looked at
again. After a start with many recalls behind it, a node needs some looks until it has been through all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from relay import topology
from relay.centre import Centre
from relay.errors import RelayError
from relay.log import Event
from relay.observation import SPAN_SECONDS, Answers, Lane, Observation, Peer, SetAside, earliest, seconds_since
from relay.rates import Rates
from relay.store import Connection, Store, aside, clocks, incoming, observed

EVERY_SECONDS = 2.0
REST_FACTOR = 20
RECALLS_AT_ONCE = 200
OVERLAP = 500
"""Newest recalls that are asked for again: one of an earlier id may have been committed later."""

Recalls = dict[str, tuple[int, int | None]]
"""Per peer how many recalls are open, and since when the first of them has been, in milliseconds."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is counted at once, besides what is open."""

    missing: dict[str, int]
    aside: dict[str, int]
    held_since: int | None
    clocks: dict[bool, tuple[int, int]]
    waiting: int
    waiting_since: int | None


class Observer:
    """Looks, and keeps what it saw; ``latest`` is None before the first look, ``trouble`` why the last one failed, or None."""

    def __init__(self, centre: Centre) -> None:
        self.latest: Observation | None = None
        self.trouble: RelayError | None = None
        self._centre = centre
        self._recalls = _Recalls(centre.id)
        self._rates = Rates()
        self._known: set[str] = set()
        self._looking = asyncio.Lock()
        self._reader = _Reader(centre.store)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_again(), name="observer looks")
            group.create_task(self._follow_traffic(), name="observer traffic")

    async def look(self) -> Observation:
        """Look now; raise ``StoreTrouble`` when the store can't be read."""
        async with self._looking:
            now, reader = self._centre.now(), _Reader(self._centre.store)
            self._reader = reader
            count = observed.Count(now)
            more = True
            while more:
                more = await reader.read(count.step)
                await asyncio.sleep(reader.last)
            lanes = await reader.read(count.lanes)
            rest = await reader.read(partial(_rest, now=now))
            recalls = await reader.read(self._recalls.look)
            self.latest = self._together(now, reader.busy, lanes, rest, recalls)
        self._show(self.latest)
        return self.latest

    async def _look_again(self) -> None:
        while True:
            try:
                await self.look()
            except RelayError as trouble:
                if self.trouble is None:
                    self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
                self.trouble = trouble
            else:
                self.trouble = None
            await asyncio.sleep(max(EVERY_SECONDS, REST_FACTOR * self._reader.busy))

    async def _follow_traffic(self) -> None:
        """End a span of the traffic every ten seconds; what was observed before is shown with it at once."""
        metrics = self._centre.metrics
        while True:
            await asyncio.sleep(SPAN_SECONDS)
            self._rates.note(self._peers(), metrics.by_peer(metrics.sent_messages), metrics.by_peer(metrics.accepted))
            if (latest := self.latest) is not None:
                self.latest = replace(latest, peers=tuple(replace(one, traffic=self._rates.of(one.id)) for one in latest.peers))

    def _peers(self) -> list[str]:
        return [one for one in sorted(self._centre.directory.active) if one != self._centre.id]

    def _together(self, at: int, seconds: float, lanes: list[Lane], rest: _Rest, recalls: Recalls) -> Observation:
        by_peer: dict[str, list[Lane]] = {peer: [] for peer in self._peers()}
        for lane in sorted(lanes, key=lambda one: topology.LANES.index(one.precedence)):
            by_peer.setdefault(lane.peer, []).append(lane)
        peers = tuple(
            Peer(peer, tuple(some), rest.missing.get(peer, 0), *recalls.get(peer, (0, None)), self._rates.of(peer))
            for peer, some in by_peer.items()
        )
        sent = {state: sum(getattr(lane, state) for lane in lanes) for state in ("deferred", "held", "dead")}
        return Observation(
            at=at,
            seconds=seconds,
            peers=peers,
            sent_aside=SetAside(**sent, held_since=earliest(lane.held_since for lane in lanes)),
            received_aside=SetAside(**rest.aside, held_since=rest.held_since),
            asked=Answers(*rest.clocks.get(True, (0, 0))),
            received=Answers(*rest.clocks.get(False, (0, 0))),
            waiting=rest.waiting,
            waiting_since=rest.waiting_since,
        )

    def _show(self, seen: Observation) -> None:
        """Set the gauges of what was seen; peers that left the directory have none any more."""
        metrics, active = self._centre.metrics, self._peers()
        listed = {member.id for member in self._centre.directory.members}
        for gone in (self._known | listed) - set(active):
            metrics.forget(gone)
        self._known = set(active)
        now = self._centre.now()
        for peer in active:
            self._show_peer(seen.peer(peer), now)
        for side, one in (("sent", seen.sent_aside), ("received", seen.received_aside)):
            metrics.deferred.labels(side).set(one.deferred)
            metrics.held.labels(side).set(one.held)
            metrics.dead.labels(side).set(one.dead)
            metrics.held_oldest.labels(side).set(seconds_since(one.held_since, now))
        metrics.quarantined.set(seen.received_aside.quarantined)
        metrics.stages["handover"].set(seen.waiting)
        metrics.observed.set(seen.at / 1000)

    def _show_peer(self, peer: Peer, now: int) -> None:
        metrics, lanes = self._centre.metrics, {lane.precedence: lane for lane in peer.lanes}
        for precedence in topology.LANES:
            lane = lanes.get(precedence)
            metrics.open.labels(peer.id, precedence).set(lane.open if lane else 0)
            metrics.oldest.labels(peer.id, precedence).set(lane.oldest_seconds(now) if lane else 0)
            metrics.at_risk.labels(peer.id, precedence).set(lane.at_risk if lane else 0)
        metrics.gaps.labels(peer.id).set(peer.gaps)
        metrics.recalls.labels(peer.id).set(peer.recalls)
        metrics.recalls_oldest.labels(peer.id).set(seconds_since(peer.recalls_since, now))


class _Recalls:
    """The threads of which not every centre signed that nothing is left; looked at a bounded number at a time."""

    def __init__(self, centre: str) -> None:
        self._centre = centre
        self._newest: deque[str] = deque(maxlen=OVERLAP)
        self._open: dict[str, dict[str, int | None]] = {}

    def look(self, connection: Connection) -> Recalls:
        """Take up new recalls and look at open ones again, the longest not looked at first; return what is open by peer."""
        after = self._newest[0] if len(self._newest) == OVERLAP else ""
        found = observed.recalls(connection, self._centre, after, len(self._newest) + RECALLS_AT_ONCE)
        known = set(self._newest)
        fresh = [one for one in found if one[0] not in known]
        for identity, first in fresh:
            self._newest.append(identity)
            self._open.setdefault(first, {})
        again = dict.fromkeys([*(first for _, first in fresh), *list(self._open)[:RECALLS_AT_ONCE]])
        for first, peers in observed.unconfirmed(connection, self._centre, list(again)).items():
            del self._open[first]
            if peers:
                self._open[first] = peers
        return _counted(one for peers in self._open.values() for one in peers.items())


class _Reader:
    """Reads the store and notes how long that took the last time, and how much CPU it took in all; in seconds."""

    def __init__(self, store: Store) -> None:
        self.busy = 0.0
        self.last = 0.0
        self._store = store

    async def read(self, job: Callable[[Connection], T]) -> T:
        """Return what a job returns."""

        def timed(connection: Connection) -> T:
            begun, busy = time.monotonic(), time.thread_time()
            try:
                return job(connection)
            finally:
                self.busy += time.thread_time() - busy
                self.last = time.monotonic() - begun

        return await self._store.read(timed)


def _rest(connection: Connection, now: int) -> _Rest:
    return _Rest(
        missing=observed.missing(connection),
        aside=aside.counts(connection),
        held_since=observed.held_since(connection),
        clocks=clocks.counts(connection, now),
        waiting=incoming.waiting(connection),
        waiting_since=observed.waiting_since(connection, range(len(topology.LANES))),
    )


def _counted(some: Iterable[tuple[str, int | None]]) -> Recalls:
    found: dict[str, list[int | None]] = {}
    for peer, since in some:
        found.setdefault(peer, []).append(since)
    return {peer: (len(times), earliest(times)) for peer, times in found.items()}
