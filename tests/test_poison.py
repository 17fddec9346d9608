"""What ends or fails the process that takes it in is found, isolated and answered, and nothing else suffers from it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aio_pika
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from relay import messages, topology
from relay.broker import Delivery
from relay.envelope import read_core
from relay.errors import Conflict
from relay.intake import MAX_GROUP_BYTES, Intake
from relay.poison import FIRST_MS, LONGEST_MS, Asking
from relay.rabbit import PrivateBroker
from relay.receipts import Echo, Statement
from relay.received import Act
from relay.settings import load
from relay.store import Connection, Store, attempts, incoming, outgoing, peers, said, samples
from relay.store.tables import ATTEMPT
from relay.submissions import Stored, Submission
from relay.turns import IN_A_ROW, Turns
from tests import poisoned
from tests.forked import Forked
from tests.live import LANE, PATIENCE, Live, eventually, message, private_network

A, B, C = CENTRES = ("POISA", "POISB", "POISC")


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run A and C of three centres; B is a process of its own, or runs where a test starts it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_REPAIR__GAP", "0.3")
        nodes = Live(private_network(tmp_path_factory.mktemp("poison") / "network", broker, "poison", CENTRES), broker)
        await nodes.start(A, C)
        yield nodes
        await nodes.close()


class Supervised:
    """B's process, started again whenever it ends, and its system, which takes whatever it is given."""

    def __init__(self, live: Live) -> None:
        self.deaths = 0
        self.got: dict[str, str] = {}
        self._network = live.network

    async def run(self) -> None:
        """Run the process again and again."""
        while True:
            process = Forked(poisoned.run, str(self._network.node_file(B)), environment=os.environ)
            try:
                await process.ended()
                self.deaths += 1
            finally:
                process.stop()

    async def take(self) -> None:
        """Take and acknowledge messages while the process lives."""
        url = f"http://{load(self._network.node_file(B)).api.listen}"
        headers = {"Authorization": f"Bearer {self._network.token(B, 'system')}"}
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    answer = await client.get("/v1/inbox", params={"wait": 1})
                    given = answer.json()["messages"] if answer.status_code == 200 else []  # a node that just starts says so
                    self.got |= {one["id"]: one["message"]["case_number"] for one in given}
                    if given:
                        await client.post("/v1/inbox/ack", json={"ids": [one["id"] for one in given]})
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def supervised(live: Live) -> AsyncIterator[Supervised]:
    """Run B under a supervisor for the length of a block."""
    process = Supervised(live)
    tasks = [asyncio.create_task(process.run()), asyncio.create_task(process.take())]
    try:
        yield process
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def code(live: Live, message_id: str) -> str | None:
    """Return the code with which B rejected a message, as its origin knows it."""
    sent = await live[A].centre.store.read(lambda connection: outgoing.message(connection, message_id))
    assert sent is not None
    return next((step.code for step in sent.recipients[B] if step.state == "rejected"), None)


@pytest.mark.timeout(400)
async def test_a_message_that_kills_the_process_is_isolated_and_its_neighbours_arrive(live: Live) -> None:
    """One of 64 in an envelope ends the node each time: it alone is rejected as `poison`, the others and all else arrive."""
    numbers = [f"{'DEADLY' if number == 30 else 'SOUND'}-{number}" for number in range(64)]
    raws = [message(to=[B], case_number=number) for number in numbers]
    outcomes = await live[A].outbox.submit([Submission(raw, messages.parse(raw)) for raw in raws])
    ids = [one.id for one in outcomes if isinstance(one, Stored)]
    assert len(ids) == 64
    async with supervised(live) as process:
        other = await live.submit(C, message(to=[B], case_number="OTHER", precedence="flash"))
        await live.reaches(A, ids[30], B, "rejected", 300)
        assert await code(live, ids[30]) == "poison"
        for one in [*ids[:30], *ids[31:]]:
            await live.reaches(A, one, B, "delivered")
        await live.reaches(C, other.id, B, "delivered")
        deaths = process.deaths
        later = await live.submit(A, message(to=[B], case_number="LATER"))
        await live.reaches(A, later.id, B, "delivered")
        assert process.deaths == deaths
    assert sorted(process.got.values()) == sorted([*(one for one in numbers if one != "DEADLY-30"), "OTHER", "LATER"])
    assert deaths == 2 * (1 + poisoned.ATTEMPTS)  # the envelope, then the message alone: delivered once, and once more each time


