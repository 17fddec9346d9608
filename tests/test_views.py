"""What operators see of queues, messages and requests: right words for what happened, and no slower the more there is."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from relay.cli import way as command
from relay.clock import now_ms
from relay.errors import NotFound, Refused
from relay.handover import No
from relay.keeping import HOUR_MS
from relay.messages import parse
from relay.observation import AGES
from relay.rabbit import PrivateBroker
from relay.received import Act
from relay.store import Connection, Store, clocks, traces, trail
from relay.store.listed import Asked, Listed, Page, received, sent
from relay.submissions import Stored, Submission
from relay.views import content, message, messages, queues, requests
from relay.views import trail as view_of_trail
from relay.views.messages import Filters
from tests import large
from tests.live import EXAMPLES, Live, eventually, private_network
from tests.live import message as seizure

HOME, NEAR, FAR = CENTRES = ("KITE", "LARK", "WREN")
COUNT = 500_000
MOST_STEPS = 3_000_000
"""Of SQLite's machine, some 150 ms of CPU: half more than the dearest page takes, six for each message that is there."""
STEPS_A_TICK = 1_000


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run three centres on a virtual host of their own."""
    nodes = Live(private_network(tmp_path_factory.mktemp("views") / "network", broker, "views", CENTRES), broker)
    await nodes.start(*CENTRES)
    yield nodes
    await nodes.close()


async def delivered(live: Live, *to: str, **fields: Any) -> str:
    """Send a message of HOME that the systems of these centres take; return its id."""
    id_ = (await live.submit(HOME, seizure(origin=HOME, to=list(to), **fields))).id
    for centre in to:
        await live.reaches(HOME, id_, centre, "accepted")
        await live.take(centre)
        await live.reaches(HOME, id_, centre, "delivered")
        await live.reaches(HOME, id_, centre, "sent")
    return id_


# One message


async def test_the_matrix_says_by_whose_word_a_message_is_where(live: Live) -> None:
    """Accepted, delivered and rejected are signed receipts of the peers, with their times, each at its own recipient."""
    id_ = (await live.submit(HOME, seizure(origin=HOME, to=[NEAR, FAR]))).id
    for centre in (NEAR, FAR):
        await live.reaches(HOME, id_, centre, "accepted")
    await live.take(NEAR)
    given = await live[FAR].handover.take(10, 10)
    assert id_ in [one.id for one in given]
    await live[FAR].handover.refuse(No(id_, "unknown-case", "no such case", None))
    await live.reaches(HOME, id_, NEAR, "delivered")
    await live.reaches(HOME, id_, FAR, "rejected")
    await live.reaches(HOME, id_, NEAR, "sent")
    found = await message.way(live[HOME], id_)
    near, far = found.recipients
    assert (near.centre, near.state, far.centre, far.state, far.code) == (NEAR, "delivered", FAR, "rejected", "unknown-case")
    for promise in (near.accepted, near.delivered, far.accepted, far.rejected):
        assert promise is not None
        assert promise.receipt is not None
    assert near.sent_at is not None
    assert near.delivered is not None
    assert near.queued_at == found.submitted_at <= min(near.sent_at, near.delivered.at)  # a receipt may overtake the confirm
    assert (near.rejected, far.delivered, near.notes, near.recall) == (None, None, [], None)
    said = "\n".join(command.lines(found.model_dump(mode="json")))
    assert f"receipt {near.delivered.receipt}" in said
    assert "unknown-case" in said


async def test_a_received_message_says_where_it_stands_here_and_who_else_was_addressed(live: Live) -> None:
    """What became of it at the others its origin alone knows, and nothing is made up about it."""
    id_ = await delivered(live, NEAR, FAR)
    found = await message.way(live[NEAR], id_)
    assert (found.direction, found.origin, found.kind) == ("received", HOME, "seizure")
    assert found.here is not None
    assert found.here.state == "delivered"
    assert found.here.given_at is not None
    ours, other = found.recipients
    assert (ours.centre, ours.state, other.centre, other.state, other.accepted) == (NEAR, "delivered", FAR, None, None)
    assert f"{FAR:<17}  ?" in "\n".join(command.lines(found.model_dump(mode="json")))


async def test_a_recall_says_of_each_holder_whether_nothing_is_left_there(live: Live) -> None:
    """The first version shows its cancel and, per centre that held it, the signed word that it is purged."""
    raw = seizure(origin=HOME, to=[NEAR])
    id_ = (await live.submit(HOME, raw)).id
    await live.reaches(HOME, id_, NEAR, "accepted")
    await live.take(NEAR)
    await live.reaches(HOME, id_, NEAR, "delivered")
    cancel = await live.submit(HOME, _cancel(id_, raw))
    await live.reaches(HOME, cancel.id, NEAR, "accepted")
    await live.take(NEAR)

    async def purged() -> bool:
        one = (await message.way(live[HOME], id_)).recipients[0]
        return one.recall is not None and one.recall.purged_at is not None

    await eventually(purged)
    found = await message.way(live[HOME], id_)
    assert found.cancelled_by == [cancel.id]
    assert "recalled: 1 of 1 confirmed" in "\n".join(command.lines(found.model_dump(mode="json")))
    assert (await message.way(live[NEAR], id_)).purged_at is not None
    entries = (await view_of_trail.entries(live[NEAR], id_)).entries
    assert [one.step for one in entries[:2]] == ["taken", "taken-by-system"]
    assert ("purged", HOME) in [(one.step, one.peer) for one in entries]


async def test_the_trail_tells_the_messages_of_a_batch_apart(live: Live) -> None:
    """What an operator did to one message, with who and why, stands in its trail and in no other's of the same envelope."""
    raw = seizure(origin=HOME, to=[FAR])
    parsed = parse(raw)
    outcomes = await live[HOME].outbox.submit([Submission(raw, parsed), Submission(raw, parsed)])
    first, second = (one.id for one in outcomes if isinstance(one, Stored))
    for id_ in (first, second):
        await live.reaches(HOME, id_, FAR, "accepted")
        await live.reaches(HOME, id_, FAR, "sent")
    given = await live[FAR].handover.take(10, 10)
    assert {first, second} <= {one.id for one in given}
    await live[FAR].received.hold(Act(first, "watch-1", "the office asks to wait"))
    await live[FAR].received.discard(Act(first, "watch-2", "sent by mistake"))
    await live[FAR].handover.acknowledge([second], [])
    await live.reaches(HOME, first, FAR, "rejected")
    ours, others = [await view_of_trail.entries(live[FAR], id_) for id_ in (first, second)]
    said = [(one.step, one.actor, one.why) for one in ours.entries if one.actor]
    assert said == [
        ("held", "watch-1", "the office asks to wait"),
        ("discarded", "watch-2", "sent by mistake"),
    ]
    assert "purged" in [one.step for one in ours.entries]
    assert [one.step for one in others.entries] == ["taken", "taken-by-system"]
    home = (await view_of_trail.entries(live[HOME], first)).entries
    assert sorted(one.step for one in home) == ["accepted", "rejected", "sent", "submitted"]


