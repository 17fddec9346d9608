"""What a node observes of all that is open, set aside or late: right to the message, in bounded steps, there in trouble, too."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, delete, event, insert

from relay import messages, observing
from relay.envelope import MAX_MESSAGES, new_id
from relay.observation import AGES, SPANS, Answers, Lane, Observation, Peer, SetAside, Traffic
from relay.rabbit import PrivateBroker
from relay.rates import Rates
from relay.store import observed
from relay.store.common import bits, signed, unsigned
from relay.store.engine import open_engine
from relay.store.history import DEAD, NEVER_SENT
from relay.store.tables import (
    INBOX_CLOSED,
    INBOX_ENVELOPE,
    INBOX_MESSAGE,
    OUTBOX_DELIVERY,
    OUTBOX_ENVELOPE,
    OUTBOX_MESSAGE,
    OUTBOX_STEP,
    REFERENCE,
    SEQUENCE,
)
from relay.submissions import Stored, Submission
from tests.live import Live, eventually, message, private_network
from tests.test_recall import cancel

NOW = 1_790_000_000_000
PEERS, LANES = ("OBSX", "OBSY"), ("flash", "routine")
A, B = CENTRES = ("OBSA", "OBSB")
ENVELOPES = 300
MINUTE, HOUR = 60_000, 3_600_000
NOTHING = Observation(0, 0.0, (), SetAside(), SetAside(), Answers(), Answers(), 0, None)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Make an empty store."""
    made = open_engine(tmp_path_factory.mktemp("observed") / "store.sqlite")
    yield made
    made.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """Give a connection whose rows are gone afterwards."""
    with engine.connect().execution_options(writes=True) as open_:
        yield open_
        open_.rollback()


def deliveries(seed: int, envelopes: int = ENVELOPES) -> list[dict[str, Any]]:
    """Return rows of every kind: open, half open and settled, of any age, deferred and dead, of two epochs."""
    draw = random.Random(seed)  # noqa: S311 - rows that are the same in each run
    firsts: dict[tuple[str, str, int], int] = {}
    rows = []
    for number in range(1, envelopes + 1):
        size, lane, epoch = draw.choice((1, 3, MAX_MESSAGES)), draw.choice(LANES), draw.choice((1, 2))
        for peer in draw.sample(PEERS, draw.choice((1, 2))):
            first = firsts.get((peer, lane, epoch), 1)
            firsts[peer, lane, epoch] = first + size
            mask = draw.choice((0, bits(size), draw.randrange(bits(size) + 1)))
            deadline = NOW + draw.choice((-MINUTE, 5 * MINUTE, HOUR, 90 * HOUR))
            rows.append(
                {"recipient": peer, "lane": lane, "epoch": epoch, "first": first, "last": first + size - 1, "envelope": number}
                | {"open": signed(mask), "unaccepted": signed(mask), "size": 9, "deadline": deadline}
                | {"behind": draw.choice((0, 0, NEVER_SENT, DEAD, NEVER_SENT | DEAD))}
            )
    return rows