@pytest.fixture
async def both(live: Live) -> AsyncIterator[Live]:
    """Run B in this process, too."""
    await live.start(B)
    yield live
    await live.restore(B)
    while await live.take(B, wait=0):
        pass
    await live.stop(B)


async def give_up(live: Live, count: int, attempts_: int = attempts.LIMIT) -> list[str]:
    """Submit messages in one envelope that the broker gives up on, since B began and never ended it; return their ids."""
    raws = [message(to=[B], case_number=f"GIVEN-UP-{count}-{number}") for number in range(count)]
    outcomes = await live[A].outbox.submit([Submission(raw, messages.parse(raw)) for raw in raws])
    ids = [one.id for one in outcomes if isinstance(one, Stored)]
    await live.reaches(A, ids[0], B, "sent")
    station = live.network.broker
    url = f"amqp://{station.admin}:{station.admin_password}@{station.host}:{station.port}/{station.vhost}"
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        queue = await channel.get_queue(topology.queue(B, LANE), ensure=False)
        while read_core((taken := await queue.get(no_ack=True, timeout=PATIENCE)).body).type != "batch":
            pass  # a mark about what went before
        await channel.default_exchange.publish(aio_pika.Message(taken.body), topology.queue(B, topology.POISON))
        await queue.purge()  # the marks that came behind it
    settings = load(live.network.node_file(B))
    store = await Store.open(settings.store.file, B, settings.network, 0)
    digest, now = hashlib.sha256(taken.body).digest(), live[A].centre.now()
    for _ in range(attempts_):
        await store.write(lambda connection: attempts.begin(connection, digest, now))
    await store.close()
    return ids


async def test_the_word_of_the_broker_alone_makes_nothing_poison(live: Live) -> None:
    """A good envelope that whoever runs the broker moves to the poison queue is opened there, and its message arrives."""
    (one,) = await give_up(live, 1, 0)
    await live.start(B)
    await live.reaches(A, one, B, "accepted")
    assert [given.id for given in await live.take(B)] == [one]
    assert await live[B].centre.store.read(attempts.shut) == set()
    await live.stop(B)


async def test_what_the_broker_gave_up_on_is_asked_for_message_by_message(live: Live) -> None:
    """A batch in the poison queue is not opened; its messages come again, one in an envelope, and arrive."""
    ids = await give_up(live, 5)
    await live.start(B)
    for one in ids:
        await live.reaches(A, one, B, "accepted")
    assert live[B].centre.metrics.poison.labels(A)._value.get() >= 1
    assert sorted(one.id for one in await live.take(B)) == sorted(ids)
    await live.stop(B)


async def test_an_envelope_that_arrived_in_part_is_no_sign_of_a_lost_store(live: Live) -> None:
    """While a batch comes message by message, a peer that signed for the first ones and echoes them has lost nothing."""
    ids = await give_up(live, 3)
    centre = live[A].centre
    sent = await centre.store.read(lambda connection: outgoing.message(connection, ids[0]))
    assert sent is not None
    core, epoch = read_core(sent.resting.header), centre.store.epoch
    first = core.recipient(B).first
    signed = tuple(item.commitment for item in core.messages[:2])
    word = Statement(epoch=epoch, lane=LANE, first=first, commitments=signed, state="accepted", time=1)

    def judge(connection: Connection) -> list[list[int]]:
        said.apply(connection, B, word, 1)
        echoes = [[Echo(epoch=epoch, lane=LANE, highest=highest)] for highest in (first + 2, first + 1, first)]
        return [peers.lost(connection, B, echo, 2, epoch, 0) for echo in echoes]

    whole, part, fell_back = await centre.store.write(judge)
    assert (whole, part) == ([], [])
    assert len(fell_back) == 1
    await live.start(B)
    for one in ids:
        await live.reaches(A, one, B, "accepted")
    await live.take(B)
    await live.stop(B)


