"""One peer's trouble, or one envelope's, holds up nobody else; and a node that is to end does end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, cast

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from relay import handover, messages, topology
from relay import node as node_module
from relay.broker import bounded, troubles
from relay.errors import Busy, StoreTrouble
from relay.node import Node
from relay.rabbit import Management, PrivateBroker
from relay.store import Connection, aged
from relay.submissions import Submission
from tests.live import LANE, PATIENCE, Live, eventually, message, private_network

A, B, C = CENTRES = ("FLTA", "FLTB", "FLTC")


@pytest.fixture(scope="module")
async def centres(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run two of three centres; the third's queues are broken as a test likes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_REPAIR__GAP", "0.3")
        patch.setenv("RELAY_BROKER__RECONNECT_SECONDS", "1")
        nodes = Live(private_network(tmp_path_factory.mktemp("faults") / "network", broker, "faults", CENTRES), broker)
        await nodes.start(A, B)
        yield nodes
        await nodes.close()


@pytest.fixture
async def live(centres: Live) -> Live:
    """Return the centres, A and B running and connected, whatever became of an earlier test."""
    for node in centres.nodes.values():
        if (link := node.broker._link) is not None and link.usable:
            node.broker.connected.set()
    await centres.restore(A, B)
    return centres


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


def lose(node: Node) -> None:
    """Let a node lose its broker."""
    link = node.broker._link
    assert link is not None
    link.lose(troubles.lost())


async def empty(live: Live) -> None:
    """Take all that A sent to B: it is there first, so that nothing of it comes later."""

    def is_there(connection: Connection) -> bool:
        return B not in [one.recipient for one in aged.unaccepted(connection, lambda _lane: 2**62)]

    await eventually(lambda: live[A].centre.store.read(is_there))
    while await live.take(B, wait=0):
        pass


async def is_idle(live: Live, centre: str) -> None:
    """Wait until the broker has all that a centre says to its peers."""
    control = live[centre].control
    await eventually(lambda: not control._waiting and not control._flying)


async def test_a_peer_without_a_queue_delays_no_other_and_catches_up(live: Live) -> None:
    """With forty envelopes for a queue that is gone, one for another centre goes out; mended, all forty go out."""
    await administer(live, lambda channel: channel.queue_delete(topology.queue(C, LANE)))
    gone = [await live.submit(A, message(case_number=f"GONE-{number}", to=[C])) for number in range(40)]
    other = await live.submit(A, message(case_number="OTHER", to=[B]))
    await live.reaches(A, other.id, B, "accepted", 20)  # were each of the forty waited for by itself, it were longer
    await live.reaches(A, gone[-1].id, C, "deferred", 20)
    await eventually(lambda: live[A].pump.waiting == 0)
    mend(live)
    for one in gone:
        await live.reaches(A, one.id, C, "sent")


async def test_a_full_queue_costs_no_connection_and_delays_no_other(live: Live) -> None:
    """A broker that refuses an envelope since a queue is full keeps its connection, and other centres' messages flow."""
    name = topology.queue(C, "priority")

    async def shrink(channel: AbstractChannel) -> None:
        await channel.queue_delete(name)
        arguments = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-max-length": 1}
        queue = await channel.declare_queue(name, durable=True, arguments=cast("Any", arguments))
        await queue.bind(topology.DIRECT_EXCHANGE, f"*.to.{C}.actual.priority")

    await administer(live, shrink)
    link = live[A].broker._link
    failures = live[A].centre.metrics.publish_failures.labels("not-confirmed")
    for number in range(30):
        stored = await live.submit(A, message(case_number=f"FULL-{number}", to=[C], precedence="priority"))
        if number < 3:  # the queue says that it is full behind what fills it: all at once it might take
            await eventually(partial(has_left, live, stored.id))
    await eventually(lambda: failures._value.get() > 0)
    other = await live.submit(A, message(case_number="OTHER-2", to=[B], precedence="priority"))
    await live.reaches(A, other.id, B, "accepted", 20)
    assert link is not None
    assert live[A].broker._link is link
    assert not link.lost.is_set()
    await administer(live, lambda channel: channel.queue_delete(name))
    mend(live)


async def has_left(live: Live, message_id: str) -> bool:
    """Return whether A tried to send a message to C, whatever the broker said."""
    return (await live.states(A, message_id, C))[-1] != "queued"


