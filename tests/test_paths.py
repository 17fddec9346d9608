"""The two paths of a message, between live nodes over a real RabbitMQ: what arrives, what is refused, and what that holds up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from relay import topology
from relay.errors import BrokerTrouble, Conflict, Refused
from relay.messages import parse
from relay.rabbit import PrivateBroker
from relay.store import incoming, outgoing, samples
from relay.submissions import Stored, Submission
from tests.live import LANE, PATIENCE, Live, eventually, message, private_network, redirect

A, B, C, D = CENTRES = ("PATHA", "PATHB", "PATHC", "PATHD")


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run four centres; D may publish nothing but alerts on wildlife, and receives cultural goods alone."""

    def narrow(register: dict[str, list[dict[str, object]]]) -> None:
        member = next(one for one in register["members"] if one["id"] == D)
        member["publish"] = [{"crime_types": ["environment.wildlife"], "regions": ["001"], "kinds": ["alert"]}]
        member["subscribe"] = [{"crime_types": ["cultural-goods"], "regions": ["001"]}]

    network = private_network(tmp_path_factory.mktemp("paths") / "network", broker, "paths", CENTRES)
    nodes = Live(redirect(network, narrow), broker)
    await nodes.start(*CENTRES)
    yield nodes
    await nodes.close()


@pytest.fixture(autouse=True)
async def quiet(live: Live) -> AsyncIterator[None]:
    """Leave no message waiting for the next test."""
    yield
    for centre in CENTRES:
        while await live.take(centre, wait=0):
            pass


async def test_a_message_reaches_everyone_entitled_and_nobody_else(live: Live) -> None:
    """B and C get the very bytes that A submitted, D (not entitled to drugs) gets nothing."""
    raw = message(case_number="PATH-1")
    stored = await live.submit(A, raw)
    assert stored.recipients == (B, C)
    for centre in (B, C):
        (given,) = await live.take(centre)
        assert (given.id, given.origin, given.raw) == (stored.id, A, raw)
    assert await live.take(D, wait=0.3) == []


async def test_the_sender_sees_each_promise_in_its_own_word(live: Live) -> None:
    """A message goes through queued, sent, accepted and delivered at each recipient, in this order."""
    stored = await live.submit(A, message(case_number="PATH-2"))
    await live.reaches(A, stored.id, B, "sent")  # noted apart from what receipts say
    await live.reaches(A, stored.id, C, "accepted")  # so that it is not given out to the next test
    assert "delivered" not in await live.reaches(A, stored.id, B, "accepted")
    await live.take(B)
    assert await live.reaches(A, stored.id, B, "delivered") == ["queued", "sent", "accepted", "delivered"]
    assert "delivered" not in await live.states(A, stored.id, C)


async def test_named_recipients_alone_get_it(live: Live) -> None:
    """A message with `to` reaches exactly the named centre."""
    stored = await live.submit(A, message(to=[C], tlp="RED"))
    assert stored.recipients == (C,)
    assert [given.id for given in await live.take(C)] == [stored.id]
    assert await live.take(B, wait=0.3) == []


async def test_what_is_not_acknowledged_is_given_again(live: Live) -> None:
    """The same delivery id is handed out until it is acknowledged, and never after."""
    stored = await live.submit(A, message(to=[B]))
    handover = live[B].handover
    first = await handover.take(10, PATIENCE)
    again = await handover.take(10, 0)
    assert [one.id for one in first] == [one.id for one in again] == [stored.id]
    assert (await handover.acknowledge([stored.id])).delivered == 1
    assert (await handover.acknowledge([stored.id])).delivered == 0
    assert await handover.take(10, 0) == []


async def test_an_unknown_id_is_not_acknowledged(live: Live) -> None:
    """An id that was never given out comes back as unknown, also while its message still waits."""
    stored = await live.submit(A, message(to=[B]))
    await eventually(lambda: live[B].centre.store.read(incoming.waiting))
    done = await live[B].handover.acknowledge([stored.id])
    assert (done.delivered, done.unknown) == (0, (stored.id,))


async def test_urgent_messages_are_given_first(live: Live) -> None:
    """Of what waits, the highest precedence comes first, whatever came first."""
    order = ["routine", "priority", "flash", "immediate"]
    stored = {precedence: (await live.submit(A, message(to=[B], precedence=precedence))).id for precedence in order}

    async def all_here() -> bool:
        return await live[B].centre.store.read(incoming.waiting) == len(order)

    await eventually(all_here)
    given = [one.id for one in await live.take(B)]
    assert given == [stored[precedence] for precedence in ("flash", "immediate", "priority", "routine")]