async def test_an_unknown_message_is_told_as_such(live: Live) -> None:
    """Neither sent nor received is an error with its code."""
    with pytest.raises(NotFound) as caught:
        await message.way(live[HOME], "00000000-0000-7000-8000-000000000000")
    assert caught.value.code == "not-kept-here"


async def test_the_trail_has_every_step_of_the_message_and_of_no_other(live: Live) -> None:
    """Submitted, sent, and each receipt at the origin; taken and given out at the recipient; who opened it and why."""
    await delivered(live, NEAR)
    id_ = await delivered(live, NEAR)
    await delivered(live, NEAR)
    assert b'"seizure"' in (await content.read(live[HOME], id_, "watch-1 (A Person)", "order 7")).text.encode()
    at_home, at_near = [await view_of_trail.entries(live[centre], id_) for centre in (HOME, NEAR)]
    steps = [one.step for one in at_home.entries]
    assert (steps[0], steps[-1]) == ("submitted", "content-read")
    assert sorted(steps[1:-1]) == ["accepted", "delivered", "sent"]
    assert (at_home.entries[-1].actor, at_home.entries[-1].why) == ("watch-1 (A Person)", "order 7")
    assert [one.step for one in at_near.entries] == ["taken", "taken-by-system"]
    assert at_home.following is None