def created_at(number: int) -> int:
    """Return when an envelope was made: from some seconds to some days ago."""
    return NOW - (number * 7919) % (3 * 24 * HOUR // 1000) * 1000


def fill(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Store deliveries, with their envelopes."""
    common = {"epoch": 1, "lane": "routine", "rank": 3, "keys": "[]", "sent_at": NOW}
    numbers = sorted({row["envelope"] for row in rows})
    connection.execute(insert(OUTBOX_ENVELOPE), [{"n": n, "id": f"e{n}", "created_at": created_at(n), **common} for n in numbers])
    connection.execute(insert(OUTBOX_DELIVERY), rows)
    lanes = sorted({(row["recipient"], row["lane"]) for row in rows})
    connection.execute(insert(SEQUENCE), [{"recipient": peer, "lane": lane, "last": 10**6} for peer, lane in lanes])


def counted(connection: Connection) -> tuple[dict[tuple[str, str], Lane], int]:
    """Return what is counted by peer and lane, and in how many steps."""
    count, steps = observed.Count(NOW), 1
    while count.step(connection):
        steps += 1
    return {(one.peer, one.precedence): one for one in count.lanes(connection)}, steps


def expected(rows: list[dict[str, Any]], peer: str, lane: str) -> Lane:
    """Count a lane one message after the other, in plain Python."""
    mine = [row for row in rows if (row["recipient"], row["lane"]) == (peer, lane) and row["open"]]
    ages, at_risk, deferred, dead = [0] * (len(AGES) + 1), 0, 0, 0
    for row in mine:
        messages_, age = unsigned(row["open"]).bit_count(), NOW - created_at(row["envelope"])
        ages[sum(age >= 1000 * limit for limit in AGES)] += messages_
        left = row["deadline"] - NOW
        at_risk += messages_ * (left < 15 * MINUTE or 10 * left < row["deadline"] - created_at(row["envelope"]))
        dead += messages_ * bool(row["behind"] & DEAD)
        deferred += messages_ * (bool(row["behind"]) and not row["behind"] & DEAD)
    oldest = min(created_at(row["envelope"]) for row in mine)
    return Lane(peer, lane, sum(ages), tuple(ages), oldest, deferred=deferred, dead=dead, at_risk=at_risk)


@pytest.mark.parametrize("step", [1, 7, 100, 10_000])
def test_what_is_open_is_counted_to_the_message_however_small_the_steps(
    connection: Connection, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts by age, of what is deferred, dead and at risk are those of a plain count, also across the edges of steps."""
    rows = deliveries(step)
    fill(connection, rows)
    monkeypatch.setattr(observed, "STEP_ROWS", step)
    found, steps = counted(connection)
    assert found == {(peer, lane): expected(rows, peer, lane) for peer in PEERS for lane in LANES}
    assert steps >= sum(1 for row in rows if row["open"]) / step / 2  # what two epochs have in one place is one step


def test_a_held_message_is_not_deferred_and_a_settled_one_not_held(connection: Connection) -> None:
    """Of a deferred envelope with one held message, that one is held at each recipient, and the others are deferred."""
    common = {
        "lane": "routine",
        "epoch": 1,
        "first": 1,
        "last": 3,
        "envelope": 1,
        "unaccepted": 7,
        "size": 9,
        "deadline": NOW + HOUR,
    }
    rows = [
        {"recipient": PEERS[0], "open": 7, "behind": NEVER_SENT, **common},
        {"recipient": PEERS[1], "open": 5, "behind": 0, **common},
    ]
    fill(connection, rows)
    held = {"envelope": 1, "purge_at": 0, "found": 0, "purged_at": None}
    connection.execute(insert(OUTBOX_MESSAGE), [{"id": f"m{at}", "position": at, "held_at": NOW - at, **held} for at in (0, 1)])
    found, _ = counted(connection)
    first, second = found[PEERS[0], "routine"], found[PEERS[1], "routine"]
    assert (first.open, first.held, first.deferred) == (3, 2, 1)
    assert (second.open, second.held, second.deferred) == (2, 1, 0)
    assert (first.held_since, second.held_since) == (NOW - 1, NOW)


def test_gaps_are_counted_in_the_highest_epoch_alone(connection: Connection) -> None:
    """What is missing below the highest sequence of a lane counts, from the first on; of an epoch that is over nothing comes."""
    closed = [(1, "routine", 5, 9), (2, "routine", 3, 4), (2, "routine", 8, 10), (2, "flash", 1, 6)]
    rows = [{"origin": "OBSX", "epoch": e, "lane": lane, "first": first, "last": last} for e, lane, first, last in closed]
    connection.execute(insert(INBOX_CLOSED), [*rows, {**rows[3], "origin": "OBSY"}])
    assert observed.missing(connection) == {"OBSX": 5, "OBSY": 0}


def test_the_oldest_of_what_waits_for_the_system_is_found_in_any_lane(connection: Connection) -> None:
    """The age of what waits is that of the envelope that came first, whatever its rank; what is delivered does not wait."""
    envelope = {"origin": "OBSX", "epoch": 1, "lane": "flash", "first": 1, "content_key": b"", "header": b"", "body": b""}
    row = {"origin": "OBSX", "position": 0, "deadline": 0, "at": NOW, "flags": 0, "attempts": 0, "purge_at": 0, "found": 0}
    states = ((1, 3, "delivered"), (2, 3, "waiting"), (3, 0, "handed"))
    assert observed.waiting_since(connection, range(6)) is None
    connection.execute(
        insert(INBOX_ENVELOPE), [{"n": n, "id": f"i{n}", "received_at": NOW + n, **envelope} for n, _, _ in states]
    )
    connection.execute(
        insert(INBOX_MESSAGE),
        [{"n": n, "id": f"m{n}", "envelope": n, "rank": rank, "state": state, **row} for n, rank, state in states],
    )
    assert observed.waiting_since(connection, range(6)) == NOW + 2


def test_recalls_are_open_until_every_holder_signed_and_taken_up_in_any_number(connection: Connection) -> None:
    """Threads are found a bounded number at a time, looked at until nothing is left, and again never."""
    count, per_look = 450, observing.RECALLS_AT_ONCE
    firsts, cancels = ([new_id(A) for _ in range(count)] for _ in range(2))
    for number, one in enumerate([*firsts, *cancels], 1):
        envelope = {"n": number, "id": f"e{number}", "created_at": NOW + number, "epoch": 1, "lane": "flash", "rank": 0}
        connection.execute(insert(OUTBOX_ENVELOPE), [{**envelope, "keys": "[]", "sent_at": NOW}])
        row = {"id": one, "envelope": number, "position": 0, "purge_at": 0, "found": 0, "purged_at": None, "held_at": None}
        connection.execute(insert(OUTBOX_MESSAGE), [row])
        sent = {"recipient": B, "epoch": 1, "lane": "flash", "first": number, "last": number, "envelope": number}
        connection.execute(
            insert(OUTBOX_DELIVERY), [{**sent, "open": 0, "unaccepted": 0, "size": 1, "deadline": NOW, "behind": 0}]
        )
    pairs = zip(firsts, cancels, strict=True)
    connection.execute(
        insert(REFERENCE), [{"target": first, "relation": "cancels", "origin": A, "id": by} for first, by in pairs]
    )
    recalls = observing._Recalls(A)
    seen = [recalls.look(connection) for _ in range(count // per_look + 2)]
    since = NOW + count + 1
    assert seen[0] == {B: (per_look, since)}
    assert seen[-1] == {B: (count, since)}
    step = {"recipient": B, "state": "purged", "mask": 1, "at": NOW, "code": None, "receipt": None, "void": None}
    connection.execute(insert(OUTBOX_STEP), [{"envelope": count + number, **step} for number in range(1, count + 1)])
    for _ in range(count // per_look + 1):
        left = recalls.look(connection)
    assert left == {}
    connection.execute(delete(OUTBOX_STEP))
    assert recalls.look(connection) == {}


def test_a_recall_is_as_old_as_the_first_that_the_peer_did_not_sign(connection: Connection) -> None:
    """A later update makes an open recall no younger; what the peer signed for does, and what it never held is no matter."""
    versions = [new_id(A) for _ in range(4)]
    sent = {"epoch": 1, "lane": "flash", "open": 0, "unaccepted": 0, "size": 1, "deadline": NOW, "behind": 0}
    for number, one in enumerate(versions, 1):
        envelope = {"n": number, "id": f"e{number}", "created_at": NOW + number, "epoch": 1, "lane": "flash", "rank": 0}
        connection.execute(insert(OUTBOX_ENVELOPE), [{**envelope, "keys": "[]", "sent_at": NOW}])
        row = {"id": one, "envelope": number, "position": 0, "purge_at": 0, "found": 0, "purged_at": None, "held_at": None}
        connection.execute(insert(OUTBOX_MESSAGE), [row])
        peers = PEERS if number > 2 else PEERS[:1]  # the second peer was sent nothing before the third version
        places = [{"recipient": peer, "first": number, "last": number, "envelope": number, **sent} for peer in peers]
        connection.execute(insert(OUTBOX_DELIVERY), places)
    updates = [{"target": versions[0], "relation": "updates", "origin": A, "id": one} for one in versions[1:]]
    connection.execute(insert(REFERENCE), updates)

    def since() -> dict[str, int | None]:
        return observed.unconfirmed(connection, A, versions[:1])[versions[0]]

    assert since() == {PEERS[0]: NOW + 2, PEERS[1]: NOW + 4}
    step = {"recipient": PEERS[0], "state": "purged", "mask": 1, "at": NOW, "code": None, "receipt": None, "void": None}
    connection.execute(insert(OUTBOX_STEP), [{"envelope": 3, **step}])
    assert since() == {PEERS[0]: NOW + 4, PEERS[1]: NOW + 4}
    connection.execute(insert(OUTBOX_STEP), [{"envelope": 4, **step}])
    assert since() == {PEERS[1]: NOW + 4}


def test_the_received_message_that_is_held_for_longest_is_found(connection: Connection) -> None:
    """Since when the first of the received messages has been held that are held now; what was released does not count."""
    row = {"origin": "OBSX", "envelope": 1, "rank": 3, "deadline": 0, "flags": 0, "attempts": 0, "purge_at": 0, "found": 0}
    assert observed.held_since(connection) is None
    states = (("waiting", NOW - 9), ("dead", NOW - 8), ("held", NOW - 7), ("held", NOW - 6))
    rows = [{"n": n, "id": f"m{n}", "position": n, "state": state, "at": at, **row} for n, (state, at) in enumerate(states)]
    connection.execute(insert(INBOX_MESSAGE), rows)
    assert observed.held_since(connection) == NOW - 7


def test_no_look_goes_through_a_table(engine: Engine, connection: Connection) -> None:
    """Every statement of a look finds its rows by an index: a million settled messages cost it nothing."""
    fill(connection, deliveries(1, 5))
    plans: list[str] = []

    def explain(cursor: Any, statement: str, parameters: Any) -> None:
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plans.extend(row[3] for row in cursor.fetchall())

    def before(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            explain(cursor, statement, parameters)

    event.listen(engine, "before_cursor_execute", before)
    try:
        counted(connection)
        observing._rest(connection, NOW)
        observing._Recalls(A).look(connection)
    finally:
        event.remove(engine, "before_cursor_execute", before)
    big = ("outbox_delivery", "outbox_message", "outbox_envelope", "inbox_message", "inbox_envelope", "outbox_step", "reference")
    partial = ("_open", "_held", "_aside", "_waiting", "_behind", "_dead")
    scans = [plan for plan in plans if plan.startswith("SCAN") and plan.split()[1] in big]
    assert plans
    assert [plan for plan in scans if not plan.endswith(partial)] == []


def test_rates_are_spans_of_what_was_counted_and_bounded() -> None:
    """Each note ends a span; an hour of them is kept for each member, and nothing of anybody else."""
    rates = Rates()
    assert rates.of("OBSX") == Traffic()
    rates.note(["OBSX"], {"OBSX": 5, "OBSY": 9}, {})
    rates.note(["OBSX", "OBSY"], {"OBSX": 7, "OBSY": 9}, {"OBSY": 2})
    assert rates.of("OBSX").sent[-3:] == (0, 5, 2)
    assert (rates.of("OBSY").sent[-1], rates.of("OBSY").received[-1]) == (0, 2)
    for _ in range(SPANS + 5):
        rates.note(["OBSY"], {"OBSY": 9}, {"OBSY": 2})
    assert rates.of("OBSX") == rates.of("OBSY") == Traffic()


def test_a_peer_sums_its_lanes() -> None:
    """Counts of a peer are those of its lanes together; its oldest is the oldest of them; a peer unknown has nothing."""
    ages = (1, 0, 2, 0, 0, 0, 0)
    peer = Peer("OBSX", (Lane("OBSX", "flash", 3, ages, NOW - 5000, at_risk=1), Lane("OBSX", "routine", 3, ages, NOW)))
    assert (peer.open, peer.at_risk, peer.oldest_at, peer.ages) == (6, 1, NOW - 5000, (2, 0, 4, 0, 0, 0, 0))
    assert peer.lanes[0].oldest_seconds(NOW) == 5.0
    assert (Peer("OBSY").open, Peer("OBSY").oldest_at) == (0, None)


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run two centres that observe often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_BROKER__RECONNECT_SECONDS", "1")
        patch.setattr(observing, "EVERY_SECONDS", 0.1)
        patch.setattr(observing, "SPAN_SECONDS", 0.5)
        nodes = Live(private_network(tmp_path_factory.mktemp("observing") / "network", broker, "observing", CENTRES), broker)
        await nodes.start(*CENTRES)
        yield nodes
        await nodes.close()


def seen(live: Live, centre: str) -> Observation:
    """Return what a node observed last; of one that has not looked since its start, that there is nothing."""
    return live[centre].observer.latest or NOTHING


async def test_what_is_open_ages_and_is_gone_when_it_is_delivered(live: Live) -> None:
    """A message to a peer that is down is open in its lane; accepted it still is, and waits there; delivered, nothing is left."""
    async with live.away(B):
        raw, before = message(case_number="OPEN", to=[B], precedence="immediate"), live[A].centre.now()
        stored = await live.submit(A, raw)
        after = live[A].centre.now()
        await eventually(lambda: seen(live, A).peer(B).open == 1)
        lane = seen(live, A).lanes[0]
        assert (lane.peer, lane.precedence, lane.ages[0]) == (B, "immediate", 1)
        assert lane.oldest_at is not None
        assert before <= lane.oldest_at <= after
        assert sum(seen(live, A).peer(B).traffic.sent) <= 1
    await live.reaches(A, stored.id, B, "accepted")
    await eventually(lambda: seen(live, B).waiting == 1)
    assert seen(live, B).waiting_since is not None
    assert seen(live, A).peer(B).open == 1  # accepted is not delivered
    await live.take(B)
    await eventually(lambda: seen(live, A).peer(B).open == 0)
    await eventually(lambda: sum(seen(live, A).peer(B).traffic.sent) == 1)
    await eventually(lambda: sum(seen(live, B).peer(A).traffic.received) == 1)
    await eventually(lambda: seen(live, B).waiting == 0)


async def test_a_recall_is_open_until_the_peer_signed(live: Live) -> None:
    """A message that is taken back is an open recall at who held it, until it signed that nothing is left."""
    raw = message(case_number="BACK", to=[B])
    stored = await live.submit(A, raw)
    await live.reaches(A, stored.id, B, "accepted")
    async with live.away(B):
        back = cancel(stored, raw, to=[B])
        outcome = (await live[A].outbox.submit([Submission(back, messages.parse(back))]))[0]
        assert isinstance(outcome, Stored)
        await eventually(lambda: seen(live, A).peer(B).recalls == 1)
    await eventually(lambda: seen(live, A).peer(B).recalls == 0)
    await live.take(B)


async def test_a_store_that_can_t_be_read_is_told_and_what_was_seen_stays(live: Live) -> None:
    """While a look fails the last observation stays and says when it was made; the observer says why, until it can look again."""
    node = live[A]
    await eventually(lambda: node.observer.latest is not None and node.observer.trouble is None)
    await node.centre.store.write(lambda connection: connection.exec_driver_sql("ALTER TABLE clock RENAME TO lost") and None)
    try:
        await eventually(lambda: node.observer.trouble is not None)
        before = seen(live, A)
        await asyncio.sleep(0.5)  # five more looks fail
        assert node.observer.trouble is not None
        assert node.observer.trouble.code == "store-unavailable"
        assert seen(live, A).at == before.at
    finally:
        await node.centre.store.write(lambda connection: connection.exec_driver_sql("ALTER TABLE lost RENAME TO clock") and None)
    await eventually(lambda: node.observer.trouble is None)
    assert seen(live, A).at > before.at


async def test_a_look_that_waited_for_a_busy_machine_is_not_rested_from(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest after a look is for what it cost: when it only waited, the next comes soon; a rest for that would take minutes."""
    node = live[A]
    await eventually(lambda: node.observer.trouble is None)
    rest = observing._rest

    def late(connection: Connection, now: int) -> Any:
        time.sleep(0.5)
        return rest(connection, now)

    monkeypatch.setattr(observing, "_rest", late)
    monkeypatch.setattr(observing, "REST_FACTOR", 200)
    before = seen(live, A).at
    await eventually(lambda: seen(live, A).at > before)
    before = seen(live, A).at
    await eventually(lambda: seen(live, A).at > before)
