"""Reply clocks: when they run, what they remind of, what moves and stops them, and that both sides see the same."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, update

from relay import cli
from relay.api import Api
from relay.errors import Refused
from relay.keeping import Answer
from relay.messages import parse
from relay.node import open_node
from relay.rabbit import PrivateBroker
from relay.requests import due
from relay.settings import load
from relay.store import Connection, Store, clocks, outgoing, record
from relay.store.clocks import STEPS, Clock, Step
from relay.store.tables import CLOCK, INBOX_MESSAGE, OUTBOX_MESSAGE, OUTBOX_STEP
from relay.submissions import Stored, Submission
from relay.versions import content
from tests.live import EXAMPLES, PATIENCE, Live, eventually, message, private_network

ASKER, OWNER, THIRD, FOURTH = ("ASKER", "OWNER", "THIRD", "FOURTH")
CENTRES = (ASKER, OWNER, THIRD)
HOUR = 3_600_000
START = 1_790_000_000_000

times = st.integers(START - 10 * HOUR, START + 400 * HOUR)


def clock(length: int = 8 * HOUR, **fields: Any) -> Clock:
    """Return an open clock of so many milliseconds."""
    return replace(Clock("r", OWNER, True, 8, START, START + length, "open"), **fields)


def reminded(one: Clock, looks: list[int]) -> list[tuple[Step, int]]:
    """Return what a centre that looks at these times is reminded of, and when."""
    told: list[tuple[Step, int]] = []
    for now in looks:
        steps = due(one, now)
        told += [(step, now) for step in steps]
        one = replace(one, reminded=one.reminded | clocks.mask(steps))
    return told


@given(st.integers(1, 300 * HOUR), st.lists(times, max_size=40))
def test_each_step_is_reminded_of_once_in_order_and_never_before_its_time(length: int, looks: list[int]) -> None:
    """Whatever the clock and whenever somebody looks, even backwards in time: 50 %, 90 %, overdue, each once, each in time."""
    told = reminded(clock(length), looks)
    steps = [step for step, _ in told]
    assert steps == list(STEPS)[: len(steps)]
    for step, now in told:
        assert now >= START + length * STEPS[step] // 100
    latest = max(looks, default=START - 1)
    assert len(steps) == sum(latest >= START + length * percent // 100 for percent in STEPS.values())


@given(st.lists(times, max_size=20), st.sampled_from(["full", "refusal", "cancelled", "rejected"]))
def test_a_clock_that_stopped_or_has_not_begun_reminds_of_nothing(looks: list[int], state: str) -> None:
    """An answered request is nobody's concern, nor is one that the peer does not have yet."""
    assert reminded(clock(state=state, stopped_at=START + 1), looks) == []
    assert reminded(clock(started_at=None, due_at=None), looks) == []


@pytest.mark.parametrize(
    ("percent", "steps"), [(49.9, ()), (50, ("50",)), (90, ("50", "90")), (99.9, ("50", "90")), (100, ("50", "90", "overdue"))]
)
def test_a_clock_of_eight_hours_reminds_after_four_and_after_seven_hours_and_twelve_minutes(
    percent: float, steps: tuple[str, ...]
) -> None:
    """A first look at a share of the clock tells all that is due by then."""
    assert due(clock(), START + int(8 * HOUR * percent / 100)) == steps


PLACE = 3


def says(connection: Connection, state: str, at: int, code: str | None = None, place: int = PLACE) -> None:
    """Store a statement of the owner about the message at a place of the asker's envelope."""
    values = {"envelope": 1, "recipient": OWNER, "state": state, "mask": 1 << place, "at": at, "code": code}
    connection.execute(insert(OUTBOX_STEP).values(**values))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Open a store in which a request `r` was sent to the owner, as the fourth message of an envelope."""
    opened = await Store.open(tmp_path / "relay.db", ASKER, "network", START)

    def ask(connection: Connection) -> None:
        row = {"id": "r", "envelope": 1, "position": PLACE, "purge_at": START, "found": 1}
        connection.execute(insert(OUTBOX_MESSAGE).values(**row))
        clocks.begin(connection, "r", (OWNER,), 8, None)

    await opened.write(ask)
    yield opened
    await opened.close()


async def settled(store: Store, now: int, *statements: tuple[Any, ...]) -> Clock:
    """Return the clock of the request after the owner's statements, as a look at this time leaves it."""

    def look(connection: Connection) -> Clock:
        for statement in statements:
            says(connection, *statement)
        clocks.move(connection, clocks.settle(connection, now))
        return clocks.of(connection, "r")[0]

    return await store.write(look)