async def test_many_at_once_share_envelopes_and_arrive_once(live: Live) -> None:
    """Three hundred messages submitted together travel in a few envelopes, and each arrives once."""
    before = live[A].centre.metrics.batch._sum.get()
    raws = [message(case_number=f"MANY-{number}", to=[B]) for number in range(300)]
    outcomes = await live[A].outbox.submit([Submission(raw, parse(raw)) for raw in raws])
    ids = [one.id for one in outcomes if isinstance(one, Stored)]
    taken: list[str] = []
    while len(taken) < len(ids):
        taken += [one.id for one in await live.take(B)]
    assert sorted(taken) == sorted(ids)
    assert live[A].centre.metrics.batch._sum.get() - before == len(raws)


async def test_an_idempotency_key_makes_one_message_of_many_requests(live: Live) -> None:
    """The same key and body, also at the same moment and on one request, is one message; another body is a conflict."""
    raw = message(case_number="IDEM-1", to=[B])
    one = Submission(raw, parse(raw), "system/key-1")
    outbox = live[A].outbox
    together = await asyncio.gather(*(outbox.submit([one, one]) for _ in range(8)))
    later = await outbox.submit([one])
    ids = {outcome.id for outcomes in [*together, later] for outcome in outcomes if isinstance(outcome, Stored)}
    assert len(ids) == 1
    assert all(isinstance(outcome, Stored) for outcomes in together for outcome in outcomes)
    other = message(case_number="IDEM-2", to=[B])
    (conflict,) = await outbox.submit([Submission(other, parse(other), "system/key-1")])
    assert isinstance(conflict, Conflict)
    assert [given.id for given in await live.take(B)] == list(ids)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"to": ["NOBODY"]}, "unknown-recipient"),
        ({"to": [A]}, "unknown-recipient"),
        ({"to": [D]}, "recipient-not-entitled"),
        ({"exclude": [B, C]}, "no-recipients"),
        ({"origin": B}, "other-origin"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "bad-deadline"),
        ({"classification": "secret"}, "no-recipients"),
    ],
)
async def test_what_policy_refuses_is_neither_stored_nor_sent(live: Live, fields: dict[str, object], code: str) -> None:
    """A message that may not go where it says, or would reach nobody, is refused with its code and leaves no trace."""
    before = await live[A].centre.store.read(lambda connection: outgoing.messages(connection, None, 1))
    raw = message(**fields)
    (refused,) = await live[A].outbox.submit([Submission(raw, parse(raw))])
    assert isinstance(refused, Refused)
    assert refused.code == code
    after = await live[A].centre.store.read(lambda connection: outgoing.messages(connection, None, 1))
    assert [one.id for one in before] == [one.id for one in after]


async def test_a_centre_can_not_say_what_it_is_not_entitled_to(live: Live) -> None:
    """D, which may publish alerts on wildlife alone, is refused by its own node when it reports a drugs seizure."""
    raw = message()
    (refused,) = await live[D].outbox.submit([Submission(raw, parse(raw))])
    assert isinstance(refused, Refused)
    assert refused.code == "sender-not-entitled"


async def test_what_is_not_authentic_is_counted_and_holds_up_nothing(live: Live) -> None:
    """A flipped bit, junk, and an envelope in another's name leave a sample and no receipt; the next message arrives."""
    sealed = live.seal(A, [B], [message()]).raw
    flipped = bytearray(sealed)
    flipped[-1] ^= 1
    forged = live.seal(A, [B], [message()], signer=D).raw
    before = len(await live[B].centre.store.read(samples.listed))
    for raw in (bytes(flipped), b"junk", forged):
        await live.inject(A, B, raw)
    stored = await live.submit(A, message(to=[B]))
    assert [given.id for given in await live.take(B)] == [stored.id]
    kept = (await live[B].centre.store.read(samples.listed))[before:]
    assert sorted(code for code, _ in kept) == ["altered", "not-an-envelope", "unknown-key"]


