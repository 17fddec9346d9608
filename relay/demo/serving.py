"""A network that stays up: its systems go on talking, slowly, and a node that ended is noticed and brought back.

Whoever watches ends a node (``kill -9``) and sees in the console of another centre what its peers see. The node is started again
after a while, or at once when the demonstration gets SIGUSR1. What is kept here does not grow with time: after the story a system
counts, and remembers nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Coroutine, Iterator
from typing import Any

from relay.demo import traffic
from relay.demo.stage import Stage
from relay.demo.system import System
from relay.demo.traffic import Told

MESSAGES_A_SECOND = 1.5
LOOK_SECONDS = 0.5
HEARTBEAT_SECONDS = 5
"""Pause between the heartbeats of a network that is watched: a silent peer shows after three, so that nobody waits for long."""

ENVIRONMENT = {"RELAY_REPAIR__HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS)}


class Keeper:
    """Notices nodes that ended and starts them again, ``away`` seconds later or when it is asked to."""

    def __init__(self, stage: Stage, away: float) -> None:
        self._stage = stage
        self._away = away
        self._ended: dict[str, float] = {}
        self._asked = asyncio.Event()

    async def run(self) -> None:
        """Look after the nodes until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._asked.set)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._asked.wait(), LOOK_SECONDS)
                await self._look(at_once=self._asked.is_set())
                self._asked.clear()
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    async def _look(self, *, at_once: bool) -> None:
        for centre, node in self._stage.nodes.items():
            if not node.running:
                self._miss(centre, at_once=at_once)
            elif (row := self._stage.rows[centre]).state != "ready" and await self._stage.systems[centre].ready():
                row.state = "ready"

    def _miss(self, centre: str, *, at_once: bool) -> None:
        """Note that a node ended, and start it again when it is time."""
        node, row, now = self._stage.nodes[centre], self._stage.rows[centre], time.monotonic()
        if centre not in self._ended:
            self._ended[centre] = now
            row.state = "ended"
            self._stage.show.say(self._obituary(centre))
        if at_once or now - self._ended[centre] >= self._away:
            del self._ended[centre]
            node.start()
            row.state = "back"
            self._stage.show.say(f"{centre}: its node was started again as process {node.pid}.")

    def _obituary(self, centre: str) -> str:
        ended = self._stage.nodes[centre].ending
        return (
            f"{centre}: its node ended ({ended}). Its peers call it silent after {3 * HEARTBEAT_SECONDS} s or so. "
            f"It is started again in {self._away:.0f} s; at once with: kill -USR1 {os.getpid()}"
        )


def told(away: float) -> str:
    """Return in words what can be done to a network that stays up."""
    return (
        f"The network is up, and its systems go on talking, {MESSAGES_A_SECOND:g} messages a second in all. Look at the console "
        "of one centre, and end the node of another as a power cut would: kill -9 PID. It shows as silent after "
        f"{3 * HEARTBEAT_SECONDS} s or so, and what waits for it grows older; its node is started again after {away:.0f} s, at "
        f"once with: kill -USR1 {os.getpid()}. Ctrl-C ends everything."
    )


def talks(stage: Stage, seed: int) -> list[Coroutine[Any, Any, None]]:
    """Return what lets each system talk, by chance and without an end."""
    members = stage.network.directory.active
    pause = len(members) / MESSAGES_A_SECOND
    return [
        _talk(stage.systems[centre], traffic.endless(centre, seed, member.model_dump()["publish"]), pause, random.Random(centre))  # noqa: S311
        for centre, member in members.items()
    ]


async def _talk(system: System, told: Iterator[Told], pause: float, dice: random.Random) -> None:
    """Submit one message after another, ``pause`` seconds apart on the average, as if each came by chance."""
    for one in told:
        await asyncio.sleep(dice.expovariate(1 / pause))
        await system.tell(one)