async def test_a_clock_begins_with_the_word_of_the_peer_s_node(store: Store) -> None:
    """Statements about other messages of the envelope begin nothing, and `accepted` counts whatever was said before it."""
    assert (await settled(store, START, ("accepted", START - 5, None, 0))).started_at is None
    assert (await settled(store, START, ("delivered", START - 1))).started_at is None
    found = await settled(store, START, ("accepted", START - 2))
    assert (found.started_at, found.due_at) == (START - 2, START - 2 + 8 * HOUR)


async def test_a_clock_begins_with_the_word_of_the_peer_s_system_when_that_of_its_node_is_lost(store: Store) -> None:
    """A minute after `delivered` nobody waits for a lost `accepted` any more."""
    assert (await settled(store, START + clocks.LOST_MS - 1, ("delivered", START))).started_at is None
    assert (await settled(store, START + clocks.LOST_MS)).started_at == START


async def test_an_answer_that_overtakes_the_word_of_its_node_is_an_answer(store: Store) -> None:
    """The clock stops at once, a delay before it is kept, and when the word comes it is known since when it ran."""
    for outcome, due_at in (("delay", START + HOUR), ("full", None)):
        said = Answer("r", outcome, due_at)
        await store.write(lambda connection, said=said: clocks.answer(connection, said, (OWNER,), START + 9, received=True))  # type: ignore[misc]
    assert (await settled(store, START)).late is False
    found = await settled(store, START + 10, ("accepted", START + 1))
    assert (found.state, found.started_at, found.due_at, found.late) == ("full", START + 1, START + HOUR, False)


async def test_a_request_that_the_peer_refused_is_awaited_no_more(store: Store) -> None:
    """A rejection for good stops the clock; one of a version that was superseded leaves it."""
    assert (await settled(store, START, ("rejected", START, "superseded"))).state == "open"
    found = await settled(store, START, ("rejected", START, "recipient-not-entitled"))
    assert (found.state, found.stopped_at, found.late) == ("rejected", START, None)


async def test_a_withdrawal_from_some_stops_their_clocks_alone(store: Store) -> None:
    """What is taken back from one centre is still awaited from another."""

    def withdraw(connection: Connection) -> list[Clock]:
        clocks.begin(connection, "s", (OWNER, THIRD), 8, None)
        clocks.cancel(connection, "s", START, received=False, peers=(THIRD,))
        return clocks.of(connection, "s")

    assert [one.state for one in await store.write(withdraw)] == ["open", "cancelled"]


