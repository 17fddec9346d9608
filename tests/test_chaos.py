"""Nothing is lost whatever fails, in a short campaign of faults; and its judge sees loss and duplication where they are."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from relay import topology
from relay.broker.bounded import best_effort, within
from relay.demo.proxy import Line, Link
from relay.network import Network
from relay.node import open_node
from relay.rabbit import PrivateBroker
from relay.receipts import Nack
from relay.settings import load
from tests.chaos import checker, faults, signatures, traffic
from tests.chaos.campaign import judged
from tests.chaos.checker import Verdict
from tests.chaos.clients import System
from tests.chaos.journal import Journal, digest, spell
from tests.chaos.mutants import MUTANTS
from tests.chaos.nodes import NodeProcess
from tests.chaos.stage import states
from tests.chaos.traffic import Said
from tests.live import eventually, message, private_network

ROOT = Path(__file__).resolve().parents[1]
A, B = CENTRES = ("CHAA", "CHAB")
NEVER = {"RELAY_REPAIR__MARK_FIRST": "3600", "RELAY_REPAIR__ECHO_SECONDS": "1"}
SOON = {"RELAY_REPAIR__MARK_FIRST": "0.2", "RELAY_REPAIR__GAP": "0.2", "RELAY_REPAIR__ECHO_SECONDS": "1"}
ENOUGH, TOO_LONG = 3.0, 30.0


class Pair:
    """Two centres as processes, their systems with journals of their own, and the judge."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder = folder
        self.journals = folder / "journals"
        self.journals.mkdir()
        self.window = folder / "window"
        self.nodes: dict[str, NodeProcess] = {}
        self.systems = {centre: self._system(network, centre) for centre in CENTRES}
        self._network = network
        self._loops: list[asyncio.Task[None]] = []

    async def start(self, centre: str, repair: dict[str, str], mutant: str = "", window: str = "") -> None:
        """Start a node, broken or not, and wait until it is ready."""
        command = [sys.executable, "-m", "tests.chaos.mutants", "--config", str(self._network.node_file(centre))]
        command += ["--mutant", mutant] if mutant else []
        command += ["--window", window, str(self.window)] if window else []
        environment = {**repair, "RELAY_LOG__FORMAT": "json", "RELAY_BROKER__RECONNECT_SECONDS": "1"}
        self.nodes[centre] = NodeProcess(command, self.folder / f"{centre}.log", environment)
        self.nodes[centre].start()
        await eventually(self.systems[centre].ready, 40)

    async def submit(self, case: str) -> str:
        """Submit a message from A to B; return its id."""
        raw = spell(json.loads(message(case_number=case, to=[B])))
        await self.systems[A].submit([Said(case, raw, alone=True)])
        return self.systems[A].ids[-1]

    def take(self) -> None:
        """Let B's system take what there is from now on."""
        self._loops.append(asyncio.create_task(self.systems[B].take()))

    async def state(self, message_id: str) -> str:
        """Return what A says of a message."""
        state: str = (await self.systems[A].state(message_id))["recipients"][0]["state"]
        return state

    async def seen(self, effects: int, *, awaited: bool = True) -> None:
        """Wait until B's system saw so many effects; when that is not awaited, long enough to see that it does not."""
        patience = TOO_LONG if awaited else ENOUGH
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self.systems[B].seen < effects:  # noqa: ASYNC110 - it is counted in a task that knows of no event
                    await asyncio.sleep(0.05)

    async def purge(self) -> None:
        """Throw away what waits in B's queue."""
        broker = self._network.broker
        async with httpx2.AsyncClient(auth=(broker.admin, broker.admin_password), trust_env=False) as client:
            path = f"{broker.management}/api/queues/{broker.vhost}/{topology.queue(B, 'routine')}/contents"
            (await client.delete(path)).raise_for_status()

    async def judge(self) -> Verdict:
        """Let the judge read the journals and what A's node says now."""
        lines = "".join(json.dumps(state) + "\n" for state in await states(self._network, A))
        (self.journals / f"{A}.states.jsonl").write_text(lines, encoding="utf-8")
        verdict, missing = await asyncio.to_thread(judged, self.journals)
        assert len(missing) >= verdict.lost
        return verdict

    async def close(self) -> None:
        """End everything."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        for node in self.nodes.values():
            node.kill()
        for system in self.systems.values():
            await system.close()

    def _system(self, network: Network, centre: str) -> System:
        journal = Journal(self.journals / f"{centre}.jsonl")
        return System(centre, network.listen(centre), network.token(centre, "system"), journal, network.health(centre))


@pytest.fixture
async def pair(broker: PrivateBroker, tmp_path: Path, numbers: Iterator[int]) -> AsyncIterator[Pair]:
    """Write a network of two centres of its own; nothing runs yet."""
    made = Pair(tmp_path, private_network(tmp_path / "network", broker, f"chaos{next(numbers)}", CENTRES))
    yield made
    await made.close()


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    """Return numbers for the virtual hosts."""
    return itertools.count()


async def test_an_acknowledgement_before_the_commit_shows_as_loss(pair: Pair) -> None:
    """Killed between the two, a node that acknowledged first never has the message; for a sound one see copies, below."""
    await asyncio.gather(pair.start(A, NEVER), pair.start(B, NEVER, "ack-before-commit", "inbox"))
    await pair.submit("ACK")
    await eventually(pair.window.exists)
    pair.nodes[B].kill()
    await pair.start(B, NEVER)
    pair.take()
    await pair.seen(1, awaited=False)
    verdict = await pair.judge()
    assert (verdict.lost, verdict.duplicated, verdict.unexpected) == (1, 0, 0)


async def test_a_receipt_before_the_commit_shows_as_a_false_word(pair: Pair) -> None:
    """A node that ends before it committed `delivered` had better not have said so: its origin shows an end that never was."""
    await asyncio.gather(pair.start(A, NEVER), pair.start(B, NEVER, "receipt-before-commit", "receipt"))
    pair.take()
    said = await pair.submit("RECEIPT")
    await eventually(pair.window.exists)

    async def delivered() -> bool:
        return await pair.state(said) == "delivered"

    await eventually(delivered)
    pair.nodes[B].kill()
    verdict = await pair.judge()
    assert (verdict.lost, verdict.false) == (1, 1)


async def test_a_receipt_after_the_commit_is_never_a_false_word(pair: Pair) -> None:
    """Killed at the same place, a sound node has said nothing; when it is back, its system is given the message again."""
    await asyncio.gather(pair.start(A, NEVER), pair.start(B, NEVER, "commit-before-receipt", "receipt"))
    pair.take()
    said = await pair.submit("RECEIPT")
    await eventually(pair.window.exists)
    pair.nodes[B].kill()

    async def accepted() -> bool:
        return await pair.state(said) == "accepted"  # said before, and perhaps still on its way

    await eventually(accepted)
    assert (await pair.judge()).false == 0
    await pair.start(B, NEVER)
    await pair.seen(1)
    assert (await pair.judge()).clean


@pytest.mark.parametrize(("mutant", "duplicated"), [("", 0), ("dedupe-removed", 1)])
async def test_a_store_that_knows_no_copy_shows_as_duplication(pair: Pair, mutant: str, duplicated: int) -> None:
    """An envelope that the broker delivers again after its message had its effect has none, unless nobody knows the copy."""
    await asyncio.gather(pair.start(A, NEVER), pair.start(B, NEVER, "commit-before-ack", "inbox"))
    pair.take()
    await pair.submit("COPY")
    await pair.seen(1)
    pair.nodes[B].kill()
    await pair.start(B, NEVER, mutant)
    await pair.seen(2, awaited=duplicated > 0)
    verdict = await pair.judge()
    assert (verdict.lost, verdict.duplicated, verdict.unexpected) == (0, duplicated, 0)


@pytest.mark.parametrize(("mutant", "lost"), [("", 0), ("marks-off", 1), ("resending-off", 1)])
async def test_a_node_that_does_not_repair_shows_as_loss(pair: Pair, mutant: str, lost: int) -> None:
    """What the broker confirmed and lost comes again by a mark and by resending; without either it never does."""
    await asyncio.gather(pair.start(A, SOON, mutant), pair.start(B, SOON))
    pair.nodes[B].stop()
    said = await pair.submit("LOST")

    async def sent() -> bool:
        return await pair.state(said) == "sent"

    await eventually(sent)
    await pair.purge()
    await pair.start(B, SOON)
    pair.take()
    await pair.seen(1, awaited=not lost)
    verdict = await pair.judge()
    assert (verdict.lost, verdict.duplicated, verdict.unexpected) == (lost, 0, 0)


def test_every_mutant_has_its_test() -> None:
    """What can be broken is broken above."""
    assert set(MUTANTS) == {"ack-before-commit", "receipt-before-commit", "dedupe-removed", "marks-off", "resending-off"}


async def test_an_end_without_its_signed_receipt_is_found(pair: Pair) -> None:
    """An end that rests on a receipt of the recipient is supported; claimed of another message, or altered, it is not."""
    await asyncio.gather(pair.start(A, SOON), pair.start(B, SOON))
    pair.take()
    said = await pair.submit("SIGNED")

    async def delivered() -> bool:
        return await pair.state(said) == "delivered"

    await eventually(delivered)
    pair.nodes[A].stop()
    network = pair._network
    store = network.centre(A) / "store" / "relay.db"
    known = signatures.evidence(network.folder, A, datetime.now(UTC))
    assert signatures.unsigned(store, known, {(said, B): "delivered"}) == []
    assert signatures.unsigned(store, known, {(said, B): "rejected"}) == [(said, B)]
    assert signatures.unsigned(store, known, {(said, A): "delivered"}) == [(said, A)]
    other = signatures.evidence(network.folder, A, datetime.now(UTC))
    for key in (key for member in other.directory["members"] for key in member["keys"] if key["use"] == "signing"):
        key["public"] = "A" * 43 + "="
    assert signatures.unsigned(store, other, {(said, B): "delivered"}) == [(said, B)]


EVENTS = {
    "asked": ("BRU", {"event": "asked", "at": 1.0, "digest": "d"}),
    "accepted": ("BRU", {"event": "accepted", "at": 1.1, "digest": "d", "id": "i", "recipients": ["LYO", "SIN"]}),
    "LYO": ("LYO", {"event": "seen", "at": 2.0, "digest": "d", "id": "i", "origin": "BRU"}),
    "SIN": ("SIN", {"event": "seen", "at": 3.0, "digest": "d", "id": "i", "origin": "BRU"}),
    "BUE": ("BUE", {"event": "seen", "at": 3.0, "digest": "d", "id": "i", "origin": "BRU"}),
    "changed": ("SIN", {"event": "seen", "at": 3.0, "digest": "x", "id": "i", "origin": "BRU"}),
    "rejected": ("BRU.states", {"id": "i", "recipients": [{"centre": "SIN", "state": "rejected"}]}),
    "false": ("BRU.states", {"id": "i", "recipients": [{"centre": "SIN", "state": "delivered"}]}),
}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("asked accepted LYO SIN", (0, 0, 0, 0)),
        ("asked accepted LYO", (1, 0, 0, 0)),
        ("asked accepted LYO rejected", (0, 0, 0, 0)),
        ("asked accepted LYO false", (1, 1, 0, 0)),
        ("asked accepted LYO LYO SIN", (0, 0, 1, 0)),
        ("asked accepted LYO SIN BUE", (0, 0, 0, 1)),
        ("asked accepted LYO changed", (1, 0, 0, 1)),
        ("asked LYO", (0, 0, 0, 0)),
        ("LYO", (0, 0, 0, 1)),
    ],
)
def test_the_judge_counts_each_failure_as_what_it_is(tmp_path: Path, events: str, expected: tuple[int, ...]) -> None:
    """Lost, falsely said to be delivered, duplicated, unexpected: each shows in its own number."""
    for name in events.split():
        centre, event = EVENTS[name]
        with (tmp_path / f"{centre}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
    verdict = checker.judge(checker.read(tmp_path))
    assert (verdict.lost, verdict.false, verdict.duplicated, verdict.unexpected) == expected


def test_the_judge_imports_nothing_of_the_relay() -> None:
    """It is a program of its own: the standard library is all that it loads."""
    code = "import sys, tests.chaos.checker; print([name for name in sys.modules if name.split('.')[0] == 'relay'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_same_seed_gives_the_same_faults_and_the_same_traffic() -> None:
    """A campaign can be repeated alone, by its seed."""
    centres, disks = ("BRU", "LYO"), ("LYO",)
    assert faults.schedule(7, 40, centres, disks) == faults.schedule(7, 40, centres, disks)
    assert faults.schedule(7, 40, centres, disks) != faults.schedule(8, 40, centres, disks)
    drawn = faults.schedule(7, len(faults.KINDS), centres, disks)
    assert {fault.kind for fault in drawn} == set(faults.KINDS)
    assert [fault.when for fault in drawn] == sorted(fault.when for fault in drawn)
    assert "disk-full" not in {fault.kind for fault in faults.schedule(7, 40, centres)}
    assert traffic.said("BRU", 50, 7, centres) == traffic.said("BRU", 50, 7, centres)
    assert len({digest(one.raw) for one in traffic.said("BRU", 50, 7, centres)}) == 50


async def test_a_receipt_that_waits_to_be_posted_is_not_posted_twice(broker: PrivateBroker, tmp_path: Path) -> None:
    """However often marks and copies ask for it while a link is slow, it takes one place among what waits."""
    network = private_network(tmp_path / "network", broker, "chaos-twice", CENTRES)
    node = await open_node(load(network.node_file(A)))
    try:
        for _ in range(3):
            for raw in (b"one receipt", b"another"):
                node.control.post(B, raw)
            node.control.post(B, Nack(epoch=1, lane="routine", missing=((1, 2),), mark=1))
        assert len(node.control._waiting) == 3
        assert node.control._first() == (B, b"one receipt")
    finally:
        await node.centre.store.close()
        node.centre.workers.shutdown()


async def test_what_the_library_ends_without_a_name_ends_no_node() -> None:
    """An acknowledgement, or a step, that waits on a channel which is closed ends with a bare `Exception`: it counts as lost."""

    async def ends() -> None:
        raise Exception  # noqa: TRY002 - as aiormq does

    with best_effort():
        await ends()
    with pytest.raises(ConnectionError):
        await within(ends(), 1)
    with pytest.raises(ValueError, match="ours"), best_effort():
        raise ValueError("ours")


async def test_a_link_is_late_cut_and_half_open_as_told() -> None:
    """A round trip takes its time; a cut link resets and refuses; a half-open one swallows and says nothing, new ones work."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    link = Link(server.sockets[0].getsockname()[1], Line(round_trip=0.2), "test")
    await link.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    began = asyncio.get_running_loop().time()
    writer.write(b"hello")
    assert await reader.read(10) == b"hello"
    assert asyncio.get_running_loop().time() - began >= 0.2
    link.half_open()
    writer.write(b"into the void")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(10), 0.5)
    fresh, other = await asyncio.open_connection("127.0.0.1", link.port)
    other.write(b"again")
    assert await fresh.read(10) == b"again"
    link.cut()
    with pytest.raises(ConnectionResetError):
        await fresh.read(10)
    refused, third = await asyncio.open_connection("127.0.0.1", link.port)
    with contextlib.suppress(ConnectionResetError):
        assert await refused.read(10) == b""
    for end in (writer, other, third):
        end.close()
    await link.close()
    server.close()


@pytest.mark.timeout(400)
def test_a_short_campaign_of_faults_loses_nothing(tmp_path: Path) -> None:
    """Four nodes, six faults drawn from a seed: nothing lost, duplicated or unexpected, every end signed."""
    command = [sys.executable, "-m", "tests.chaos", "--short", "--messages", "240", "--faults", "6", "--seed", "2016"]
    done = subprocess.run(
        [*command, "--keep", str(tmp_path / "kept")], capture_output=True, text=True, check=False, cwd=ROOT, timeout=390
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "messages accepted                        240" in done.stdout
