"""What was sent is compared with what the peers hold: normal traffic raises no alarm, a row that is gone does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete

from relay.comparison import MISMATCH, digest
from relay.limits import COMPARED, MOST_DIFFERENCES
from relay.rabbit import PrivateBroker
from relay.receipts import Comparison as Body
from relay.receipts import LaneCount
from relay.store import Connection, compared, peers
from relay.store.compared import Difference
from relay.store.tables import COMPARISON_DUE, INBOX_MESSAGE
from tests.live import LANE, Live, eventually, message, private_network

A, B = CENTRES = ("CMPA", "CMPB")
PERIOD = 1.0


@pytest.fixture
async def live(broker: PrivateBroker, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Live]:
    """Run two centres that compare each second what they sent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_REPAIR__GAP", "0.3")
        patch.setenv("RELAY_AUDIT__COMPARISON_SECONDS", str(PERIOD))
        patch.setenv("RELAY_AUDIT__COMPARISON_GRACE_SECONDS", "0.2")
        nodes = Live(private_network(tmp_path / "network", broker, f"compare-{abs(hash(request.node.name))}", CENTRES), broker)
        await nodes.start(*CENTRES)
        yield nodes
        await nodes.close()


async def read(live: Live, centre: str, job: Any) -> Any:
    """Run a job on a node's store."""
    return await live[centre].centre.store.read(job)


async def alarms(live: Live, centre: str) -> dict[str, str]:
    """Return the codes of the alarms that a centre raised, by peer."""
    return {peer: one.code for peer, one in (await read(live, centre, peers.alarms)).items()}


async def differences(live: Live, centre: str) -> list[Difference]:
    """Return where a centre differs from its peers."""
    return list(await read(live, centre, compared.differences))


async def send(live: Live, count: int, start: int = 0) -> list[str]:
    """Send messages from A to B and wait until all are accepted; return their ids."""
    sent = [await live.submit(A, message(to=[B], case_number=f"COMPARE-{start + one}")) for one in range(count)]
    for one in sent:
        await live.reaches(A, one.id, B, "accepted")
    return [one.id for one in sent]


async def settled(live: Live) -> None:
    """Wait until every time up to now was lined up and agreed on."""
    now = live[A].centre.now()

    async def agreed() -> bool:
        until = await read(live, A, compared.compared_until)
        return until is not None and until > now and not await read(live, A, partial(compared.due, limit=1000))

    await eventually(agreed)


async def test_normal_traffic_is_agreed_on_without_alarm(live: Live) -> None:
    """Messages that were accepted, delivered, refused by the system or are late: both sides come to the same counts."""
    await send(live, 8)
    await live.take(B)
    await live.stop(B)
    late = await live.submit(A, message(to=[B], case_number="COMPARE-LATE"))
    await asyncio.sleep(2.5 * PERIOD)  # its time is over, and its recipient down
    await eventually(lambda: read(live, A, partial(compared.due, limit=1000)))
    await live.start(B)
    await live.reaches(A, late.id, B, "accepted")
    await settled(live)
    assert (await alarms(live, A), await alarms(live, B)) == ({}, {})
    assert await differences(live, A) == await differences(live, B) == []


async def test_a_row_that_is_gone_at_a_peer_is_noticed_by_both(live: Live) -> None:
    """B loses one of four accepted messages: both sides raise the alarm and name time, lane and counts."""
    ids = await send(live, 4)

    def lose(connection: Connection) -> None:
        connection.execute(delete(INBOX_MESSAGE).where(INBOX_MESSAGE.c.id == ids[1]))

    await live[B].centre.store.write(lose)

    async def noticed() -> bool:
        return (await alarms(live, A)).get(B) == MISMATCH and (await alarms(live, B)).get(A) == MISMATCH

    await eventually(noticed)
    [mine] = await differences(live, A)
    [theirs] = await differences(live, B)
    assert (mine.peer, mine.side, mine.lane, mine.theirs) == (B, "sent", LANE, mine.ours - 1)
    assert (theirs.peer, theirs.side, theirs.lane, theirs.ours) == (A, "received", LANE, theirs.theirs - 1)
    assert mine.first <= int(ids[1][:13].replace("-", ""), 16) < mine.until