class Served(Live):
    """Live nodes that serve their API too, asked as an operator."""

    async def start(self, *centres: str) -> None:
        """Start nodes with their APIs and wait until they reach the broker, and these answer."""
        for centre in centres:
            self.nodes[centre] = await open_node(load(self.network.node_file(centre)))
            self._tasks[centre] = asyncio.create_task(self.nodes[centre].run(Api()), name=centre)
        for centre in centres:
            await asyncio.wait_for(self.nodes[centre].broker.connected.wait(), PATIENCE)
            await eventually(partial(self._answers, centre))

    async def _answers(self, centre: str) -> bool:
        try:
            return (await self.ask(centre, "GET", "/v1/codes")).status_code == 200
        except httpx2.TransportError:
            return False

    async def ask(self, centre: str, method: str, path: str, body: object = None, **params: str) -> httpx2.Response:
        """Ask a node's API as an operator."""
        headers = {"Authorization": f"Bearer {self.network.token(centre, 'operator')}"}
        url = f"http://{self[centre].centre.settings.api.listen}"
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
            return await client.request(method, path, json=body, params=params)

    async def request(self, centre: str, request: str) -> dict[str, Any]:
        """Return a request as a centre's API shows it."""
        answer = await self.ask(centre, "GET", f"/v1/requests/{request}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def peer(self, centre: str, request: str) -> dict[str, Any]:
        """Return the one clock of a request at a centre, without whose it is."""
        (found,) = (await self.request(centre, request))["peers"]
        return {key: value for key, value in found.items() if key != "centre"}

    async def asked(self, to: tuple[str, ...] = (OWNER,), **fields: Any) -> tuple[Stored, bytes]:
        """Ask a request, and wait until its clock runs at the asker."""
        raw = json.dumps({**json.loads((EXAMPLES / "request.minimal.json").read_bytes()), "to": to, **fields}).encode()
        stored = await self.submit(ASKER, raw)

        async def begun() -> bool:
            await self[ASKER].requests.look()
            return all(one["started_at"] for one in (await self.request(ASKER, stored.id))["peers"])

        await eventually(begun)
        return stored, raw

    async def reply(self, origin: str, stored: Stored, raw: bytes, outcome: str = "full", **fields: Any) -> Stored:
        """Answer a request, and wait until the asker has the answer."""
        reference = {"id": stored.id, "digest": hashlib.sha256(raw).hexdigest(), "relation": "answers"}
        body = json.loads((EXAMPLES / "reply.minimal.json").read_bytes())
        body |= {"references": [reference], "outcome": outcome, "to": [ASKER], **fields}
        answered = await self.submit(origin, json.dumps(body).encode())
        await self.reaches(origin, answered.id, ASKER, "accepted")
        return answered

    async def sent(self, centre: str, message_id: str) -> bytes:
        """Return the bytes of a message that a centre sent."""
        here = self[centre].centre
        found = await here.store.read(lambda connection: outgoing.message(connection, message_id))
        assert found is not None
        raw = content(here, found.resting, found.position)
        assert raw is not None
        return raw

    async def age(self, request: str, hours: float) -> None:
        """Let time pass for a request on both sides: its clocks began and end so much earlier."""
        by = int(hours * HOUR)
        values = {"started_at": CLOCK.c.started_at - by, "due_at": CLOCK.c.due_at - by}
        for centre in CENTRES:
            await self[centre].centre.store.write(
                lambda connection: connection.execute(update(CLOCK).where(CLOCK.c.request == request).values(**values))
            )

    async def steps(self, centre: str, step: str) -> list[dict[str, Any]]:
        """Return the leaves of a centre's record that tell of a step."""
        store = self[centre].centre.store
        leaves = await store.read(lambda connection: record.leaves(connection, store.epoch, 0, 100_000))
        return [leaf for leaf in map(json.loads, leaves) if leaf["step"] == step]


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """Run three centres of a network of four on a virtual host of their own."""
    nodes = Served(
        private_network(tmp_path_factory.mktemp("requests") / "network", broker, "requests", (*CENTRES, FOURTH)), broker
    )
    await nodes.start(*CENTRES)
    yield nodes
    await nodes.close()


async def test_both_sides_count_from_the_same_moment(live: Served) -> None:
    """The asker's clock begins with the time that the peer signed, which is the time at which the peer stored the request."""
    stored, _ = await live.asked()
    mine, theirs = await live.request(ASKER, stored.id), await live.request(OWNER, stored.id)
    assert (mine["side"], theirs["side"]) == ("asked", "received")
    assert (mine["peers"][0]["centre"], theirs["peers"][0]["centre"]) == (OWNER, ASKER)
    clock = await live.peer(ASKER, stored.id)
    assert clock == await live.peer(OWNER, stored.id)
    assert (clock["state"], clock["hours"], clock["overdue"], clock["reminders"]) == ("open", 168, False, [])
    begun, end = (datetime.fromisoformat(clock[name]) for name in ("started_at", "due_at"))
    assert end - begun == timedelta(hours=168)
    assert abs(begun - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(("urgency", "hours"), [("urgent-direct", 8), ("urgent-indirect", 72), ("normal", 168)])
async def test_the_urgency_decides_how_long_the_clock_is(live: Served, urgency: str, hours: int) -> None:
    """Eight hours, three days or seven days, as the code list says."""
    reason = {} if urgency == "normal" else {"urgency_reason": "The vessel sails tonight."}
    stored, _ = await live.asked((OWNER,), urgency=urgency, **reason)
    assert [(await live.peer(centre, stored.id))["hours"] for centre in (ASKER, OWNER)] == [hours, hours]


async def test_a_partial_answer_keeps_the_clock_running_and_a_full_one_stops_it(live: Served) -> None:
    """Both sides see partial, then full in time, and the ids of both answers."""
    stored, raw = await live.asked()
    first = await live.reply(OWNER, stored, raw, "partial", missing="The second delivery.")
    for centre in (ASKER, OWNER):
        found = await live.request(centre, stored.id)
        assert (found["open"], found["peers"][0]["state"], found["peers"][0]["answered_at"]) == (True, "partial", None)
    second = await live.reply(OWNER, stored, raw)
    for centre in (ASKER, OWNER):
        found = await live.request(centre, stored.id)
        assert (found["open"], found["peers"][0]["state"], found["peers"][0]["answered_late"]) == (False, "full", False)
        assert found["answers"] == [{"id": one.id, "centre": OWNER} for one in (first, second)]


async def test_what_is_answered_stays_answered(live: Served) -> None:
    """A refusal stops the clock on both sides; a full answer that comes later is an answer, and moves it no more."""
    stored, raw = await live.asked()
    await live.reply(OWNER, stored, raw, "refusal", ground="minor-offence")
    before = [await live.peer(centre, stored.id) for centre in (ASKER, OWNER)]
    assert [one["state"] for one in before] == ["refusal", "refusal"]
    await live.reply(OWNER, stored, raw)
    assert [await live.peer(centre, stored.id) for centre in (ASKER, OWNER)] == before
    assert len((await live.request(ASKER, stored.id))["answers"]) == 2


async def test_a_question_back_leaves_the_clock_as_it_is(live: Served) -> None:
    """A clarification is seen by both sides, and the answer is due as before."""
    stored, raw = await live.asked()
    before = (await live.peer(ASKER, stored.id))["due_at"]
    await live.reply(OWNER, stored, raw, "clarification", questions=["Which of the two drums?"])
    for centre in (ASKER, OWNER):
        found = await live.peer(centre, stored.id)
        assert (found["state"], found["due_at"]) == ("clarification", before)


async def test_a_delay_moves_the_end_on_both_sides_and_the_reminders_with_it(live: Served) -> None:
    """After a delay the answer is due at its date and reminders count anew; what of the longer clock is over is not told anew."""
    stored, raw = await live.asked()
    await live.age(stored.id, 160)  # 95 % of 168 hours
    for centre in (ASKER, OWNER):
        await live[centre].requests.look()
        assert (await live.peer(centre, stored.id))["reminders"] == [50, 90]
    new = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=100)
    await live.reply(OWNER, stored, raw, "delay", answered_at=datetime.now(UTC).isoformat(), new_date=new.isoformat())
    for centre in (ASKER, OWNER):
        found = await live.peer(centre, stored.id)
        assert (found["state"], datetime.fromisoformat(found["due_at"])) == ("delay", new)
        assert found["reminders"] == [50]  # 160 of 260 hours are over
    await live.age(stored.id, 90)  # 96 %
    for centre in (ASKER, OWNER):
        await live[centre].requests.look()
        found = await live.peer(centre, stored.id)
        assert (found["reminders"], found["overdue"]) == ([50, 90], False)


async def test_a_late_answer_is_overdue_on_both_sides_until_it_comes_and_late_after(live: Served) -> None:
    """Each side is reminded of 50 %, 90 % and the end, once each, in its record; the listing and a gauge show what is overdue."""
    stored, raw = await live.asked()
    sides = ((ASKER, "asked"), (OWNER, "received"))
    before = {centre: len(await live.steps(centre, "request-reminded")) for centre, _ in sides}
    await live.age(stored.id, 169)
    for centre, side in sides:
        for _ in range(2):
            await live[centre].requests.look()
        leaves = (await live.steps(centre, "request-reminded"))[before[centre] :]
        assert [leaf["code"] for leaf in leaves] == ["50", "90", "overdue"]
        assert all(leaf["count"] == 1 and leaf["peer"] in (ASKER, OWNER) for leaf in leaves)
        assert f'relay_requests_overdue{{side="{side}"}} 1.0' in live[centre].centre.metrics.text().decode()
        listed = (await live.ask(centre, "GET", "/v1/requests", state="overdue", side=side)).json()["requests"]
        assert [one["id"] for one in listed] == [stored.id]
        assert (await live.request(centre, stored.id))["overdue"] is True
    await live.reply(OWNER, stored, raw)
    for centre, _ in sides:
        found = await live.request(centre, stored.id)
        assert (found["overdue"], found["peers"][0]["answered_late"]) == (False, True)
        assert (await live.ask(centre, "GET", "/v1/requests", state="overdue")).json() == {"requests": [], "next": None}


async def test_each_reminder_is_counted(live: Served) -> None:
    """A centre that is reminded of half a clock counts it, by side and step."""
    name = 'relay_request_reminders_total{side="received",step="50"}'

    def counted() -> float:
        lines = live[OWNER].centre.metrics.text().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = counted()
    stored, _ = await live.asked()
    await live.age(stored.id, 84)
    await live[OWNER].requests.look()
    await eventually(lambda: counted() == before + 1)


async def test_a_reply_of_a_centre_that_was_not_asked_changes_nothing(live: Served) -> None:
    """A stranger's full answer leaves the clock of who was asked open, and is not listed; nor does one to an unknown request."""
    stored, raw = await live.asked()
    before = await live.request(ASKER, stored.id)
    await live.reply(THIRD, stored, raw)
    await live.reply(OWNER, Stored("00000000-0000-7000-8000-000000000000", ()), raw)
    assert await live.request(ASKER, stored.id) == before


async def test_each_centre_that_was_asked_has_a_clock_of_its_own(live: Served) -> None:
    """One of two answers: the request stays open for the other, and is answered when both have."""
    stored, raw = await live.asked((OWNER, THIRD))
    await live.reply(OWNER, stored, raw)
    found = await live.request(ASKER, stored.id)
    assert (found["open"], [one["state"] for one in found["peers"]]) == (True, ["full", "open"])
    for state in ("open", "answered"):
        listed = (await live.ask(ASKER, "GET", "/v1/requests", state=state)).json()["requests"]
        assert (stored.id in [one["id"] for one in listed]) is (state == "open")
    await live.reply(THIRD, stored, raw, "refusal", ground="not-available")
    listed = (await live.ask(ASKER, "GET", "/v1/requests", state="answered", limit="1")).json()
    assert [one["id"] for one in listed["requests"]] == [stored.id]
    following = (await live.ask(ASKER, "GET", "/v1/requests", state="answered", before=stored.id)).json()["requests"]
    assert stored.id not in [one["id"] for one in following]


async def test_a_request_that_is_taken_back_is_awaited_by_nobody(live: Served) -> None:
    """A cancel by its origin stops the clock on both sides; a reply that comes after moves it no more."""
    stored, raw = await live.asked()
    body = json.loads((EXAMPLES / "cancel.minimal.json").read_bytes())
    body["references"] = [{"id": stored.id, "digest": hashlib.sha256(raw).hexdigest(), "relation": "cancels"}]
    cancelled = await live.submit(ASKER, json.dumps(body).encode())
    await live.reaches(ASKER, cancelled.id, OWNER, "accepted")
    await live.reply(OWNER, stored, raw)
    for centre in (ASKER, OWNER):
        found = await live.request(centre, stored.id)
        assert (found["open"], found["peers"][0]["state"], found["peers"][0]["answered_at"]) == (False, "cancelled", None)


async def test_an_answer_to_a_newer_version_answers_the_request(live: Served) -> None:
    """A reply that refers to the update of a request stops the request's clock, which the update left running."""
    stored, raw = await live.asked()
    changed = {**json.loads(raw), "reason": "To find the laboratory and its owner."}
    outer = json.loads((EXAMPLES / "update.minimal.json").read_bytes())
    outer |= {key: changed[key] for key in ("crime_types", "countries", "tlp", "purpose", "nominal", "to")}
    outer["references"] = [{"id": stored.id, "digest": hashlib.sha256(raw).hexdigest(), "relation": "updates"}]
    newer = json.dumps({**outer, "message": changed}).encode()
    second = await live.submit(ASKER, newer)
    await live.reaches(ASKER, second.id, OWNER, "accepted")
    assert (await live.peer(OWNER, stored.id))["state"] == "open"
    answered = await live.reply(OWNER, second, newer)
    for centre in (ASKER, OWNER):
        found = await live.request(centre, stored.id)
        assert (found["peers"][0]["state"], [one["id"] for one in found["answers"]]) == ("full", [answered.id])


async def test_a_request_that_expires_before_the_peer_s_system_takes_it_stops(live: Served) -> None:
    """Nobody will answer what was never given out: both sides see `rejected`."""
    while await live.take(OWNER, wait=0):
        pass
    stored, _ = await live.asked()

    def expire(connection: Connection) -> None:
        connection.execute(update(INBOX_MESSAGE).where(INBOX_MESSAGE.c.id == stored.id).values(deadline=1))

    await live[OWNER].centre.store.write(expire)
    assert await live.take(OWNER, wait=0) == []
    await live.reaches(ASKER, stored.id, OWNER, "rejected")
    for centre in (ASKER, OWNER):
        await live[centre].requests.look()
        found = await live.request(centre, stored.id)
        assert (found["open"], found["peers"][0]["state"]) == (False, "rejected")


async def relay(*arguments: str) -> str:
    """Run a command that ends with 0 and return what it printed."""
    piped = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "relay", *arguments, stdout=piped, stderr=piped)
    try:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err
    return out.decode()


