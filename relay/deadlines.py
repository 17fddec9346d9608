"""Two clocks: the deadline, after which a message without a final word of its recipient ends, and the alarm long before that.

When a message's deadline and a time of grace have passed, its origin signs ``expired`` for every recipient without a terminal
state. That says only "no proof of delivery": a receipt that comes later is kept and shown as a note. The grace lets the receipt
arrive of what was handed out at the last moment. While this machine's clock is doubted (:mod:`relay.timekeeping`) nothing ends.

An alarm names a peer, a lane and a promise that was not kept in time: ``accepted`` after a time that depends on the precedence,
``delivered`` after twice that; and ``half``, when half of the time to the deadline is over. It carries the number of messages,
the age of the oldest, and whom to call: the peer's duty contact from the directory. It is logged once and is over when nothing
of it is left. What is late is decided by functions that read no clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from relay import points, topology
from relay.audit import AuditStep
from relay.centre import Centre
from relay.control import Control, Ended, Why
from relay.directory import Contact
from relay.errors import StoreTrouble
from relay.log import Event
from relay.points import Point
from relay.store import Connection, aged, ended
from relay.store.aged import Aged
from relay.store.said import Settled

Promise = Literal["accepted", "delivered", "half"]

NEAR_SECONDS = 1.0
FAR_SECONDS = 5.0
PAGE = 500
DELIVERED_FACTOR = 2
"""How many times as long as for ``accepted`` a message may take to be ``delivered``."""

EXPIRED = Why("expired", AuditStep.EXPIRED)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A promise that a peer has not kept in time for messages of a lane, the oldest submitted at ``since`` (milliseconds)."""

    peer: str
    lane: str
    promise: Promise
    messages: int
    since: int

    @property
    def about(self) -> tuple[str, str, Promise]:
        """What it is about: it stays one alarm while this is the same."""
        return self.peer, self.lane, self.promise


def limit(seconds: Mapping[str, float], lane: str, promise: Promise) -> int:
    """Return how many milliseconds a message of a lane may take; an exercise takes as long as ``routine``."""
    precedence = "routine" if lane == topology.EXERCISE else lane
    return int(seconds[precedence] * 1000) * (DELIVERED_FACTOR if promise == "delivered" else 1)


def raised(found: Mapping[Promise, Sequence[Aged]]) -> list[Alarm]:
    """Return the alarms of what was found late, the most urgent lane first, then by peer and promise."""
    alarms = [Alarm(one.recipient, one.lane, promise, one.messages, one.since) for promise, some in found.items() for one in some]
    return sorted(alarms, key=lambda alarm: (topology.LANES.index(alarm.lane), alarm.peer, alarm.promise))


def pause(next_deadline: int | None, grace: int, now: int) -> float:
    """Return how many seconds to wait before looking again: less when something is about to end."""
    near = next_deadline is not None and next_deadline + grace - now <= FAR_SECONDS * 1000
    return NEAR_SECONDS if near else FAR_SECONDS


class Deadlines:
    """Ends what is over, and raises alarms; ``settled`` takes what is ended. ``alarms`` are those that stand now."""

    def __init__(self, centre: Centre, control: Control, settled: Callable[[Sequence[Settled]], None]) -> None:
        self.alarms: tuple[Alarm, ...] = ()
        self._centre = centre
        self._control = control
        self._settled = settled
        self._grace = int(centre.settings.deadlines.grace * 1000)

    async def run(self) -> None:
        """Look after both clocks until cancelled."""
        while True:
            wait = FAR_SECONDS
            try:
                while await self._end_some():
                    pass
                await self._look()
                wait = pause(await self._centre.store.read(ended.next_deadline), self._grace, self._centre.now())
            except StoreTrouble as trouble:  # the next look finds the same
                self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
            await asyncio.sleep(wait)

    def contact(self, peer: str) -> Contact | None:
        """Return whom to call at a peer, or None when it is no member any more."""
        member = self._centre.directory.member(peer)
        return member.contact if member else None

    async def _end_some(self) -> bool:
        """End a page of what is over; return whether there may be more."""
        now = self._centre.now()
        if self._centre.doubt() is not None:
            return False

        def end(connection: Connection) -> tuple[int, Ended]:
            over = ended.over(connection, now - self._grace, PAGE)
            return len(over), self._control.end(connection, over, EXPIRED, now)

        if not await self._centre.store.read(partial(ended.is_over, until=now - self._grace)):
            return False
        points.reach(Point.EXPIRE_COMMIT_BEFORE)
        count, done = await self._centre.store.write(end)
        points.reach(Point.EXPIRE_COMMIT_AFTER)
        self._settled(done.settled)
        for peer, raw in done.voids:
            self._control.post(peer, raw)
        points.reach(Point.EXPIRE_POSTED)
        for (peer, lane), messages in done.counts.items():
            self._centre.metrics.ended.labels(peer, "expired").inc(messages)
            self._centre.log.warning(Event.OUTBOX_ENDED, peer=peer, lane=lane, state="expired", messages=messages)
        done.tell(self._centre.log)
        return count == PAGE

    async def _look(self) -> None:
        """Find out what is late, and say what changed."""
        now, seconds = self._centre.now(), self._centre.settings.alarms.model_dump()

        def find(connection: Connection) -> dict[Promise, list[Aged]]:
            return {
                "accepted": aged.unaccepted(connection, lambda lane: now - limit(seconds, lane, "accepted")),
                "delivered": aged.undelivered(connection, lambda lane: now - limit(seconds, lane, "delivered")),
                "half": aged.half_over(connection, now),
            }

        before = {alarm.about for alarm in self.alarms}
        self.alarms = tuple(raised(await self._centre.store.read(find)))
        gone = before - {alarm.about for alarm in self.alarms}
        for alarm in self.alarms:
            if alarm.peer in self._centre.directory.active:  # else its gauges have ended
                self._centre.metrics.alarms.labels(*alarm.about).set(alarm.messages)
            if alarm.about not in before:
                self._say(alarm, now)
        for peer, lane, promise in gone:
            self._centre.metrics.alarms.remove(peer, lane, promise)
            self._centre.log.info(Event.ALARM_OVER, peer=peer, lane=lane, promise=promise)

    def _say(self, alarm: Alarm, now: int) -> None:
        contact = self.contact(alarm.peer)
        self._centre.log.warning(
            Event.ALARM_RAISED,
            peer=alarm.peer,
            lane=alarm.lane,
            promise=alarm.promise,
            messages=alarm.messages,
            oldest_seconds=(now - alarm.since) // 1000,
            contact=None if contact is None else f"{contact.name}, {contact.telephone}, {contact.email}",
        )