async def test_repair_towards_a_peer_without_a_queue_does_not_stop_repair_to_others(live: Live) -> None:
    """A mark that can't be routed to one peer keeps neither marks nor resending from the next."""
    lost = await live.submit(A, message(case_number="OPEN", to=[C]))
    await live.reaches(A, lost.id, C, "sent")
    await live.stop(B)
    stored = await live.submit(A, message(case_number="LOST", to=[B], precedence="immediate"))
    await live.reaches(A, stored.id, B, "sent")
    assert await live.purge(B, "immediate") >= 1
    await administer(live, lambda channel: channel.queue_delete(topology.queue(C, LANE)))
    live[A].marks.resend(C, [1])
    await live.start(B)
    await live.reaches(A, stored.id, B, "accepted")
    mend(live)


async def test_what_waits_is_counted_while_the_broker_is_away(live: Live) -> None:
    """Submitting against a broker that is gone reaches the limit at which the node answers 429."""
    node = live[A]
    await eventually(lambda: not node.pump.waiting)
    node.broker.connected.clear()
    try:
        for number in range(30):
            await live.submit(A, message(case_number=f"AWAY-{number}", to=[B]))
        await eventually(lambda: node.pump.waiting >= 30)
    finally:
        node.broker.connected.set()
    await eventually(lambda: not node.pump.waiting)


