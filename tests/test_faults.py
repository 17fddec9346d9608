"""One peer's trouble, or one envelope's, holds up nobody else; and a node that is to end does end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection

from relay import broker as broker_module
from relay import topology
from relay.errors import StoreTrouble
from relay.rabbit import Management, PrivateBroker
from tests.live import LANE, Live, eventually, message, private_network

A, B, C = CENTRES = ("FLTA", "FLTB", "FLTC")


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run two of three centres; the third's queues are broken as a test likes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_REPAIR__GAP", "0.3")
        patch.setenv("RELAY_BROKER__RECONNECT_SECONDS", "1")
        nodes = Live(private_network(tmp_path_factory.mktemp("faults") / "network", broker, "faults", CENTRES), broker)
        await nodes.start(A, B)
        yield nodes
        await nodes.close()


async def administer(live: Live, job: Callable[[AbstractChannel], Awaitable[Any]]) -> None:
    """Do something to the broker as its operator."""
    server = live.network.broker
    url = f"amqp://{server.admin}:{server.admin_password}@{server.host}:{server.port}/{server.vhost}"
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        await job(channel)


def mend(live: Live) -> None:
    """Apply the topology again."""
    network = live.network
    server = network.broker
    with Management(server.management, server.admin, server.admin_password, vhost=server.vhost) as management:
        management.apply(management.plan(network.topology, network.passwords), network.passwords)


async def test_a_peer_without_a_queue_delays_no_other_and_catches_up(live: Live) -> None:
    """With forty envelopes for a queue that is gone, one for another centre goes out; mended, all forty go out."""
    await administer(live, lambda channel: channel.queue_delete(topology.queue(C, LANE)))
    gone = [await live.submit(A, message(case_number=f"GONE-{number}", to=[C])) for number in range(40)]
    other = await live.submit(A, message(case_number="OTHER", to=[B]))
    await live.reaches(A, other.id, B, "accepted", 5)
    assert live[A].pump.waiting >= 1
    mend(live)
    for one in gone:
        await live.reaches(A, one.id, C, "sent", 30)


async def test_a_full_queue_costs_no_connection_and_delays_no_other(live: Live) -> None:
    """A broker that refuses an envelope since a queue is full keeps its connection, and other centres' messages flow."""
    name = topology.queue(C, "priority")

    async def shrink(channel: AbstractChannel) -> None:
        await channel.queue_delete(name)
        arguments = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-max-length": 1}
        queue = await channel.declare_queue(name, durable=True, arguments=cast("Any", arguments))
        await queue.bind(topology.DIRECT_EXCHANGE, f"*.to.{C}.actual.priority")

    await administer(live, shrink)
    exchange = live[A].broker._exchange
    for number in range(30):
        await live.submit(A, message(case_number=f"FULL-{number}", to=[C], precedence="priority"))
    failures = live[A].centre.metrics.publish_failures.labels("not-confirmed")
    await eventually(lambda: failures._value.get() > 0)
    other = await live.submit(A, message(case_number="OTHER-2", to=[B], precedence="priority"))
    await live.reaches(A, other.id, B, "accepted", 5)
    assert live[A].broker._exchange is exchange
    await administer(live, lambda channel: channel.queue_delete(name))
    mend(live)


async def test_repair_towards_a_peer_without_a_queue_does_not_stop_repair_to_others(live: Live) -> None:
    """A mark that can't be routed to one peer keeps neither marks nor resending from the next."""
    lost = await live.submit(A, message(case_number="OPEN", to=[C]))
    await live.reaches(A, lost.id, C, "sent")
    await live.stop(B)
    stored = await live.submit(A, message(case_number="LOST", to=[B], precedence="immediate"))
    await live.reaches(A, stored.id, B, "sent")
    assert await live.purge(B, "immediate") >= 1
    await administer(live, lambda channel: channel.queue_delete(topology.queue(C, LANE)))
    live[A].marks._resend[(C, 1)] = None
    await live.start(B)
    await live.reaches(A, stored.id, B, "accepted", 20)
    mend(live)


async def test_what_waits_is_counted_while_the_broker_is_away(live: Live) -> None:
    """Submitting against a broker that is gone reaches the limit at which the node answers 429."""
    node = live[A]
    before = node.pump.waiting
    node.broker.connected.clear()
    try:
        for number in range(30):
            await live.submit(A, message(case_number=f"AWAY-{number}", to=[B]))
        await eventually(lambda: node.pump.waiting >= before + 30, 5)
    finally:
        node.broker.connected.set()
    await eventually(lambda: node.pump.waiting <= before)


async def test_the_pump_outlives_a_store_that_can_not_be_read(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails to be read for a moment delays what is due and does not end the node."""
    store, pump = live[A].centre.store, live[A].pump
    read = store.read
    failed = asyncio.Event()

    async def fails(job: Callable[[Any], Any]) -> Any:
        if not failed.is_set() and job == pump._find:
            failed.set()
            raise StoreTrouble("store-unavailable", "The store can't be read now.")
        return await read(job)

    monkeypatch.setattr(store, "read", fails)
    stored = await live.submit(A, message(case_number="UNREAD", to=[B]))
    await asyncio.wait_for(failed.wait(), 5)
    await live.reaches(A, stored.id, B, "accepted")


async def test_closing_a_frozen_connection_does_not_swallow_the_end() -> None:
    """A task that is cancelled while it closes a connection ends; a cancellation that nobody asked for passes."""

    class Frozen:
        async def close(self) -> None:
            await asyncio.sleep(60)

    class Stray:
        async def close(self) -> None:
            raise asyncio.CancelledError

    task = asyncio.create_task(broker_module._close(cast("AbstractConnection", Frozen())))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    await broker_module._close(cast("AbstractConnection", Stray()))
