"""The supervisor: keeps a link to the broker, makes the next one when it is lost, and says once what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import DeliveryError, PublishError

from relay.broker import troubles
from relay.broker.backoff import Backoff
from relay.broker.bounded import FAILURES, asked_to_end, best_effort, named
from relay.broker.link import STEADY_SECONDS, STEP_SECONDS, Hooks, Link
from relay.broker.plan import BrokerPlan, Delivery, Incarnation
from relay.clock import now_ms
from relay.errors import BrokerTrouble, RelayError
from relay.log import Event, Log

WATCH_SECONDS = 0.5
STOP_SECONDS = 2.0

_EVENTS = {"topology-missing": Event.TOPOLOGY_MISSING, "broker-blocked": Event.BROKER_BLOCKED}


class Broker:
    """A supervised link to the broker; ``connected`` is set while it takes what is published.

    ``trouble`` is what is wrong, or None. A missing queue is a trouble of a node that is connected all the same. ``incarnation``
    is the last life of the connections, None before the first.
    """

    def __init__(self, plan: BrokerPlan, log: Log) -> None:
        self.connected = asyncio.Event()
        self.trouble: BrokerTrouble | None = BrokerTrouble("broker-unreachable", "The broker was not reached yet.")
        self.incarnation: Incarnation | None = None
        self._plan = plan
        self._log = log
        self._link: Link | None = None
        self._usable = False
        self._repeats = troubles.Repeats()
        self._behind = {lane: 0 for lane, _ in plan.queues}
        self._caught_up: Callable[[], None] = lambda: None
        self._ending = False

    @property
    def behind(self) -> frozenset[str]:
        """The lanes of which not everything was taken that waited when the connection was made."""
        return frozenset(lane for lane, count in self._behind.items() if count > 0)

    async def run(self, deliver: Callable[[Delivery], None], caught_up: Callable[[], None]) -> None:
        """Keep the broker connected until cancelled, handing every delivery to ``deliver``.

        ``caught_up`` is called when a connection is made, and when all is taken of a lane that waited then.
        """
        self._caught_up = caught_up
        backoff = Backoff(self._plan.reconnect_seconds)
        hooks = Hooks(deliver, self._waits, self._take_off, self._lost)
        while not self._ending:
            if await self._live(Link(self._plan, hooks)) >= STEADY_SECONDS:
                backoff.reset()
            await asyncio.sleep(backoff.pause())
        await asyncio.Event().wait()  # what is stopped connects no more, and waits for its end

    async def publish(self, keys: Sequence[str], raw: bytes) -> None:
        """Publish an envelope under its routing keys; return after the broker's confirm."""
        link = self._link
        if link is None or link.exchange is None or link.blocked:
            raise self._why_not()
        message = aio_pika.Message(
            raw,
            headers={"CC": list(keys[1:])} if len(keys) > 1 else None,
            message_id=uuid4().hex,  # of this attempt: two in flight under one id would swap their outcomes
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        try:
            with named():
                async with asyncio.timeout(self._plan.confirm_seconds):
                    await link.exchange.publish(message, keys[0], mandatory=True)
        except PublishError as error:
            raise BrokerTrouble("unroutable", f"The broker has no queue for {keys[0]}.") from error
        except DeliveryError as error:  # a full queue refused it: this envelope's trouble, the connection is well
            raise BrokerTrouble("not-confirmed", f"The broker refused an envelope for {keys[0]}: a queue is full.") from error
        except TimeoutError as error:
            if await link.is_blocked():
                raise troubles.blocked() from error
            trouble = troubles.unconfirmed(self._plan.confirm_seconds)
            if self._plan.ping_limit_seconds >= self._plan.confirm_seconds:
                link.lose(trouble)  # else the ping has shown meanwhile that the link is well: it is a queue that does not answer
            raise trouble from error
        except FAILURES as error:
            link.lose(troubles.of_loss(error, self._plan.url))
            raise troubles.of_publish(error, self._plan.url) from error
        except asyncio.CancelledError:
            if asked_to_end():
                raise
            link.lose(troubles.lost())
            raise BrokerTrouble("not-confirmed", "The connection closed before the broker confirmed.") from None

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge deliveries, all that came before them on their lanes included.

        An acknowledgement that fails is no trouble: the broker delivers again, and the store knows the copy.
        """
        last = {}
        for delivery in deliveries:
            last[id(delivery.channel)] = delivery
            self._take_off(delivery.lane, delivery.channel, held=1)
        for delivery in last.values():
            with best_effort():
                async with asyncio.timeout(STEP_SECONDS):
                    await delivery.message.ack(multiple=True)

    async def stop_consuming(self) -> None:
        """Ask for no further deliveries, and connect no more; what was handed over may still be acknowledged.

        A broker that does not answer is given up: nothing is to be expected of it while the node ends.
        """
        self._ending = True
        if (link := self._link) is None:
            return
        try:
            await link.stop_consuming(STOP_SECONDS)
        except TimeoutError:
            link.lose(troubles.silent(STOP_SECONDS))

    async def _live(self, link: Link) -> float:
        """Make a link and look after it until it is lost; return how many seconds it was usable."""
        loop = asyncio.get_running_loop()
        self._link, begun = link, None
        try:
            await link.open()
            self._count(link)
            self._settle(link)
            self._caught_up()
            begun = loop.time()
            await self._watch(link)
        except (*FAILURES, RelayError) as error:
            link.lose(troubles.of(error, self._plan.url))
        except asyncio.CancelledError:
            if asked_to_end():
                raise
            link.lose(BrokerTrouble("broker-unreachable", "The connection closed while it was made."))
        finally:
            link.lose(troubles.lost())
            if not self._ending:
                self._note(link.why)
            lived = loop.time() - begun if begun is not None else 0.0
            await link.close()
        return lived

    def _count(self, link: Link) -> None:
        before = 0 if self.incarnation is None else self.incarnation.number
        self.incarnation = Incarnation(before + 1, now_ms(), *link.server)

    async def _watch(self, link: Link) -> None:
        while not link.lost.is_set():
            link.stirred.clear()
            if not self._ending:
                await link.look()
            self._settle(link)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await link.stirred.wait()

    def _settle(self, link: Link) -> None:
        """Take over how a link does, and say what changed."""
        if link.lost.is_set():
            return
        if link.usable != self._usable:
            self._usable = link.usable
            self.connected.set() if link.usable else self.connected.clear()
            self._caught_up()
        if (trouble := link.trouble) is not None:
            self._note(trouble)
        elif link.usable and self.trouble is not None:
            self.trouble = None
            self._repeats.over()
            self._log.info(Event.BROKER_CONNECTED, queues=len(link.lanes))

    def _waits(self, lane: str, count: int) -> None:
        """Note how many envelopes wait in a lane whose consumption begins, or that none can."""
        self._behind[lane] = count
        if not count:
            self._caught_up()

    def _take_off(self, lane: str, channel: AbstractChannel, held: int = 0) -> None:
        """Count a delivery as taken, if it came by the present connection."""
        present = self._link.lanes.get(lane) if self._link else None
        if present is None or present.channel is not channel:
            return
        present.held -= held
        if self._behind[lane] > 0:
            self._behind[lane] -= 1
            if not self._behind[lane]:
                self._caught_up()

    def _lost(self, link: Link) -> None:
        """Note at once that a link was lost; a later one stays."""
        if link is self._link:
            self._usable = False
            self.connected.clear()

    def _why_not(self) -> BrokerTrouble:
        known = self.trouble
        if known is None:
            return BrokerTrouble("broker-unreachable", "The broker is not connected.")
        return BrokerTrouble(known.code, known.detail)

    def _note(self, trouble: BrokerTrouble) -> None:
        self.trouble = trouble
        if self._repeats.due(trouble, asyncio.get_running_loop().time()):
            self._log.warning(_EVENTS.get(trouble.code, Event.BROKER_LOST), code=trouble.code, detail=trouble.detail)
