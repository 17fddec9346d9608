"""The node's way to RabbitMQ: one connection that publishes, one that consumes, and a supervisor that rebuilds both.

This is the only module that imports aio-pika. It promises three things: :meth:`Broker.publish` returns only after the broker's
confirm and raises ``BrokerTrouble`` otherwise, whatever happened; a delivery is handed to one callback in the order of its
queue and acknowledged only by :meth:`Broker.ack`; nothing is ever declared (the topology is the operator's, see
:mod:`relay.topology`). When a queue or an exchange is missing the supervisor says which and how to mend it, and tries again by
itself.

Codes raised: ``broker-unreachable``, ``broker-refused``, ``topology-missing``, ``not-confirmed``, ``unroutable``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage, FieldValue
from aio_pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelNotFoundEntity,
    DeliveryError,
    ProbableAuthenticationError,
    PublishError,
)
from tenacity import wait_random_exponential
from yarl import URL

from relay.errors import BrokerTrouble
from relay.log import Event, Log

T = TypeVar("T")

CONNECT_SECONDS = 10
STEP_SECONDS = 10
CLOSE_SECONDS = 2
RECONNECT_FIRST = 0.25

_FAILURES = (AMQPError, OSError, TimeoutError, RuntimeError)
_REFUSED = (AuthenticationError, ProbableAuthenticationError)


@dataclass(frozen=True, slots=True)
class BrokerPlan:
    """What a node uses of its broker: the exchange it writes, and per lane the queue it reads and how much it takes ahead."""

    url: str
    password: str
    exchange: str
    queues: tuple[tuple[str, str], ...]
    prefetch: int
    confirm_seconds: float
    reconnect_seconds: float
    heartbeat_seconds: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """An envelope as the broker handed it over; nothing of it is trusted."""

    lane: str
    raw: bytes
    routing_key: str
    redelivered: bool
    message: AbstractIncomingMessage
    channel: AbstractChannel  # the message's own can't be asked for once it is closed

    @property
    def gone(self) -> bool:
        """Whether its channel is closed, so that it can't be acknowledged any more: the broker delivers it again."""
        return self.channel.is_closed


class _Attempts:
    """What tenacity's waits look at: how often we tried."""

    attempt_number = 0


