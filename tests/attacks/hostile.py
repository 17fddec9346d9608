"""A malicious broker: an operator's account that stands between the exchanges and the queues of a network.

It takes the bindings of every queue for queues of its own and brings what arrives there to the real ones: as it is while it is
honest, else as chance from a seed says: dropped, repeated, held back, altered, moved to another queue, spliced with another,
replayed, or with junk beside it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from functools import partial
from random import Random

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from relay import topology
from relay.network import Network

KEPT = 80
"""Envelopes that it remembers, to bring them again."""
HELD = 3
TRICKS = ("pass", "pass", "pass", "drop", "repeat", "hold", "alter", "move", "splice", "old", "junk")


@dataclass(frozen=True, slots=True)
class Passing:
    """An envelope on its way into a queue."""

    queue: str
    raw: bytes


class Hostile:
    """Does to a network's envelopes what chance says, until it is honest."""

    def __init__(self, network: Network, seed: int) -> None:
        self.honest = False
        self.done = Counter[str]()
        self._network = network
        self._dice = Random(seed)  # noqa: S311 - repeatable on purpose
        self._held: list[Passing] = []
        self._known: list[Passing] = []
        self._turn = asyncio.Lock()

    async def begin(self) -> None:
        """Take every binding of the network's queues."""
        station = self._network.broker
        url = f"amqp://{station.admin}:{station.admin_password}@{station.host}:{station.port}/{station.vhost}"
        self._connection = await aio_pika.connect(url)
        self._channel: AbstractChannel = await self._connection.channel()
        lanes = (*topology.LANES, topology.CONTROL)
        for name in (topology.queue(centre, lane) for centre in self._network.directory.active for lane in lanes):
            between = await self._channel.declare_queue(f"between.{name}", exclusive=True)
            real = await self._channel.get_queue(name, ensure=False)
            for binding in (one for one in self._network.topology.bindings if one.destination == name):
                await between.bind(binding.source, binding.key)
                await real.unbind(binding.source, binding.key)
            await between.consume(partial(self._come, name), no_ack=True)

    async def become_honest(self) -> None:
        """Do nothing bad any more; what was held back comes now."""
        async with self._turn:
            self.honest = True
            for one in self._held:
                await self._bring(one)
            self._held.clear()

    async def end(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _come(self, queue: str, message: AbstractIncomingMessage) -> None:
        async with self._turn:
            origin, _, recipient, *_ = [*(message.routing_key or "").split("."), "", "", ""]
            one = Passing(queue, message.body)
            if self.honest or origin == recipient:  # what a node sends itself shows it that the broker lives
                await self._bring(one)
                return
            self._known = [*self._known[-KEPT:], one]
            trick = self._dice.choice(TRICKS)
            self.done[trick] += 1
            for made in getattr(self, f"_{trick}")(one):
                await self._bring(made)
            if len(self._held) > HELD:
                await self._bring(self._held.pop(self._dice.randrange(len(self._held))))

    async def _bring(self, one: Passing) -> None:
        await self._channel.default_exchange.publish(aio_pika.Message(one.raw, delivery_mode=2), one.queue)

    def _pass(self, one: Passing) -> list[Passing]:
        return [one]

    def _drop(self, _: Passing) -> list[Passing]:
        return []

    def _repeat(self, one: Passing) -> list[Passing]:
        return [one] * self._dice.randint(2, 4)

    def _hold(self, one: Passing) -> list[Passing]:
        self._held.append(one)
        return []

    def _alter(self, one: Passing) -> list[Passing]:
        raw = bytearray(one.raw)
        for _ in range(self._dice.randint(1, 3)):
            raw[self._dice.randrange(len(raw))] ^= 1 << self._dice.randrange(8)
        return [Passing(one.queue, bytes(raw))]

    def _move(self, one: Passing) -> list[Passing]:
        centre = self._dice.choice(list(self._network.directory.active))
        return [Passing(self._dice.choice(topology.queues(centre)), one.raw)]

    def _splice(self, one: Passing) -> list[Passing]:
        other = self._dice.choice(self._known).raw
        cut = self._dice.randrange(min(len(other), len(one.raw)))
        return [Passing(one.queue, one.raw[:cut] + other[cut:])]

    def _old(self, one: Passing) -> list[Passing]:
        return [one, self._dice.choice(self._known)]

    def _junk(self, one: Passing) -> list[Passing]:
        return [Passing(one.queue, self._dice.randbytes(self._dice.randint(0, 300))), one]
