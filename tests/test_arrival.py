"""What becomes of a message after it arrived: put off, refused, parked, given up, released, discarded; and what that holds up."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from relay import cli, messages, points, retention, topology
from relay.api import Api
from relay.directory import Directory
from relay.envelope import new_id
from relay.errors import Conflict, NotFound, StoreTrouble
from relay.handover import No
from relay.log import Event
from relay.node import Node
from relay.points import Point
from relay.policy import Judge
from relay.rabbit import PrivateBroker
from relay.receipts import Statement, Void, write
from relay.received import Act
from relay.seal import Addressee, Draft
from relay.store import Connection, aside, closing, handing, incoming, outgoing, record
from relay.store.aside import Received
from relay.store.tables import INBOX_MESSAGE
from relay.submissions import Stored, Submission
from tests.live import LANE, PATIENCE, Live, eventually, message, private_network, set_clock
from tests.test_recall import cancel
from tests.test_recall import update as renew

A, B, C = CENTRES = ("ARRA", "ARRB", "ARRC")
UNKNOWN = "00000000-0000-7000-8000-000000000000"
WORDS = "system: the archive of case 4711 is closed"


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run two of three centres that wait less than usual; a message may be put off three times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_REPAIR__GAP", "0.3")
        patch.setenv("RELAY_HANDOVER__ATTEMPTS", "3")
        patch.setattr(retention, "FIRST_SECONDS", 3600)  # what a test says is due is for that test to purge
        nodes = Live(private_network(tmp_path_factory.mktemp("arrival") / "network", broker, "arrival", CENTRES), broker)
        await nodes.start(A, B)
        yield nodes
        await nodes.close()


@pytest.fixture(autouse=True)
async def quiet(live: Live) -> AsyncIterator[None]:
    """Let both run, and leave no message waiting for the next test."""
    await live.restore(A, B)
    yield
    await live.restore(A, B)
    while await live.take(B, wait=0):
        pass


@pytest.fixture
async def api(live: Live) -> AsyncIterator[dict[str, httpx2.AsyncClient]]:
    """Serve B's API, and ask it as its system and as its operator."""
    served, node = Api(), live[B]
    task = asyncio.create_task(served.run(node), name="api")
    url = f"http://{node.centre.settings.api.listen}"
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        for role in ("system", "operator"):
            headers = {"Authorization": f"Bearer {live.network.token(B, role)}"}
            made = httpx2.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False)
            clients[role] = await stack.enter_async_context(made)

        async def answers() -> bool:
            with contextlib.suppress(httpx2.TransportError):
                return (await clients["system"].get("/v1/codes")).status_code == 200
            return False

        await eventually(answers, 60)
        yield clients
    await served.stop()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def given(live: Live, number: str, **fields: Any) -> tuple[Stored, bytes]:
    """Submit a message of A to B and have it given out to B's system, unacknowledged."""
    raw = message(**{"to": [B], "case_number": number, **fields})
    stored = await live.submit(A, raw)

    async def out() -> bool:
        return stored.id in [one.id for one in await live[B].handover.take(100, 1)]

    await eventually(out)
    return stored, raw


async def stands(live: Live, message_id: str) -> Received:
    """Return where a message stands at B."""
    return await live[B].received.find(message_id)


async def taken(live: Live, wait: float = 0) -> list[str]:
    """Return the ids that B's system is given now, without acknowledging them."""
    return [one.id for one in await live[B].handover.take(1000, wait)]


async def steps(node: Node) -> list[dict[str, Any]]:
    """Return the audit record of a node's epoch."""
    epoch = node.centre.store.epoch
    leaves = await node.centre.store.read(lambda connection: record.leaves(connection, epoch, 0, 10_000))
    return [json.loads(leaf) for leaf in leaves]


async def code(live: Live, message_id: str) -> str | None:
    """Return the code of the last state of a message at B, as its origin knows it."""
    sent = await live[A].centre.store.read(lambda connection: outgoing.message(connection, message_id))
    assert sent is not None
    return next((step.code for step in sent.recipients[B] if step.state == "rejected"), None)


async def change(live: Live, message_id: str, **values: Any) -> None:
    """Change columns of a message at B, as time would."""
    statement = update(INBOX_MESSAGE).where(INBOX_MESSAGE.c.id == message_id).values(**values)
    await live[B].centre.store.write(lambda connection: connection.execute(statement))


