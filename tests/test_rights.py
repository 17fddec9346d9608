"""What a centre's account can and cannot do on the broker, shown with a plain AMQP client and without a node.

Each attempt runs on a connection of its own, since one refused operation closes its channel.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError, ProbableAuthenticationError
from aiormq.exceptions import ChannelAccessRefused

from relay import topology
from relay.network import Network
from relay.rabbit import PrivateBroker

Attempt = Callable[[AbstractChannel], Awaitable[object]]
LIMIT = 60.0
DRUGS_IN_EUROPE = "intel.actual.flash.155.drugs"


class Client:
    """Opens connections as any centre."""

    def __init__(self, broker: PrivateBroker, network: Network) -> None:
        self._broker, self._network = broker, network

    @asynccontextmanager
    async def channel(self, centre: str) -> AsyncIterator[AbstractChannel]:
        """Open a channel as this centre."""
        async with asyncio.timeout(LIMIT):
            connection = await aio_pika.connect(self._broker.url(centre, self._network.passwords[centre]))
            try:
                yield await connection.channel(on_return_raises=True)
            finally:
                await connection.close()

    async def publish(self, centre: str, exchange: str, key: str, *cc: str) -> bytes:
        """Publish to an exchange as this centre and return the body, which is unique."""
        body = uuid.uuid4().bytes
        headers = {"CC": list(cc)} if cc else None
        async with self.channel(centre) as channel:
            target = await channel.get_exchange(exchange, ensure=False)
            await target.publish(aio_pika.Message(body, headers=headers), key, mandatory=True)
        return body

    async def take(self, centre: str, *lanes: str) -> dict[str, list[bytes]]:
        """Take everything from queues as their owner: what was in which; an empty one is not named."""
        taken: dict[str, list[bytes]] = {}
        async with self.channel(centre) as channel:
            for name in (topology.queue(centre, lane) for lane in lanes):
                queue = await channel.get_queue(name, ensure=False)
                while message := await queue.get(fail=False, timeout=LIMIT):
                    await message.ack()
                    taken.setdefault(name, []).append(message.body)
        return taken

    async def await_one(self, centre: str, lane: str) -> bytes:
        """Consume one message from a queue as its owner, waiting for it."""
        arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def settle(message: AbstractIncomingMessage) -> None:
            await message.ack()
            arrived.set_result(message.body)

        async with self.channel(centre) as channel:
            queue = await channel.get_queue(topology.queue(centre, lane), ensure=False)
            await queue.consume(settle)
            return await arrived

    async def everywhere(self) -> dict[str, list[bytes]]:
        """Take everything from every lane and control queue of every centre: what was in which."""
        found: dict[str, list[bytes]] = {}
        for one in await asyncio.gather(*(self.take(id_, *topology.LANES, "control") for id_ in self._network.directory.active)):
            found |= one
        return found


@pytest.fixture
async def client(broker: PrivateBroker, network: Network) -> AsyncIterator[Client]:
    """Hand out a client, and leave no message behind."""
    made = Client(broker, network)
    yield made
    await made.everywhere()


FORBIDDEN: dict[str, Attempt] = {
    "declare a queue": lambda channel: channel.declare_queue("mine", durable=True),
    "declare a queue named by the broker": lambda channel: channel.declare_queue(exclusive=True),
    "declare its own queue anew": lambda channel: channel.declare_queue("relay.in.BRU.flash", durable=True),
    "declare an exchange": lambda channel: channel.declare_exchange("relay.out.BRU.more"),
    "delete its own exchange": lambda channel: channel.exchange_delete("relay.out.BRU"),
    "delete its own queue": lambda channel: channel.queue_delete("relay.in.BRU.flash"),
    "delete another's queue": lambda channel: channel.queue_delete("relay.in.LYO.flash"),
    "bind its own queue to intelligence": lambda channel: _bind(channel, "relay.in.BRU.flash", "relay.intel"),
    "bind its own queue to another's exchange": lambda channel: _bind(channel, "relay.in.BRU.flash", "relay.out.LYO"),
    "unbind another's queue": lambda channel: _unbind(channel, "relay.in.LYO.flash", "relay.intel"),
    "bind exchanges": lambda channel: _bind_exchange(channel, "relay.out.BRU", "relay.out.LYO"),
    "read another's queue": lambda channel: _get(channel, "relay.in.LYO.flash"),
    "consume another's queue": lambda channel: _consume(channel, "relay.in.BE-CUS.control"),
    "purge another's queue": lambda channel: _purge(channel, "relay.in.LYO.flash"),
    "write another's exchange": lambda channel: _publish(channel, "relay.out.LYO", f"LYO.{DRUGS_IN_EUROPE}"),
    "write the intelligence exchange": lambda channel: _publish(channel, "relay.intel", f"BRU.{DRUGS_IN_EUROPE}"),
    "write the exchange for addressed messages": lambda channel: _publish(channel, "relay.direct", "BRU.to.LYO.control"),
    "write the exchange for poison": lambda channel: _publish(channel, "relay.poison", "LYO"),
    "write a queue through the default exchange": lambda channel: _publish(channel, "", "relay.in.LYO.flash"),
    "send under another's origin by routing key": lambda channel: _publish(channel, "relay.out.BRU", f"LYO.{DRUGS_IN_EUROPE}"),
    "send under another's origin by CC alone": lambda channel: _publish(channel, "relay.out.BRU", "", f"LYO.{DRUGS_IN_EUROPE}"),
}


async def _bind(channel: AbstractChannel, queue: str, exchange: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).bind(exchange, "#")


async def _unbind(channel: AbstractChannel, queue: str, exchange: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).unbind(exchange, "#")


async def _bind_exchange(channel: AbstractChannel, exchange: str, source: str) -> None:
    await (await channel.get_exchange(exchange, ensure=False)).bind(source, "#")


async def _get(channel: AbstractChannel, queue: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).get(fail=False, timeout=LIMIT)


async def _consume(channel: AbstractChannel, queue: str) -> None:
    async def ignore(_message: object) -> None:
        """Take nothing."""

    await (await channel.get_queue(queue, ensure=False)).consume(ignore)


async def _purge(channel: AbstractChannel, queue: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).purge()


async def _publish(channel: AbstractChannel, exchange: str, key: str, *cc: str) -> None:
    target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
    await target.publish(aio_pika.Message(b"x", headers={"CC": list(cc)} if cc else None), key, mandatory=True)


@pytest.mark.parametrize("what", FORBIDDEN)
async def test_a_centre_cannot(what: str, client: Client) -> None:
    """Account BRU is refused everything but its own exchange, its own queues and its own origin."""
    with pytest.raises(ChannelAccessRefused):
        async with client.channel("BRU") as channel:
            await FORBIDDEN[what](channel)
    assert await client.everywhere() == {}


async def test_a_centre_cannot_log_in_as_another(broker: PrivateBroker, network: Network) -> None:
    """BRU's password opens no other account."""
    async with asyncio.timeout(LIMIT):
        with pytest.raises(ProbableAuthenticationError):
            await aio_pika.connect(broker.url("LYO", network.passwords["BRU"]))