async def test_what_ended_without_a_word_is_left_out(live: Live) -> None:
    """A message that its origin discarded while its recipient was down does not count, whether it came or not."""
    await live.stop(B)
    gone = await live.submit(A, message(to=[B], case_number="COMPARE-GONE"))
    from relay.desk import Order

    await live[A].desk.discard(Order(gone.id, "test", "operator"))
    await live.start(B)
    await send(live, 1, 100)
    await settled(live)
    assert (await alarms(live, A), await alarms(live, B)) == ({}, {})


async def test_a_difference_that_changes_is_not_settled(live: Live) -> None:
    """It counts as seen again only with the same counts; once both agree it is forgotten."""
    seen = Difference(B, "sent", 1000, 2000, LANE, 5, 4, 7, 1)
    changed = Difference(B, "sent", 1000, 2000, LANE, 5, 3, 9, 1)

    async def differ(*given: Difference) -> list[Difference]:
        job = partial(compared.differ, seen=given, peer=B, side="sent", first=1000)
        return list(await live[A].centre.store.write(job))

    assert [one.times for one in await differ(seen)] == [1]
    assert [(one.times, one.since) for one in await differ(seen)] == [(2, 7)]
    assert [(one.times, one.since) for one in await differ(changed)] == [(1, 7)]
    assert await differ() == []
    assert await differences(live, A) == []


async def test_a_peer_that_asks_about_whatever_it_likes_costs_little(live: Live) -> None:
    """Summaries of times without end, each with a count of nothing: few are counted against, and fewer rows are kept."""
    for number in range(1_000):
        counts = LaneCount(lane=LANE, count=7, digest="0" * 64)
        live[A].comparison._let_wait(B, Body(of="sent", first=number * 10, until=number * 10 + 5, lanes=(counts,)))
        if number % 40 == 39:
            await eventually(lambda: not live[A].comparison._waiting)
    assert 0 < len(await differences(live, A)) <= COMPARED.burst + 10


async def test_what_is_kept_of_a_peer_s_differences_is_bounded(live: Live) -> None:
    """What was noticed first goes, and nothing that another peer said."""

    def fill(connection: Connection) -> None:
        for number in range(MOST_DIFFERENCES + 5):
            one = Difference(B, "received", number, number + 1, LANE, 5, 4, number, 1)
            compared.differ(connection, [one], B, "received", number)
        other = Difference("CMPZ", "received", 1, 2, LANE, 5, 4, 0, 1)
        compared.differ(connection, [other], "CMPZ", "received", 1)

    await live[A].centre.store.write(fill)
    kept = await read(live, A, partial(compared.differences, limit=5_000))
    assert sorted(one.first for one in kept if one.peer == B) == list(range(5, MOST_DIFFERENCES + 5))
    assert [one.peer for one in kept if one.peer != B] == ["CMPZ"]


async def test_an_answer_to_nothing_that_was_asked_changes_nothing(live: Live) -> None:
    """A peer that answers of its own accord can raise no alarm about times that agreed."""
    await send(live, 1)
    await settled(live)
    body = Body(of="received", first=0, until=3_600_000, lanes=())
    await live[B].comparison._say(A, body)
    await send(live, 1, 50)
    await settled(live)
    assert await alarms(live, A) == {}
    assert await read(live, A, lambda connection: connection.execute(COMPARISON_DUE.select()).all()) == []


@given(st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), unique=True, max_size=20), st.randoms())
def test_the_digest_is_that_of_a_set(commitments: list[str], random: Any) -> None:
    """In whatever order, and another one for any other set."""
    shuffled = list(commitments)
    random.shuffle(shuffled)
    assert digest(shuffled) == digest(commitments)
    assert digest([*commitments, "00" * 31 + "07"]) != digest(commitments) or "00" * 31 + "07" in commitments