async def test_content_that_can_not_go_on_record_is_not_shown(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leaf is committed before anything is returned."""
    id_ = await delivered(live, NEAR)
    centre, reader, write = live[HOME].centre, asyncio.current_task(), live[HOME].centre.store.write

    async def fails(job: Callable[[Connection], Any]) -> Any:
        if asyncio.current_task() is reader:  # not a heartbeat that happens to be due: it would end the node
            raise RuntimeError("the disk is gone")
        return await write(job)

    monkeypatch.setattr(centre.store, "write", fails)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        await content.read(live[HOME], id_, "somebody", "order 7")


# Lists


async def test_the_list_has_both_sides_newest_first_and_says_kinds_without_opening(live: Live) -> None:
    """What was sent and what came stand in one list; a kind is known by its token."""
    ours = await delivered(live, NEAR)
    theirs = (await live.submit(NEAR, seizure(origin=NEAR, to=[HOME]))).id
    await live.reaches(NEAR, theirs, HOME, "accepted")
    await live.take(HOME)
    found = (await messages.messages(live[HOME], Filters())).messages
    assert [one.id for one in found[:2]] == [theirs, ours]
    first, second = found[:2]
    assert (first.direction, first.origin, first.kind, first.states) == ("received", NEAR, "seizure", {"delivered": 1})
    assert (second.direction, second.recipients, second.kind, second.states) == ("sent", [NEAR], "seizure", {"delivered": 1})


async def test_every_filter_finds_what_it_says(live: Live) -> None:
    """Direction, peer, precedence, state, time and the beginning of the id, alone and together."""
    flash = await delivered(live, FAR, precedence="flash")
    await delivered(live, NEAR)

    async def ids(**given: str) -> list[str]:
        return [one.id for one in (await messages.messages(live[HOME], Filters(**given))).messages]

    assert (await ids(precedence="flash"))[0] == flash
    assert flash not in await ids(direction="received")
    assert flash not in await ids(peer=NEAR, direction="sent")
    assert (await ids(peer=FAR, state="delivered", precedence="flash"))[0] == flash
    assert flash in await ids(id=flash[:13])
    assert await ids(id=flash) == [flash]
    assert flash not in await ids(state="dead")
    later = "2100-01-01T00:00"
    assert (await ids(since=later), flash in await ids(until=later)) == ([], True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"direction": "up"},
        {"peer": "a b"},
        {"state": "lost"},
        {"since": "soon"},
        {"id": "xyz"},
        {"before": "1"},
        {"precedence": "x"},
    ],
    ids=lambda one: next(iter(one)),
)
async def test_a_filter_that_makes_no_sense_is_refused(live: Live, wrong: dict[str, str]) -> None:
    """Nothing is listed as if it had been understood."""
    with pytest.raises(Refused) as caught:
        await messages.messages(live[HOME], Filters(**wrong))
    assert caught.value.code == "bad-request"


async def test_the_queues_show_what_is_open_by_age_and_what_waits_here(live: Live) -> None:
    """A message that nobody took yet is open at its recipient, and waits there for the system."""
    await live.take(FAR, 0)
    await live.submit(HOME, seizure(origin=HOME, to=[FAR], precedence="priority"))

    async def waits() -> bool:
        return bool((await queues.queues(live[FAR])).inbox)

    await eventually(waits)
    await live[HOME].observer.look()
    found = await queues.queues(live[HOME], by_precedence=True)
    row = next(one for one in found.outgoing if one.centre == FAR)
    assert (row.precedence, row.messages, sum(row.ages), row.ages[0]) == ("priority", 1, 1, 1)
    inbox = (await queues.queues(live[FAR])).inbox
    assert [(one.centre, one.messages) for one in inbox] == [(None, 1)]
    assert sum(found.total) >= 1
    await live.take(FAR)


async def test_open_clocks_stand_with_the_most_urgent_first(live: Live) -> None:
    """What ends first stands first, what has not begun last; what stopped is not there."""
    now = live[HOME].centre.now()
    started: dict[str, int | None] = {"a": now, "b": now - 9 * HOUR_MS, "c": None}

    def begin(connection: Connection) -> None:
        for name, at in started.items():
            clocks.begin(connection, f"{name}-request", [NEAR], 8, at)
        clocks.cancel(connection, "c-request", now, received=False, peers=["nobody"])

    await live[HOME].centre.store.write(begin)
    found = await requests.requests(live[HOME])
    assert [(one.request, one.overdue) for one in found.received] == [("b-request", True), ("a-request", False)]
    assert found.received[0].left_seconds is not None
    assert found.received[0].left_seconds < 0
    assert [(one.request, one.left_seconds) for one in found.asked] == [("c-request", None)]
    assert (found.counts["received"], found.counts["asked"]) == ([2, 1], [1, 0])


# Much


@pytest.fixture(scope="module")
async def much(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Store, int]]:
    """Open a store of many messages; also when the first of them was."""
    file = tmp_path_factory.mktemp("much") / "store.db"
    begun = await large.write(file, COUNT)
    store = await Store.open(file, large.ME, "0" * 64, now_ms())
    yield store, begun
    await store.close()


async def spent(store: Store, job: Callable[[Connection], Any]) -> tuple[Any, int]:
    """Return what a job gives, and how many steps of SQLite's machine it took: the same on any machine, however busy."""
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    def counted(connection: Connection) -> Any:
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(tick, STEPS_A_TICK)
        try:
            return job(connection)
        finally:
            driver.set_progress_handler(None, 0)

    done = await store.read(counted)
    return done, ticks * STEPS_A_TICK


@pytest.mark.parametrize("side", [sent, received], ids=["sent", "received"])
@pytest.mark.parametrize("peer", [None, "EAST", "QUIET"])
@pytest.mark.parametrize("lane", [None, "flash", "immediate"])
async def test_a_page_over_many_messages_is_quick_whatever_is_asked(
    much: tuple[Store, int], side: Any, peer: str | None, lane: str | None
) -> None:
    """No filter, alone or with another, makes a page of a million messages, half of them each way, take 3,000,000 steps."""
    slow = {}
    for state in (None, *side.STATES):
        page, steps = await spent(much[0], partial(side.page, asked=Asked(peer, lane, state), below=None, limit=50))
        assert isinstance(page, Page)
        if steps > MOST_STEPS:
            slow[state] = steps
    assert slow == {}


@pytest.mark.parametrize(
    "asked",
    [
        Asked(),
        Asked(peer="QUIET"),
        Asked(lane="flash"),
        Asked(state="rejected"),
        Asked(state="open"),
        Asked(state="dead"),
        Asked(peer="EAST", lane="flash", state="delivered"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("side", [sent, received], ids=["sent", "received"])
async def test_pages_together_are_the_whole_list(much: tuple[Store, int], side: Any, asked: Asked) -> None:
    """Page behind page, nothing is left out, nothing comes twice, and all of it is what was asked for."""
    if asked.state not in (None, *side.STATES):
        return
    store, begun = much
    some = Asked(asked.peer, asked.lane, asked.state, since=begun + (COUNT - 12_000) * large.STEP_MS)
    paged: list[Listed] = []
    below: int | None = None
    while True:
        page = await store.read(lambda connection, below=below: side.page(connection, some, below, 500))
        paged += page.rows
        if (below := page.below) is None:
            break
    whole = (await store.read(lambda connection: side.page(connection, some, None, COUNT))).rows
    assert [one.id for one in paged] == [one.id for one in whole]
    assert [one.key for one in paged] == sorted({one.key for one in paged}, reverse=True)
    for one in paged:
        assert asked.peer in (None, *one.peers)
        assert asked.lane in (None, one.lane)
        assert asked.state in (None, "open") or asked.state in one.states


async def test_what_is_rare_and_old_is_found_at_once(much: tuple[Store, int]) -> None:
    """What is open, held or dead for days is on the first page, however much came since; a quiet peer's messages, too."""
    store, begun = much
    stuck = (await store.read(lambda connection: sent.page(connection, Asked(state="open"), None, 100))).rows
    assert len(stuck) == COUNT // 10_000 + 5
    assert stuck[-1].at < begun + 10 * large.STEP_MS
    dead = (await store.read(lambda connection: received.page(connection, Asked(state="dead"), None, 50))).rows
    assert [one.states for one in dead] == [{"dead": 1}] * (COUNT // 20_000)
    quiet = await store.read(lambda connection: sent.page(connection, Asked(peer="QUIET"), None, 50))
    assert len(quiet.rows) == 50


async def test_what_is_looked_through_in_part_says_so_and_goes_on(much: tuple[Store, int]) -> None:
    """A rare thing without an index is looked for among the newest; the page says to when, and the next goes on there."""
    asked, below, found, pages = Asked(state="rejected"), None, 0, 0
    while True:
        page: Page = await much[0].read(lambda connection, below=below: sent.page(connection, asked, below, 50))
        found, pages = found + len(page.rows), pages + 1
        if page.below is None:
            break
        assert page.looked_to is not None
        below = page.below
    assert found == COUNT // 5_000
    assert pages > 1


async def test_the_ages_of_many_waiting_messages_are_quick(much: tuple[Store, int]) -> None:
    """What the system has not taken is counted by age along an index."""
    found, steps = await spent(much[0], lambda connection: received.ages(connection, now_ms(), AGES))
    assert sum(sum(one.counts) for one in found.values()) == COUNT // 10_000 + 5
    assert steps < MOST_STEPS


async def test_a_piece_of_a_long_record_is_quick_and_complete(much: tuple[Store, int]) -> None:
    """An entry of one message among hundreds of thousands is found in pieces of bounded cost, from the message's time on."""
    store, begun = much
    wanted = (await store.read(lambda connection: sent.page(connection, Asked(), (COUNT // 2) * 64, 1))).rows[0]
    place, steps = await spent(store, lambda connection: trail.begin(connection, wanted.at))
    assert place is not None
    assert steps < MOST_STEPS
    piece, steps = await spent(store, lambda connection: trail.piece(connection, place, {wanted.id}, ["f" * 64]))
    assert steps < MOST_STEPS
    assert [says["envelope"] for _, says in traces.entries(piece.leaves)] == [wanted.id]
    assert begun // 1000 == place[0]


def _cancel(id_: str, raw: bytes) -> bytes:
    """Return a cancel of a message of HOME."""
    given = json.loads((EXAMPLES / "cancel.minimal.json").read_bytes())
    reference = {"id": id_, "digest": hashlib.sha256(raw).hexdigest(), "relation": "cancels"}
    return json.dumps({**given, "origin": HOME, "references": [reference]}).encode()
