"""What is lost on the way is noticed and sent again, and a node that ends anyhow goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from relay.centre import Centre
from relay.envelope import new_id, parse
from relay.rabbit import PrivateBroker
from relay.store import Connection, incoming, samples
from tests.live import LANE, PATIENCE, Live, eventually, message, private_network

A, B = CENTRES = ("REPA", "REPB")


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run two centres that wait less than usual before they ask."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_REPAIR__GAP", "0.3")
        patch.setenv("RELAY_BROKER__RECONNECT_SECONDS", "1")
        nodes = Live(private_network(tmp_path_factory.mktemp("repair") / "network", broker, "repair", CENTRES), broker)
        await nodes.start(*CENTRES)
        yield nodes
        await nodes.close()


@pytest.fixture(autouse=True)
async def both(live: Live) -> None:
    """Let both run, whatever became of an earlier test."""
    await live.restore(*CENTRES)


async def test_a_lost_envelope_is_noticed_and_sent_again(live: Live) -> None:
    """When the broker loses confirmed envelopes, the recipient learns of the gap from a mark and gets them again."""
    await live.stop(B)
    stored = [await live.submit(A, message(case_number=f"LOST-{number}")) for number in range(3)]
    for one in stored:
        await live.reaches(A, one.id, B, "sent")
    assert await live.purge(B, LANE) >= 1
    await live.start(B)
    taken: list[str] = []
    while len(taken) < len(stored):
        given = await live.take(B)
        assert given, "what was lost did not come again"
        taken += [one.id for one in given]
    assert sorted(taken) == sorted(one.id for one in stored)
    for one in stored:
        await live.reaches(A, one.id, B, "delivered")


async def test_the_last_of_a_burst_is_missed_within_45_seconds_of_its_loss(broker: PrivateBroker, tmp_path: Path) -> None:
    """With the settings as they come: the broker confirms it and drops it, nothing follows, and it arrives all the same."""
    origin, recipient = "REPY", "REPZ"
    live = Live(private_network(tmp_path / "network", broker, "repair-45", (origin, recipient)), broker)
    try:
        await live.start(origin, recipient)
        before = [await live.submit(origin, message(case_number=f"BURST-{number}")) for number in range(5)]
        for one in before:
            await live.reaches(origin, one.id, recipient, "accepted")
        publish, dropped = live[origin].broker.publish, list[bytes]()

        async def drop(keys: Sequence[str], raw: bytes) -> None:
            if not dropped and parse(raw).core.type == "batch":
                dropped.append(raw)
            else:
                await publish(keys, raw)

        live[origin].broker.publish = drop  # type: ignore[method-assign]
        last = await live.submit(origin, message(case_number="BURST-LAST"))
        await live.reaches(origin, last.id, recipient, "sent")
        await live.reaches(origin, last.id, recipient, "accepted", seconds=45)
        assert dropped
    finally:
        await live.close()


async def test_a_lost_receipt_is_sent_again(live: Live) -> None:
    """When the broker loses the receipts, the origin's mark brings the stored ones again."""
    await live.stop(A)
    await live.start(A)
    stored = await live.submit(A, message(case_number="RECEIPT"))
    given = await live[B].handover.take(10, PATIENCE)
    await live.reaches(A, stored.id, B, "accepted")
    await live.stop(A)
    await live[B].handover.acknowledge([one.id for one in given])
    control = live[B].control
    await eventually(lambda: not control._waiting and not control._flying)  # the broker has what it is to lose
    assert await live.purge(A, "control") >= 1
    await live.start(A)
    await live.reaches(A, stored.id, B, "delivered")


async def test_a_copy_has_no_effect_and_gets_the_same_receipt(live: Live) -> None:
    """An envelope that arrives five times is handed over once."""
    sealed = live.seal(A, [B], [message(case_number="COPY")])
    for _ in range(5):
        await live.inject(A, B, sealed.raw)
    duplicates = live[B].centre.metrics.duplicates.labels(A)
    await eventually(lambda: duplicates._value.get() >= 4)
    given = await live.take(B, wait=2)
    assert [one.id for one in given] == [sealed.envelope.core.messages[0].id]