async def test_a_single_message_that_the_broker_gave_up_on_is_rejected_and_kept_by_its_header(live: Live) -> None:
    """It is quarantined without content, so that nobody can release it; the row can be discarded."""
    (one,) = await give_up(live, 1)
    await live.start(B)
    await live.reaches(A, one, B, "rejected")
    assert await code(live, one) == "poison"
    found = await live[B].received.find(one)
    assert (found.state, found.code, found.purged_at is not None) == ("quarantined", "poison", True)
    with pytest.raises(Conflict) as gone:
        await live[B].received.release(Act(one, "operator", "let us see"))
    assert gone.value.code == "already-purged"
    assert (await live[B].received.discard(Act(one, "operator", "reported"))).state == "rejected"
    await live.stop(B)


async def test_a_message_that_makes_the_node_fail_is_rejected_alone(both: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours in reading one message of a batch is that message's alone; its neighbours are taken in."""
    read = messages.read

    def fails(content: bytes) -> messages.Message:
        if b"FAILING" in content:
            raise ZeroDivisionError
        return read(content)

    monkeypatch.setattr(messages, "read", fails)
    raws = [message(to=[B], case_number=number) for number in ("SOUND-1", "FAILING", "SOUND-2")]
    outcomes = await both[A].outbox.submit([Submission(raw, messages.parse(raw)) for raw in raws])
    first, bad, last = (one.id for one in outcomes if isinstance(one, Stored))
    await both.reaches(A, bad, B, "rejected")
    assert await code(both, bad) == "poison"
    for one in (first, last):
        await both.reaches(A, one, B, "accepted")


async def test_an_envelope_that_can_not_be_stored_is_taken_apart(both: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one message makes the transaction fail, its envelope is asked for message by message, and it alone is left out."""
    take = incoming.take

    def fails(connection: Connection, arrival: incoming.Arrival, at: int) -> incoming.Taken:
        if arrival.content_key and bad in {item.id for item in arrival.envelope.core.messages}:
            raise ZeroDivisionError
        return take(connection, arrival, at)

    bad = ""
    await both.stop(B)
    raws = [message(to=[B], case_number=number) for number in ("ROW-1", "ROW-2", "ROW-3")]
    outcomes = await both[A].outbox.submit([Submission(raw, messages.parse(raw)) for raw in raws])
    first, bad, last = (one.id for one in outcomes if isinstance(one, Stored))
    monkeypatch.setattr(incoming, "take", fails)
    await both.start(B)
    await both.reaches(A, bad, B, "rejected")
    assert await code(both, bad) == "poison"
    assert any("failed this node (ZeroDivisionError)" in detail for _, detail in await both[B].centre.store.read(samples.listed))
    for one in (first, last):
        await both.reaches(A, one, B, "accepted")


async def test_three_attempts_are_made_and_a_success_forgets_them(tmp_path: Path) -> None:
    """What was begun three times and never taken in is shut, also after a restart; what was taken in begins anew."""
    store = await Store.open(tmp_path / "relay.db", B, "network", 0)

    async def begin() -> bool:
        return await store.write(lambda connection: attempts.begin(connection, b"digest", 1))

    assert [await begin() for _ in range(2)] == [True, True]
    await store.write(lambda connection: attempts.end(connection, b"digest"))
    assert [await begin() for _ in range(5)] == [True, True, True, False, False]
    await store.close()
    store = await Store.open(tmp_path / "relay.db", B, "network", 0)
    assert await store.read(attempts.shut) == {b"digest"}
    await store.close()


@given(st.lists(st.integers(0, 3 * LONGEST_MS), max_size=200))
def test_the_same_is_asked_for_with_growing_pauses_whenever_there_is_reason_to(pauses: list[int]) -> None:
    """However often something can't be opened: it is asked for at once, then after at least 5 s, 10 s, 20 s ... 15 minutes."""
    asking, now, asked = Asking(), 0, []
    for place, pause in enumerate(pauses):
        now += pause
        assert asking.may_ask(place, now)
        if asking.may_ask("this", now):
            asked.append(now)
    between = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert all(pause >= min(FIRST_MS * 2**n, LONGEST_MS) for n, pause in enumerate(between))
    assert bool(asked) == bool(pauses)


async def test_what_was_delivered_before_is_taken_up_alone(both: Live) -> None:
    """A redelivered envelope, or one from the poison queue, shares its group with no other; the order of a lane stays."""
    intake = Intake()
    again, lanes = (False, True, False, False, True), ("routine", "routine", "routine", "flash", "routine")
    given_ = [
        Delivery(lane, bytes([at]), "key", one, *_unused(both)) for at, (one, lane) in enumerate(zip(again, lanes, strict=True))
    ]
    for one in given_:
        intake.add(one)
    groups = []
    while not intake.idle.is_set():
        groups.append([one.raw[0] for one in await intake.take()])
        intake.rest()
    assert groups == [[3], [0], [1], [2], [4]]


async def test_a_flood_in_the_most_urgent_lane_starves_no_other(both: Live) -> None:
    """However much of the most urgent lane waits all the time, what waits in another is taken up before long."""
    intake, groups = Intake(), 0
    intake.add(Delivery(LANE, bytes(1000), "key", False, *_unused(both)))
    taken: list[Delivery] = []
    while not any(one.lane == LANE for one in taken):
        for _ in range(32):
            intake.add(Delivery("flash", bytes(1000), "key", False, *_unused(both)))
        taken, groups = await intake.take(), groups + 1
        intake.rest()
        assert groups <= IN_A_ROW + 1
    assert groups > 1


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=60))
def test_the_most_urgent_has_nearly_every_turn_and_nobody_waits_for_ever(rounds: list[list[int]]) -> None:
    """Whoever has a turn waits for one; the most urgent has it but for one in a few, and then what has waited longest."""
    turns, in_a_row = Turns(), 0
    for waiting in rounds:
        turn = turns.next(waiting)
        others = [rank for rank in waiting if rank != min(waiting)]
        if turn == min(waiting):
            in_a_row = in_a_row + 1 if others else 0
            assert in_a_row <= IN_A_ROW
        else:
            assert (in_a_row, turn) == (IN_A_ROW, others[0])
            in_a_row = 0


