"""One life of the node's connections to the broker: one that publishes, one that consumes, a channel per lane.

A link is made once and used until it is lost; it never repairs a connection, and says why it was lost. What it does repair is a
part of itself that the broker lacks: without the exchange it consumes, without a lane's queue it does everything else, and tries
the missing part again with growing pauses. Every wait ends (:mod:`relay.broker.bounded`), and a socket whose other end says
nothing is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage
from aio_pika.exceptions import AMQPConnectionError, ChannelClosed, DeliveryError, PublishError
from yarl import URL

from relay import topology
from relay.broker import handshake, troubles
from relay.broker.backoff import Backoff
from relay.broker.bounded import FAILURES, asked_to_end, best_effort, named, spawn, within
from relay.broker.plan import BrokerPlan, Delivery
from relay.broker.pulse import Pulse, Verdict
from relay.errors import BrokerTrouble
from relay.tls import refuse_clear_amqp

CONNECT_SECONDS = 10.0
STEP_SECONDS = 10.0
ASK_SECONDS = 3.0
CLOSE_SECONDS = 1.0
REASON_SECONDS = 0.5
STEADY_SECONDS = 5.0  # how long all must be well before the next pauses are short again
BLOCKED_SECONDS = 0.05  # a connection that is not blocked says so without waiting at all
NAME_LENGTH = 40
PING = b"relay ping, no envelope"


@dataclass(slots=True)
class Lane:
    """A queue that is being consumed; ``held`` deliveries of it are not yet acknowledged."""

    channel: AbstractChannel
    queue: str
    tag: str
    held: int = 0


@dataclass(frozen=True, slots=True)
class Hooks:
    """Where a link tells what happens on it."""

    deliver: Callable[[Delivery], None]
    waits: Callable[[str, int], None]
    """A lane, and how many envelopes waited in it when its consumption began."""
    pinged: Callable[[str, AbstractChannel], None]
    """The lane and the channel of a ping, which was counted among what waited."""
    lost: Callable[[Link], None]


class Link:
    """The two connections, while they live. ``lost`` is set when they do not, and ``why`` says why not."""

    def __init__(self, plan: BrokerPlan, hooks: Hooks) -> None:
        self.lost = asyncio.Event()
        self.stirred = asyncio.Event()  # something happened that its supervisor should look at
        self.why = troubles.lost()
        self.exchange: AbstractExchange | None = None
        self.blocked = False
        self.lanes: dict[str, Lane] = {}
        self._plan = plan
        self._hooks = hooks
        self._sockets = _Sockets()
        self._publishing: AbstractConnection | None = None
        self._consuming: AbstractConnection | None = None
        self._missing: dict[str, BrokerTrouble] = {}
        self._ended: list[AbstractChannel] = []
        self._unbound = False
        self._backoff = Backoff(plan.reconnect_seconds)
        self._retry_at = 0.0
        self._pulse = Pulse(plan.ping_seconds, plan.ping_limit_seconds, _now())

    @property
    def usable(self) -> bool:
        """Whether the broker takes what is published: it answered at least once, and has no alarm."""
        return self.exchange is not None and not self.lost.is_set() and not self.blocked and self._pulse.proven

    @property
    def trouble(self) -> BrokerTrouble | None:
        """What is wrong with a link that lives."""
        if self.blocked:
            return troubles.blocked()
        if self._missing:
            return troubles.together(self._missing)
        if self._unbound:
            return troubles.unbound(self._plan.ping_key)
        return None

    @property
    def server(self) -> tuple[str, str]:
        """What the broker calls itself, and its version; it may say anything, so what is taken is short."""
        transport = self._publishing.transport if self._publishing is not None else None
        said = getattr(transport.connection, "server_properties", {}) if transport is not None else {}
        return _said(said, "product"), _said(said, "version")

    async def open(self) -> None:
        """Connect twice, then open what there is of the exchange and the lanes' queues."""
        password = "" if self._plan.external else self._plan.password()
        context = await asyncio.to_thread(self._plan.tls)  # it reads files
        self._publishing = await self._connect("publish", password, context)
        self._consuming = await self._connect("consume", password, context)
        await self._open_exchange()
        for lane, queue in self._plan.queues:
            await self._open_lane(lane, queue)
        self._retry_later()

    def lose(self, why: BrokerTrouble) -> None:
        """Give the link up at once, so that nobody tries to publish on it any more."""
        if not self.lost.is_set():
            self.why = why
            self.exchange = None
            self.lost.set()
            self.stirred.set()
            self._hooks.lost(self)

    async def close(self) -> None:
        """Say goodbye, for a moment, and cut what is left."""
        connections = [connection for connection in (self._publishing, self._consuming) if connection is not None]
        try:
            if farewells := [spawn(connection.close()) for connection in connections]:
                await asyncio.wait(farewells, timeout=CLOSE_SECONDS)
        finally:
            self._sockets.cut()

    async def look(self) -> None:
        """Look after the link: alarms of the broker, parts that are missing, the pulse."""
        self.blocked = await self.is_blocked()
        now = _now()
        if self.blocked:
            self._pulse.rest(now)
        await self._mend(now)
        if self.exchange is not None and not self.blocked:
            await self._feel(now, self.exchange)

    async def is_blocked(self) -> bool:
        """Return whether an alarm keeps the broker from reading what this node publishes."""
        if self._publishing is None or self._publishing.transport is None:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BLOCKED_SECONDS):
                await self._publishing.transport.ready()
                return False
        return True

    async def stop_consuming(self, seconds: float) -> None:
        """Ask for no further deliveries; raise ``TimeoutError`` when the broker does not answer."""
        lanes, self.lanes = list(self.lanes.values()), {}
        steps = [_cancel(lane) for lane in lanes]
        await within(asyncio.gather(*steps), seconds)

    async def _connect(self, purpose: str, password: str, context: ssl.SSLContext | None) -> AbstractConnection:
        refuse_clear_amqp(self._plan.url)
        auth = "external" if self._plan.external else "plain"
        url = URL(self._plan.url).with_password(password).with_query(heartbeat=self._plan.heartbeat_seconds, auth=auth)
        connection = _Connection(url, self._sockets, f"{self._plan.exchange} {purpose}", context)
        try:
            await within(connection.connect(), CONNECT_SECONDS)
        except AMQPConnectionError as error:
            if context is not None and (alert := await handshake.ask(url, context, error, ASK_SECONDS)) is not None:
                raise alert from error
            raise
        connection.close_callbacks.add(self._closed)
        return connection

    async def _open_exchange(self) -> None:
        """Open the channel that publishes; without the exchange nothing can be, and everything else goes on."""
        assert self._publishing is not None  # noqa: S101 - open connects first
        channel = await within(self._publishing.channel(publisher_confirms=True, on_return_raises=True), STEP_SECONDS)
        try:
            exchange = await within(channel.get_exchange(self._plan.exchange, ensure=True), STEP_SECONDS)
        except ChannelClosed as error:
            self._missing[self._plan.exchange] = troubles.of(error, self._plan.url)
            return
        channel.close_callbacks.add(self._closed)
        self._missing.pop(self._plan.exchange, None)
        self._pulse.hurry(_now())
        self.exchange = exchange

    async def _open_lane(self, lane: str, queue: str) -> None:
        """Consume a lane; one whose queue is missing holds up no other."""
        assert self._consuming is not None  # noqa: S101 - open connects first
        channel = await within(self._consuming.channel(publisher_confirms=False), STEP_SECONDS)
        try:
            await within(channel.set_qos(prefetch_count=self._plan.prefetch), STEP_SECONDS)
            declared = await within(channel.get_queue(queue, ensure=True), STEP_SECONDS)
            self._hooks.waits(lane, declared.declaration_result.message_count or 0)
            underlay = await channel.get_underlay_channel()
            underlay.on_consumer_cancel_callbacks.add(partial(self._cancelled, lane))
            held = Lane(channel, queue, uuid4().hex)
            self.lanes[lane] = held
            await within(declared.consume(partial(self._on_message, lane, held), consumer_tag=held.tag), STEP_SECONDS)
        except ChannelClosed as error:
            self.lanes.pop(lane, None)
            self._missing[queue] = troubles.of(error, self._plan.url)
            self._hooks.waits(lane, 0)  # nothing waits in a queue that is not there
            return
        channel.close_callbacks.add(partial(self._lane_closed, channel))
        self._missing.pop(queue, None)

    async def _on_message(self, lane: str, held: Lane, message: AbstractIncomingMessage) -> None:
        self._pulse.heard()
        if lane == topology.CONTROL and message.body == PING and message.routing_key == self._plan.ping_key:
            self._hooks.pinged(lane, held.channel)
            with best_effort():
                async with asyncio.timeout(STEP_SECONDS):
                    await message.ack()
            return
        held.held += 1
        key, again = message.routing_key or "", bool(message.redelivered)
        self._hooks.deliver(Delivery(lane, message.body, key, again, message, held.channel))

    def _closed(self, _: object, error: BaseException | None) -> None:
        """Note that a connection, or the channel that publishes, was closed."""
        self.lose(troubles.of_loss(error, self._plan.url))

    def _lane_closed(self, channel: AbstractChannel, _: object, error: BaseException | None) -> None:
        if channel not in self._ended:
            self._closed(None, error)

    def _cancelled(self, lane: str, _frame: object) -> None:
        """Note that the broker ended a consumer; its channel is left, its queue tried again."""
        if (gone := self.lanes.pop(lane, None)) is not None:
            self._ended.append(gone.channel)
            self._missing[gone.queue] = troubles.cancelled(gone.queue)
            self._hooks.waits(lane, 0)
            self._retry_later()
            self.stirred.set()

    def _retry_later(self) -> None:
        self._retry_at = _now() + self._backoff.pause()

    async def _mend(self, now: float) -> None:
        """Leave the channels of ended consumers, and try again what is missing when its time has come."""
        while self._ended:
            with best_effort():
                await within(self._ended[0].close(), STEP_SECONDS)
            self._ended.pop(0)
        if not self._missing:
            if now >= self._retry_at + STEADY_SECONDS:
                self._backoff.reset()
        elif now >= self._retry_at:
            if self._plan.exchange in self._missing:
                await self._open_exchange()
            for lane, queue in self._plan.queues:
                if queue in self._missing:
                    await self._open_lane(lane, queue)
            self._retry_later()

    async def _feel(self, now: float, exchange: AbstractExchange) -> None:
        """Take the pulse, and act on it."""
        control = self.lanes.get(topology.CONTROL)
        saturated = control is None or control.held >= self._plan.prefetch
        match self._pulse.verdict(now, saturated=saturated):
            case Verdict.PING:
                self._pulse.sent(now)
                spawn(self._ping(exchange))
            case Verdict.ASK:
                await self._ask()
            case Verdict.SILENT:
                self.lose(troubles.silent(self._plan.ping_limit_seconds))
                self._sockets.cut()
            case Verdict.WELL:
                pass

    async def _ping(self, exchange: AbstractExchange) -> None:
        """Send a ping; the pulse ends the wait for an answer."""
        message = aio_pika.Message(PING, message_id=uuid4().hex)
        try:
            with named():
                await exchange.publish(message, self._plan.ping_key, mandatory=True)
            self._answered(taken=True, unbound=False)
        except PublishError:
            self._answered(taken=False, unbound=True)
        except DeliveryError:  # the queue is full: an answer all the same
            self._answered(taken=False, unbound=False)
        except FAILURES as error:
            await self._lose_soon(troubles.of_loss(error, self._plan.url))
        except asyncio.CancelledError:
            if asked_to_end():
                raise
            await self._lose_soon(troubles.lost())

    async def _lose_soon(self, why: BrokerTrouble) -> None:
        """Give the link up as well when, a moment later, nothing else did: the broker's own reason may be under way."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REASON_SECONDS):
                await self.lost.wait()
        self.lose(why)

    def _answered(self, *, taken: bool, unbound: bool) -> None:
        self._unbound = unbound
        self._pulse.answered(taken=taken)
        self.stirred.set()

    async def _ask(self) -> None:
        """Ask the consuming connection for any answer; raise when there is none."""
        for lane in self.lanes.values():
            await within(lane.channel.set_qos(prefetch_count=self._plan.prefetch), self._plan.ping_limit_seconds)
            break
        self._pulse.rest(_now())


class _Sockets:
    """Opens the sockets of a link, and cuts them: a library that waits for a silent broker then goes on."""

    def __init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:  # noqa: ANN401
        """Open a socket as the library would."""
        tls = options.pop("ssl_context_provider")
        encryption = {"ssl": await tls.get_context(), "ssl_shutdown_timeout": CLOSE_SECONDS} if url.scheme == "amqps" else {}
        reader, writer = await asyncio.open_connection(url.host, url.port, **encryption, **options)
        self._writers.append(writer)
        return reader, writer

    def cut(self) -> None:
        """Cut every socket that is still open."""
        for writer in self._writers:
            writer.transport.abort()


class _Connection(aio_pika.Connection):
    """A connection whose sockets we hold."""

    def __init__(self, url: URL, sockets: _Sockets, name: str, context: ssl.SSLContext | None) -> None:
        super().__init__(url, ssl_context=context, client_properties={"connection_name": name})
        self.kwargs["transport_factory"] = sockets


async def _cancel(lane: Lane) -> None:
    with best_effort():
        queue = await lane.channel.get_queue(lane.queue, ensure=False)
        await queue.cancel(lane.tag)


def _said(properties: Mapping[str, object], name: str) -> str:
    value = properties.get(name, "")
    text = value.decode(errors="replace") if isinstance(value, bytes | bytearray) else str(value)
    return text[:NAME_LENGTH] or "unknown"


def _now() -> float:
    return asyncio.get_running_loop().time()
