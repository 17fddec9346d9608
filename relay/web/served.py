"""What the surfaces of a node need of it, and what they share while it runs.

The node is above this package and is never imported: :class:`Served` names the few parts that are used, and whatever has them
can be served. :func:`here` is how a route gets at them.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Protocol, cast

from starlette.requests import Request

from relay.broker import Broker
from relay.centre import Centre
from relay.clients import Clients
from relay.custody import Custody
from relay.deadlines import Deadlines
from relay.desk import Desk
from relay.errors import Busy, NotReady, RelayError, StoreTrouble
from relay.handover import Handover
from relay.heartbeats import Heartbeats
from relay.observing import Observer
from relay.outbox import Outbox
from relay.pump import Pump
from relay.received import ReceivedMessages
from relay.recovery import Recovery
from relay.retention import Retention
from relay.soundness import Soundness
from relay.web.limits import Limits
from relay.web.refusals import Refusals
from relay.web.verifications import Verifications

ASK_AGAIN_SECONDS = 1.0
PROBE_SECONDS = 5.0


class Verdict(Protocol):
    """Whether the node can do its work."""

    @property
    def troubles(self) -> tuple[RelayError, ...]:
        """What is wrong."""

    @property
    def ready(self) -> bool:
        """Whether nothing is wrong."""


class Served(Protocol):
    """A node, as far as a surface knows it."""

    centre: Centre
    custody: Custody
    outbox: Outbox
    handover: Handover
    pump: Pump
    deadlines: Deadlines
    desk: Desk
    received: ReceivedMessages
    retention: Retention
    heartbeats: Heartbeats
    recovery: Recovery
    soundness: Soundness
    observer: Observer
    broker: Broker

    def full(self) -> Busy | NotReady | StoreTrouble | None:
        """Return why no message can be taken now, or None."""

    async def health(self) -> Verdict:
        """Return whether the node can do its work, by trying."""


class Readiness:
    """The node's troubles, asked for at most once a second: who needs no token must not make the disk work."""

    def __init__(self, node: Served) -> None:
        self._node = node
        self._asked = asyncio.Lock()
        self._at = float("-inf")
        self._troubles: tuple[RelayError, ...] = ()

    async def problems(self) -> tuple[str, ...]:
        """Return the sentences that say why the node is not ready; none when it is."""
        return tuple(one.detail for one in await self.troubles())

    async def troubles(self) -> tuple[RelayError, ...]:
        """Return why the node is not ready, with a code each; nothing when it is."""
        async with self._asked:
            if time.monotonic() - self._at > ASK_AGAIN_SECONDS:
                self._troubles = await self._ask()
                self._at = time.monotonic()
        return self._troubles

    async def _ask(self) -> tuple[RelayError, ...]:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return (await self._node.health()).troubles
        except TimeoutError:
            sentence = f"The node could not write its store within {PROBE_SECONDS:.0f} s."
            return (StoreTrouble("store-unavailable", sentence),)


@dataclass(frozen=True, slots=True)
class Here:
    """What the routes share; ``stopping`` is set when the surfaces take no further requests."""

    node: Served
    clients: Clients
    limits: Limits
    readiness: Readiness
    stopping: asyncio.Event
    refusals: Refusals = field(default_factory=Refusals)
    approving: set[str] = field(default_factory=set)
    verifications: Verifications = field(default_factory=Verifications)

    @property
    def centre(self) -> Centre:
        """The centre whose node this is."""
        return self.node.centre


def here(request: Request) -> Here:
    """Return what the routes share."""
    return cast("Here", request.app.state.here)


def make_here(node: Served) -> Here:
    """Return what the surfaces of a node share; raise ``Misconfigured`` when the clients' file can't be read."""
    settings = node.centre.settings.api
    return Here(node, Clients(settings.clients), Limits(settings.rate), Readiness(node), asyncio.Event())