async def test_the_pump_outlives_a_store_that_can_not_be_read(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails to be read for a moment delays what is due and does not end the node."""
    store = live[A].centre.store
    read = store.read
    failed = asyncio.Event()

    async def fails(job: Callable[[Any], Any]) -> Any:
        if not failed.is_set() and getattr(job, "__qualname__", "").startswith(("Pump._look.", "Pump._load.")):
            failed.set()
            raise StoreTrouble("store-unavailable", "The store can't be read now.")
        return await read(job)

    monkeypatch.setattr(store, "read", fails)
    live[A].broker.connected.clear()  # so that what is committed has to be read back
    stored = await live.submit(A, message(case_number="UNREAD", to=[B]))
    live[A].broker.connected.set()
    await asyncio.wait_for(failed.wait(), PATIENCE)
    await live.reaches(A, stored.id, B, "accepted")


async def test_a_frozen_step_does_not_swallow_the_end() -> None:
    """Who waits for a broker that never answers and is cancelled ends; a cancellation that nobody asked for passes."""
    clinging = asyncio.Event()

    async def clings() -> None:
        while not clinging.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await clinging.wait()

    async def strays() -> None:
        raise asyncio.CancelledError

    task = asyncio.create_task(bounded.within(clings(), 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    with pytest.raises(TimeoutError):
        await bounded.within(clings(), 0.01)
    clinging.set()
    with bounded.best_effort():
        await bounded.within(strays(), 1)


async def test_a_loop_that_is_cancelled_from_inside_ends_the_node() -> None:
    """A task group takes no notice of a stray cancellation, so the node makes an error of it: no loop is ever missing."""

    async def strays() -> None:
        raise asyncio.CancelledError

    task = asyncio.create_task(node_module._forever(strays()))
    with pytest.raises(RuntimeError, match="cancelled"):
        await task
    asked = asyncio.create_task(node_module._forever(asyncio.sleep(60)))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_deliveries_of_a_lost_connection_do_not_pile_up(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store can't be written, each reconnect leaves one copy of a delivery; the node outlives it and all arrive."""
    inbox, store = live[B].inbox, live[B].centre.store
    write = store.write
    broken = True

    async def fails(job: Callable[[Any], Any]) -> Any:
        if broken:
            raise StoreTrouble("store-full", "The disk is full.")
        return await write(job)

    def came_again(before: set[bytes]) -> bool:
        return before <= {one.raw for one in inbox._messages._waiting if not one.gone}

    monkeypatch.setattr(store, "write", fails)
    ids = {(await live.submit(A, message(case_number=f"PILE-{number}", to=[B]))).id for number in range(20)}
    await eventually(lambda: inbox._messages._waiting)
    for _ in range(4):
        before = {delivery.raw for delivery in inbox._messages._waiting}
        lose(live[B])
        await asyncio.wait_for(live[B].broker.connected.wait(), PATIENCE)
        await eventually(partial(came_again, before))
    waiting = [delivery.raw for delivery in inbox._messages._waiting]
    assert len(waiting) == len(set(waiting))
    broken = False
    taken: set[str] = set()
    while not ids <= taken:
        given = {one.id for one in await live.take(B)}
        assert given
        taken |= given


async def test_a_slow_store_bounds_what_waits_in_memory(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a commit takes long, submitting more bytes than the node keeps in memory is answered with 429."""
    node, gate = live[A], threading.Event()
    monkeypatch.setattr(node_module, "UNCOMMITTED_BATCHES", 0)
    slow = asyncio.create_task(node.centre.store.write(lambda _: gate.wait(100)))
    raw = message(case_number="SLOW", to=[B])
    taken = [asyncio.create_task(node.outbox.submit([Submission(raw, messages.parse(raw))])) for _ in range(3)]
    try:
        await eventually(lambda: node.outbox._group)  # it waits for its commit, and whatever comes now for the next
        taken.append(asyncio.create_task(node.outbox.submit([Submission(raw, messages.parse(raw))])))
        await eventually(lambda: isinstance(node.full(), Busy))
    finally:
        gate.set()
    await asyncio.gather(slow, *taken)
    assert node.full() is None
    await empty(live)


async def test_draining_the_outbox_waits_for_the_commit_under_way(live: Live) -> None:
    """What is being committed counts as waiting, so a graceful stop answers its submitter first."""
    node, gate = live[A], threading.Event()
    slow = asyncio.create_task(node.centre.store.write(lambda _: gate.wait(100)))
    promise = asyncio.create_task(live.submit(A, message(case_number="DRAIN", to=[B])))
    await eventually(lambda: node.outbox._group)
    drained = asyncio.create_task(node.outbox.drain())
    await asyncio.sleep(0.1)
    assert not drained.done()
    gate.set()
    await asyncio.gather(slow, drained, promise)
    await empty(live)


async def test_a_handout_is_bounded_before_it_is_loaded(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large envelopes beyond the bound are neither loaded nor marked as given out; they come with the next handout."""
    await empty(live)
    monkeypatch.setattr(handover, "MAX_HANDED_BYTES", 2_000)
    large = [message(case_number=f"LARGE-{number}", to=[B], office="x" * 200) for number in range(4)]
    stored = [await live.submit(A, raw) for raw in large]
    for one in stored:
        await live.reaches(A, one.id, B, "accepted")
    first = await live[B].handover.take(1000, PATIENCE)
    assert 0 < len(first) < 4
    unknown = (await live[B].handover.acknowledge([one.id for one in stored])).unknown
    assert len(unknown) == 4 - len(first)
    taken = len(first)
    while taken < 4:
        taken += len(await live.take(B))


async def test_many_lost_receipts_come_again_without_long_pauses(live: Live) -> None:
    """When a hundred receipts of `delivered` are lost, marks go on at short pauses until all came again."""
    stored = [await live.submit(A, message(case_number=f"MANY-{number}", to=[B])) for number in range(100)]
    for one in stored:
        await live.reaches(A, one.id, B, "accepted")
    await live.stop(A)
    for given in await live[B].handover.take(1000, PATIENCE):
        await live[B].handover.acknowledge([given.id])
    await is_idle(live, B)
    assert await live.purge(A, "control") >= len(stored)
    await live.start(A)
    for one in stored:
        await live.reaches(A, one.id, B, "delivered")


async def test_a_lost_receipt_comes_again_behind_many_that_are_known(live: Live) -> None:
    """Ninety messages that wait for their system do not keep the receipt of a later one from being sent again."""
    stored = []
    for number in range(90):
        stored.append(await live.submit(A, message(case_number=f"STUCK-{number}", to=[B])))
        await live.reaches(A, stored[-1].id, B, "accepted")
    await live.stop(A)
    await live[B].handover.take(1000, PATIENCE)
    await live[B].handover.acknowledge([stored[-1].id])
    await is_idle(live, B)
    assert await live.purge(A, "control") >= 1
    await live.start(A)
    await live.reaches(A, stored[-1].id, B, "delivered")
    await empty(live)


async def test_a_closed_store_refuses_instead_of_waiting_for_ever(live: Live) -> None:
    """What comes after the store was closed is told so."""
    victim = live[B].centre.store
    await live.stop(B)
    with pytest.raises(StoreTrouble):
        await asyncio.wait_for(victim.write(lambda _: None), 20)
    await live.start(B)


async def test_a_message_damaged_at_rest_holds_up_no_other(live: Live) -> None:
    """What can't be read back from the store stays where it is; the next message is given out."""
    await empty(live)
    damaged = await live.submit(A, message(case_number="DAMAGED", to=[B]))
    await live.reaches(A, damaged.id, B, "accepted")
    await live[B].centre.store.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE inbox_envelope SET body = zeroblob(length(body)) WHERE n = (SELECT envelope FROM inbox_message WHERE id = ?)",
            (damaged.id,),
        )
    )
    stored = await live.submit(A, message(case_number="WHOLE", to=[B]))
    await live.reaches(A, stored.id, B, "accepted")
    assert {one.id for one in await live.take(B)} == {stored.id}