async def owned(live: Served, **fields: Any) -> tuple[Stored, bytes]:
    """Send a message of the owner to the asker, whose system takes it."""
    raw = message(**{"to": [ASKER], "tlp": "GREEN", **fields})
    stored = await live.submit(OWNER, raw)
    await eventually(lambda: took(live, ASKER, stored.id))
    return stored, raw


async def took(live: Served, centre: str, message_id: str) -> bool:
    """Let a centre's system take what waits; return whether this message was among it."""
    return message_id in [one.id for one in await live.take(centre, 1)]


def onward(stored: Stored, raw: bytes, **fields: Any) -> bytes:
    """Return the release of a message of the owner to the third centre."""
    reference = {"id": stored.id, "digest": hashlib.sha256(raw).hexdigest(), "relation": "releases"}
    return message(**{"to": [THIRD], "tlp": "GREEN", "handling": "H2", "references": [reference], **fields})


async def release(live: Served, stored: Stored, raw: bytes, **fields: Any) -> object:
    """Try to release a message of the owner to the third centre; return what becomes of it."""
    release = onward(stored, raw, **fields)
    return (await live[ASKER].outbox.submit([Submission(release, parse(release))]))[0]


async def test_a_message_marked_h2_is_released_when_its_origin_permits_it(live: Served) -> None:
    """Refused, asked by a command, permitted by a command, released, received; the record of both sides tells all of it."""
    stored, raw = await owned(live, handling="H2")
    assert getattr(await release(live, stored, raw), "code", None) == "release-needs-permission"

    asker, owner = (("--config", str(live.network.node_file(centre))) for centre in (ASKER, OWNER))
    why = "The third centre watches the same yard."
    said = await relay("message", "ask-release", stored.id, "--to", THIRD, "--reason", why, *asker)
    question, to = said.split()
    assert to == OWNER
    await eventually(lambda: took(live, OWNER, question))
    assert question in await relay("request", "list", "--side", "received", *owner)
    assert getattr(await release(live, stored, raw), "code", None) == "release-needs-permission"

    granted = "The yard is no secret."
    answer = (await relay("request", "answer", question, "--grant", "--reason", granted, *owner)).split()[0]
    await eventually(lambda: took(live, ASKER, answer))
    shown = json.loads(await relay("request", "show", question, "--json", *asker))
    assert (shown["peers"][0]["state"], shown["answers"]) == ("full", [{"id": answer, "centre": OWNER}])

    released = await release(live, stored, raw)
    assert isinstance(released, Stored), released
    await eventually(lambda: took(live, THIRD, released.id))

    (asked,) = [leaf for leaf in await live.steps(ASKER, "release-asked") if leaf["why"] == why]
    assert (asked["actor"], asked["peer"], asked["count"]) == ("operator", OWNER, 1)
    (decided,) = [leaf for leaf in await live.steps(OWNER, "release-answered") if leaf["why"] == granted]
    assert (decided["actor"], decided["peer"], decided["code"]) == ("operator", ASKER, "full")
    for leaf, centre, peer in ((asked, ASKER, OWNER), (decided, OWNER, ASKER)):
        commitments = leaf["commitments"]
        assert commitments in [one["commitments"] for one in await live.steps(centre, "submitted")]
        assert commitments in [one["commitments"] for one in await live.steps(peer, "taken")]
    assert await live.steps(ASKER, "released")


