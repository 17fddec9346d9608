"""Attacks of a valid member on the protocol: whatever he signs, he slows down himself alone, and what he costs is bounded."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import random
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, delete, func, insert, select

from relay import limits, messages, receipts, topology
from relay.directory.policies import DAY_SECONDS
from relay.envelope import new_id
from relay.limits import Gate, Rate
from relay.receipts import Echo, EpochClosed, Heartbeat, Nack, Statement, Void
from relay.recovery import Recovery
from relay.seal import Addressee, Draft
from relay.store import Connection, closing, epochs, incoming, outgoing, peers, samples
from relay.store.tables import EPOCH_HEARD, HEARD, INBOX_CLOSED, INBOX_MESSAGE, OUTBOX_DELIVERY, RECEIPT_IN, VOID_IN
from relay.submissions import Stored, Submission
from relay.voids import _missing
from tests.attacks.forge import A, B, C, control, directory, judged
from tests.live import LANE, PATIENCE, Live, eventually, message

HIGHEST = 2**53 - 1
NUMBERS = itertools.count(2**50)


@pytest.fixture(autouse=True)
def fresh(live: Live) -> Iterator[None]:
    """Let no attack spend what the next one, or an honest member, may send."""
    yield
    live[B].inbox._gate._allowances.clear()
    live[B].inbox._gate._quarantined.clear()


def faults(live: Live, code: str) -> float:
    """Return how many envelopes of A were not taken by B with a code."""
    return float(live[B].centre.metrics.faults.labels(A, code)._value.get())


async def rows(live: Live, table: object) -> int:
    """Return how many rows of a table of B speak of A, or all of a table that names nobody."""
    query = select(func.count()).select_from(table)  # type: ignore[arg-type]
    if "origin" in table.c:  # type: ignore[attr-defined]
        query = query.where(table.c.origin == A)  # type: ignore[attr-defined]
    return int(await live[B].centre.store.read(lambda connection: connection.execute(query).scalar_one()))


async def send(
    live: Live, kind: str, body: object, number: int | None = None, epoch: int | None = None, lane: str = "control"
) -> None:
    """Let A send a control envelope to B with the next number."""
    sealed = control(live, kind, body, next(NUMBERS) if number is None else number, epoch, lane)  # type: ignore[arg-type]
    await live.inject(A, B, sealed.raw, lane)


async def flood(live: Live, kind: str, bodies: list[Heartbeat] | list[Nack]) -> None:
    """Let A send control envelopes to B as fast as the broker takes them."""
    for some in (bodies[at : at + 50] for at in range(0, len(bodies), 50)):
        await asyncio.gather(*(send(live, kind, body) for body in some))


async def messages_of(live: Live, content: bytes, first: int, epoch: int = 1, count: int = 1) -> None:
    """Let A send a batch to B in any epoch, under any sequence."""
    centre = live[A].centre
    drafts = [Draft(new_id(A), content, 2**42) for _ in range(count)]
    to = [Addressee(B, centre.sealing_key(B), first)]
    sealed = centre.sealer.seal("batch", LANE, drafts, to, epoch=epoch, directory=centre.directory.version, now=centre.now())
    await live.inject(A, B, sealed.raw)


async def goes_on(live: Live, case: str) -> None:
    """Show that a third centre's message arrives, and A's own does."""
    for origin in (C, A):
        stored = await live.submit(origin, message(to=[B], case_number=f"{case}-{origin}"))
        await live.reaches(origin, stored.id, B, "accepted")
    await live.take(B)


def beat(live: Live, **fields: object) -> Heartbeat:
    """Return a heartbeat of A with some of its fields changed."""
    centre = live[A].centre
    given = {
        "time": centre.now(),
        "epoch": centre.store.epoch,
        "directory": centre.directory.version,
        "digest": centre.directory.digest,
        "release": "0",
    }
    return Heartbeat.model_validate({**given, **fields})


BODIES = {
    "a member twice": ("nack", b'{"epoch":1,"epoch":2,"lane":"routine","missing":[]}'),
    "deep nesting": ("nack", b'{"epoch":1,"lane":"routine","missing":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "a number of a thousand digits": ("nack", b'{"epoch":' + b"9" * 1000 + b',"lane":"routine","missing":[]}'),
    "a lone surrogate": ("nack", b'{"epoch":1,"lane":"\\ud800","missing":[]}'),
    "sequence 0": ("nack", b'{"epoch":1,"lane":"routine","missing":[[0,4]]}'),
    "sequence 2^63": ("nack", b'{"epoch":1,"lane":"routine","missing":[[1,9223372036854775808]]}'),
    "a range that goes back": ("nack", b'{"epoch":1,"lane":"routine","missing":[[9,1]]}'),
    "ranges that overlap": ("nack", b'{"epoch":1,"lane":"routine","missing":[[1,5],[5,9]]}'),
    "a line end in a code": ("nack", b'{"epoch":1,"lane":"routine","missing":[],"reason":"a\\r\\nb"}'),
    "a path for a lane": ("nack", b'{"epoch":1,"lane":"../../etc","missing":[]}'),
    "not JSON": ("receipt", b"\xff\xfe"),
    "a million lists": ("receipt", b'{"statements":[],"x":[' + b"[]," * 600_000 + b"[]]}"),
    "a statement of nothing": ("void", b'{"statements":[]}'),
    "a heartbeat of another epoch": (
        "heartbeat",
        receipts.write(Heartbeat(time=1, epoch=7, directory=1, digest="a" * 64, release="")),
    ),
    "an epoch statement of another epoch": ("epoch", receipts.write(EpochClosed(epoch=7, closed=(), time=1))),
}


@pytest.mark.parametrize("attack", BODIES)
async def test_a_body_that_is_not_of_its_form_changes_nothing(live: Live, attack: str) -> None:
    """It is counted under its sender with `bad-control` and a sample of it kept."""
    kind, body = BODIES[attack]
    before = faults(live, "bad-control")
    await send(live, kind, body, 0 if kind == "receipt" else None)
    await eventually(lambda: faults(live, "bad-control") == before + 1)


async def test_a_heartbeat_from_the_future_is_not_believed(live: Live) -> None:
    """One dated two days ahead moves no clock, proves no loss and uses up no number."""
    before = faults(live, "from-the-future")
    await send(live, "heartbeat", beat(live, time=live[B].centre.now() + 2 * 1000 * DAY_SECONDS))
    await eventually(lambda: faults(live, "from-the-future") == before + 1)
    heard = (await live[B].centre.store.read(peers.known))[A]
    assert abs(heard.offset) < 1000 * DAY_SECONDS


@pytest.mark.parametrize(
    ("skew", "ahead", "believed"), [(120, 180, False), (120, 60, True), (None, 180, True), (10**9, 90_000, False)]
)
async def test_the_directory_says_how_far_ahead_a_heartbeat_may_be(
    live: Live, skew: int | None, ahead: int, believed: bool
) -> None:
    """`max_clock_skew_seconds` decides, a day at most; its sender's messages arrive all the same."""
    before = faults(live, "from-the-future")
    with directory(live, max_clock_skew_seconds=skew):
        later = live[B].centre.now() + 1000 * ahead
        await send(live, "heartbeat", beat(live, time=later))
        if believed:
            await eventually(lambda: live[B].centre.metrics.peer_offset.labels(A)._value.get() > ahead - 30)
        else:
            await eventually(lambda: faults(live, "from-the-future") == before + 1)
        await goes_on(live, f"SKEW-{skew}-{ahead}")
    assert faults(live, "from-the-future") - before == (not believed)