async def test_a_message_that_is_put_off_comes_again_when_it_was_asked_for(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not given out before its time, holds up no other, and wakes a system that waits for messages when its time comes."""
    stored, _ = await given(live, "ARR-1")
    done = await live[B].handover.refuse(No(stored.id, "archive-closed", WORDS, 3600))
    assert (done.state, done.attempts) == ("deferred", 1)
    other, _ = await given(live, "ARR-2")
    assert stored.id not in await taken(live)
    await live[B].handover.acknowledge([other.id])
    set_clock(monkeypatch, B, 3599)  # a second is left, or none: however long all this took, it was not due before
    assert await taken(live, wait=PATIENCE) == [stored.id]
    await live[B].handover.acknowledge([stored.id])
    await live.reaches(A, stored.id, B, "delivered")


async def test_what_is_put_off_survives_a_restart(live: Live) -> None:
    """A node that starts again finds its deferred messages, and gives them out in time."""
    stored, _ = await given(live, "ARR-3")
    await live[B].handover.refuse(No(stored.id, "later", None, 1))
    await live.stop(B)
    await live.start(B)
    assert await taken(live, wait=PATIENCE) == [stored.id]


async def test_a_refusal_for_good_is_told_to_the_origin_with_its_code_and_no_words(live: Live) -> None:
    """The origin sees `rejected` and the system's code; the words rest sealed, and doing it again changes nothing."""
    stored, _ = await given(live, "ARR-4")
    before = len(await steps(live[B]))
    for _ in range(2):
        done = await live[B].handover.refuse(No(stored.id, "unknown-case", WORDS))
        assert (done.state, done.code) == ("rejected", "unknown-case")
    await live.reaches(A, stored.id, B, "rejected")
    assert await code(live, stored.id) == "unknown-case"
    found = await stands(live, stored.id)
    assert live[B].received.reason(found) == WORDS
    assert found.reason is not None
    assert WORDS.encode() not in found.reason
    leaves = [one for one in (await steps(live[B]))[before:] if one["step"] == "rejected-by-system"]
    assert [(one["code"], one["count"]) for one in leaves] == [("unknown-case", 1)]
    assert "why" not in leaves[0]
    assert (await live[B].handover.acknowledge([stored.id])).unknown == (stored.id,)


async def test_a_message_that_was_put_off_too_often_is_dead_until_an_operator_replays_it(live: Live) -> None:
    """At the third time nobody tries again by itself; a replay begins anew, and the system's late word counts as well."""
    stored, _ = await given(live, "ARR-5")
    for attempt in (1, 2, 3):
        done = await live[B].handover.refuse(No(stored.id, "busy", None, 1))
        assert (done.state, done.attempts) == ("dead" if attempt == 3 else "deferred", attempt)
        if attempt < 3:
            assert await taken(live, wait=PATIENCE) == [stored.id]
    assert (await live[B].handover.refuse(No(stored.id, "busy", None, 1))).state == "dead"
    assert [one.id for one in await live[B].received.listed("dead", None, 10)] == [stored.id]
    replayed = await live[B].received.replay(Act(stored.id, "operator", "the archive is open again"))
    assert (replayed.state, replayed.attempts) == ("handed", 0)
    assert await taken(live) == [stored.id]
    await live[B].handover.refuse(No(stored.id, "busy", None, 60))
    assert (await live[B].handover.acknowledge([stored.id])).delivered == 1
    await live.reaches(A, stored.id, B, "delivered")


@pytest.mark.parametrize("when", ["asked", "meanwhile"])
async def test_a_message_that_is_put_off_beyond_its_deadline_is_dead(live: Live, when: str) -> None:
    """Its deadline was kept when it was first given out; nobody tries by itself after it, and an operator may overrule it."""
    stored, _ = await given(live, f"ARR-6-{when}")
    if when == "asked":
        await change(live, stored.id, deadline=live[B].centre.now() + 5_000)
        assert (await live[B].handover.refuse(No(stored.id, "busy", None, 60))).state == "dead"
    else:
        assert (await live[B].handover.refuse(No(stored.id, "busy", None, 1))).state == "deferred"
        await change(live, stored.id, deadline=1)
        assert await taken(live, wait=2) == []
    assert (await stands(live, stored.id)).state == "dead"
    await live[B].received.replay(Act(stored.id, "operator", "still wanted"))
    assert await taken(live) == [stored.id]
    assert (await live[B].handover.refuse(No(stored.id, "busy", None, 60))).state == "deferred"
    await live[B].handover.acknowledge([stored.id])


async def test_what_can_not_be_refused_says_why(live: Live) -> None:
    """Neither an unknown id, nor a message that was never given out, nor one that the system has."""
    stored = await live.submit(A, message(to=[B], case_number="ARR-7"))
    await live.reaches(A, stored.id, B, "accepted")
    for one in (UNKNOWN, stored.id):
        with pytest.raises(NotFound) as never:
            await live[B].handover.refuse(No(one, "no"))
        assert never.value.code == "not-given-out"
    await live.take(B)
    with pytest.raises(Conflict) as settled:
        await live[B].handover.refuse(No(stored.id, "no"))
    assert settled.value.code == "already-delivered"


async def test_a_held_message_is_not_given_out_until_it_is_released(live: Live) -> None:
    """Whether it was given out before or not; each act stands in the record with who and why."""
    before, _ = await given(live, "ARR-8")
    after = await live.submit(A, message(to=[B], case_number="ARR-9"))
    await live.reaches(A, after.id, B, "accepted")
    count = len(await steps(live[B]))
    for one in (before, after):
        assert (await live[B].received.hold(Act(one.id, "operator", "ask legal"))).state == "held"
    assert await taken(live, wait=0.3) == []
    assert [live[B].received.reason(one) for one in await live[B].received.listed("held", None, 10)] == ["ask legal"] * 2
    assert (await live[B].handover.acknowledge([after.id])).unknown == (after.id,)
    assert (await live[B].received.release(Act(before.id, "operator", "cleared"))).state == "handed"
    assert (await live[B].received.release(Act(after.id, "operator", "cleared"))).state == "waiting"
    assert await taken(live) == [before.id, after.id]
    said = [(one["step"], one["actor"], one["why"]) for one in (await steps(live[B]))[count:] if "actor" in one]
    assert said == [("held", "operator", "ask legal")] * 2 + [("unheld", "operator", "cleared")] * 2


@pytest.mark.parametrize("state", ["waiting", "handed", "deferred", "held", "dead"])
async def test_a_discarded_message_ends_as_rejected_and_leaves_no_content(live: Live, state: str) -> None:
    """From every open state: the origin learns it, the content is purged, the row and its header stay."""
    stored = await put(live, f"ARR-10-{state}", state)
    done = await live[B].received.discard(Act(stored.id, "operator", "sent by mistake"))
    assert (done.state, done.code) == ("rejected", "discarded")
    assert done.purged_at is not None
    await live.reaches(A, stored.id, B, "rejected")
    assert await code(live, stored.id) == "discarded"
    assert stored.id not in await taken(live)
    with pytest.raises(Conflict) as over:
        await live[B].received.discard(Act(stored.id, "operator", "again"))
    assert over.value.code == "wrong-state"


async def put(live: Live, number: str, state: str) -> Stored:
    """Submit a message of A and bring it to a state at B."""
    if state == "waiting":
        stored = await live.submit(A, message(to=[B], case_number=number))
        await live.reaches(A, stored.id, B, "accepted")
        return stored
    stored, _ = await given(live, number)
    if state in ("deferred", "dead"):
        await live[B].handover.refuse(No(stored.id, "busy", WORDS, 3600))
    if state == "dead":
        await change(live, stored.id, state="dead", retry_at=None)
    if state == "held":
        await live[B].received.hold(Act(stored.id, "operator", "ask legal"))
    assert (await stands(live, stored.id)).state == state
    return stored


async def test_a_message_under_legal_hold_is_not_discarded(live: Live) -> None:
    """An order to keep it is stronger than an operator's wish."""
    stored = await put(live, "ARR-11", "held")
    await live[B].retention.hold(stored.id, "order 17", "operator")
    with pytest.raises(Conflict) as kept:
        await live[B].received.discard(Act(stored.id, "operator", "no"))
    assert kept.value.code == "under-legal-hold"
    await live[B].retention.lift(stored.id, "over", "operator")
    await live[B].received.discard(Act(stored.id, "operator", "no"))


@pytest.mark.parametrize("state", ["deferred", "held", "dead"])
async def test_a_recall_buries_what_is_set_aside(live: Live, state: str) -> None:
    """A cancel ends a deferred, held or dead message as recalled and purges it, words and all."""
    raw = message(to=[B], case_number=f"ARR-12-{state}")
    stored = await live.submit(A, raw)
    await eventually(lambda: is_out(live, stored.id))
    if state == "held":
        await live[B].received.hold(Act(stored.id, "operator", "ask legal"))
    else:
        await live[B].handover.refuse(No(stored.id, "busy", WORDS, 3600))
        await change(live, stored.id, state=state)
    await live.submit(A, cancel(stored, raw))
    await live.reaches(A, stored.id, B, "rejected")
    assert await code(live, stored.id) == "recalled"
    found = await stands(live, stored.id)
    assert (found.state, found.reason, found.purged_at is not None) == ("rejected", None, True)


async def is_out(live: Live, message_id: str) -> bool:
    """Return whether B's system is given a message."""
    return message_id in await taken(live, wait=1)


@pytest.mark.parametrize("state", ["deferred", "held", "dead"])
async def test_retention_ends_what_is_set_aside(live: Live, state: str) -> None:
    """A message whose time is up is rejected as expired first, wherever it stood, and purged."""
    stored = await put(live, f"ARR-13-{state}", state)
    await change(live, stored.id, purge_at=1)
    assert [(one.state, one.why) for one in (await live[B].retention.purge()).listed] == [(state, "expired")]
    await live.reaches(A, stored.id, B, "rejected")
    assert await code(live, stored.id) == "expired"


@contextlib.contextmanager
def narrow(live: Live) -> Iterator[None]:
    """Let B see a directory, for the length of a block, in which A may publish nothing but alerts."""
    centre = live[B].centre
    register = json.loads(centre.directory.model_dump_json())
    member = next(one for one in register["members"] if one["id"] == A)
    member["publish"] = [{"crime_types": ["drugs"], "regions": ["001"], "kinds": ["alert"]}]
    whole, centre.judge = centre.judge, Judge(Directory.model_validate(register), B)
    try:
        yield
    finally:
        centre.judge = whole


async def narrowed(live: Live, **fields: Any) -> tuple[Stored, bytes]:
    """Submit a message of A that B refuses by policy."""
    raw = message(**{"to": [B], **fields})
    with narrow(live):
        stored = await live.submit(A, raw)
        await live.reaches(A, stored.id, B, "rejected")
    return stored, raw


async def test_an_operator_overrules_a_refusal_by_policy(live: Live) -> None:
    """The message goes to the system after all, can be found and recalled like any other, and the origin's rejection stands."""
    stored, raw = await narrowed(live, case_number="ARR-14")
    assert await code(live, stored.id) == "sender-not-entitled"
    assert (await stands(live, stored.id)).state == "quarantined"
    await change(live, stored.id, deadline=1)
    released = await live[B].received.release(Act(stored.id, "operator", "agreed by telephone"))
    assert (released.state, released.code, released.deadline) == ("waiting", None, 0)
    (one,) = await live.take(B)
    assert (one.id, one.raw) == (stored.id, raw)
    leaf = next(one for one in reversed(await steps(live[B])) if one["step"] == "overruled")
    assert (leaf["code"], leaf["actor"], leaf["why"]) == ("sender-not-entitled", "operator", "agreed by telephone")
    assert "rejected" in await live.states(A, stored.id, B)


async def test_a_refused_update_is_carried_out_when_it_is_released(live: Live) -> None:
    """A release that overrules the refusal of an update buries what the update takes back, and says so to its origin."""
    first, raw = await given(live, "ARR-15")
    with narrow(live):
        changed = await live.submit(A, renew(first, raw, case_number="ARR-15-2"))
        await live.reaches(A, changed.id, B, "rejected")
    assert (await stands(live, first.id)).state == "handed"
    await live[B].received.release(Act(changed.id, "operator", "agreed by telephone"))
    found = await stands(live, first.id)
    assert (found.state, found.purged_at is not None) == ("withdrawn", True)
    assert [one.id for one in await live.take(B)] == [changed.id]
    await live.reaches(A, first.id, B, "rejected")
    await live.reaches(A, changed.id, B, "purged")


async def test_what_was_taken_back_meanwhile_can_not_be_released(live: Live) -> None:
    """A refused update whose message was cancelled since stays where it is; it can only be discarded."""
    first, raw = await given(live, "ARR-21")
    with narrow(live):
        changed = await live.submit(A, renew(first, raw, case_number="ARR-21-2"))
        await live.reaches(A, changed.id, B, "rejected")
    last = await live.submit(A, cancel(first, raw))
    await live.reaches(A, last.id, B, "accepted")
    with pytest.raises(Conflict) as gone:
        await live[B].received.release(Act(changed.id, "operator", "too late"))
    assert gone.value.code in ("taken-back", "already-purged")
    await live[B].received.discard(Act(changed.id, "operator", "taken back"))


def void(live: Live, first: int, commitments: list[str], state: str = "expired", epoch: int = 1) -> bytes:
    """Return A's signed word to B about sequences of its epoch 1, as its node would seal it."""
    centre = live[A].centre
    said = Statement(
        epoch=epoch, lane=LANE, first=first, commitments=tuple(commitments), state=state, time=centre.now(), code=None
    )
    body = write(Void(statements=(said,)))
    to = [Addressee(B, centre.sealing_key(B), next(_NUMBERS))]
    drafts = [Draft(new_id(A), body)]
    made = {"epoch": 1, "directory": centre.directory.version, "now": centre.now()}
    return centre.sealer.seal("void", topology.CONTROL, drafts, to, **made).raw


_NUMBERS = itertools.count(1)


async def closed(live: Live, sequence: int) -> bool:
    """Return whether B waits for nothing any more under a sequence of A's epoch 1."""
    held = await live[B].centre.store.read(lambda connection: closing.held(connection, A, 1, LANE))
    return any(first <= sequence <= last for first, last in held)


async def test_a_void_closes_what_is_not_here_and_leaves_what_is(live: Live) -> None:
    """What its origin won't send is no gap; it is in the record once, however often it is said; what is held is given out."""
    lost, here = live.seal(A, [B], [message(), message()]), live.seal(A, [B], [message(case_number="ARR-22")])
    await live.inject(A, B, here.raw)
    await eventually(lambda: is_out(live, here.envelope.core.messages[0].id))
    core, count = lost.envelope.core, len(await steps(live[B]))
    first = core.to[0].first
    said = [item.commitment for item in core.messages]
    kept = here.envelope.core
    unknown = void(live, first + 40, said, "vanished")
    for raw in (
        unknown,
        void(live, first, said),
        void(live, first, said, "cancelled"),
        void(live, kept.to[0].first, [kept.messages[0].commitment]),
    ):
        await live.inject(A, B, raw, topology.CONTROL)
    await eventually(lambda: closed(live, first + 1))
    assert not await closed(live, first + 40)
    forks = live[B].centre.metrics.forks.labels(A)._value.get()
    await live.inject(A, B, lost.raw)
    late = core.messages[0].id
    await eventually(lambda: is_over(live, late))
    found = await stands(live, late)
    assert (found.state, found.code, found.purged_at is not None) == ("rejected", "void", True)
    assert live[B].centre.metrics.forks.labels(A)._value.get() == forks
    assert await taken(live) == [kept.messages[0].id]
    voided = [(one["code"], one["count"]) for one in (await steps(live[B]))[count:] if one["step"] == "voided"]
    assert voided == [("expired", 2)]


async def is_over(live: Live, message_id: str) -> bool:
    """Return whether B rejected a message."""
    found = await live[B].centre.store.read(lambda connection: aside.find(connection, message_id))
    return found is not None and found.state == "rejected"


async def test_while_the_store_can_not_be_written_nothing_is_acknowledged(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliveries stay with the broker, few are in memory, it is said once, and all of them arrive when the store is back."""
    centre = live[B].centre
    write_ = centre.store.write
    broken, tries = True, 0

    def by_intake() -> bool:  # other loops of the node write and log as well, now and then
        task = asyncio.current_task()
        return task is not None and task.get_name() == "inbox intake"

    def say(event: Event, **_: Any) -> None:
        if by_intake():
            said.append((event, asyncio.current_task()))

    async def fails(job: Any) -> Any:
        nonlocal tries
        if broken:
            tries += by_intake()
            raise StoreTrouble("store-locked", "The store is locked.")
        return await write_(job)

    said: list[tuple[Event, object]] = []
    monkeypatch.setattr(centre.store, "write", fails)
    monkeypatch.setattr("relay.inbox.PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(centre.log, "error", say)
    ids = set()
    for number in range(100):
        ids.add((await live.submit(A, message(to=[B], case_number=f"ARR-23-{number}"))).id)
    await eventually(lambda: tries > 10)
    prefetch = centre.settings.broker.prefetch
    assert len(live[B].inbox._messages._waiting) <= prefetch
    assert {event for event, _ in said} == {Event.STORE_TROUBLE}
    assert len(said) == len(set(said))  # each of the two intakes once
    broken = False
    got: set[str] = set()
    while not ids <= got:
        fresh = {one.id for one in await live.take(B)}
        assert fresh
        got |= fresh
    assert got == ids


async def is_quarantined(live: Live, message_id: str) -> bool:
    """Return whether B refused a message and keeps it."""
    found = await live[B].centre.store.read(lambda connection: aside.find(connection, message_id))
    return found is not None and found.state == "quarantined"


@pytest.mark.parametrize("content", [b"{}", message(origin=C), message(precedence="flash")], ids=["bad", "origin", "lane"])
async def test_what_is_not_sound_can_not_be_released(live: Live, content: bytes) -> None:
    """No operator's word makes a message readable, or its origin's; it can only be discarded."""
    sealed = live.seal(A, [B], [content])
    await live.inject(A, B, sealed.raw)
    refused = sealed.envelope.core.messages[0].id
    await eventually(lambda: is_quarantined(live, refused))
    with pytest.raises(Conflict) as no:
        await live[B].received.release(Act(refused, "operator", "please"))
    assert no.value.code == "not-releasable"
    done = await live[B].received.discard(Act(refused, "operator", "rubbish"))
    assert (done.state, done.purged_at is not None) == ("rejected", True)
    assert done.code != "discarded"


async def test_the_routes_do_what_they_say(live: Live, api: dict[str, httpx2.AsyncClient]) -> None:
    """Refuse, list, show, hold, release, replay, discard over HTTP; each with the role it needs, bad input coded."""
    system, operator = api["system"], api["operator"]
    stored, _ = await given(live, "ARR-16")
    asked = {"id": stored.id, "code": "busy", "reason": WORDS, "retry_after": 3600}
    assert (await operator.post("/v1/inbox/nack", json=asked)).status_code == 403
    done = (await system.post("/v1/inbox/nack", json=asked)).json()
    assert {**done, "retry_at": ""} == {"id": stored.id, "state": "deferred", "code": "busy", "attempts": 1, "retry_at": ""}
    assert (await system.get("/v1/received", params={"state": "deferred"})).status_code == 403
    listed = (await operator.get("/v1/received", params={"state": "deferred"})).json()
    assert [(one["id"], one["reason"], one["releasable"]) for one in listed["messages"]] == [(stored.id, WORDS, False)]
    for verb, state in (("hold", "held"), ("release", "handed")):
        said = await operator.post(f"/v1/received/{stored.id}/{verb}", json={"reason": "see"})
        assert (said.status_code, said.json()["state"]) == (200, state)
    await system.post("/v1/inbox/nack", json=asked)
    said = await operator.post(f"/v1/received/{stored.id}/replay", json={"reason": "see"})
    assert said.json()["state"] == "handed"
    shown = (await operator.get(f"/v1/received/{stored.id}")).json()
    assert (shown["state"], shown["deadline"], shown["attempts"]) == ("handed", None, 0)
    said = await operator.post(f"/v1/received/{stored.id}/discard", json={"reason": "see"})
    assert said.json()["state"] == "rejected"
    for path, body, status, said_code in (
        ("/v1/inbox/nack", {"id": UNKNOWN, "code": "no"}, 404, "not-given-out"),
        ("/v1/inbox/nack", {"id": UNKNOWN, "code": "No!"}, 422, "bad-request"),
        ("/v1/inbox/nack", {"id": UNKNOWN, "code": "no", "retry_after": 0}, 422, "bad-request"),
        ("/v1/inbox/nack", {"id": UNKNOWN, "code": "no", "retry_after": 86_401}, 422, "bad-request"),
    ):
        answer = await system.post(path, json=body)
        assert (answer.json()["code"], answer.status_code in (status, 400)) == (said_code, True)
    for verb in ("hold", "release", "replay", "discard"):
        answer = await operator.post(f"/v1/received/{UNKNOWN}/{verb}", json={"reason": "see"})
        assert (answer.status_code, answer.json()["code"]) == (404, "not-received")
        answer = await operator.post(f"/v1/received/{stored.id}/{verb}", json={"reason": ""})
        assert answer.json()["code"] == "bad-request"
        answer = await operator.post(f"/v1/received/{stored.id}/{verb}", json={"reason": "see"})
        assert (answer.status_code, answer.json()["code"]) == (409, "wrong-state")


async def test_a_list_goes_page_by_page(live: Live, api: dict[str, httpx2.AsyncClient]) -> None:
    """Every message in a state is on exactly one page."""
    ids = [(await put(live, f"ARR-17-{number}", "held")).id for number in range(3)]
    seen, after = [], None
    while True:
        params = {"state": "held", "limit": 2} | ({"after": after} if after else {})
        page = (await api["operator"].get("/v1/received", params=params)).json()
        seen += [one["id"] for one in page["messages"]]
        if (after := page["next"]) is None:
            break
    assert seen == ids
    for one in ids:
        await live[B].received.discard(Act(one, "operator", "over"))


async def test_flash_overtakes_two_thousand_routine_messages_at_the_intake_and_at_the_handover(live: Live) -> None:
    """What is urgent is taken in and given out among the first, however much lies before it; thousands put off slow nothing."""
    await live.stop(B)
    lines = [message(to=[B], case_number=f"ARR-18-{number}") for number in range(2000)]
    await live[A].outbox.submit([Submission(raw, messages.parse(raw)) for raw in lines])
    urgent = await live.submit(A, message(to=[B], case_number="ARR-19", precedence="flash"))
    await live.reaches(A, urgent.id, B, "sent")
    await live.start(B)
    await live.reaches(A, urgent.id, B, "accepted")
    await eventually(lambda: waits(live, 2001))
    row = await stands(live, urgent.id)
    assert row.n <= 65 + 32 * 64
    first = await live[B].handover.take(10, PATIENCE)
    assert first[0].id == urgent.id
    await live[B].centre.store.write(put_all_off)
    late = await live.submit(A, message(to=[B], case_number="ARR-20"))
    await eventually(lambda: is_out(live, late.id))
    plan = await live[B].centre.store.read(plans)
    over = update(INBOX_MESSAGE).where(INBOX_MESSAGE.c.state == "deferred").values(state="delivered")
    await live[B].centre.store.write(lambda connection: connection.execute(over))
    assert all("USING INDEX inbox_message_" in line or "USING COVERING INDEX inbox_message_" in line for line in plan), plan


async def test_who_waits_is_given_a_message_by_the_transaction_that_brings_it(live: Live) -> None:
    """A poll that waits costs no commit of its own, and its message is given out only once that commit is on disk."""
    reached: list[Point] = []
    poll = asyncio.create_task(live[B].handover.take(10, PATIENCE))
    await eventually(lambda: live[B].handover._waiter is not None)
    points.arm(reached.append)
    try:
        stored = await live.submit(A, message(to=[B], case_number="ARR-21"))
        found = await poll
    finally:
        points.disarm()
    assert [one.id for one in found] == [stored.id]
    assert Point.HANDOUT_COMMIT_BEFORE not in reached
    assert reached.index(Point.INBOX_COMMIT_AFTER) < reached.index(Point.HANDOVER_POSTED)
    assert (await stands(live, stored.id)).state == "handed"


async def test_what_was_given_to_a_poll_that_left_is_given_to_the_next(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that goes away just as its message is given out gets it with its next poll."""
    handover, served = live[B].handover, list[object]()
    poll = asyncio.create_task(handover.take(10, PATIENCE))
    await eventually(lambda: handover._waiter is not None)
    give = handover._gift

    def note(*given: Any, **named: Any) -> Any:
        served.append(given)
        return give(*given, **named)

    def leave(point: Point) -> None:
        if point is Point.INBOX_COMMIT_AFTER and served:
            poll.cancel()

    monkeypatch.setattr(handover, "_gift", note)
    points.arm(leave)
    try:
        stored = await live.submit(A, message(to=[B], case_number="ARR-22"))
        await live.reaches(A, stored.id, B, "accepted")
    finally:
        points.disarm()
    with pytest.raises(asyncio.CancelledError):
        await poll
    assert (await stands(live, stored.id)).state == "handed"
    assert stored.id in await taken(live)


async def test_a_hand_out_that_fails_harms_nothing_that_arrived(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrived is stored though it could not be given out in the same transaction, and is given out by itself."""
    poll = asyncio.create_task(live[B].handover.take(10, PATIENCE))
    await eventually(lambda: live[B].handover._waiter is not None)
    failures = iter([KeyError("planted")])
    hand_out = handing.hand_out

    def fail_once(*given: Any, **named: Any) -> Any:
        for failure in failures:
            raise failure
        return hand_out(*given, **named)

    monkeypatch.setattr(handing, "hand_out", fail_once)
    stored = await live.submit(A, message(to=[B], case_number="ARR-23"))
    assert [one.id for one in await poll] == [stored.id]
    assert next(failures, None) is None


async def waits(live: Live, count: int) -> bool:
    """Return whether so many messages wait at B."""
    return await live[B].centre.store.read(incoming.waiting) == count


def put_all_off(connection: Connection) -> None:
    """Put off whatever waits, for long."""
    values = {"state": "deferred", "given_at": 1, "retry_at": 2**42}
    connection.execute(update(INBOX_MESSAGE).where(INBOX_MESSAGE.c.state.in_(("waiting", "handed"))).values(**values))


def plans(connection: Connection) -> list[str]:
    """Return how the database finds what a poll asks for: what is due, when the next is, what is given out."""
    asked: list[str] = []
    execute = connection.execute

    def explain(statement: Any, *arguments: Any) -> Any:
        if (statement.is_select and "inbox_message" in str(statement) and "rank" in str(statement)) or "min(" in str(statement):
            bound = statement.params(arguments[0]) if arguments else statement
            compiled = bound.compile(connection, compile_kwargs={"literal_binds": True})
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}").all()
            asked.extend(row[3] for row in rows if "inbox_message" in row[3] or "TEMP B-TREE" in row[3])
        return execute(statement, *arguments)

    connection.execute = explain  # type: ignore[method-assign]
    handing.wake(connection, 0)
    handing.hand_out(connection, [0, 1, 2, 3, 4], 1, 1, 0)
    assert asked
    return asked


class Mine(io.StringIO):
    """Takes what the thread that made it writes: the nodes log meanwhile, also between a word and the end of its line."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        """Take a text, or pass over it."""
        return super().write(text) if threading.get_ident() == self._thread else len(text)


def said_by(live: Live, *words: str) -> str:
    """Run a command of B's operator or system; return what it gave."""
    out = Mine()
    with contextlib.redirect_stdout(out):
        status = cli.run([*words, "--config", str(live.network.node_file(B))])
    assert status == 0, words
    return out.getvalue()


async def test_the_commands_do_what_they_say(live: Live, api: dict[str, httpx2.AsyncClient]) -> None:
    """Refuse, list, show, hold, release, replay, discard on the command line; what destroys asks first."""
    assert api
    run = partial(asyncio.to_thread, said_by, live)
    stored, _ = await given(live, "ARR-24")
    one = stored.id
    assert "deferred  busy  again at" in await run("inbox", "nack", one, "--code", "busy", "--retry-after", "600")
    assert one in await run("inbox", "list", "--state", "deferred")
    assert "attempts      1" in await run("inbox", "show", one)
    for verb, state in (("replay", "handed"), ("hold", "held"), ("release", "handed")):
        assert await run("inbox", verb, one, "--reason", "see") == f"{one}  {state}\n"
    with pytest.raises(AssertionError):
        await run("inbox", "discard", one, "--reason", "see")
    assert (await run("inbox", "discard", one, "--reason", "see", "--yes")).endswith("rejected\n")
    refused, _ = await narrowed(live, case_number="ARR-25")
    assert "sender-not-entitled" in await run("quarantine", "list")
    assert "releasable    True" in await run("quarantine", "show", refused.id)
    assert (await run("quarantine", "release", refused.id, "--reason", "agreed")).endswith("waiting\n")
    last, _ = await narrowed(live, case_number="ARR-26")
    assert (await run("quarantine", "discard", last.id, "--reason", "no", "--yes")).endswith("rejected\n")
    done, _ = await given(live, "ARR-27")
    assert await run("inbox", "nack", done.id, "--code", "unknown-case") == f"{done.id}  rejected  unknown-case\n"