async def test_a_release_that_its_origin_denies_stays_refused(live: Served) -> None:
    """A refusal with its ground is an answer, no permission; it is final, and a permission for another message is none."""
    stored, raw = await owned(live, handling="H2", case_number="REQ-DENY-1")
    body = {"to": [THIRD], "reason": "It may help.", "urgency": "urgent-direct"}
    asked = await live.ask(ASKER, "POST", f"/v1/messages/{stored.id}/ask-release", body)
    assert asked.status_code == 202, asked.text
    question = asked.json()["id"]
    await eventually(lambda: took(live, OWNER, question))
    assert (await live.peer(OWNER, question))["hours"] == 8
    denied = {"outcome": "refusal", "ground": "investigation", "text": "It would warn the buyer."}
    done = await live.ask(OWNER, "POST", f"/v1/requests/{question}/answer", denied)
    assert done.status_code == 202, done.text
    await eventually(lambda: took(live, ASKER, done.json()["id"]))
    assert (await live.peer(ASKER, question))["state"] == "refusal"
    assert getattr(await release(live, stored, raw), "code", None) == "release-needs-permission"
    again = await live.ask(OWNER, "POST", f"/v1/requests/{question}/answer", {"outcome": "full", "text": "Well, yes."})
    assert (again.status_code, again.json()["code"]) == (409, "request-stopped")


