"""Attacks on the way: what an account's owner, or whoever runs the broker, can do with keys, queues and copies."""

from __future__ import annotations

import asyncio

import pytest

from relay import limits, topology
from relay.envelope import Envelope
from relay.limits import Rate
from relay.receipts import Mark
from relay.store import incoming, outgoing, samples
from tests.attacks.forge import A, B, C, batch, control, delivery, judged, raw
from tests.live import LANE, PATIENCE, Live, eventually, message

QUEUES = [lane for lane in (*topology.LANES, topology.CONTROL) if lane != LANE]


@pytest.mark.parametrize("queue", QUEUES)
async def test_an_envelope_counts_in_the_queue_of_its_lane(live: Live, queue: str) -> None:
    """Moved to any other queue it gets no other urgency: it is refused there, and its marks bring it again."""
    assert judged(live, raw(batch(live)), queue) == ["wrong-queue"]


async def test_a_mark_and_a_receipt_count_in_their_own_queues(live: Live) -> None:
    """A mark speaks of what came before it in its lane, so it counts only behind it."""
    mark = control(live, "mark", Mark(epoch=1, lane=LANE, highest=1, open=()), 1, 1, LANE).raw
    assert judged(live, mark, topology.CONTROL) == ["wrong-queue"]
    assert judged(live, control(live, "nack", b"{}", 1).raw, LANE) == ["wrong-queue"]


async def test_what_is_for_somebody_else_is_dropped(live: Live) -> None:
    """It is counted, and nothing of it is kept."""
    assert judged(live, raw(batch(live, to=(C,)))) == ["not-addressed"]


async def test_a_foreign_envelope_under_our_own_key_is_dropped(live: Live) -> None:
    """What comes back under this centre's own routing key is its echo to it: also what somebody forged to look so."""
    found = live[B].inbox._judging.judge(delivery(live, raw(batch(live)), key=f"{B}.to.{A}.actual.routine"))
    assert found.error is not None
    assert found.error.code == "own-echo"


async def test_the_routing_key_says_nothing(live: Live) -> None:
    """A message of A under the key of C, or of nobody, is A's: the signed header alone names its origin."""
    for key in (f"{C}.to.{B}.actual.routine", "", "a.key\r\nwith: lines", "." * 250):
        found = live[B].inbox._judging.judge(delivery(live, raw(batch(live)), key=key))
        assert found.error is None
        assert found.opened is not None
        assert found.opened.envelope.core.origin == A


async def _takes(live: Live, case: str) -> None:
    """Show that the next message still comes through."""
    stored = await live.submit(A, message(to=[B], case_number=case))
    await live.reaches(A, stored.id, B, "accepted")
    assert stored.id in [one.id for one in await live.take(B)]


async def test_a_replayed_batch_is_handed_over_once(live: Live) -> None:
    """Fifty copies of an envelope, also re-sent under another AMQP id, change nothing but a counter."""
    one: Envelope = batch(live, "REPLAYED")
    copies = live[B].centre.metrics.duplicates.labels(A)
    before = copies._value.get()
    for _ in range(50):
        await live.inject(A, B, raw(one))
    await eventually(lambda: copies._value.get() >= before + 49)
    given = [given.id for given in await live.take(B, PATIENCE)]
    assert given.count(one.core.messages[0].id) == 1
    await _takes(live, "AFTER-REPLAY")


async def test_a_receipt_is_no_message_and_a_message_no_receipt(live: Live) -> None:
    """The captured bytes of one type, delivered where the other belongs, are refused before they are opened."""
    stored = await live.submit(A, message(to=[B], case_number="RECEIPTED"))
    await live.reaches(A, stored.id, B, "accepted")
    sent = await live[A].centre.store.read(lambda connection: outgoing.message(connection, stored.id))
    assert sent is not None
    said = await live[B].centre.store.read(lambda c: incoming.receipts(c, A, live[A].centre.store.epoch, LANE, [(1, 10_000)], 64))
    assert said
    found = live[A].inbox._judging.judge(delivery(live, said[-1], LANE, f"{B}.to.{A}.control"))
    assert found.error is not None
    assert found.error.code == "wrong-queue"
    back = live[B].inbox._judging.judge(delivery(live, said[-1], topology.CONTROL))
    assert back.error is not None
    assert back.error.code == "not-addressed"
    await live.take(B)


async def test_a_flood_of_junk_costs_a_bounded_number_of_samples(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hundred bad envelopes are counted; of those without a sender so many are kept as the allowance says, and no more."""
    centre = live[B].centre
    monkeypatch.setattr(limits, "SAMPLES", Rate(limits.SAMPLES.burst, 0.001))  # however long it takes to send them
    live[B].inbox._gate._allowances.clear()
    before = centre.metrics.dropped.labels("not-an-envelope")._value.get()
    known = await _kept(live)
    await asyncio.gather(*(live.inject(A, B, b"junk %d" % number) for number in range(300)))
    await eventually(lambda: centre.metrics.dropped.labels("not-an-envelope")._value.get() >= before + 300)
    assert await _kept(live) - known <= limits.SAMPLES.burst
    live[B].inbox._gate._allowances.clear()
    await _takes(live, "AFTER-JUNK")


async def _kept(live: Live) -> int:
    """Return how many samples B keeps of what is no envelope."""
    return [code for code, _ in await live[B].centre.store.read(samples.listed)].count("not-an-envelope")
