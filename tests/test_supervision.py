"""Whatever the broker does to a node's connections, the node says so, tries again with pauses, and goes on by itself.

These tests have a RabbitMQ of their own, which they freeze, kill, starve and take apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast
from uuid import uuid4

import aio_pika
import httpx2
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused, ChannelInvalidStateError
from pamqp import frame
from pamqp.commands import Channel, Connection
from structlog.testing import capture_logs

from relay import topology
from relay.broker import Broker, BrokerPlan, troubles
from relay.broker.link import Link
from relay.broker.pulse import Pulse, Verdict
from relay.errors import BrokerTrouble, StoreTrouble
from relay.log import Log
from relay.network import Network
from relay.node import Node, open_node
from relay.rabbit import Management, PrivateBroker
from relay.rabbit.private import _server_script
from relay.settings import load
from relay.topology import CONTROL, control_key, exchange, queue
from tests.live import LANE, PATIENCE, Live, eventually, message, private_network

A, B = CENTRES = ("SUPA", "SUPB")
PING, LIMIT, LONGEST = 0.3, 2.5, 1.0
PATIENT = 60.0  # seconds a ping may take where no test wants it to be missed: a busy machine keeps its links


class Proxy:
    """A TCP proxy to a broker that can stop carrying without closing anything, or close at once."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.accepted = 0
        self.open_seconds: float | None = None
        self._to = port
        self._stalled: set[int] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close everything."""
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stall(self) -> None:
        """Carry nothing any more on the connections that are open; new ones are carried."""
        self._stalled = set(range(self.accepted + 1))

    def cut(self) -> None:
        """Close every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        number = self.accepted
        self._writers.append(writer)
        if self.open_seconds == 0:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers.append(back)
        for source, target in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._carry(number, source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self.open_seconds is not None:
            asyncio.get_running_loop().call_later(self.open_seconds, writer.transport.abort)
            asyncio.get_running_loop().call_later(self.open_seconds, back.transport.abort)

    async def _carry(self, number: int, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if number in self._stalled:
                    await asyncio.Event().wait()
                target.write(data)
                await target.drain()
        target.close()


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBroker]:
    """Run the RabbitMQ that these tests mistreat."""
    with PrivateBroker(tmp_path_factory.mktemp("rabbit"), temporary=True) as private:
        yield private


@pytest.fixture(scope="module")
async def proxy(rabbit: PrivateBroker) -> AsyncIterator[Proxy]:
    """Run the proxy through which A, and A alone, reaches its broker."""
    async with Proxy(rabbit.amqp_port) as running:
        yield running


@pytest.fixture(scope="module")
async def live(rabbit: PrivateBroker, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run two centres whose nodes are impatient."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_BROKER__RECONNECT_SECONDS", str(LONGEST))
        patch.setenv("RELAY_BROKER__PING_SECONDS", str(PING))
        patch.setenv("RELAY_BROKER__PING_LIMIT_SECONDS", str(PATIENT))
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.5")
        patch.setenv("RELAY_REPAIR__MARK_LONGEST", "2")
        patch.setenv("RELAY_REPAIR__GAP", "0.5")
        network = private_network(tmp_path_factory.mktemp("supervision") / "network", rabbit, "supervision", CENTRES)
        file = network.node_file(A)
        file.write_text(file.read_text().replace(f":{rabbit.amqp_port}/", f":{proxy.port}/"))
        nodes = Live(network, rabbit)
        await nodes.start(*CENTRES)
        yield nodes
        await nodes.close()


@pytest.fixture
async def well(live: Live, rabbit: PrivateBroker) -> Live:
    """Give a test two nodes that are well, whatever a test before left that failed midway."""
    if not all(centre in live.nodes and is_well(live[centre]) for centre in CENTRES):
        if not rabbit.running:
            await asyncio.to_thread(rabbit.start)
        mend(live.network)
        await live.start(*(centre for centre in CENTRES if centre not in live.nodes))
    for centre in CENTRES:
        await eventually(partial(is_well, live[centre]))
    return live


@contextlib.contextmanager
def impatient(*nodes: Node) -> Iterator[None]:
    """Let the links of nodes give a ping up after ``LIMIT``, these and those made meanwhile."""

    def wait(node: Node, seconds: float) -> None:
        node.broker._plan = link(node)._plan = replace(node.broker._plan, ping_limit_seconds=seconds)
        link(node)._pulse._limit = seconds

    for node in nodes:
        wait(node, LIMIT)
    try:
        yield
    finally:
        for node in nodes:
            wait(node, PATIENT)


def is_well(node: Node) -> bool:
    """Return whether a node is connected and has no trouble with its broker."""
    return node.broker.connected.is_set() and node.broker.trouble is None


def says(node: Node, code: str, *words: str) -> bool:
    """Return whether a node's trouble has a code and these words."""
    trouble = node.broker.trouble
    return trouble is not None and trouble.code == code and all(word in trouble.detail for word in words)


def link(node: Node) -> Link:
    """Return a node's link to the broker."""
    found = node.broker._link
    assert found is not None
    return found


async def arrives(live: Live, origin: str, recipient: str, **fields: Any) -> None:
    """Show that messages go from one centre to another, exactly one copy being handed over."""
    stored = await live.submit(origin, message(case_number=uuid4().hex[:12], to=[recipient], **fields))
    await handed_over_once(live, recipient, {stored.id})


async def handed_over_once(live: Live, recipient: str, ids: set[str]) -> None:
    """Wait until all of these, and none twice, were handed to a centre's system."""
    got: list[str] = []
    until = time.monotonic() + PATIENCE
    while not ids <= set(got):
        assert time.monotonic() < until, f"{ids - set(got)} did not arrive"
        got += [one.id for one in await live.take(recipient, wait=5)]
    assert len(got) == len(set(got))


def mend(network: Network, passwords: dict[str, str] | None = None) -> None:
    """Apply the topology, as `relay broker apply` does."""
    server, all_passwords = network.broker, {**network.passwords, **(passwords or {})}
    with Management(server.management, server.admin, server.admin_password, vhost=server.vhost) as management:
        management.apply(management.plan(network.topology, all_passwords), all_passwords)


async def administer(live: Live, job: Callable[[AbstractChannel], Awaitable[Any]]) -> None:
    """Do something to the broker as its operator."""
    server = live.network.broker
    url = f"amqp://{server.admin}:{server.admin_password}@{server.host}:{server.port}/{server.vhost}"
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        await job(channel)


async def control(rabbit: PrivateBroker, *words: str) -> None:
    """Run rabbitmqctl on the broker."""
    command = [str(_server_script().with_name("rabbitmqctl")), *words]
    given = {"env": rabbit._environment(), "stdin": subprocess.DEVNULL, "capture_output": True, "timeout": PATIENCE}
    await asyncio.to_thread(partial(subprocess.run, command, check=True, **given))


@contextlib.contextmanager
def frozen(rabbit: PrivateBroker) -> Iterator[None]:
    """Stop the broker's process where it stands, its sockets open; let it go on at the end."""
    assert rabbit.pid is not None
    os.kill(rabbit.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(rabbit.pid, signal.SIGCONT)


# links that look alive


async def test_a_half_open_link_is_noticed_and_made_anew(well: Live, proxy: Proxy) -> None:
    """A link that carries nothing and is not closed is given up at its limit; what was sent meanwhile arrives once."""
    before = link(well[A])
    with impatient(well[A]):
        before._pulse.rest(asyncio.get_running_loop().time())  # the ping that will be missed is sent from now on
        proxy.stall()
        begun = time.monotonic()
        there = {(await well.submit(A, message(case_number=f"HALF-{number}", to=[B]))).id for number in range(5)}
        back = {(await well.submit(B, message(case_number=f"OPEN-{number}", to=[A]))).id for number in range(5)}
        await eventually(before.lost.is_set)
    assert time.monotonic() - begun >= LIMIT
    assert "looked alive" in before.why.detail
    assert f"for {LIMIT:g} s" in before.why.detail
    await handed_over_once(well, B, there)
    await handed_over_once(well, A, back)


async def test_a_node_that_holds_all_it_may_take_keeps_its_connection(well: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a store that can't be written and a full control lane no ping comes back; the link is not to blame and stays."""
    store, before = well[A].centre.store, link(well[A])
    write, ask, asked, pulse = store.write, before._ask, list[bool](), before._pulse

    async def fails(job: Callable[[Any], Any]) -> Any:
        del job
        raise StoreTrouble("store-full", "The disk is full.")

    async def asks() -> None:
        await ask()
        asked.append(True)

    monkeypatch.setattr(store, "write", fails)
    monkeypatch.setattr(before, "_ask", asks)
    dropped = well[A].centre.metrics.dropped.labels("not-an-envelope")
    count = dropped._value.get()
    for number in range(40):
        await well[B].broker.publish([control_key(B, A)], b"no envelope %d" % number)
    await eventually(lambda: before.lanes[CONTROL].held >= 32)

    def asked_twice() -> bool:
        if pulse._since is not None and pulse._answer and not pulse._heard:
            pulse._since -= PATIENT  # the broker took a ping, and it does not come back in time
        return len(asked) >= 2

    await eventually(asked_twice)
    assert link(well[A]) is before
    assert is_well(well[A])
    monkeypatch.setattr(store, "write", write)
    await eventually(lambda: dropped._value.get() >= count + 40 and before.lanes[CONTROL].held == 0)
    await arrives(well, B, A)


def test_a_pulse_is_judged_by_what_came_through() -> None:
    """A ping without an answer is silence; an answer and any delivery since is life; otherwise the connection is asked."""
    pulse = Pulse(10, 20, 0)
    assert pulse.verdict(0, saturated=False) is Verdict.PING
    assert not pulse.proven
    pulse.sent(0)
    assert pulse.verdict(9.9, saturated=True) is Verdict.WELL
    assert pulse.verdict(10, saturated=True) is Verdict.PING, "another, as the first may have gone astray"
    pulse.sent(10)
    pulse.sent(20)
    assert pulse.verdict(20, saturated=True) is Verdict.WELL
    assert pulse.verdict(20.1, saturated=True) is Verdict.SILENT, "no answer to the publication"
    pulse.answered(taken=True)
    assert pulse.proven
    assert pulse.verdict(20.1, saturated=False) is Verdict.SILENT, "nothing was delivered"
    assert pulse.verdict(20.1, saturated=True) is Verdict.ASK, "nothing can be delivered"
    pulse.heard()
    assert pulse.verdict(20.1, saturated=False) is Verdict.WELL
    assert pulse.verdict(30, saturated=False) is Verdict.PING
    pulse.sent(30)
    pulse.answered(taken=False)
    assert pulse.verdict(30.3, saturated=False) is Verdict.ASK, "a refused ping is never delivered"
    pulse.rest(31)
    assert pulse.verdict(40.9, saturated=False) is Verdict.WELL


async def test_pings_are_no_envelopes(well: Live) -> None:
    """Pings come back all the time and the inbox sees none of them; bytes like theirs from elsewhere are no pings."""
    node = well[A]
    dropped, echoes = (node.centre.metrics.dropped.labels(code) for code in ("not-an-envelope", "own-echo"))
    count = dropped._value.get()
    for _ in range(3):
        link(node)._pulse._heard = False
        await eventually(lambda: link(node)._pulse._heard)
    assert (dropped._value.get(), echoes._value.get()) == (count, 0)
    await well[B].broker.publish([control_key(B, A)], b"relay ping, no envelope")
    await eventually(lambda: dropped._value.get() == count + 1)


# topology


async def test_a_deleted_queue_is_named_and_taken_up_when_it_is_back(well: Live) -> None:
    """The node says which queue is gone and how to mend that; its other lanes go on; applied, it resumes by itself."""
    before, name = link(well[A]), queue(A, LANE)
    with capture_logs() as logs:
        await administer(well, lambda channel: channel.queue_delete(name))
        await eventually(lambda: says(well[A], "topology-missing", f"lacks {name}", "relay broker apply"))
        problems = (await well[A].health()).problems
        assert any(name in problem for problem in problems)
        await arrives(well, B, A, precedence="flash")
        await arrives(well, A, B)
        waiting = await well.submit(B, message(case_number="WAITS", to=[A]))
        await asyncio.sleep(1.5 * LONGEST)
    said = [entry for entry in logs if entry["event"] == "topology.missing" and entry["centre"] == A]
    assert len(said) == 1
    assert link(well[A]) is before
    mend(well.network)
    await handed_over_once(well, A, {waiting.id})
    await eventually(lambda: is_well(well[A]))
    assert link(well[A]) is before


async def test_a_deleted_exchange_is_named_and_taken_up_when_it_is_back(well: Live) -> None:
    """Without its exchange a node takes in what arrives, and says what is missing; applied, it publishes again."""
    name = exchange(A)
    await administer(well, lambda channel: channel.exchange_delete(name))
    stored = await well.submit(A, message(case_number="NO-EXCHANGE", to=[B]))
    await eventually(lambda: says(well[A], "topology-missing", f"lacks {name}", "relay broker apply"))
    assert not well[A].broker.connected.is_set()
    await arrives(well, B, A)
    with pytest.raises(BrokerTrouble, match="relay broker apply"):
        await well[A].broker.publish([control_key(A, B)], b"x")
    mend(well.network)
    await handed_over_once(well, B, {stored.id})


async def test_a_missing_binding_is_named(well: Live) -> None:
    """When a node's own ping finds no queue, it says which binding is missing; applied, that passes."""

    async def unbind(channel: AbstractChannel) -> None:
        bound = await channel.get_queue(queue(A, CONTROL), ensure=False)
        await bound.unbind(topology.DIRECT_EXCHANGE, f"*.to.{A}.{CONTROL}")

    await administer(well, unbind)
    await eventually(lambda: says(well[A], "topology-missing", control_key(A, A)))
    mend(well.network)
    await eventually(lambda: is_well(well[A]))


async def test_a_forbidden_publication_costs_one_channel(well: Live) -> None:
    """A publication that the broker forbids closes the channel; the node makes its link anew and goes on."""
    before = link(well[A])
    channel: AbstractChannel = cast("Any", before.exchange).channel
    foreign = await channel.get_exchange(exchange(B), ensure=False)
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await foreign.publish(aio_pika.Message(b"x"), control_key(B, A))
    await eventually(before.lost.is_set)
    assert before.why.code == "broker-refused"
    await arrives(well, A, B)
    await arrives(well, B, A)


async def test_a_ping_that_fails_first_does_not_hide_why_the_broker_closed_the_channel(well: Live) -> None:
    """What the broker says of the channel comes a moment after what waits on it has failed; the link is lost for that reason."""
    before = link(well[A])

    class Closing:
        async def publish(self, *_: object, **__: object) -> None:
            refusal = ChannelAccessRefused("ACCESS_REFUSED - access to exchange refused")
            asyncio.get_running_loop().call_later(0.05, before._closed, None, refusal)
            raise ChannelInvalidStateError

    await before._ping(cast("Any", Closing()))
    assert before.lost.is_set()
    assert before.why.code == "broker-refused"
    await arrives(well, A, B)


async def test_an_envelope_that_is_forbidden_each_time_stops_no_other(well: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The most urgent envelope takes the connection with it whenever it is published; the others go out all the same."""
    publish = well[A].broker.publish

    async def forged(keys: Sequence[str], raw: bytes) -> None:
        await publish([control_key(B, A)] if keys[0].endswith("flash") else keys, raw)

    monkeypatch.setattr(well[A].broker, "publish", forged)
    forbidden = await well.submit(A, message(case_number="FORBIDDEN", to=[B], precedence="flash"))
    await eventually(lambda: says(well[A], "broker-refused"))
    ids = {(await well.submit(A, message(case_number=f"OTHER-{number}", to=[B]))).id for number in range(20)}
    await handed_over_once(well, B, ids)
    monkeypatch.setattr(well[A].broker, "publish", publish)
    await handed_over_once(well, B, {forbidden.id})


# a broker in trouble


async def test_an_alarm_is_said_and_outlived(well: Live, rabbit: PrivateBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the broker is short of memory a node stays connected, takes in what waits for it, says why; then it goes on."""
    await well.stop(B)
    waiting = await well.submit(A, message(case_number="BEFORE", to=[B]))
    await well.reaches(A, waiting.id, B, "sent")
    before = link(well[A])
    await control(rabbit, "set_vm_memory_high_watermark", "0.00001")
    try:
        await eventually(lambda: says(well[A], "broker-blocked", "memory or disk"))
        assert not well[A].broker.connected.is_set()
        monkeypatch.setattr("relay.handover.CONNECT_SECONDS", 0.1)
        well.nodes[B] = await open_node(load(well.network.node_file(B)))
        task = well._tasks[B] = asyncio.create_task(well.nodes[B].run(), name=B)
        await handed_over_once(well, B, {waiting.id})
        later = await well.submit(A, message(case_number="DURING", to=[B]))
        with impatient(well[A]):
            await asyncio.sleep(LIMIT + 2 * PING)
        assert link(well[A]) is before
        assert not before.lost.is_set()
    finally:
        await control(rabbit, "set_vm_memory_high_watermark", "0.4")
    await handed_over_once(well, B, {later.id})
    assert link(well[A]) is before
    assert not task.done()


async def test_a_disk_alarm_is_said_and_outlived(well: Live, rabbit: PrivateBroker) -> None:
    """So it is when the broker is short of disk; what is to be published is refused at once meanwhile, with its code."""
    await control(rabbit, "set_disk_free_limit", "900000GB")
    try:
        await eventually(lambda: says(well[A], "broker-blocked"))
        with pytest.raises(BrokerTrouble) as caught:
            await well[A].broker.publish([control_key(A, B)], b"x")
        assert caught.value.code == "broker-blocked"
    finally:
        await control(rabbit, "set_disk_free_limit", "50MB")
    await arrives(well, A, B)


async def test_a_frozen_broker_is_noticed_and_gone_on_with(well: Live, rabbit: PrivateBroker) -> None:
    """A broker that stands still is given up after the limit; what was submitted meanwhile arrives once when it goes on."""
    before = [link(well[centre]) for centre in CENTRES]
    with impatient(well[A], well[B]), frozen(rabbit):
        ids = {(await well.submit(A, message(case_number=f"ICE-{number}", to=[B]))).id for number in range(20)}
        for one in before:
            await eventually(one.lost.is_set)
            assert "looked alive" in one.why.detail
        await eventually(lambda: says(well[A], "broker-unreachable"))
        await eventually(lambda: says(well[B], "broker-unreachable"))
    await handed_over_once(well, B, ids)


async def test_a_node_ends_though_its_broker_is_frozen(well: Live, rabbit: PrivateBroker) -> None:
    """Asked to stop while the broker answers nothing, a node ends before it would give up waiting for its confirms."""
    with frozen(rabbit):
        ids = {(await well.submit(A, message(case_number=f"END-{number}", to=[B]))).id for number in range(20)}
        await asyncio.wait_for(well.stop(A), 28)
    await well.start(A)
    await handed_over_once(well, B, ids)


async def test_a_killed_broker_is_found_again(well: Live, rabbit: PrivateBroker) -> None:
    """A broker that is killed and started again is found again, and nothing is lost or doubled."""
    with capture_logs() as logs:
        await asyncio.to_thread(rabbit.kill)
        ids = {(await well.submit(A, message(case_number=f"KILL-{number}", to=[B]))).id for number in range(20)}
        await eventually(lambda: says(well[B], "broker-unreachable", "can't be reached"))
        await asyncio.sleep(1.5 * LONGEST)
    assert len([entry for entry in logs if entry["event"] == "broker.lost" and entry["centre"] == B]) <= 2
    await asyncio.to_thread(rabbit.start)
    await handed_over_once(well, B, ids)


async def test_deliveries_held_too_long_for_the_broker_come_again(
    well: Live, rabbit: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the store is in trouble for longer than the broker waits for an acknowledgement, the node survives that."""
    store, links = well[B].centre.store, set[Link]()
    write = store.write

    async def fails(job: Callable[[Any], Any]) -> Any:
        del job
        links.add(link(well[B]))
        raise StoreTrouble("store-full", "The disk is full.")

    await waits_for_acknowledgements(rabbit, 1500, looking_every=500)
    try:
        link(well[B]).lose(troubles.lost())
        await eventually(lambda: is_well(well[B]))
        with capture_logs() as logs:
            monkeypatch.setattr(store, "write", fails)
            stored = await well.submit(A, message(case_number="HELD", to=[B]))
            await eventually(lambda: any("acknowledgement" in entry.get("detail", "") for entry in logs))
            await eventually(lambda: len(links) >= 2)
            await asyncio.sleep(2)
        assert len(links) <= 6
        monkeypatch.setattr(store, "write", write)
        await handed_over_once(well, B, {stored.id})
    finally:
        await waits_for_acknowledgements(rabbit, 1_800_000, looking_every=60_000)
        link(well[B]).lose(troubles.lost())


async def waits_for_acknowledgements(rabbit: PrivateBroker, milliseconds: int, *, looking_every: int) -> None:
    """Set how long the broker waits for the acknowledgement of a delivery."""
    names = {"consumer_timeout": milliseconds, "channel_tick_interval": looking_every}
    words = ", ".join(f"application:set_env(rabbit, {name}, {value})" for name, value in names.items())
    await control(rabbit, "eval", f"{words}.")


async def test_a_rotated_password_needs_no_restart(well: Live, rabbit: PrivateBroker) -> None:
    """With the old password a node is refused, says so and backs off; it takes the new one from the file by itself."""
    file = well.network.centre(B) / "keys" / "broker.password"
    old, new = file.read_text().strip(), "invented-and-new"
    given: dict[str, Any] = {"base_url": rabbit.management_url, "auth": (rabbit.admin, rabbit.password), "timeout": PATIENCE}
    try:
        mend(well.network, {B: new})
        with httpx2.Client(**given, trust_env=False) as client:

            def close_its_connections() -> bool:
                found = [one for one in client.get("/api/connections").json() if one.get("user") == B]
                for one in found:
                    client.delete(f"/api/connections/{one['name'].replace(' ', '%20').replace('>', '%3E')}")
                return says(well[B], "broker-refused")

            await eventually(close_its_connections)
        file.unlink()
        await eventually(lambda: says(well[B], "broker-refused", str(file)))
        file.write_text(new)
        await eventually(lambda: is_well(well[B]))
        await arrives(well, A, B)
    finally:
        mend(well.network, {B: old})
        file.write_text(old)


# pauses


def plan(network: Network, port: int, password: str, **changes: Any) -> BrokerPlan:
    """Return a plan of A, with the pauses that are the default."""
    return replace(plan_of(f"amqp://{A}@127.0.0.1:{port}/{network.broker.vhost}"), **({"password": lambda: password} | changes))


def plan_of(url: str) -> BrokerPlan:
    """Return a plan of A at an address."""
    return BrokerPlan(
        url=url,
        password=lambda: "",
        exchange=exchange(A),
        queues=((CONTROL, queue(A, CONTROL)),),
        prefetch=8,
        confirm_seconds=30,
        reconnect_seconds=15,
        heartbeat_seconds=15,
        ping_key=control_key(A, A),
        ping_seconds=10,
        ping_limit_seconds=20,
    )


@contextlib.asynccontextmanager
async def running(plan: BrokerPlan) -> AsyncIterator[Broker]:
    """Run the broker module alone."""
    broker = Broker(plan, Log(A))
    task = asyncio.create_task(broker.run(lambda _: None, lambda: None))
    try:
        yield broker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("open_seconds", [0, 0.3])
async def test_a_broker_that_hangs_up_is_not_tried_in_a_tight_loop(
    live: Live, rabbit: PrivateBroker, open_seconds: float
) -> None:
    """Whether it closes at once or shortly after the connection was made, the pauses grow, and the log does not."""
    with capture_logs() as logs:
        async with Proxy(rabbit.amqp_port) as hanging:
            hanging.open_seconds = open_seconds
            async with running(plan(live.network, hanging.port, live.network.passwords[A])):
                await eventually(lambda: hanging.accepted >= 2 and lost(logs))
                await asyncio.sleep(2.5)
            assert hanging.accepted <= 24
    assert len(lost(logs)) <= 12


def lost(logs: Sequence[Any]) -> list[Any]:
    """Return the lines that say that A lost its broker."""
    return [entry for entry in logs if entry["centre"] == A and entry["event"] == "broker.lost"]


@pytest.mark.parametrize(("password", "vhost"), [("wrong", None), (None, "nowhere")])
async def test_a_refused_login_is_not_tried_in_a_tight_loop(
    live: Live, rabbit: PrivateBroker, monkeypatch: pytest.MonkeyPatch, password: str | None, vhost: str | None
) -> None:
    """A wrong password or virtual host is answered with growing pauses, one line of the log and a sentence."""
    monkeypatch.setattr("relay.broker.link.CONNECT_SECONDS", PATIENCE)  # no attempt ends otherwise than by the refusal
    with capture_logs() as logs:
        async with Proxy(rabbit.amqp_port) as counting:
            url = f"amqp://{A}@127.0.0.1:{counting.port}/{vhost or live.network.broker.vhost}"
            async with running(plan(live.network, counting.port, password or live.network.passwords[A], url=url)) as broker:
                await eventually(lambda: broker.trouble is not None and broker.trouble.code == "broker-refused")
                await eventually(lambda: counting.accepted >= 2)
                await asyncio.sleep(1.5)
            assert counting.accepted <= 12
    assert len([entry for entry in logs if entry.get("code") == "broker-refused" and entry["centre"] == A]) == 1


SPEAKS = (
    Connection.Start(server_properties={"product": "unlike RabbitMQ", "version": 7}, mechanisms="PLAIN", locales="en_US"),
    Connection.Tune(10, 131_072, 30),
    Connection.OpenOk(),
    Channel.OpenOk(),
)


async def test_what_no_broker_says_ends_no_node() -> None:
    """Whatever answers at the broker's address, and wherever it stops making sense, is said and tried again with pauses."""
    drawn, met = random.Random(5), 0  # noqa: S311 - the same words in each run

    async def misspeak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += 1
        with contextlib.suppress(OSError):
            await reader.read(8)
            for number, method in enumerate(SPEAKS[: met % (len(SPEAKS) + 1)]):
                writer.write(frame.marshal(method, number // 3))
                await writer.drain()
                await reader.read(4096)
            writer.write(drawn.randbytes(40) if met % 2 else b"\x01\x00\x01\x00\x00\x00\x04\x00\x14\x00\x0bX")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(misspeak, "127.0.0.1", 0) as server:
        address = f"amqp://somebody@127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
        broker = Broker(replace(plan_of(address), reconnect_seconds=0.05), Log(A))
        task = asyncio.create_task(broker.run(lambda _: None, lambda: None))
        try:
            await eventually(lambda: met >= 30 or task.done())
            assert not task.done(), task.exception()
            assert broker.trouble is not None
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_the_same_trouble_is_repeated_with_growing_pauses() -> None:
    """Another trouble is said at once; the same one after a minute, then after two, up to an hour."""
    repeats, trouble = troubles.Repeats(), BrokerTrouble("broker-unreachable", "It can't be reached.")
    said = [second for second in range(20_000) if repeats.due(trouble, second)]
    assert said[:5] == [0, 60, 180, 420, 900]
    assert all(later - earlier <= troubles.REPEAT_LONGEST_SECONDS for earlier, later in itertools.pairwise(said))
    assert repeats.due(troubles.blocked(), 20_001)
    repeats.over()
    assert repeats.due(troubles.blocked(), 20_002)
