"""Intake: what the broker delivered and nobody has taken up yet, and in which groups it is taken.

A group is what waited when the last one was done with, of one lane alone (nearly always the most urgent: :mod:`relay.turns`), in
order of arrival, so that acknowledging may be cumulative. It is bounded, since what is more urgent waits for the end of the group
before it: for a tenth of a second at most, not for as long as a backlog takes. What the broker delivered before, or gave up on,
is a group of its own: should that end the process once more, nothing else was on the way.
"""

from __future__ import annotations

import asyncio

from relay import topology
from relay.broker import Delivery
from relay.turns import Turns

MAX_GROUP = 64
MAX_GROUP_BYTES = 512 * 1024  # some 250 messages of the usual size: by far enough to share a commit

_ORDER = {lane: rank for rank, lane in enumerate(topology.LANES)}


class Intake:
    """Lets deliveries wait; ``pause`` seconds let more of them come together into one group."""

    def __init__(self, pause: float = 0) -> None:
        self.idle = asyncio.Event()
        self.idle.set()
        self._waiting: list[Delivery] = []
        self._taken = 0
        self._arrived = asyncio.Event()
        self._pause = pause
        self._turns = Turns()

    def __len__(self) -> int:
        """Return how many deliveries wait or are being taken in."""
        return len(self._waiting) + self._taken

    def add(self, delivery: Delivery) -> None:
        """Let a delivery wait. What a lost connection delivered comes again, so it is let go: it would pile up."""
        if self._waiting and self._waiting[0].gone:
            self._waiting = [waiting for waiting in self._waiting if not waiting.gone]
        self._waiting.append(delivery)
        self.idle.clear()
        self._arrived.set()

    async def take(self) -> list[Delivery]:
        """Wait for a delivery, then return the next group."""
        await self._arrived.wait()
        if self._pause:
            await asyncio.sleep(self._pause)
        turn = self._turns.next([_rank(delivery) for delivery in self._waiting])
        self._waiting.sort(key=lambda delivery: _rank(delivery) != turn)  # what was asked for first; else in order of arrival
        count = _length_of_group(self._waiting)
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        self._taken = len(group)
        return group

    def rest(self) -> None:
        """Note that a group is done with."""
        self._taken = 0
        if not self._waiting:
            self._arrived.clear()
            self.idle.set()


def _rank(delivery: Delivery) -> int:
    return _ORDER.get(delivery.lane, len(_ORDER))


def is_alone(delivery: Delivery) -> bool:
    """Return whether a delivery is taken up by itself."""
    return delivery.redelivered or delivery.lane == topology.POISON


def _length_of_group(waiting: list[Delivery]) -> int:
    """Return how many of those that wait are taken up together."""
    if is_alone(waiting[0]):
        return 1
    size = 0
    for count, delivery in enumerate(waiting[:MAX_GROUP]):
        if is_alone(delivery) or delivery.lane != waiting[0].lane:
            return count
        size += len(delivery.raw)
        if size >= MAX_GROUP_BYTES:
            return count + 1
    return min(len(waiting), MAX_GROUP)