@pytest.mark.parametrize("same", ["id", "sequence", "envelope"])
async def test_a_contradiction_is_kept_and_changes_nothing(live: Live, same: str) -> None:
    """Another content under a known id, sequence or envelope id is a fork: the first stays, the second is kept as evidence."""
    first = live.seal(A, [B], [message(case_number="FORK-1")])
    core = first.envelope.core
    ids = [core.messages[0].id] if same == "id" else None
    with pytest.MonkeyPatch.context() as patch:
        if same == "envelope":
            made = iter([new_id(A), core.id])
            patch.setattr("relay.envelope.new_id", lambda _: next(made))
            ids = [next(made)]
        fork = live.seal(A, [B], [message(case_number="FORK-2")], core.to[0].first if same == "sequence" else None, ids=ids)
    forks = live[B].centre.metrics.forks.labels(A)
    before = forks._value.get()
    await live.inject(A, B, first.raw)
    await live.inject(A, B, fork.raw)
    await eventually(lambda: forks._value.get() == before + 1)
    assert [b"FORK-1" in given.raw for given in await live.take(B, wait=2)] == [True]
    assert ("fork", core.origin) in {(code, A) for code, _ in await live[B].centre.store.read(samples.listed)}


async def test_an_envelope_that_makes_the_node_fail_is_set_aside(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of our own in one envelope of a group is counted with a sample; its neighbours arrive and the node lives."""
    bad = live.seal(A, [B], [message(case_number="POISON")])
    take = incoming.take

    def fails(connection: Connection, arrival: incoming.Arrival, at: int) -> incoming.Taken:
        if arrival.envelope.core.id == bad.envelope.core.id:
            raise ZeroDivisionError
        return take(connection, arrival, at)

    monkeypatch.setattr(incoming, "take", fails)
    await live.inject(A, B, bad.raw)
    stored = await live.submit(A, message(case_number="NEIGHBOUR"))
    assert [given.id for given in await live.take(B)] == [stored.id]
    assert "poison" in {code for code, _ in await live[B].centre.store.read(samples.listed)}


async def test_what_was_promised_survives_the_end_of_the_node(live: Live) -> None:
    """A node aborted right after its answer sends what it promised once it runs again."""
    outcomes = [await live.submit(A, message(case_number=f"END-{number}")) for number in range(20)]
    await live.abort(A)
    await live.start(A)
    taken: set[str] = set()
    while len(taken) < len(outcomes):
        given = await live.take(B)
        assert given, "a promised message did not arrive"
        assert not taken & {one.id for one in given}
        taken |= {one.id for one in given}
    assert taken == {one.id for one in outcomes}


async def test_a_node_that_ends_while_it_receives_gets_everything_once(live: Live) -> None:
    """A recipient aborted in the middle of a stream is handed everything, and nothing after its acknowledgement."""
    ids = {(await live.submit(A, message(case_number=f"MID-{number}"))).id for number in range(30)}
    first = {one.id for one in await live.take(B)}
    await live.abort(B)
    ids |= {(await live.submit(A, message(case_number=f"MID2-{number}"))).id for number in range(30)}
    await live.start(B)
    taken = set(first)
    while taken != ids:
        given = {one.id for one in await live.take(B)}
        assert given, "a message did not arrive"
        assert not given & taken
        taken |= given


async def test_a_graceful_stop_ends_in_time(live: Live) -> None:
    """SIGTERM's path: with messages under way a node stops in time and keeps every promise."""
    ids = {(await live.submit(A, message(case_number=f"STOP-{number}"))).id for number in range(50)}
    async with asyncio.timeout(30):
        await live.stop(A)
    await live.start(A)
    taken: set[str] = set()
    while taken != ids:
        given = {one.id for one in await live.take(B)}
        assert given
        taken |= given


async def test_a_clock_that_is_set_does_not_stop_repair(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a clock was an hour ahead for a while, what is lost is still noticed within seconds."""
    await live.stop(B)
    stored = await live.submit(A, message(case_number="CLOCK", to=[B]))
    await live.reaches(A, stored.id, B, "sent")
    ahead = {A: 3_600_000}
    right = Centre.now
    monkeypatch.setattr(Centre, "now", lambda centre: right(centre) + ahead.get(centre.id, 0))
    await asyncio.sleep(2)  # marks go out by the wrong clock, to a peer that is away
    ahead[A] = 0
    await live.purge(B, LANE)
    await live.start(B)
    await live.reaches(A, stored.id, B, "accepted")
    await live.take(B)