async def test_a_centre_can_publish_on_its_own_exchange_and_read_its_own_queues(client: Client) -> None:
    """What a node needs works: publish with confirmation, addressed or by topic, and read every queue of its own."""
    addressed = await client.publish("BRU", "relay.out.BRU", topology.direct_key("BRU", "SIN", "actual", "routine"))
    assert await client.everywhere() == {"relay.in.SIN.routine": [addressed]}
    assert await client.take("BRU", *topology.LANES, topology.CONTROL, topology.POISON) == {}


async def test_several_keys_arrive_once_in_each_entitled_queue(client: Client, network: Network) -> None:
    """One publish with further keys in CC: every queue that any key reaches has one copy, as ``bound`` says."""
    regions, crime_types = ("155", "035"), ("drugs.cocaine", "environment.timber")
    key, *cc = topology.intel_keys("BRU", "actual", "immediate", regions, crime_types)
    body = await client.publish("BRU", "relay.out.BRU", key, *cc)
    reached = topology.bound(network.directory, regions, crime_types)
    assert await client.everywhere() == {topology.queue(centre, "immediate"): [body] for centre in reached}
    assert reached == {"BRU", "LYO", "SIN", "BUE", "BE-CUS", "BE-NCB"}


async def test_nobody_gets_what_he_is_not_entitled_to(client: Client, network: Network) -> None:
    """Timber in Asia is not for the Americas nor for Belgium; a test never reaches a lane of actual traffic."""
    key = topology.intel_keys("LYO", "test", "flash", ["035"], ["environment.timber"])[0]
    body = await client.publish("LYO", "relay.out.LYO", key)
    assert topology.bound(network.directory, ["035"], ["environment.timber"]) == {"BRU", "LYO", "SIN"}
    assert await client.everywhere() == {f"relay.in.{centre}.exercise": [body] for centre in ("BRU", "LYO", "SIN")}


async def test_a_foreign_cc_without_a_route_of_its_own_goes_nowhere(client: Client) -> None:
    """An own origin that matches nothing does not carry a foreign CC past the exchange: refused or returned."""
    with pytest.raises((DeliveryError, ChannelAccessRefused)):
        await client.publish("BRU", "relay.out.BRU", "BRU.nowhere", f"LYO.{DRUGS_IN_EUROPE}")
    assert await client.everywhere() == {}


async def test_a_foreign_cc_beside_an_own_key(client: Client, broker: PrivateBroker) -> None:
    """Before 4.0.3 it rides along (so receivers trust only the signed origin); from there on it is refused."""
    with broker.management() as management:
        version = tuple(int(part) for part in management.version().split("-")[0].split("."))
    keys = ("BRU.to.SIN.control", "LYO.to.BUE.control")
    if version >= (4, 0, 3):
        with pytest.raises(ChannelAccessRefused):
            await client.publish("BRU", "relay.out.BRU", *keys)
        return
    body = await client.publish("BRU", "relay.out.BRU", *keys)
    assert await client.everywhere() == {"relay.in.SIN.control": [body], "relay.in.BUE.control": [body]}


async def test_an_envelope_that_is_never_acknowledged_ends_as_poison(client: Client) -> None:
    """After the delivery limit it lies in the poison queue of the same centre, and the lane is free again."""
    body = await client.publish("BRU", "relay.out.BRU", "BRU.to.SIN.actual.flash")
    async with client.channel("SIN") as channel:
        queue = await channel.get_queue("relay.in.SIN.flash", ensure=False)
        for _ in range(topology.DELIVERY_LIMIT + 1):
            while not (message := await queue.get(fail=False, timeout=LIMIT)):  # noqa: ASYNC110 - it is on its way back
                await asyncio.sleep(0.05)
            await message.nack(requeue=True)
    assert await client.take("SIN", "flash") == {}
    assert await client.await_one("SIN", topology.POISON) == body


async def test_counting_another_centres_queue_is_not_prevented(client: Client) -> None:
    """RabbitMQ lets any account ask by name how many messages a queue holds; it learns a number and no message."""
    async with client.channel("BRU") as channel:
        queue = await channel.declare_queue("relay.in.LYO.flash", passive=True)
    assert queue.declaration_result.message_count == 0
