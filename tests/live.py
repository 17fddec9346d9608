"""Live nodes in this process, on a virtual host of their own of the run's one RabbitMQ.

Tests that break things (lose envelopes, stop nodes, forge) use these, so the network that the other tests share stays whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aio_pika
import httpx2
import pytest

from relay import log, messages, topology
from relay.api import Api
from relay.centre import Centre
from relay.directory import Directory, Signatures, digest, sign
from relay.envelope import new_id
from relay.handover import Given
from relay.keys import SigningKey
from relay.log import Event
from relay.log.lines import Lines
from relay.network import Network, load_network, write_network
from relay.node import Node, open_node
from relay.rabbit import Management, PrivateBroker
from relay.seal import Addressee, Draft, Sealed, Sealer
from relay.settings import Settings, load
from relay.store import outgoing
from relay.submissions import Stored, Submission

EXAMPLES = Path(__file__).resolve().parent.parent / "schemas" / "examples"
LANE = "routine"
PATIENCE = 60.0  # seconds until what should happen counts as not happening: machines may be busy


def message(**fields: Any) -> bytes:
    """Return the minimal seizure as JSON, with fields changed; a field of None is left out."""
    given = {**json.loads((EXAMPLES / "seizure.minimal.json").read_bytes()), **fields}
    return json.dumps({key: value for key, value in given.items() if value is not None}).encode()


class Live:
    """Nodes of one network, started and stopped by name."""

    def __init__(self, network: Network, broker: PrivateBroker) -> None:
        self.network = network
        self.nodes: dict[str, Node] = {}
        self._broker = broker
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._sequence = itertools.count(1, 64)

    def __getitem__(self, centre: str) -> Node:
        """Return a running node."""
        return self.nodes[centre]

    async def start(self, *centres: str) -> None:
        """Start nodes and wait until they reach the broker."""
        for centre in centres:
            self.nodes[centre] = await open_node(load(self.network.node_file(centre)))
            self._tasks[centre] = asyncio.create_task(self.nodes[centre].run(), name=centre)
        for centre in centres:
            await asyncio.wait_for(self.nodes[centre].broker.connected.wait(), PATIENCE)

    async def restore(self, *centres: str) -> None:
        """Start what of these does not run: a test that failed may have left it so."""
        await self.start(*(centre for centre in centres if centre not in self.nodes))

    async def stop(self, *centres: str) -> None:
        """Stop nodes gracefully."""
        for centre in centres:
            self.nodes.pop(centre).stop()
            await self._tasks.pop(centre)

    async def abort(self, centre: str) -> None:
        """End a node without any farewell: nothing is drained, committed or acknowledged any more."""
        self.nodes.pop(centre)
        task = self._tasks.pop(centre)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    @contextlib.asynccontextmanager
    async def away(self, centre: str) -> AsyncIterator[None]:
        """Do something while a node is off; it is on again afterwards, whatever happened."""
        await self.stop(centre)
        try:
            yield
        finally:
            await self.start(centre)

    async def close(self) -> None:
        """Stop whatever runs."""
        await self.stop(*list(self.nodes))

    async def submit(self, origin: str, raw: bytes) -> Stored:
        """Submit a message and return its promise."""
        outcome = (await self.nodes[origin].outbox.submit([Submission(raw, messages.parse(raw))]))[0]
        assert isinstance(outcome, Stored), outcome
        return outcome

    async def take(self, centre: str, wait: float = PATIENCE) -> list[Given]:
        """Take what waits at a centre and acknowledge it, with the restrictions that it carries."""
        given = await self.nodes[centre].handover.take(1000, wait)
        ids = [one.id for one in given]
        await self.nodes[centre].handover.acknowledge(ids, ids)
        return given

    async def states(self, origin: str, message_id: str, recipient: str) -> list[str]:
        """Return the states that a message went through at a recipient, as its origin knows them."""
        sent = await self.nodes[origin].centre.store.read(lambda connection: outgoing.message(connection, message_id))
        assert sent is not None
        return [step.state for step in sent.recipients[recipient]]

    async def reaches(self, origin: str, message_id: str, recipient: str, state: str, seconds: float = PATIENCE) -> list[str]:
        """Wait until a message reached a state at a recipient; return the states it went through."""

        async def reached() -> bool:
            return state in await self.states(origin, message_id, recipient)

        await eventually(reached, seconds)
        return await self.states(origin, message_id, recipient)

    def seal(
        self,
        origin: str,
        recipients: list[str],
        contents: list[bytes],
        first: int | None = None,
        lane: str = LANE,
        ids: list[str] | None = None,
        signer: str | None = None,
    ) -> Sealed:
        """Seal a batch as a node of ``origin`` could, without its outbox or its policy, in an epoch of its own."""
        centre, first = self.nodes[origin].centre, first or next(self._sequence)
        sealer = centre.sealer if signer is None else Sealer(origin, self.network.id, self.signing_key(signer))
        return sealer.seal(
            "batch",
            lane,
            [
                Draft(one, content, 2**42)
                for one, content in zip(ids or [new_id(origin) for _ in contents], contents, strict=True)
            ],
            [Addressee(recipient, centre.sealing_key(recipient), first) for recipient in recipients],
            epoch=1,
            directory=centre.directory.version,
            now=centre.now(),
        )

    def signing_key(self, centre: str) -> SigningKey:
        """Return a centre's private signing key."""
        return SigningKey.load(self.network.centre(centre) / "keys" / "signing.pem")

    async def inject(self, origin: str, recipient: str, raw: bytes, lane: str = LANE) -> None:
        """Publish bytes on a centre's own exchange, as whoever has its account could."""
        await self.nodes[origin].broker.publish([topology.lane_key(origin, recipient, lane)], raw)

    async def purge(self, centre: str, lane: str) -> int:
        """Throw away what waits in a queue, as a careless operator would; return how many envelopes were lost."""
        broker = self.network.broker
        url = f"amqp://{broker.admin}:{broker.admin_password}@{broker.host}:{broker.port}/{broker.vhost}"
        connection = await aio_pika.connect(url)
        async with connection, connection.channel() as channel:
            queue = await channel.get_queue(topology.queue(centre, lane), ensure=False)
            return (await queue.purge()).message_count or 0


