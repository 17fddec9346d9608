"""What leaves a centre: slow peers delay nobody, what was lost goes again in the form that is asked for, operators steer it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import aio_pika
import httpx2
import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from relay import copies, envelope, laggards, messages, receipts, seal, topology, voids
from relay.centre import Centre
from relay.clock import from_ms
from relay.desk import Order
from relay.envelope import Envelope
from relay.errors import Conflict, NotFound, Refused
from relay.log import Event
from relay.rabbit import Management, PrivateBroker
from relay.receipts import Nack, Void
from relay.retry import RESEND_AGAIN_MS, RESEND_LONGEST_MS, Allowance, Resent, decide
from relay.store import Connection, behind, ended, outgoing, parked, purged
from relay.store.tables import OUTBOX_MESSAGE
from relay.submissions import Stored, Submission
from relay.windows import Windows
from tests.live import LANE, PATIENCE, Heard, Live, eventually, message, private_network

A, B, C = CENTRES = ("DEPA", "DEPB", "DEPC")


@pytest.fixture(scope="module")
async def centres(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run three centres with small windows, that wait less than usual before they ask."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "REPAIR__MARK_FIRST": "0.2",
            "REPAIR__MARK_LONGEST": "1",
            "REPAIR__GAP": "0.3",
            "BROKER__RECONNECT_SECONDS": "1",
            "WINDOWS__ROUTINE": "4096",
        }.items():
            patch.setenv(f"RELAY_{name}", value)
        nodes = Live(private_network(tmp_path_factory.mktemp("departure") / "network", broker, "departure", CENTRES), broker)
        await nodes.start(*CENTRES)
        yield nodes
        await nodes.close()


@pytest.fixture
async def live(centres: Live) -> Live:
    """Return the centres, all of them running and with nothing left of an earlier test."""
    await centres.restore(*CENTRES)
    centres[A].broker.connected.set()
    for centre in (B, C):
        while await centres.take(centre, wait=0):
            pass
    return centres


async def together(live: Live, *raws: bytes) -> list[Stored]:
    """Submit messages that go into one envelope."""
    outcomes = await live[A].outbox.submit([Submission(raw, messages.parse(raw)) for raw in raws])
    assert all(isinstance(one, Stored) for one in outcomes), outcomes
    return cast("list[Stored]", outcomes)


async def where(live: Live, message_id: str) -> tuple[int, int, int]:
    """Return the number of a message's envelope, its place there, and its sequence at B."""

    def find(connection: Connection) -> tuple[int, int, int]:
        row = connection.execute(select(OUTBOX_MESSAGE).where(OUTBOX_MESSAGE.c.id == message_id)).one()
        again = behind.load(connection, B, row.envelope)
        return row.envelope, row.position, again.first + row.position if again else 0

    return await live[A].centre.store.read(find)


@contextmanager
def published(live: Live) -> Iterator[list[tuple[tuple[str, ...], Envelope]]]:
    """Note what A publishes, keys and envelope."""
    broker = live[A].broker
    publish = broker.publish
    seen: list[tuple[tuple[str, ...], Envelope]] = []

    async def note(keys: Any, raw: bytes) -> None:
        seen.append((tuple(keys), envelope.parse(raw)))
        await publish(keys, raw)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broker, "publish", note)
        yield seen


async def take_all(live: Live, centre: str, count: int) -> list[str]:
    """Take so many messages at a centre, each once, in the order in which they are given."""
    taken: list[str] = []
    while len(taken) < count:
        given = [one.id for one in await live.take(centre)]
        assert given, f"{count - len(taken)} messages did not arrive"
        taken += given
    assert len(set(taken)) == len(taken)
    return taken


async def cut_off(live: Live) -> None:
    """Let A have no broker, once nothing is on its way: what is submitted now stays until ``connected`` is set again."""
    await eventually(lambda: not live[A].pump.waiting)
    live[A].broker.connected.clear()