LOOSER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "/tlp": ({}, {"tlp": "CLEAR"}),
    "/handling": ({"handling": "H1"}, {"handling": "H0"}),
    "/handling_text": (
        {"handling": "H3", "handling_text": "Not in court."},
        {"handling": "H3", "handling_text": "As you like."},
    ),
    "/classification": ({"classification": "restricted"}, {"classification": "unclassified"}),
    "/exclude": ({"exclude": ["BE"]}, {}),
    "/status": ({"status": "exercise"}, {}),
}


@pytest.mark.parametrize("mark", LOOSER)
async def test_a_release_is_guarded_no_less_than_what_it_passes_on(live: Served, mark: str) -> None:
    """A wider TLP mark, a lost handling code or its words, a lower classification, a forgotten exclusion, another status."""
    marked, loosened = LOOSER[mark]
    stored, raw = await owned(live, **marked)
    refused = await release(live, stored, raw, **{"handling": "H0", **loosened})
    assert isinstance(refused, Refused)
    assert [(one.pointer, one.code) for one in refused.problems] == [(mark, "contradiction")]
    kept = await release(live, stored, raw, **{"handling": "H0", **marked})
    assert isinstance(kept, Stored), kept


async def test_a_permission_holds_for_its_centres_in_every_version_until_it_is_refused(live: Served) -> None:
    """A new version of a release to a further centre, a release in an update, and one after a refusal are all refused."""
    stored, raw = await owned(live, handling="H2", case_number="REQ-VERSIONS-1")
    body = {"to": [THIRD], "reason": "It may help."}
    question = (await live.ask(ASKER, "POST", f"/v1/messages/{stored.id}/ask-release", body)).json()["id"]
    await eventually(lambda: took(live, OWNER, question))
    answered = await live.ask(OWNER, "POST", f"/v1/requests/{question}/answer", {"outcome": "full", "text": "Yes."})
    await eventually(lambda: took(live, ASKER, answered.json()["id"]))
    released = await release(live, stored, raw)
    assert isinstance(released, Stored), released
    first = onward(stored, raw)

    def newer(**fields: Any) -> bytes:
        inner = {**json.loads(message(to=[THIRD], tlp="GREEN", handling="H2")), **fields}
        outer = json.loads((EXAMPLES / "update.minimal.json").read_bytes())
        outer |= {key: inner[key] for key in ("crime_types", "countries", "tlp", "purpose", "nominal", "handling", "to")}
        outer["references"] = [{"id": released.id, "digest": hashlib.sha256(first).hexdigest(), "relation": "updates"}]
        return json.dumps({**outer, "message": inner}).encode()

    async def submitted(raw: bytes) -> object:
        return (await live[ASKER].outbox.submit([Submission(raw, parse(raw))]))[0]

    for fields, code in (({"to": [THIRD, FOURTH]}, "release-needs-permission"), ({"handling": "H0"}, "contradiction")):
        assert getattr(await submitted(newer(**fields)), "code", None) == code
    within = json.loads(newer())
    within["references"].append({"id": stored.id, "digest": hashlib.sha256(raw).hexdigest(), "relation": "releases"})
    assert getattr(await submitted(json.dumps(within).encode()), "code", None) == "contradiction"
    assert isinstance(await submitted(newer()), Stored)

    asked = await live.sent(ASKER, question)
    refusal = await live.reply(OWNER, Stored(question, ()), asked, "refusal", ground="investigation")
    await eventually(lambda: took(live, ASKER, refusal.id))
    assert getattr(await release(live, stored, raw), "code", None) == "release-needs-permission"