async def test_a_copy_of_what_is_for_somebody_else_leaves_no_attempt(live: Live) -> None:
    """What is dropped since it does not name this centre leaves no row behind, delivered again or not."""

    class Acknowledged:
        async def ack(self, multiple: bool = False) -> None:
            acknowledged.append(multiple)

    acknowledged: list[bool] = []
    sealed, (_, channel) = live.seal(A, [B], [message(to=[B])]), _unused(live, C)
    live[C].inbox.deliver(Delivery(LANE, sealed.raw, f"{A}.to.{C}.actual.routine", True, Acknowledged(), channel))  # type: ignore[arg-type]
    await eventually(lambda: bool(acknowledged))
    rows = await live[C].centre.store.read(lambda connection: connection.execute(select(ATTEMPT)).all())
    assert rows == []


async def test_what_is_urgent_waits_for_one_small_group_at_most(both: Live) -> None:
    """A group is of one lane, the most urgent, and bounded in bytes; a single larger envelope is a group of its own."""
    intake, large = Intake(), MAX_GROUP_BYTES // 4
    for lane, size in [("routine", large)] * 9 + [("priority", 10), ("routine", 5 * large), ("flash", 10)]:
        intake.add(Delivery(lane, bytes(size), "key", False, *_unused(both)))
    groups = []
    while not intake.idle.is_set():
        groups.append([(one.lane, len(one.raw) // large) for one in await intake.take()])
        intake.rest()
    routine = [[("routine", 1)] * 4, [("routine", 1)] * 4, [("routine", 1), ("routine", 5)]]
    assert groups == [[("flash", 0)], [("priority", 0)], *routine]


def _unused(live: Live, centre: str = B) -> tuple[Any, Any]:
    """Return a message and a channel that nobody acknowledges on."""
    link = live[centre].broker._link
    assert link is not None
    return None, next(iter(link.lanes.values())).channel