class Broker:
    """A supervised connection to the broker; ``connected`` is set while it can publish and consume."""

    def __init__(self, plan: BrokerPlan, log: Log) -> None:
        self.connected = asyncio.Event()
        self.trouble: BrokerTrouble | None = BrokerTrouble("broker-unreachable", "The broker was not reached yet.")
        self._plan = plan
        self._log = log
        self._exchange: AbstractExchange | None = None
        self._lost = asyncio.Event()
        self._behind = {lane: 0 for lane, _ in plan.queues}
        self._caught_up: Callable[[], None] = lambda: None
        self._consuming: list[tuple[AbstractChannel, str, str]] = []

    @property
    def behind(self) -> frozenset[str]:
        """The lanes of which not everything was taken that waited when the connection was made."""
        return frozenset(lane for lane, count in self._behind.items() if count > 0)

    async def run(self, deliver: Callable[[Delivery], None], caught_up: Callable[[], None]) -> None:
        """Keep the broker connected until cancelled, handing every delivery to ``deliver``.

        ``caught_up`` is called when a connection is made, and when all is taken of a lane that waited then.
        """
        self._caught_up = caught_up
        attempts = _Attempts()
        pause = wait_random_exponential(multiplier=RECONNECT_FIRST, max=self._plan.reconnect_seconds)
        while True:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    await self._connect(stack, deliver)
                    attempts.attempt_number = 0
                    await self._lost.wait()
                    self._note(BrokerTrouble("broker-unreachable", "The connection to the broker was lost."))
            except (*_FAILURES, BrokerTrouble) as error:
                self._note(_trouble(error, self._plan))
            except asyncio.CancelledError:
                if _asked_to_end():
                    raise
                self._note(BrokerTrouble("broker-unreachable", "The connection closed while it was made."))
            finally:
                self._lose(self._lost)
            attempts.attempt_number += 1
            await asyncio.sleep(pause(attempts))  # type: ignore[arg-type]  # it reads attempt_number alone

    async def publish(self, keys: Sequence[str], raw: bytes) -> None:
        """Publish an envelope under its routing keys; return after the broker's confirm."""
        exchange, lost = self._exchange, self._lost
        if exchange is None:
            raise BrokerTrouble("broker-unreachable", self.trouble.detail if self.trouble else "The broker is not connected.")
        message = aio_pika.Message(
            raw,
            headers={"CC": list(keys[1:])} if len(keys) > 1 else None,
            message_id=uuid4().hex,  # of this attempt: two in flight under one id would swap their outcomes
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        try:
            async with asyncio.timeout(self._plan.confirm_seconds):
                await exchange.publish(message, keys[0], mandatory=True)
        except PublishError as error:
            raise BrokerTrouble("unroutable", f"The broker has no queue for {keys[0]}.") from error
        except DeliveryError as error:  # a full queue refused it: this envelope's trouble, the connection is well
            raise BrokerTrouble("not-confirmed", f"The broker refused an envelope for {keys[0]}: a queue is full.") from error
        except _FAILURES as error:
            self._lose(lost)
            raise BrokerTrouble("not-confirmed", f"The broker did not confirm an envelope: {error!r}.") from error
        except asyncio.CancelledError:
            if _asked_to_end():
                raise
            self._lose(lost)
            raise BrokerTrouble("not-confirmed", "The connection closed before the broker confirmed.") from None

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Acknowledge deliveries, all that came before them on their lanes included.

        An acknowledgement that fails is no trouble: the broker delivers again, and the store knows the copy.
        """
        last = {}
        for delivery in deliveries:
            last[id(delivery.channel)] = delivery
            self._take_off(delivery)
        for delivery in last.values():
            with _best_effort():
                async with asyncio.timeout(STEP_SECONDS):
                    await delivery.message.ack(multiple=True)

    def _take_off(self, delivery: Delivery) -> None:
        """Count a delivery as taken, if it came by the present connection."""
        if self._behind.get(delivery.lane, 0) > 0 and any(channel is delivery.channel for channel, _, _ in self._consuming):
            self._behind[delivery.lane] -= 1
            if not self._behind[delivery.lane]:
                self._caught_up()

    async def stop_consuming(self) -> None:
        """Ask for no further deliveries; what was handed over may still be acknowledged."""
        for channel, queue, tag in self._consuming:
            with _best_effort():
                async with asyncio.timeout(STEP_SECONDS):
                    await (await channel.get_queue(queue, ensure=False)).cancel(tag)
        self._consuming = []

    async def _connect(self, stack: contextlib.AsyncExitStack, deliver: Callable[[Delivery], None]) -> None:
        self._lost = lost = asyncio.Event()
        self._consuming = []
        publishing = await self._open(stack, lost, "publish")
        channel = await _within(publishing.channel(publisher_confirms=True, on_return_raises=True))
        channel.close_callbacks.add(lambda *_: self._lose(lost))
        exchange = await _within(channel.get_exchange(self._plan.exchange, ensure=True))
        consuming = await self._open(stack, lost, "consume")
        for lane, queue in self._plan.queues:
            await self._consume(consuming, lane, queue, deliver, lost)
        self._exchange = exchange
        self.trouble = None
        self.connected.set()
        self._caught_up()
        self._log.info(Event.BROKER_CONNECTED, queues=len(self._plan.queues))

    async def _open(self, stack: contextlib.AsyncExitStack, lost: asyncio.Event, purpose: str) -> AbstractConnection:
        url = URL(self._plan.url).with_password(self._plan.password)
        url = url.update_query(heartbeat=self._plan.heartbeat_seconds)
        properties: dict[str, FieldValue] = {"connection_name": f"{self._plan.exchange} {purpose}"}
        connection = await aio_pika.connect(url, timeout=CONNECT_SECONDS, client_properties=properties)
        stack.push_async_callback(_close, connection)
        connection.close_callbacks.add(lambda *_: self._lose(lost))
        return connection

    async def _consume(
        self,
        connection: AbstractConnection,
        lane: str,
        queue_name: str,
        deliver: Callable[[Delivery], None],
        lost: asyncio.Event,
    ) -> None:
        channel = await _within(connection.channel(publisher_confirms=False))
        channel.close_callbacks.add(lambda *_: self._lose(lost))
        await _within(channel.set_qos(prefetch_count=self._plan.prefetch))
        queue = await _within(channel.get_queue(queue_name, ensure=True))
        self._behind[lane] = queue.declaration_result.message_count or 0

        async def on_message(message: AbstractIncomingMessage) -> None:
            deliver(Delivery(lane, message.body, message.routing_key or "", bool(message.redelivered), message, channel))

        tag = await _within(queue.consume(on_message))
        self._consuming.append((channel, queue_name, tag))

    def _lose(self, lost: asyncio.Event) -> None:
        """Give a connection up at once, so that nobody tries to publish on it any more; a later one stays."""
        lost.set()
        if lost is self._lost:
            self.connected.clear()
            self._exchange = None

    def _note(self, trouble: BrokerTrouble) -> None:
        event = Event.TOPOLOGY_MISSING if trouble.code == "topology-missing" else Event.BROKER_LOST
        self._log.warning(event, code=trouble.code, detail=trouble.detail)
        self.trouble = trouble


def _asked_to_end() -> bool:
    """Return whether this task was cancelled; a frozen broker's closing connection raises the same error unasked."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@contextlib.contextmanager
def _best_effort() -> Iterator[None]:
    """Let a failure of the broker pass, and a cancellation that nobody asked for."""
    try:
        yield
    except _FAILURES:
        pass
    except asyncio.CancelledError:
        if _asked_to_end():
            raise


async def _within(step: Awaitable[T]) -> T:
    async with asyncio.timeout(STEP_SECONDS):
        return await step


async def _close(connection: AbstractConnection) -> None:
    with _best_effort():
        async with asyncio.timeout(CLOSE_SECONDS):
            await connection.close()


def _trouble(error: Exception, plan: BrokerPlan) -> BrokerTrouble:
    where = URL(plan.url).with_user(None)
    if isinstance(error, BrokerTrouble):
        return error
    if isinstance(error, ChannelNotFoundEntity):
        sentence = f"The broker lacks something: {error}. Its operator mends that with `relay broker apply`."
        return BrokerTrouble("topology-missing", sentence)
    if isinstance(error, _REFUSED) or "ACCESS_REFUSED" in str(error):
        return BrokerTrouble("broker-refused", f"The broker at {where} refuses this centre's account: {error}.")
    return BrokerTrouble("broker-unreachable", f"The broker at {where} can't be reached: {error!r}.")