async def many(live: Live, name: str) -> list[str]:
    """Submit a thousand messages of eight at once, so that there are hundreds of envelopes; return their ids."""
    some = [[message(case_number=f"{name}-{number}-{part}") for part in range(8)] for number in range(125)]
    taken = [await asyncio.gather(*(together(live, *raws) for raws in some[at : at + 5])) for at in range(0, len(some), 5)]
    return [one.id for part in taken for stored in part for one in stored]


async def ask(live: Live, first: int, last: int, reason: str | None) -> None:
    """Let B ask A for sequences of its lane."""
    epoch = live[A].centre.store.epoch
    live[B].control.post(A, Nack(epoch=epoch, lane=LANE, missing=((first, last),), reason=reason))


async def test_a_slow_peer_delays_nobody_and_catches_up_in_order(live: Live) -> None:
    """While one of two recipients is off and its window full, the other gets everything; back, it gets all once, in order."""
    await live.stop(C)
    stored = [await live.submit(A, message(case_number=f"SLOW-{number}")) for number in range(40)]
    assert await take_all(live, B, len(stored)) == [one.id for one in stored]
    await live.reaches(A, stored[-1].id, C, "deferred")
    assert "sent" not in await live.states(A, stored[-1].id, C)
    assert "sent" in await live.states(A, stored[0].id, C)
    await eventually(lambda: live[A].pump.waiting == 0)
    deferred = await live[A].centre.store.read(partial(parked.waiting, state="deferred", before=None, limit=100))
    assert stored[-1].id == deferred[0].id
    await live.start(C)
    assert await take_all(live, C, len(stored)) == [one.id for one in stored]
    await live.reaches(A, stored[-1].id, C, "delivered")
    assert "deferred" not in await live.states(A, stored[-1].id, C)
    await eventually(lambda: not live[A].pump._laggards._lags)
    after = await live.submit(A, message(case_number="SLOW-after"))
    assert (await take_all(live, B, 1), await take_all(live, C, 1)) == ([after.id], [after.id])


async def test_what_a_peer_is_behind_with_survives_the_node(live: Live) -> None:
    """A node that ends while a peer is behind knows it again, and the peer catches up with the next one."""
    await live.stop(C)
    stored = [await live.submit(A, message(case_number=f"KEPT-{number}")) for number in range(40)]
    await live.reaches(A, stored[-1].id, C, "deferred")
    await live.abort(A)
    await live.start(A, C)
    assert set(await take_all(live, B, len(stored))) == {one.id for one in stored}
    assert set(await take_all(live, C, len(stored))) == {one.id for one in stored}


async def test_a_full_queue_leaves_out_its_own_peer_alone(live: Live) -> None:
    """A queue that the broker finds full nacks everybody's copy: the others get theirs addressed, the peer when it has room."""
    name = topology.queue(C, "priority")
    server = live.network.broker
    url = f"amqp://{server.admin}:{server.admin_password}@{server.host}:{server.port}/{server.vhost}"

    async def replace(**more: int) -> None:
        arguments = {"x-queue-type": "quorum", "x-overflow": "reject-publish", **more}
        connection = await aio_pika.connect(url)
        async with connection, connection.channel() as channel:
            await channel.queue_delete(name)
            if not more:  # the topology's own comes next; one that is there already might get messages, and stay
                return
            queue = await channel.declare_queue(name, durable=True, arguments=cast("Any", arguments))
            await queue.bind(topology.DIRECT_EXCHANGE, f"*.to.{C}.actual.priority")
            await queue.bind(topology.INTEL_EXCHANGE, "*.intel.actual.priority.#")

    await live.stop(C)
    await replace(**{"x-max-length": 1})
    stored = []
    for number in range(20):
        stored.append(await live.submit(A, message(case_number=f"FULL-{number}", precedence="priority")))
        if number < 3:  # the queue says that it is full behind what fills it: all at once it might take
            await live.reaches(A, stored[-1].id, B, "sent")
    assert set(await take_all(live, B, len(stored))) == {one.id for one in stored}
    await live.reaches(A, stored[-1].id, C, "deferred")
    await eventually(lambda: live[A].pump.next_attempt(C, "priority") is not None)  # unless just one is due
    await replace()
    with Management(server.management, server.admin, server.admin_password, vhost=server.vhost) as management:
        management.apply(management.plan(live.network.topology, live.network.passwords), live.network.passwords)
    await live.start(C)
    taken: set[str] = set()
    while not {one.id for one in stored} <= taken:
        given = {one.id for one in await live.take(C)}
        assert given
        assert not given & taken
        taken |= given