def set_clock(patch: pytest.MonkeyPatch, centre: str, ahead: float) -> None:
    """Let one centre's clock be so many seconds ahead of all others, so that nobody waits for what comes with time."""
    right = Centre.now
    patch.setattr(Centre, "now", lambda one: right(one) + int(ahead * 1000) * (one.id == centre))


class Heard:
    """The lines about messages that the nodes of this process write from now on, whatever their log is set up for."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.lines: list[dict[str, Any]] = []
        patch.setattr(log._now, "lines", Lines(self))
        patch.setattr(log._now, "least", logging.INFO)

    def write(self, text: str) -> int:
        """Take lines."""
        self.lines += map(json.loads, text.splitlines())
        return len(text)

    def flush(self) -> None:
        """Do nothing: no line waits."""

    def isatty(self) -> bool:
        """Nobody reads along."""
        return False

    def said(self, event: Event, centre: str = "") -> list[dict[str, Any]]:
        """Return the lines of an event, of one centre or of all."""
        return [one for one in self.lines if one["event"] == event and centre in ("", one["centre"])]


@contextlib.asynccontextmanager
async def serving(settings: Mapping[str, Settings]) -> AsyncIterator[dict[str, Node]]:
    """Run the nodes of centres with their APIs, in this process."""
    running = {centre: await open_node(one) for centre, one in settings.items()}
    tasks = [asyncio.create_task(node.run(Api()), name=centre) for centre, node in running.items()]
    try:
        for node in running.values():
            await asyncio.wait_for(node.broker.connected.wait(), PATIENCE)
        yield running
    finally:
        for node in running.values():
            node.stop()
        await asyncio.gather(*tasks)


async def eventually(holds: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Wait until a condition (plain or async) holds; fail when it does not in time."""
    limit = time.monotonic() + seconds
    while True:
        found = holds()
        if await found if asyncio.iscoroutine(found) else found:
            return
        if time.monotonic() > limit:
            pytest.fail(f"{getattr(holds, '__name__', holds)} did not come true within {seconds} s")
        await asyncio.sleep(0.05)


def private_network(folder: Path, broker: PrivateBroker, vhost: str, centres: tuple[str, ...]) -> Network:
    """Write a network of invented centres and apply its topology in a virtual host of its own."""
    auth = (broker.admin, broker.password)
    with httpx2.Client(base_url=broker.management_url, auth=auth, trust_env=False, timeout=PATIENCE) as client:
        client.put(f"/api/vhosts/{vhost}").raise_for_status()
    network = write_network(folder, centres, broker.url().replace("%2F", vhost), management=broker.management_url)
    with Management(network.broker.management, network.broker.admin, network.broker.admin_password, vhost=vhost) as management:
        management.apply(management.plan(network.topology, network.passwords), network.passwords)
    return network


def signatures(network: Network, raw: bytes) -> bytes:
    """Return the signatures of a network's authorities over a version of its directory."""
    made = (
        sign(raw, authority.id, SigningKey.load(network.folder / "authorities" / authority.id / "key-1.pem"))
        for authority in network.root.authorities
    )
    return Signatures(signatures=tuple(made)).model_dump_json().encode()


def redirect(network: Network, change: Callable[[dict[str, Any]], None]) -> Network:
    """Change a network's directory, sign it again by all authorities, and give it to every centre."""
    before = (network.folder / "directory.json").read_bytes()
    register = json.loads(before)
    change(register)
    register.update(version=register["version"] + 1, previous=digest(before))
    Directory.model_validate(register)
    raw = json.dumps(register).encode()
    signed = signatures(network, raw)
    for folder in (network.folder, *(network.centre(centre) for centre in network.directory.active)):
        (folder / "directory.json").write_bytes(raw)
        (folder / "directory.signatures.json").write_bytes(signed)
    return load_network(network.folder)