UNKNOWN = "00000000-0000-7000-8000-000000000000"


async def test_what_can_t_be_asked_or_answered_is_refused_with_its_reason(live: Served) -> None:
    """Unknown ids, centres that are none, marks that no permission lifts, requests about something else, bodies of no form."""
    amber, _ = await owned(live, handling="H2", tlp="AMBER")
    green, _ = await owned(live, handling="H2")
    stored, _ = await live.asked()
    ask = {"to": [THIRD], "reason": "It may help."}
    answer = {"outcome": "full", "text": "Yes."}
    cases = [
        (ASKER, f"/v1/messages/{UNKNOWN}/ask-release", ask, 404, "unknown-reference"),
        (ASKER, f"/v1/messages/{amber.id}/ask-release", ask, 403, "release-forbidden"),
        (ASKER, f"/v1/messages/{green.id}/ask-release", {**ask, "to": [OWNER]}, 422, "unknown-recipient"),
        (ASKER, f"/v1/messages/{green.id}/ask-release", {**ask, "to": []}, 422, "bad-request"),
        (ASKER, f"/v1/messages/{green.id}/ask-release", {**ask, "urgency": "soon"}, 422, "not-in-list"),
        (OWNER, f"/v1/requests/{UNKNOWN}/answer", answer, 404, "unknown-request"),
        (ASKER, f"/v1/requests/{stored.id}/answer", answer, 404, "unknown-request"),
        (OWNER, f"/v1/requests/{stored.id}/answer", answer, 422, "not-a-release-question"),
        (OWNER, f"/v1/requests/{stored.id}/answer", {"outcome": "perhaps", "text": "?"}, 422, "bad-request"),
    ]
    for centre, path, body, status, code in cases:
        refused = await live.ask(centre, "POST", path, body)
        assert (refused.status_code, refused.json()["code"]) == (status, code), (path, refused.text)
    assert (await live.ask(ASKER, "GET", f"/v1/requests/{UNKNOWN}")).json()["code"] == "unknown-request"
    assert (await live.ask(ASKER, "GET", "/v1/requests", state="lost")).status_code == 422


@pytest.mark.parametrize("words", [(), ("--grant", "--deny"), ("--deny",)])
def test_a_decision_says_one_thing_and_a_refusal_its_ground(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """The command asks no node before it knows whether to permit or to deny, and why."""
    assert cli.run(["request", "answer", UNKNOWN, "--reason", "Because.", *words]) == 64
    assert "--deny" in capsys.readouterr().err