@pytest.mark.parametrize(("reason", "sizes"), [("cannot-unwrap", [3]), ("split", [1, 1, 1]), (None, [3])])
async def test_what_is_asked_for_goes_again_in_the_form_asked_for(live: Live, reason: str | None, sizes: list[int]) -> None:
    """Sealed anew when it did not open, one by one when it must be split, else as it is: same ids, sequences, commitments."""
    stored = await together(live, *(message(case_number=f"ASK-{reason}-{number}", to=[B]) for number in range(3)))
    await take_all(live, B, 3)
    await live.reaches(A, stored[-1].id, B, "delivered")
    n, _, first = await where(live, stored[0].id)
    due = await live[A].centre.store.read(partial(outgoing.load, n=n))
    assert due is not None
    old = envelope.parse(due.raw)
    with published(live) as seen:
        await ask(live, first, first + 2, reason)
        ours = {one.id for one in stored}
        batches: Callable[[], list[Envelope]] = lambda: [  # noqa: E731
            one for _, one in seen if one.core.type == "batch" and one.core.messages[0].id in ours
        ]
        await eventually(lambda: len(batches()) == len(sizes))
    again = batches()
    assert [len(one.core.messages) for one in again] == sizes
    assert [item for one in again for item in one.core.messages] == list(old.core.messages)
    assert [one.core.recipient(B).first for one in again] == list(itertools.accumulate(sizes[:-1], initial=first))
    assert (again[0].core.id == old.core.id) is (reason is None)
    centre = live[B].centre
    for one in again:
        seal.verify(one, B, centre.settings.network, centre.directory, from_ms(centre.now()))
        contents = seal.unseal(one, B, centre.sealing_keys).contents
        assert all(isinstance(content, bytes) and b"ASK-" in content for content in contents)


