"""Waiting: envelopes that name a newer directory than this node has, and that its own can't judge, until it comes.

They wait in memory, bounded in number, bytes and seconds; they were acknowledged to the broker, so they hold up no other. What
is lost here with the process, or finds no room, is like any other lost envelope: the origin's marks bring it again. When the
directory comes, or the time is over, whatever is in force then decides.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from relay.broker import Delivery
from relay.settings import WaitingSettings


@dataclass(frozen=True, slots=True)
class Waiter:
    """A delivery that version ``by`` could not judge, and the moment until which it may wait for another."""

    delivery: Delivery
    by: int
    until: float


class Waiting:
    """A room of limited size; moments are the event loop's."""

    def __init__(self, limits: WaitingSettings) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._waiters: deque[Waiter] = deque()
        self._bytes = 0
        self._came = asyncio.Event()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiters)

    def add(self, delivery: Delivery, by: int, until: float | None = None) -> bool:
        """Let a delivery wait; return False when there is no room, or no time left, for it."""
        until = self._loop.time() + self._limits.seconds if until is None else until
        if until <= self._loop.time():
            return False
        size = len(delivery.raw)
        if len(self._waiters) >= self._limits.envelopes or self._bytes + size > self._limits.bytes:
            return False
        self._waiters.append(Waiter(delivery, by, until))
        self._bytes += size
        self._came.set()
        return True

    async def came(self) -> None:
        """Wait until something waits."""
        await self._came.wait()

    def take(self, version: int, most: int) -> list[Waiter]:
        """Take out at most so many whose time is over, or that were judged by another version than this, oldest first."""
        now = self._loop.time()
        taken = [one for one in self._waiters if one.until <= now or one.by != version][:most]
        if taken:
            gone = {id(one) for one in taken}
            self._waiters = deque(one for one in self._waiters if id(one) not in gone)
            self._bytes -= sum(len(one.delivery.raw) for one in taken)
        if not self._waiters:
            self._came.clear()
        return taken