async def test_an_envelope_that_does_not_name_its_receiver_is_dropped_and_counted(live: Live) -> None:
    """B drops what is sealed for C alone, keeps no sample of it, and takes the next message."""
    dropped = live[B].centre.metrics.dropped.labels("not-addressed")
    before, kept = dropped._value.get(), await live[B].centre.store.read(samples.listed)
    await live.inject(A, B, live.seal(A, [C], [message()]).raw)
    stored = await live.submit(A, message(to=[B]))
    assert [given.id for given in await live.take(B)] == [stored.id]
    assert dropped._value.get() == before + 1
    assert await live[B].centre.store.read(samples.listed) == kept


async def test_a_forged_cc_changes_nothing_at_the_receivers(live: Live) -> None:
    """A's account sends an envelope for C also to B, in its own name and in C's: B drops it, C has it once, the next arrives.

    (On RabbitMQ before 4.0.3 the broker lets a foreign CC pass beside an own key; the signed header decides all the same.)
    """
    sealed = live.seal(A, [C], [message(case_number="FORGED-CC")])
    dropped, forged = live[B].centre.metrics.dropped.labels("not-addressed"), f"{C}.to.{B}.actual.{LANE}"
    before = dropped._value.get()
    keys = [topology.lane_key(A, C, LANE), topology.lane_key(A, B, LANE), forged]
    with contextlib.suppress(BrokerTrouble):  # a broker that refuses the foreign key refuses it whole
        await live[A].broker.publish(keys, sealed.raw)
    await asyncio.wait_for(live[A].broker.connected.wait(), PATIENCE)
    stored = await live.submit(A, message(to=[B]))
    assert [given.id for given in await live.take(B)] == [stored.id]
    passed = dropped._value.get() - before
    assert passed in (0, 1)
    assert len(await live.take(C, wait=PATIENCE if passed else 1)) == passed


@pytest.mark.parametrize(
    ("origin", "content", "code"),
    [
        (D, message(), "sender-not-entitled"),
        (A, message(to=[C]), "recipient-not-named"),
        (A, message(crime_types=["weapons"]), "recipient-not-entitled"),
        (A, message(tlp=None), "missing-field"),
        (A, b"not JSON", "not-json"),
        (A, message(origin=C), "other-origin"),
        (A, message(precedence="flash"), "lane-mismatch"),
    ],
)
async def test_an_authentic_message_that_may_not_be_sent_is_quarantined_and_answered(
    live: Live, origin: str, content: bytes, code: str
) -> None:
    """Each such message is kept with its reason, never handed over, answered by a signed rejection, and its neighbour arrives."""
    centre = live[B].centre
    before = await centre.store.read(incoming.quarantined)
    rejected = centre.metrics.rejected.labels(origin, code)
    counted = rejected._value.get()
    sealed = live.seal(origin, [B], [content, message()])
    sealed_core = sealed.envelope.core
    first = sealed_core.to[0].first
    await live.inject(origin, B, sealed.raw)

    async def kept() -> bool:
        return await centre.store.read(incoming.quarantined) > before

    await eventually(kept)
    given = [one.id for one in await live.take(B, wait=1)]
    assert sealed_core.messages[0].id not in given
    await eventually(lambda: rejected._value.get() == counted + (2 if origin == D else 1))  # counted behind the commit
    assert (sealed_core.messages[1].id in given) == (origin == A)
    said = await centre.store.read(lambda c: incoming.receipts(c, origin, 1, sealed_core.lane, [(first, first)], 64))
    assert said


async def test_a_rejection_is_seen_by_the_sender_with_its_code(live: Live) -> None:
    """When a recipient's directory no longer covers a message, its sender sees `rejected` and why."""
    stored = await live.submit(A, message(to=[C], crime_types=["medicines"]))
    await live.reaches(A, stored.id, C, "accepted")
    late = live[C].centre
    await late.store.write(lambda connection: connection.exec_driver_sql("UPDATE inbox_message SET deadline = 1"))
    assert await live.take(C, wait=0.5) == []
    await live.reaches(A, stored.id, C, "rejected")
    sent = await live[A].centre.store.read(lambda connection: outgoing.message(connection, stored.id))
    assert sent is not None
    assert sent.recipients[C][-1].code == "expired"


async def test_the_store_at_rest_holds_no_content(live: Live) -> None:
    """After a message went through, its words are in neither store's files."""
    word = "Rhododendron"
    await live.submit(A, message(to=[B], office=word))
    assert word.encode() in (await live.take(B))[0].raw
    for centre in (A, B):
        for file in live[centre].centre.settings.store.file.parent.iterdir():
            assert word.encode() not in file.read_bytes()
