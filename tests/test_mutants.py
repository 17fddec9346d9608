"""The judge of the campaigns sees loss, duplication and a false word where they are: in nodes that were broken on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from relay import topology
from relay.network import Network
from relay.rabbit import PrivateBroker
from tests.chaos import signatures
from tests.chaos.campaign import judged
from tests.chaos.checker import Verdict
from tests.chaos.clients import System
from tests.chaos.journal import Journal, spell
from tests.chaos.mutants import MUTANTS, run
from tests.chaos.stage import states
from tests.chaos.traffic import Said
from tests.forked import Forked
from tests.live import eventually, message, private_network

A, B = CENTRES = ("CHAA", "CHAB")
NEVER = {"RELAY_REPAIR__MARK_FIRST": "3600", "RELAY_REPAIR__ECHO_SECONDS": "1"}
SOON = {"RELAY_REPAIR__MARK_FIRST": "0.2", "RELAY_REPAIR__GAP": "0.2", "RELAY_REPAIR__ECHO_SECONDS": "1"}
ENOUGH, TOO_LONG = 3.0, 60.0


class Pair:
    """Two centres as processes, their systems with journals of their own, and the judge."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder = folder
        self.journals = folder / "journals"
        self.journals.mkdir()
        self.window = folder / "window"
        self.nodes: dict[str, Forked] = {}
        self.systems = {centre: self._system(network, centre) for centre in CENTRES}
        self._network = network
        self._loops: list[asyncio.Task[None]] = []

    async def start(self, centre: str, repair: dict[str, str], mutant: str = "", window: str = "") -> None:
        """Start a node, broken or not, and wait until it is ready."""
        environment = {**os.environ, **repair, "RELAY_LOG__FORMAT": "json", "RELAY_BROKER__RECONNECT_SECONDS": "1"}
        given = (self._network.node_file(centre), mutant, (window, self.window) if window else None)
        self.nodes[centre] = Forked(run, *given, environment=environment, log=self.folder / f"{centre}.log")
        await eventually(self.systems[centre].ready)

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