async def test_what_was_purged_is_left_out_and_named_in_a_void(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an envelope that lost a message to purging the others go again in runs; the one is ended, and its peer told so.

    Both say so in their logs, the one with the message's id, the other with its sequence.
    """
    heard = Heard(monkeypatch)
    await live.stop(B)
    stored = await together(live, *(message(case_number=f"GONE-{number}", to=[B]) for number in range(3)))
    await live.reaches(A, stored[-1].id, B, "sent")
    await live.purge(B, LANE)

    def purge(connection: Connection) -> None:
        rows = connection.execute(select(OUTBOX_MESSAGE).where(OUTBOX_MESSAGE.c.id == stored[1].id)).all()
        purged.sent(connection, rows, 1)

    await live[A].centre.store.write(purge)
    with published(live) as seen, capture_logs() as logs:
        await live.start(B)
        assert await take_all(live, B, 2) == [stored[0].id, stored[2].id]
        await live.reaches(A, stored[1].id, B, "cancelled")
        await eventually(lambda: any(one.core.type == "void" for _, one in seen))
        voided = heard.said(Event.MESSAGE_VOIDED, A)
        assert {(one["message"], one["peer"], one["state"]) for one in voided} == {(stored[1].id, B, "cancelled")}
        sequence = (await where(live, stored[1].id))[2]
        assert {one["first"] for one in voided} == {sequence}
        await eventually(lambda: any(one["event"] == "inbox.voided" for one in logs))
    (closed,) = (one for one in logs if one["event"] == "inbox.voided")
    assert (closed["first"], closed["last"], closed["messages"], closed["peer"]) == (sequence, sequence, 1, A)
    assert len(await live[A].centre.store.read(partial(ended.voids, recipient=B))) >= 1
    await live.reaches(A, stored[2].id, B, "delivered")


async def test_a_void_of_very_many_gaps_is_a_bounded_number_of_lines(live: Live) -> None:
    """What goes on is one run; beyond so many the rest is one line for each state, and every message is counted."""
    runs: list[voids._Closed] = []
    for first in (1, 2, 3, *range(5, 400, 2)):
        voids._add(runs, voids._Closed("expired" if first < 350 else "cancelled", 1, LANE, first, first))
    assert (runs[0].first, runs[0].last, runs[0].messages) == (1, 3, 3)
    with capture_logs() as logs:
        voids.Voids(live[A].centre)._say(B, "the void's id", runs)
    said = [one for one in logs if one["event"] == "inbox.voided"]
    assert len(said) == voids.MOST_LINES + 2
    assert sum(one["messages"] for one in said) == sum(one.messages for one in runs) == 201


async def test_a_peer_that_asks_a_thousand_times_is_answered_within_bounds(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile peer that asks for a whole range a thousand times gets each envelope a few times at most."""
    stored = [await live.submit(A, message(case_number=f"GREED-{number}", to=[B])) for number in range(5)]
    await take_all(live, B, 5)
    for one in stored:
        await live.reaches(A, one.id, B, "delivered")
    _, _, last = await where(live, stored[-1].id)
    metrics, asker, control = live[A].centre.metrics, live[B].centre, live[B].control
    monkeypatch.setattr(control, "post", lambda *_: None)  # an own nack, numbered later, would make old news of these
    await eventually(lambda: not control._waiting and not control._flying)
    resent, heard = metrics.resent.labels(B), metrics.received.labels("control")
    before, seen = resent._value.get(), heard._value.get()
    numbers = await asker.store.write(lambda connection: [outgoing.next_number(connection, A, "nack") for _ in range(1000)])
    key = topology.control_key(B, A)
    for number in numbers:
        reason = ("split", None, "cannot-unwrap", "other")[number % 4]
        body = Nack(epoch=live[A].centre.store.epoch, lane=LANE, missing=((last - 4, last),), reason=reason)
        sealed = control._seal("nack", "control", A, receipts.write(body), number, asker.now())
        await live[B].broker.publish([key], sealed.raw)
    await eventually(lambda: heard._value.get() >= seen + 1000)
    await eventually(lambda: not live[A].marks._resend)
    assert 5 <= resent._value.get() - before <= 5 * 3 * 4


async def test_a_held_message_waits_and_its_neighbours_go(live: Live) -> None:
    """What an operator holds before it was sent stays, the rest of its envelope goes; released, it goes too."""
    broker = live[A].broker
    await cut_off(live)
    stored = await together(live, *(message(case_number=f"HELD-{number}", to=[B]) for number in range(3)))
    await live[A].desk.hold(Order(stored[1].id, "the office asked", "operator"))
    broker.connected.set()
    assert await take_all(live, B, 2) == [stored[0].id, stored[2].id]
    states = await live.states(A, stored[1].id, B)
    assert states[-1] == "held"
    assert "sent" not in states
    held = await live[A].centre.store.read(partial(parked.waiting, state="held", before=None, limit=10))
    assert [one.id for one in held] == [stored[1].id]
    with pytest.raises(Conflict, match="held"):
        await live[A].desk.hold(Order(stored[1].id, "again", "operator"))
    await asyncio.sleep(1)  # B asks for the gap meanwhile, and gets nothing
    assert await live[B].handover.take(10, 0) == []
    await live[A].desk.release(Order(stored[1].id, "the office agreed", "operator"))
    assert await take_all(live, B, 1) == [stored[1].id]
    await live.reaches(A, stored[1].id, B, "sent")  # noted apart from what its receipts say
    assert (await live.reaches(A, stored[1].id, B, "delivered")).count("sent") == 1
    with pytest.raises(Conflict, match="terminal"):
        await live[A].desk.release(Order(stored[1].id, "late", "operator"))
    with pytest.raises(NotFound):
        await live[A].desk.hold(Order("00000000-0000-7000-8000-000000000000", "none", "operator"))


async def test_a_discarded_message_is_cancelled_and_not_sent(live: Live) -> None:
    """Discarded before it was sent, a message never arrives; its origin signs that it is cancelled, its neighbours arrive."""
    broker = live[A].broker
    await cut_off(live)
    stored = await together(live, *(message(case_number=f"DROP-{number}", to=[B]) for number in range(3)))
    await live[A].desk.discard(Order(stored[0].id, "sent by mistake", "operator"))
    assert (await live.states(A, stored[0].id, B))[-1] == "cancelled"
    broker.connected.set()
    assert await take_all(live, B, 2) == [stored[1].id, stored[2].id]
    voids = await live[A].centre.store.read(partial(ended.voids, recipient=B))
    key = live[A].centre.storage_key.unwrap(voids[-1].content_key)
    opened = seal.content(envelope.parse(voids[-1].raw), key, 0)
    assert isinstance(opened, bytes)
    said = Void.model_validate_json(opened).statements[0]
    assert (said.state, said.code) == ("cancelled", "discarded")
    cancelled = await live[A].centre.store.read(partial(parked.waiting, state="cancelled", before=None, limit=10))
    assert stored[0].id in [one.id for one in cancelled]
    with pytest.raises(Conflict):
        await live[A].desk.discard(Order(stored[0].id, "again", "operator"))


async def test_replay_sends_what_nobody_would_send(live: Live) -> None:
    """A message whose copies were lost, replayed by an operator, arrives without anybody asking for it."""
    await live.stop(B)
    stored = await live.submit(A, message(case_number="REPLAY", to=[B]))
    await live.reaches(A, stored.id, B, "sent")
    await live.purge(B, LANE)
    with published(live) as seen:
        await live[A].desk.replay(Order(stored.id, "the peer lost it", "operator"))
        key = topology.lane_key(A, B, LANE)
        await eventually(lambda: any(keys == (key,) and one.core.type == "batch" for keys, one in seen))
    await live.start(B)
    assert await take_all(live, B, 1) == [stored.id]


async def test_flash_overtakes_thousands(live: Live) -> None:
    """With a backlog of thousands of envelopes, a flash message submitted last is published with the first that go."""
    broker, ours = live[A].broker, set[str]()
    await cut_off(live)

    async def many(start: int) -> None:
        for number in range(start, start + 500):
            bulk = message(case_number=f"BULK-{number}", to=[(B, C)[number % 2]], precedence="priority")
            ours.add((await live.submit(A, bulk)).id)

    try:
        await asyncio.gather(*(many(start) for start in range(0, 2000, 500)))
        await eventually(lambda: live[A].pump.waiting > 200)
        flash = await live.submit(A, message(case_number="FLASH", to=[B], precedence="flash"))
        with published(live) as seen:
            broker.connected.set()
            ours.add(flash.id)
            went: Callable[[], list[str]] = lambda: [  # noqa: E731
                one.core.messages[0].id for _, one in seen if one.core.type == "batch" and one.core.messages[0].id in ours
            ]
            await eventually(lambda: len(went()) > 2)
    finally:
        broker.connected.set()
    assert flash.id in went()[:2]
    await asyncio.gather(take_all(live, B, 1001), take_all(live, C, 1000))


async def test_what_was_just_committed_is_published_without_being_read_back(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else waits the pump is offered what the outbox committed; behind others it finds it in the store."""
    read: list[int] = []
    load = outgoing.load

    def note(connection: Connection, n: int) -> Any:
        read.append(n)
        return load(connection, n)

    monkeypatch.setattr(outgoing, "load", note)
    pump, changed = live[A].pump, live[A].centre.store.outbox_changed
    await eventually(lambda: not pump.waiting and pump._looked == changed.ticket())  # it has seen what earlier tests sent
    alone = []
    for number in range(3):
        alone.append(await live.submit(A, message(to=[B], case_number=f"DEP-60-{number}")))
        await live.reaches(A, alone[-1].id, B, "accepted")
    numbers = [(await where(live, one.id))[0] for one in alone]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    assert set(read).isdisjoint(numbers)
    await cut_off(live)
    waited = await live.submit(A, message(to=[B], case_number="DEP-61"))
    live[A].broker.connected.set()
    await live.reaches(A, waited.id, B, "accepted")
    assert read.count((await where(live, waited.id))[0]) == 1


def test_what_was_sent_again_is_sent_once_more_when_the_peer_heard_a_later_mark() -> None:
    """A nack said before the copy can have arrived is no reason; one that answers no mark is, after a pause that doubles."""
    resent = Resent()
    assert resent.again(0, answered=7)
    resent.sent(1_000)
    resent.mark = 7
    later = 1_000 + RESEND_AGAIN_MS
    assert not resent.again(later - 1, answered=8)
    assert [resent.again(later, answered) for answered in (6, 7, 8, 0)] == [False, False, True, True]
    for _ in range(20):
        resent.sent(later)
    assert resent.due == later + RESEND_LONGEST_MS


def test_a_window_counts_what_is_under_way() -> None:
    """A window is full at its bound and has room again when a quarter is free; a receipt may overtake its envelope's confirm."""
    windows, lane = Windows({"flash": 200, "routine": 100}), (B, "routine")
    windows.free(lane, 60)
    windows.take(lane, 60)
    assert windows.under_way(lane) == 0
    windows.take(lane, 100)
    assert windows.full(lane)
    assert windows.filled() == [lane]
    assert not windows.full((C, "routine"))
    windows.free(lane, 20)
    assert not windows.full(lane)
    assert not windows.has_room(lane)
    windows.free(lane, 5)
    assert windows.has_room(lane)
    windows.rebuild({(C, "flash"): 200})
    assert windows.filled() == [(C, "flash")]


@pytest.mark.parametrize("attempt", [1, 2, 5, 50])
def test_a_decision_says_when_to_try_again(attempt: int) -> None:
    """A full or missing queue is tried again after a bounded, random wait; what the directory says is not."""
    for code in ("not-confirmed", "unroutable"):
        after = decide(code, attempt).after
        assert after is not None
        assert 0.5 <= after <= min(max(2 ** (attempt - 1), 0.5), 60)
    for code in ("recipient-left", "recipient-without-key", "cannot-decrypt"):
        assert decide(code, attempt).dead


def test_an_allowance_fills_again_with_time() -> None:
    """So many at once, then so many a second; a clock that goes back gives nothing."""
    allowance = Allowance(rate=2, burst=3, left=3, at=0)
    assert [allowance.take(0) for _ in range(4)] == [True, True, True, False]
    assert [allowance.take(now) for now in (400, 500, 100, 1000)] == [False, True, False, True]


def test_runs_are_what_may_be_sent() -> None:
    """Consecutive messages share an envelope; asked to split, each has its own."""
    assert copies.runs(0b1011, split=False) == [(0, 1), (3, 3)]
    assert copies.runs(0b1011, split=True) == [(0, 0), (1, 1), (3, 3)]
    assert copies.runs(0, split=False) == []


async def test_a_peer_that_left_is_dead_until_it_is_listed_again(live: Live) -> None:
    """What is open towards a centre that is no member is dead: nobody tries, the operator sees it, a later start tries again."""
    await live.stop(C)
    stored = await live.submit(A, message(case_number="LEFT", to=[C], precedence="immediate"))
    await live.reaches(A, stored.id, C, "sent")
    n = (await where(live, stored.id))[0]
    buried = await live[A].centre.store.write(partial(behind.bury, recipient=C, code="recipient-left", at=1, n=n))
    assert buried == {n: 1}
    await live[A].centre.store.write(partial(behind.revive, but=[C]))
    again = await live[A].centre.store.write(partial(behind.bury, recipient=C, code="recipient-left", at=2, n=n))
    assert again == {}  # towards who is no member it stays dead, and nothing is new
    assert (await live.states(A, stored.id, C))[-1] == "dead"
    dead = await live[A].centre.store.read(partial(parked.waiting, state="dead", before=None, limit=10))
    assert [one.id for one in dead] == [stored.id]
    await live.stop(A)
    await live.start(A, C)
    assert await take_all(live, C, 1) == [stored.id]


async def test_of_a_peer_that_nothing_can_be_sent_to_each_message_is_said(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds for all that is open towards a peer is one line for each message, once, with its envelope and the code."""
    await live.stop(C)
    three = [one.id for one in await together(live, *(message(case_number=f"KEYLESS-{number}", to=[C]) for number in range(3)))]
    alone = (await live.submit(A, message(case_number="KEYLESS", to=[C], precedence="immediate"))).id
    for one in (*three, alone):
        await live.reaches(A, one, C, "sent")
    heard, make, keyless = Heard(monkeypatch), copies.make, live[A].centre

    def fails(centre: Centre, *given: Any) -> Any:
        if centre is keyless:
            raise Refused("recipient-without-key", "It has no key.")
        return make(centre, *given)

    def dead() -> list[dict[str, Any]]:
        return [one for one in heard.said(Event.MESSAGE_DEAD, A) if one["message"] in (*three, alone)]

    monkeypatch.setattr(laggards, "PAGE", 1)
    monkeypatch.setattr(copies, "make", fails)
    await live[A].desk.replay(Order(alone, "asked by telephone", "operator"))
    await eventually(lambda: len(dead()) == 4)
    assert {one["message"] for one in dead()} == {*three, alone}
    assert {(one["peer"], one["code"]) for one in dead()} == {(C, "recipient-without-key")}
    assert {one["lane"] for one in dead() if one["message"] in three} == {LANE}
    assert len({one["envelope"] for one in dead()}) == 2
    monkeypatch.undo()
    await live.stop(A)
    await live.start(A, C)
    assert sorted(await take_all(live, C, 4)) == sorted([*three, alone])


@pytest.mark.timeout(400)
async def test_everything_unreceipted_is_sent_again_after_the_broker_lost_all(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker wiped while half of two thousand messages has no receipt: all arrive once, at a bounded pace."""
    for name, value in {"REPAIR__MARK_FIRST": "0.2", "REPAIR__MARK_LONGEST": "2", "REPAIR__GAP": "0.5"}.items():
        monkeypatch.setenv(f"RELAY_{name}", value)
    monkeypatch.setenv("RELAY_BROKER__RECONNECT_SECONDS", "1")
    monkeypatch.setenv("RELAY_WINDOWS__ROUTINE", "67108864")
    folder = tmp_path_factory.mktemp("wiped")
    with PrivateBroker(folder / "broker", temporary=True) as broker:
        live = Live(private_network(folder / "network", broker, "wiped", (A, B)), broker)
        await live.start(A, B)
        try:
            ids = await many(live, "W")
            first = await take_all(live, B, 1000)
            await live.stop(B)
            ids += await many(live, "X")
            await live.reaches(A, ids[-1], B, "sent")
            await asyncio.to_thread(broker.wipe)
            await asyncio.to_thread(broker.start)
            auth = (broker.admin, broker.password)
            with httpx2.Client(base_url=broker.management_url, auth=auth, trust_env=False, timeout=PATIENCE) as client:
                client.put("/api/vhosts/wiped").raise_for_status()
            server = live.network.broker
            with Management(server.management, server.admin, server.admin_password, vhost="wiped") as management:
                management.apply(management.plan(live.network.topology, live.network.passwords), live.network.passwords)
            begun = asyncio.get_running_loop().time()
            await live.start(B)
            second = await take_all(live, B, 1000)
            took = asyncio.get_running_loop().time() - begun
            assert sorted(first + second) == sorted(ids)
            resent = live[A].centre.metrics.resent.labels(B)._value.get()
            assert 1 <= resent <= max(took, 1) * 1000 / 10, "a hundred a second is the pace"
            assert await live[B].handover.take(10, 1) == []
        finally:
            await live.close()