def test_the_time_of_an_envelope_decides_nothing(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch sealed by a clock that was a year ahead is taken: it is sent again as it is, so refused it would be lost."""
    later = live[A].centre.now() + 366 * 86_400_000
    with monkeypatch.context() as patch:
        patch.setattr(live[A].centre, "now", lambda: later)
        one = live.seal(A, [B], [message(case_number="A-YEAR-AHEAD")])
    assert one.envelope.core.time == later
    with directory(live, max_clock_skew_seconds=1):
        assert judged(live, one.raw) == [None]


async def test_an_envelope_larger_than_the_directory_allows_is_taken_one_by_one_or_rejected(live: Live) -> None:
    """Nothing waits for ever: what fits alone arrives, what does not ends as rejected with its code at its origin."""
    large = {"remarks": "x" * 9_000}
    with directory(live, max_envelope_bytes=65_536):
        raws = [message(case_number=f"SPLIT-{number}", to=[B], **large) for number in range(8)]
        outcomes = await live[A].outbox.submit([Submission(raw, messages.parse(raw)) for raw in raws])
        ids = [one.id for one in outcomes if isinstance(one, Stored)]
        assert len(ids) == 8
        for id_ in ids:
            await live.reaches(A, id_, B, "accepted")
        assert faults(live, "envelope-too-large") >= 1
        file = bytes(80_000)
        alone = await live.submit(A, message(case_number="TOO-LARGE", to=[B], attachments=[attached(file)]))
        await live.reaches(A, alone.id, B, "rejected")
        sent = await live[A].centre.store.read(lambda connection: outgoing.message(connection, alone.id))
        assert sent is not None
        assert sent.recipients[B][-1].code == "envelope-too-large"
        taken = [one.id for one in await live.take(B)]
        assert set(ids) <= set(taken)
        assert alone.id not in taken
        await goes_on(live, "AFTER-LARGE")


async def test_a_sender_cuts_its_batches_to_what_the_directory_allows_and_refuses_what_is_larger_alone(live: Live) -> None:
    """What fits is taken without a word from its recipient; what does not is not promised, and nothing of it is stored."""
    large = {"remarks": "x" * 9_000}
    with directory(live, A, max_envelope_bytes=65_536), directory(live, B, max_envelope_bytes=65_536):
        before = faults(live, "envelope-too-large")
        raws = [message(case_number=f"CUT-{number}", to=[B], **large) for number in range(20)]
        raws.insert(7, message(case_number="LARGER", to=[B], attachments=[attached(bytes(50_000))]))
        outcomes = await live[A].outbox.submit([Submission(raw, messages.parse(raw)) for raw in raws])
        refused = [one for one in outcomes if not isinstance(one, Stored)]
        ids = [one.id for one in outcomes if isinstance(one, Stored)]
        assert [getattr(one, "code", None) for one in refused] == ["envelope-too-large"]
        assert outcomes[7] is refused[0]
        assert len(ids) == 20
        for id_ in ids:
            await live.reaches(A, id_, B, "accepted")
        assert faults(live, "envelope-too-large") == before
        assert set(ids) <= {one.id for one in await live.take(B)}


def attached(content: bytes) -> dict[str, str]:
    """Return an attachment as a message has it."""
    digest, text = hashlib.sha256(content).hexdigest(), base64.b64encode(content).decode()
    return {"media_type": "image/jpeg", "digest": digest, "content": text}


async def test_a_heartbeat_that_the_broker_held_back_raises_no_alarm(live: Live) -> None:
    """When A counts in a new epoch, an older heartbeat of the epoch before, delivered late, is no sign that A went back."""
    held_back = beat(live, time=live[A].centre.now() - 3_600_000, epoch=5)
    alarm = (await live[B].centre.store.read(peers.alarms)).get(A)
    centre = live[B].centre
    before = centre.metrics.received.labels(topology.CONTROL)._value.get()
    await send(live, "heartbeat", held_back, epoch=5)
    await eventually(lambda: centre.metrics.received.labels(topology.CONTROL)._value.get() > before)
    await goes_on(live, "HELD-BACK")
    assert (await centre.store.read(peers.alarms)).get(A) == alarm


async def test_a_thousand_heartbeats_a_second_cost_a_few(live: Live) -> None:
    """Beyond the allowance they are counted and dropped; a third centre notices nothing."""
    before, taken = faults(live, "too-often"), live[B].centre.metrics.received.labels(topology.CONTROL)
    count = taken._value.get()
    await flood(live, "heartbeat", [beat(live)] * 300)
    await eventually(lambda: taken._value.get() >= count + 300)  # else what is left of it spends what the next test may send
    await eventually(lambda: faults(live, "too-often") > before + 100)
    await goes_on(live, "HEARTBEATS")


async def test_a_whole_range_asked_for_a_thousand_times_is_sent_a_few_times(live: Live) -> None:
    """Nacks for everything, far beyond everything and without end make B send no envelope more often than its allowance."""
    stored = await live.submit(B, message(to=[A], case_number="ASKED-FOR"))
    await live.reaches(B, stored.id, A, "accepted")
    centre = live[B].centre
    sent = select(func.count()).where(OUTBOX_DELIVERY.c.recipient == A, OUTBOX_DELIVERY.c.lane == LANE)
    envelopes = int(await centre.store.read(lambda connection: connection.execute(sent).scalar_one()))
    resent, taken = centre.metrics.resent.labels(A), centre.metrics.received.labels(topology.CONTROL)
    before, count = resent._value.get(), taken._value.get()
    await flood(live, "nack", [Nack(epoch=centre.store.epoch, lane=LANE, missing=((1, HIGHEST),))] * 1000)
    await eventually(lambda: taken._value.get() >= count + 1000)
    await eventually(lambda: resent._value.get() > before)
    assert resent._value.get() - before <= 6 * envelopes
    assert envelopes < 50
    await goes_on(live, "ASKED")
    await live.take(A)


async def test_sequences_far_ahead_are_one_gap(live: Live) -> None:
    """The highest sequence there is costs two rows and is asked for in one range; the message is A's word, and counts."""
    epoch = 41
    before = await rows(live, INBOX_CLOSED)
    await messages_of(live, message(case_number="FAR-AHEAD"), HIGHEST, epoch)
    assert await live.take(B, PATIENCE)
    assert await rows(live, INBOX_CLOSED) == before + 1
    held = await live[B].centre.store.read(lambda c: closing.held(c, A, epoch, LANE))
    assert receipts.missing(held, HIGHEST) == [(1, HIGHEST - 1)]
    await goes_on(live, "FAR")


async def test_a_message_of_an_epoch_before_is_a_message(live: Live) -> None:
    """What was held back on the way counts in its own epoch, once, and moves nobody back."""
    now = (await live[B].centre.store.read(peers.known))[A].epoch
    await messages_of(live, message(case_number="OLD-EPOCH"), 1, 2)
    assert len(await live.take(B, PATIENCE)) == 1
    assert (await live[B].centre.store.read(peers.known))[A].epoch == now


async def test_epochs_without_end_are_a_few(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound neither batches nor control of a new epoch leave a row; known epochs go on."""
    known = await rows(live, EPOCH_HEARD)
    monkeypatch.setattr(limits, "MOST_EPOCHS", known + 3)
    before, heard = faults(live, "too-many-epochs"), await rows(live, HEARD)
    for epoch in range(100, 130):
        await messages_of(live, message(case_number=f"EPOCH-{epoch}"), 1, epoch)
        await send(live, "nack", Nack(epoch=1, lane=LANE, missing=()), epoch=1000 + epoch)
    await eventually(lambda: faults(live, "too-many-epochs") >= before + 57)
    assert await rows(live, EPOCH_HEARD) == known + 3
    assert await rows(live, HEARD) <= heard + 3
    while await live.take(B, wait=0.2):
        pass
    await goes_on(live, "EPOCHS")


async def test_gaps_without_end_are_a_few(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second sequence, as messages and in voids: rows are bounded; what is beyond counts again once a gap was mended."""
    monkeypatch.setattr(closing, "MOST_RANGES", 5)
    epoch, before = 3, faults(live, "too-many-gaps")
    for sequence in range(2, 22, 2):
        await messages_of(live, message(case_number=f"GAP-{sequence}"), sequence, epoch)
    await eventually(lambda: faults(live, "too-many-gaps") == before + 5)
    said = tuple(
        Statement(epoch=epoch, lane=LANE, first=first, commitments=("a" * 64,), state="cancelled", time=1)
        for first in range(100, 200, 2)
    )
    await send(live, "void", Void(statements=said), epoch=epoch)
    await eventually(lambda: faults(live, "too-many-gaps") == before + 6)
    held = await live[B].centre.store.read(lambda c: closing.held(c, A, epoch, LANE))
    assert held == [(one, one) for one in range(2, 12, 2)]
    await messages_of(live, message(case_number="MENDED"), 3, epoch)
    await eventually(lambda: _holds(live, epoch, (2, 4)))
    await messages_of(live, message(case_number="ROOM"), 12, epoch)
    await eventually(lambda: _holds(live, epoch, (12, 12)))
    while await live.take(B, wait=0.2):
        pass
    await goes_on(live, "GAPS")


async def _holds(live: Live, epoch: int, wanted: tuple[int, int]) -> bool:
    return wanted in await live[B].centre.store.read(lambda c: closing.held(c, A, epoch, LANE))


async def test_voids_without_end_are_a_bounded_number_of_rows(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest ranges are forgotten; they stay closed, so nothing comes under them."""
    monkeypatch.setattr(limits, "MOST_VOID_RANGES", 4)
    monkeypatch.setattr(limits, "VOIDS_TRIMMED_EVERY", 2)
    epoch = 4
    for first in range(1, 21):
        one = Statement(epoch=epoch, lane=LANE, first=first, commitments=("b" * 64,), state="expired", time=1)
        await send(live, "void", Void(statements=(one,)), epoch=epoch)
    await eventually(lambda: _holds(live, epoch, (1, 20)))
    assert await rows(live, VOID_IN) <= 5


async def test_a_void_costs_by_what_it_says_not_by_the_gaps_that_there_are(live: Live) -> None:
    """Of a lane with thousands of gaps, a void of a thousand statements looks at those that it speaks of."""
    store, epoch = live[B].centre.store, 5

    def many(connection: Connection) -> None:
        rows = [{"origin": A, "epoch": epoch, "lane": LANE, "first": at, "last": at} for at in range(2, 18_000, 2)]
        connection.execute(insert(INBOX_CLOSED), rows)

    await store.write(many)
    said = [
        Statement(epoch=epoch, lane=LANE, first=first, commitments=("d" * 64,), state="expired", time=1)
        for first in range(17_997, 15_997, -2)
    ]

    def missing(connection: Connection) -> tuple[list[list[tuple[int, int]]], float]:
        begun = time.thread_time()
        found = [_missing(connection, A, one) for one in said]
        return found, time.thread_time() - begun

    found, took = await store.write(missing)
    assert found == [[(one.first, one.first)] for one in said]
    assert took < 3  # all ranges for each statement took 18 s


def test_what_a_void_closes_is_what_is_not_closed() -> None:
    """Whatever ranges are held, exactly the other sequences of a statement are missing."""
    engine = create_engine("sqlite://")
    drawn = random.Random(3)  # noqa: S311 - the same ranges in each run
    with engine.begin() as connection:
        INBOX_CLOSED.create(connection)
        for _ in range(200):
            connection.execute(delete(INBOX_CLOSED))
            closed = {at for at in range(1, 40) if drawn.random() < 0.6}
            for first, last in receipts.ranges(sorted(closed)):
                row = {"origin": A, "epoch": 1, "lane": LANE, "first": first, "last": last}
                connection.execute(insert(INBOX_CLOSED), [row])
            first, count = drawn.randrange(1, 40), drawn.randrange(1, 12)
            one = Statement(epoch=1, lane=LANE, first=first, commitments=("e" * 64,) * count, state="expired", time=1)
            expected = receipts.ranges([at for at in range(first, first + count) if at not in closed])
            assert _missing(connection, A, one) == expected


async def test_a_receipt_that_says_nothing_new_is_not_kept(live: Live) -> None:
    """Statements without end about nothing that was sent leave no row."""
    said = tuple(
        Statement(epoch=9, lane=LANE, first=first, commitments=("c" * 64,), state="accepted", time=1) for first in range(1, 400)
    )
    before = faults(live, "bad-control")
    sealed = [control(live, "receipt", receipts.Receipt(statements=said), 0) for _ in range(10)]
    for one in sealed:
        await live.inject(A, B, one.raw, "control")
    await send(live, "nack", b"{}")  # which comes behind them
    await eventually(lambda: faults(live, "bad-control") == before + 1)
    await goes_on(live, "RECEIPTS")
    ids = [one.envelope.core.id for one in sealed]
    kept = select(func.count()).select_from(RECEIPT_IN).where(RECEIPT_IN.c.sender == A, RECEIPT_IN.c.id.in_(ids))
    assert await live[B].centre.store.read(lambda c: c.execute(kept).scalar_one()) == 0


async def test_refused_messages_without_end_are_kept_in_a_bounded_number(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a message is rejected and its content not kept; beyond the rate its envelope is left out."""
    waiting = await live[B].centre.store.read(lambda c: incoming.quarantined(c, A))
    monkeypatch.setattr(limits, "MOST_QUARANTINED", waiting + 2)
    for number in range(1, 6):
        await messages_of(live, b"no message", number, 6)
    await eventually(lambda: _holds(live, 6, (1, 5)))
    assert await live[B].centre.store.read(lambda c: incoming.quarantined(c, A)) == waiting + 2
    crowd = (
        select(func.count()).select_from(INBOX_MESSAGE).where(INBOX_MESSAGE.c.code == "not-json", INBOX_MESSAGE.c.purged_at > 0)
    )
    assert await live[B].centre.store.read(lambda c: c.execute(crowd).scalar_one()) >= 3
    monkeypatch.setattr(limits, "REFUSED", Rate(1, 0.001))
    live[B].inbox._gate._allowances.clear()
    before = faults(live, "too-many-refused")
    for number in range(6, 9):
        await messages_of(live, b"no message", number, 6)
    await eventually(lambda: faults(live, "too-many-refused") >= before + 2)
    await goes_on(live, "REFUSED")


async def test_an_echo_ahead_without_proof_stops_nobody(live: Live) -> None:
    """A member who says again and again that he holds more than was sent is alarmed about; the node goes on."""
    ahead = (Echo(epoch=live[B].centre.store.epoch, lane="flash", highest=HIGHEST),)
    for _ in range(4):
        await send(live, "heartbeat", beat(live, echo=ahead, shown="AAAA"))
    centre = live[B].centre
    await eventually(lambda: centre.metrics.peer_alarms.labels(A, "peer-echo-unproven")._value.get() >= 1)
    assert await centre.store.read(epochs.behind) is None
    assert live[B].full() is None
    await goes_on(live, "ECHO")


async def test_claims_about_earlier_epochs_are_kept_in_a_bounded_number(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer's word that it holds what this store does not know is listed for an operator, so often and no more."""
    monkeypatch.setattr(epochs, "MOST_UNKNOWN", 3)

    def note(connection: Connection) -> None:
        for epoch in range(1, 20):
            epochs.note_unknown(connection, live[B].centre.store.epoch, A, [Echo(epoch=epoch, lane=LANE, highest=HIGHEST)])

    await live[B].centre.store.write(note)
    view = await Recovery.view(live[B].recovery)
    assert view.turn is not None
    assert len([one for one in view.turn.unknown if one.peer == A]) == 3


async def test_samples_of_one_member_push_out_no_others(live: Live) -> None:
    """Of one member the newest hundred are kept, whatever he sends; those of others stay."""

    def fill(connection: Connection) -> list[tuple[str, str]]:
        samples.add(connection, "fork", "of C", b"x", 1, C)
        for number in range(300):
            samples.add(connection, "bad-control", f"of A {number}", b"x", 1, A)
        return samples.listed(connection)

    kept = [detail for _, detail in await live[B].centre.store.write(fill)]
    assert "of C" in kept
    assert len([one for one in kept if one.startswith("of A ")]) == samples.KEPT_OF_ONE
    assert "of A 299" in kept


def test_a_gate_lets_in_its_rate_and_no_more() -> None:
    """After the burst so many a second come through, whatever is sent; another sender has his own."""
    gate, rate = Gate(), Rate(10, 5)
    passed = sum(gate.may("X", "it", rate, now) for now in range(0, 10_000, 10))
    assert passed == 10 + 49
    assert gate.may("Y", "it", rate, 0)
