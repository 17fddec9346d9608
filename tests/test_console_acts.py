"""Acts through a real console over HTTP: trouble settled, two people asked, the record verified, and a node that can't run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from markupsafe import escape
from sqlalchemy import Connection, insert, select, update

from relay.audit import AuditStep
from relay.centre import Centre
from relay.console import last_words
from relay.console.rendering import with_query
from relay.desk import Order
from relay.directory import Directory
from relay.errors import Misconfigured, catalogue
from relay.handover import No
from relay.policy import Judge
from relay.rabbit import PrivateBroker
from relay.settings import load
from relay.store import behind, engine, peers, record
from relay.store.history import DEAD, NEVER_SENT
from relay.store.tables import (
    AUDIT,
    COMPARISON_DIFFERENCE,
    EVIDENCE,
    INBOX_MESSAGE,
    OUTBOX_DELIVERY,
    OUTBOX_ENVELOPE,
    OUTBOX_MESSAGE,
    OUTBOX_SEALED,
    OUTBOX_STEP,
)
from relay.verifying import Verification, Verified
from relay.views import record as views
from relay.web import refusals, verifications
from relay.witnessed import Note
from tests.console import WHY, Served, Visitor, code_of, hire
from tests.live import Live, eventually, message, private_network, redirect

A, B, C = CENTRES = ("ACTA", "ACTB", "ACTC")
SCRIPT = "<script>alert('x')</script>"
PAGE_SECONDS = 0.3
DEAD_LETTERS = 10_000
HEAD_BYTES = 4096
LAST_WORDS_SECONDS = 100
"""How long a node that can't run says why: longer than anybody here takes to hear it."""


@pytest.fixture(scope="module")
async def served(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """Run A and B with consoles; C is never there. Two people are wanted to overrule a refusal."""

    def want_two(register: dict[str, Any]) -> None:
        register["policy"]["four_eyes"] = ["quarantine-release"]

    network = redirect(private_network(tmp_path_factory.mktemp("acts") / "net", broker, "acts", CENTRES), want_two)
    for name, roles in {"olga": ("operate",), "oskar": ("operate",), "wanda": ("watch",), "audrey": ("audit",)}.items():
        hire(network, A, name, *roles)  # type: ignore[arg-type]
    hire(network, B, "audrey", "audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_HANDOVER__ATTEMPTS", "1")
        patch.setenv("RELAY_AUDIT__CHECKPOINT_SECONDS", "0.5")
        patch.setenv("RELAY_WINDOWS__IMMEDIATE", "1024")
        patch.setenv("RELAY_ALARMS__ROUTINE", "0.5")
        patch.setenv("RELAY_CONSOLE__ATTEMPTS_PER_MINUTE", "1000")
        patch.setattr(refusals, "EVERY_SECONDS", 0.3)
        patch.setattr(engine, "BUSY_SECONDS", 0.3)
        patch.setattr(verifications, "PATIENCE_SECONDS", 50.0)  # who asks is told what is found, however slow the machine is
        both = Served(Live(network, broker))
        try:
            await both.start(A, B)
            yield both
        finally:
            await both.close()


async def leaves(served: Served, step: str, **having: Any) -> list[dict[str, Any]]:
    """Return the leaves of a step in A's record."""
    store = served.live[A].centre.store
    rows = await store.read(lambda connection: record.leaves(connection, store.epoch, 0, 100_000))
    found = [leaf for leaf in map(json.loads, rows) if leaf["step"] == step]
    return [leaf for leaf in found if all(leaf.get(key) == value for key, value in having.items())]


async def sent(served: Served, case: str) -> str:
    """Submit a message to C, where nobody is; return its id once the broker has it."""
    stored = await served.live.submit(A, message(case_number=case, to=[C]))
    await served.live.reaches(A, stored.id, C, "sent")
    return stored.id


async def came(served: Served, case: str) -> str:
    """Let a message of B arrive at A; return its id."""
    stored = await served.live.submit(B, message(case_number=case, to=[A]))
    await served.live.reaches(B, stored.id, A, "accepted")
    return stored.id


async def put_off(served: Served, id_: str, code: str = "busy", reason: str = "not now") -> None:
    """Let A's own system be given a message and put it off: once is too often here, so it is dead."""
    handover = served.live[A].handover

    async def given() -> bool:
        ids = {one.id for one in await handover.take(1000, 1)}
        await handover.acknowledge(list(ids - {id_}), [])
        return id_ in ids

    await eventually(given)
    for _ in range(2):
        await handover.refuse(No(id_, code, reason, retry_after=3600))


async def state(served: Served, id_: str) -> str:
    """Return where a received message stands at A."""
    return (await served.live[A].received.find(id_)).state


@contextlib.contextmanager
def narrow(served: Served) -> Iterator[None]:
    """Let A see a directory, for the length of a block, in which B may publish nothing but alerts."""
    centre = served.live[A].centre
    register = json.loads(centre.directory.model_dump_json())
    member = next(one for one in register["members"] if one["id"] == B)
    member["publish"] = [{"crime_types": ["drugs"], "regions": ["001"], "kinds": ["alert"]}]
    whole, centre.judge = centre.judge, Judge(Directory.model_validate(register), A)
    try:
        yield
    finally:
        centre.judge = whole


async def done(who: Visitor, side: str, id_: str, verb: str, **fields: str) -> str:
    """Do something to a message by its page; return the page that follows."""
    page = f"/trouble/{side}/{id_}"
    answer = await who.act(page, f"{page}/{verb}", **fields)
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"] == page
    return (await who.get(page)).text


async def test_every_page_answers(served: Served) -> None:
    """Each of the pages shows what it is for, to who may only watch, with nobody's form on it."""
    wanda = await served.signed_in(A, "wanda")
    for path, words in {
        "/trouble": "Trouble",
        "/directory": "Policy for all",
        f"/directory/{B}": "May publish",
        "/audit": "Countersignatures",
    }.items():
        answer = await wanda.get(path)
        assert (answer.status_code, words in answer.text) == (200, True), answer.text
        assert 'name="reason"' not in answer.text
    assert A in (await wanda.get("/directory")).text
    for bad in ("/trouble?group=x", "/trouble?group=dead&side=sent&after=[1]", f"/trouble?code={'x' * 101}"):
        assert (await wanda.get(bad)).status_code == 422, bad
    assert (await wanda.get("/trouble/sent/nobody-sent-it")).status_code == 404
    assert (await wanda.get("/trouble/elsewhere/x")).status_code == 404
    assert (await wanda.get("/directory/NOBODY")).status_code == 404


async def test_a_message_on_its_way_is_held_released_sent_again_and_discarded(served: Served) -> None:
    """Each act has its effect, a leaf with who and why, and a sentence on the page that follows; the list says who holds it."""
    olga, id_ = await served.signed_in(A, "olga"), await sent(served, "WAY")
    page = await done(olga, "sent", id_, "hold")
    assert all(words in page for words in (f"Message {id_} is held", WHY))
    assert len(await leaves(served, "held", actor="olga (Olga Example)", why=WHY)) == 1
    listed = (await olga.get("/trouble?group=held&side=sent")).text
    assert all(words in listed for words in (id_, WHY, C))
    assert "is released" in await done(olga, "sent", id_, "release")
    assert "is sent again" in await done(olga, "sent", id_, "replay")
    assert "is discarded" in await done(olga, "sent", id_, "discard", reason="wrong <b>case</b>")
    for step in ("unheld", "replayed"):
        assert len(await leaves(served, step, actor="olga (Olga Example)", why=WHY)) == 1
    assert len(await leaves(served, "discarded", actor="olga (Olga Example)", why="wrong <b>case</b>")) == 1
    assert (await served.live.states(A, id_, C))[-1] == "cancelled"
    over = (await olga.get(f"/trouble/sent/{id_}")).text
    assert ("Nothing: it is over." in over, '<form class="act"' in over) == (True, False)


async def test_an_act_that_comes_twice_or_too_late_says_why_it_was_not_done(served: Served) -> None:
    """A form that is sent again does nothing, a hold of what is held is a conflict, and each says so in its sentence."""
    olga, oskar = await served.signed_in(A, "olga"), await served.signed_in(A, "oskar")
    id_ = await sent(served, "TWICE")
    page, hold = f"/trouble/sent/{id_}", f"/trouble/sent/{id_}/hold"
    mine, late = await olga.token(page, hold), await oskar.token(page, hold)
    assert (await olga.post(hold, csrf=mine, reason=WHY)).status_code == 303
    replayed = await olga.post(hold, csrf=mine, reason=WHY)
    assert (replayed.status_code, code_of(replayed.text)) == (409, "form-used")
    assert f'<a href="{page}">Back to the page</a>' in replayed.text
    second = await oskar.post(hold, csrf=late, reason=WHY)
    assert (second.status_code, code_of(second.text)) == (409, "message-held")
    assert f"Message {id_} is held already." in second.text
    for forged in ("", "0" * 64, mine):
        assert (await oskar.post(f"/trouble/sent/{id_}/discard", csrf=forged, reason=WHY)).status_code in {403, 409}
    without = await oskar.act(page, f"/trouble/sent/{id_}/release", reason=" ")
    assert (without.status_code, code_of(without.text)) == (422, "bad-request")
    foreign = await oskar.client.post(hold, headers={"origin": "http://elsewhere.example"}, content=b"reason=x")
    assert foreign.status_code == 403
    assert (await served.live.states(A, id_, C))[-1] == "held"
    assert len(await leaves(served, "held", actor="oskar (Oskar Example)")) == 0


async def test_a_message_on_its_way_says_whose_word_is_awaited_and_whom_to_call(served: Served) -> None:
    """Where it is not accepted: what is awaited, whether its node lives, and its duty contact; until it is held."""
    wanda, olga = await served.signed_in(A, "wanda"), await served.signed_in(A, "olga")
    id_ = await sent(served, "AWAITED")
    await served.live.reaches(A, id_, C, "sent")
    said = ("Whose word is awaited", "The broker has it; the peer's node has not accepted it.", "not heard yet", "tel:")
    for page in (f"/messages/{id_}", f"/trouble/sent/{id_}"):
        text = (await wanda.get(page)).text
        assert [words for words in said if words not in text] == []
    await olga.act(f"/trouble/sent/{id_}", f"/trouble/sent/{id_}/hold", reason=WHY)
    held = (await wanda.get(f"/trouble/sent/{id_}")).text
    assert "it is not sent, or not sent again" in (await olga.get(f"/trouble/sent/{id_}")).text
    assert "Whose word is awaited" not in held


async def test_a_dead_letter_of_ours_says_why_and_is_tried_again(served: Served) -> None:
    """It stands under its code, with what that means; filters find it by peer and code, and a replay ends its death."""
    olga, id_ = await served.signed_in(A, "olga"), await sent(served, "DEAD")
    n = await served.live[A].centre.store.read(partial(_envelope, id_=id_))
    now = served.live[A].centre.now()
    await served.live[A].centre.store.write(partial(behind.bury, recipient=C, code="recipient-left", at=now, n=n))
    for query in ("", "?group=dead", f"?group=dead&side=sent&peer={C}", "?code=recipient-left"):
        page = (await olga.get(f"/trouble{query}")).text
        assert all(words in page for words in (id_, escape(catalogue()["recipient-left"].title))), query
    for query in (f"?peer={B}", "?code=cannot-decrypt", "?side=received"):
        assert id_ not in (await olga.get(f"/trouble{query}")).text, query
    await done(olga, "sent", id_, "replay")
    assert id_ not in (await olga.get("/trouble?group=dead&side=sent")).text
    await done(olga, "sent", id_, "discard")


def _envelope(connection: Connection, id_: str) -> int:
    return connection.execute(select(OUTBOX_MESSAGE.c.envelope).where(OUTBOX_MESSAGE.c.id == id_)).scalar_one()


async def test_a_received_message_is_held_released_given_again_and_discarded(served: Served) -> None:
    """The same for what arrived; what the system and the operator said stands there as text, whatever they wrote."""
    olga, id_ = await served.signed_in(A, "olga"), await came(served, "CAME")
    assert "is held" in await done(olga, "received", id_, "hold", reason=f"hold {SCRIPT}")
    page = (await olga.get("/trouble?group=held&side=received")).text
    assert (escape(f"hold {SCRIPT}") in page, SCRIPT in page) == (True, False)
    assert "is released" in await done(olga, "received", id_, "release")
    await put_off(served, id_, code=SCRIPT, reason=f"no {SCRIPT}")
    assert await state(served, id_) == "dead"
    for path in (f"/trouble/received/{id_}", "/trouble?group=dead&side=received", f"/trouble?peer={SCRIPT}"):
        page = (await olga.get(path)).text
        assert (escape(SCRIPT) in page, SCRIPT in page) == (True, False), path
    assert "is given out again" in await done(olga, "received", id_, "replay")
    assert await state(served, id_) == "handed"
    assert "is discarded" in await done(olga, "received", id_, "discard")
    assert await state(served, id_) == "rejected"
    assert len(await leaves(served, "held", actor="olga (Olga Example)", why=f"hold {SCRIPT}")) == 1
    for step in ("unheld", "replayed", "discarded"):
        assert (await leaves(served, step, peer=B))[-1]["actor"] == "olga (Olga Example)"


async def test_a_refusal_is_overruled_by_two_different_people(served: Served) -> None:
    """Who asks is told that it waits; the same person may not approve it, another may, and then it is done."""
    olga, oskar = await served.signed_in(A, "olga"), await served.signed_in(A, "oskar")
    with narrow(served):
        stored = await served.live.submit(B, message(to=[A], case_number="EYES"))
        await served.live.reaches(B, stored.id, A, "rejected")
    listed = (await olga.get("/trouble?group=quarantined&side=received")).text
    assert all(words in listed for words in (stored.id, escape(catalogue()["sender-not-entitled"].title)))
    assert "waits for a second person" in await done(olga, "received", stored.id, "release", reason=f"ask {SCRIPT}")
    assert await state(served, stored.id) == "quarantined"
    assert "1 act waits for a second person." in (await oskar.get("/")).text
    page = (await oskar.get("/trouble")).text
    assert all(words in page for words in (stored.id, "olga (Olga Example)", escape(f"ask {SCRIPT}")))
    assert SCRIPT not in page
    (approval,) = {part.split("/")[3] for part in page.split('"') if part.startswith("/trouble/approvals/")}
    approve = f"/trouble/approvals/{approval}/approve"
    same = await olga.act("/trouble", approve)
    assert (same.status_code, code_of(same.text)) == (403, "same-person")
    assert await state(served, stored.id) == "quarantined"
    assert (await oskar.act("/trouble", approve, reason="agreed")).headers["location"] == "/trouble"
    assert f"Approved and done: quarantine-release of {stored.id}." in (await oskar.get("/trouble")).text
    assert await state(served, stored.id) == "waiting"
    (leaf,) = await leaves(served, "overruled")
    assert leaf["actor"] == "olga (Olga Example) and oskar (Oskar Example)"
    with narrow(served):
        stored = await served.live.submit(B, message(to=[A], case_number="NO-EYES"))
        await served.live.reaches(B, stored.id, A, "rejected")
    await done(olga, "received", stored.id, "release")
    page = (await oskar.get("/trouble")).text
    (approval,) = {part.split("/")[3] for part in page.split('"') if part.startswith("/trouble/approvals/")}
    refuse = f"/trouble/approvals/{approval}/refuse"
    assert (await oskar.act("/trouble", refuse, reason="no need")).status_code == 303
    assert len(await leaves(served, "approval-refused", actor="oskar (Oskar Example)")) == 1
    assert await state(served, stored.id) == "quarantined"


async def test_what_waits_for_a_slow_peer_says_so(served: Served) -> None:
    """A message that was left out, since the peer's window is full, is deferred: it says why, and may be held or discarded."""
    olga = await served.signed_in(A, "olga")
    stored = []
    while not stored or "deferred" not in await served.live.states(A, stored[-1].id, C):
        assert len(stored) < 20, "its window is never full"
        case = f"SLOW-{len(stored)}"
        stored.append(await served.live.submit(A, message(case_number=case, to=[C], precedence="immediate")))

        async def went(id_: str = stored[-1].id) -> bool:
            return bool({"sent", "deferred"} & set(await served.live.states(A, id_, C)))

        await eventually(went)
    for path in ("/trouble?group=deferred&side=sent", f"/trouble/sent/{stored[-1].id}"):
        page = (await olga.get(path)).text
        assert all(words in page for words in (stored[-1].id, C, "it goes when there is room")), path
    assert stored[-1].id not in (await olga.get("/trouble?group=deferred&side=sent&code=busy")).text
    for one in stored:
        await done(olga, "sent", one.id, "discard")


async def test_who_must_be_called_stands_on_the_page(served: Served) -> None:
    """Late peers and those whose store went back, with their duty contacts; how many messages are stuck, by group and peer."""
    wanda, id_ = await served.signed_in(A, "wanda"), await sent(served, "LATE")
    store, now = served.live[A].centre.store, served.live[A].centre.now()
    await store.write(partial(peers.raise_alarm, peer=B, alarm=peers.Alarm("peer-went-back", now)))
    await served.live[A].desk.hold(Order(id_, WHY, "nobody"))
    contact = served.live[A].centre.directory.active[C].contact

    async def stands() -> bool:
        page = (await wanda.get("/trouble")).text
        late = page.partition('<h2 id="late">')[2].partition("</section>")[0]
        words = ("not accepted in time", f"<b>{C}</b>", escape(contact.telephone), escape(contact.email))
        counted = with_query("/trouble", group="held", side="sent", peer=C)
        return all(one in late for one in words) and escape(counted) in page

    await eventually(stands)
    page = (await wanda.get("/trouble")).text
    changed = page.partition('<h2 id="peers">')[2].partition("</section>")[0]
    assert all(words in changed for words in (f"<b>{B}</b>", "peer-went-back", escape(catalogue()["peer-went-back"].action)))


async def test_what_speaks_against_a_peer_stands_on_the_audit_page(served: Served) -> None:
    """Two checkpoints of one peer that can't both be true, and hours that are counted otherwise there."""
    wanda, store = await served.signed_in(A, "wanda"), served.live[A].centre.store
    held, given = (_note(size) for size in (7, 8))
    row = {"origin": B, "code": "audit-split-view", "at": 1, "shown": json.dumps(_shown(held, given))}
    differs = {
        "peer": B,
        "side": "sent",
        "first": 1,
        "lane": "routine",
        "until": 2,
        "ours": 41,
        "theirs": 40,
        "since": 1,
        "times": 2,
    }

    def write(connection: Connection) -> None:
        connection.execute(insert(EVIDENCE), [row])
        connection.execute(insert(COMPARISON_DIFFERENCE), [differs])

    await store.write(write)
    page = (await wanda.get("/audit")).text
    for words in (escape(catalogue()["audit-split-view"].title), escape(held.statement), ">41<", ">40<"):
        assert words in page, words
    assert SCRIPT not in page


def _note(size: int) -> Note:
    return Note(statement=json.dumps({"size": size, "words": SCRIPT}), key="0" * 32, signature="0" * 128)


def _shown(held: Note, given: Note) -> dict[str, Any]:
    return {"held": held.model_dump(), "given": given.model_dump(), "source": C, "proof": None}


async def test_who_lacks_the_role_is_refused_and_goes_to_the_record(served: Served) -> None:
    """Each act answers 403 to who may only see, with a form's own token or without, and changes nothing."""
    wanda, olga, id_ = await served.signed_in(A, "wanda"), await served.signed_in(A, "olga"), await sent(served, "ROLE")
    acts = [f"/trouble/sent/{id_}/{verb}" for verb in ("hold", "release", "replay", "discard")]
    for path in (*acts, "/trouble/approvals/x/approve", "/trouble/approvals/x/refuse", "/audit/verify", "/audit/proof"):
        answer = await wanda.post(path, csrf="x", reason=WHY, message=id_)
        assert (answer.status_code, code_of(answer.text)) == (403, "not-allowed"), path
    assert (await olga.post("/audit/verify", csrf="x")).status_code == 403
    assert "held" not in await served.live.states(A, id_, C)

    async def recorded() -> bool:
        found = await leaves(served, "access-refused", code="not-allowed")
        return {one["actor"].split(",")[0] for one in found} >= {"wanda (Wanda Example)", "olga (Olga Example)"}

    await eventually(recorded)


async def test_the_record_is_verified_and_a_proof_taken_along(served: Served) -> None:
    """Who audits sees that everything fits, who received a message, and gets the file that proves it; that is on record."""
    audrey, id_ = await served.signed_in(A, "audrey"), await came(served, "PROOF")
    answer = await audrey.act("/audit", "/audit/verify")
    assert answer.status_code == 303, answer.text
    page = (await audrey.get("/audit")).text
    assert all(words in page for words in ("are what was signed", "everything fits", "audrey (Audrey Example)"))
    who = (await audrey.get(f"/audit?message={id_}")).text
    assert all(words in who for words in (A, B, id_))
    assert "not-kept-here" in (await audrey.get("/audit?message=nobody-sent-it")).text
    proof = await audrey.act("/audit", "/audit/proof", message=id_, reason="asked by a court")
    assert proof.status_code == 200
    assert proof.headers["content-disposition"] == f'attachment; filename="{id_}.proof.json"'
    assert proof.json()["message"] == id_
    assert len(await leaves(served, "proved", actor="audrey (Audrey Example)", why="asked by a court")) == 1
    missing = await audrey.act("/audit", "/audit/proof", message="nobody-sent-it")
    assert (missing.status_code, code_of(missing.text)) == (404, "not-kept-here")


async def test_the_audit_page_shows_who_countersigned(served: Served) -> None:
    """Each witness stands there with how far its word goes and how old it is; C, where nobody is, has given none."""
    wanda = await served.signed_in(A, "wanda")

    async def countersigned() -> bool:
        found = {one.centre: one.entries for one in (await views.record(served.heres[A])).witnesses}
        return found.get(B) is not None and found.get(C, 0) is None

    await eventually(countersigned)
    page = (await wanda.get("/audit")).text
    row = page.partition(f'<th scope="row"><b>{B}</b></th>')[2].partition("</tr>")[0]
    assert row.count("<time datetime=") == 1


async def test_a_long_verification_goes_on_while_the_page_says_how_far_it_is(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks is not kept waiting, who asks again is told of the same one, and its result stands there when it ended."""
    audrey, here = await served.signed_in(A, "audrey"), served.heres[A]
    monkeypatch.setattr(verifications, "PATIENCE_SECONDS", 0.0)
    await served.live[A].centre.store.write(partial(_write_leaves, served.live[A].centre, 20_000))
    whole, seen = Verification.bit_by_bit, asyncio.Event()

    async def held_up(verification: Verification, read: Any, epochs: Any) -> Verified:
        """Go on behind the first of its reads when the page was seen."""

        async def then(step: Any) -> Any:
            more = await read(step)
            await seen.wait()
            return more

        return await whole(verification, then, epochs)

    monkeypatch.setattr(Verification, "bit_by_bit", held_up)
    try:
        for _ in range(2):
            assert (await audrey.act("/audit", "/audit/verify")).status_code == 303
        assert here.verifications.runs
        run = here.verifications.latest
        page = (await audrey.get("/audit")).text
        assert "this page says what it finds" in page
        assert (run is not None, run and run.ended_at) == (True, None)
    finally:
        seen.set()

    async def ended() -> bool:
        return "everything fits" in (await audrey.get("/audit")).text

    await eventually(ended)
    assert here.verifications.latest is not None
    assert (here.verifications.latest.begun_at, here.verifications.latest.entries > 20_000) == (run and run.begun_at, True)
    monkeypatch.setattr(verifications, "PATIENCE_SECONDS", 50.0)
    stopping = asyncio.Event()
    stopping.set()
    given_up = await verifications.Verifications().ask(here.centre, "nobody", stopping)
    assert (given_up.found, given_up.trouble and given_up.trouble.code) == (None, "store-unavailable")


def _write_leaves(centre: Centre, count: int, connection: Connection) -> None:
    """Let a record be long."""
    centre.audit.append(connection, [centre.audit.leaf(AuditStep.SEARCHED, centre.now(), actor="nobody")] * count)


async def test_a_record_that_was_altered_is_shown_as_such(served: Served) -> None:
    """The first entry that is not what was signed is named, with what it says now."""
    audrey, centre = await served.signed_in(B, "audrey"), served.live[B].centre
    await centre.store.write(partial(_write_leaves, centre, 600))

    async def signed() -> bool:
        found = await views.record(served.heres[B])
        return (found.checkpoint_entries or 0) > 600

    await eventually(signed)
    altered = update(AUDIT).where(AUDIT.c.position == 7).values(leaf=f'{{"altered":"{SCRIPT}"}}'.encode())
    await centre.store.write(lambda connection: connection.execute(altered).rowcount)
    assert (await audrey.act("/audit", "/audit/verify")).status_code == 303
    page = (await audrey.get("/audit")).text
    for words in ("it is NOT what was signed", "FIRST FAULT", "Entry 7 of epoch", "&lt;script&gt;alert("):
        assert words in page, words
    assert SCRIPT not in page


async def test_pages_of_a_node_whose_store_is_locked_say_so(served: Served) -> None:
    """While another program holds the store, every page answers and says what is wrong and what to do; an act is refused."""
    olga, id_ = await served.signed_in(A, "olga"), await sent(served, "LOCK")
    page, hold = f"/trouble/sent/{id_}", f"/trouble/sent/{id_}/hold"
    token = await olga.token(page, hold)
    file = load(served.live.network.node_file(A)).store.file
    with contextlib.closing(sqlite3.connect(file, isolation_level=None, timeout=60)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused = await olga.post(hold, csrf=token, reason=WHY)
        assert (refused.status_code, code_of(refused.text)) == (503, "store-locked")
        assert escape(catalogue()["store-locked"].action) in refused.text
        titles = {escape(catalogue()[code].title) for code in ("store-locked", "store-unavailable")}
        for path in ("/", "/trouble", "/directory", "/audit"):

            async def says(path: str = path) -> bool:
                answer = await olga.get(path)
                return answer.status_code in {200, 503} and any(title in answer.text for title in titles)

            await eventually(says)
        other.execute("ROLLBACK")

    async def well() -> bool:
        shown = (await olga.get("/trouble")).text
        return not any(title in shown for title in titles)

    await eventually(well)
    assert "is held" in await done(olga, "sent", id_, "hold")


async def test_ten_thousand_dead_letters_slow_no_page(served: Served) -> None:
    """Sent or received, the page of all trouble, a page of the list and one far behind each take less than 300 ms of CPU."""
    olga, id_ = await served.signed_in(A, "olga"), await sent(served, "MANY")
    await served.live[A].centre.store.write(partial(_bury_many, like=id_))
    await served.live[A].centre.store.write(partial(_set_many_aside, like=await came(served, "MANY-CAME")))
    far = json.dumps([C, "routine", 9_500_000, 1, ""])
    shown = {
        "": 2 * 10,
        "?group=dead&side=sent": 50,
        f"?group=dead&side=sent&after={far}": 50,
        "?group=dead&side=received": 50,
        "?group=dead&side=received&after=[9500000]": 50,
        "?code=cannot-decrypt": 0,
    }
    for query, expected in shown.items():
        took = []
        for _ in range(3):
            begun = time.process_time()
            answer = await olga.get(f"/trouble{query}")
            took.append(time.process_time() - begun)
            assert answer.status_code == 200
        assert min(took) < PAGE_SECONDS, (query, took)
        assert answer.text.count("/dead-") == expected, query


def _set_many_aside(connection: Connection, like: str) -> None:
    """Add dead letters of B's, each like a message that came."""
    row = connection.execute(select(INBOX_MESSAGE).where(INBOX_MESSAGE.c.id == like)).one()._asdict()
    dead = {"state": "dead", "code": "expired"}
    numbers = range(9_000_000, 9_000_000 + 100 * DEAD_LETTERS, 100)
    connection.execute(insert(INBOX_MESSAGE), [{**row, **dead, "n": at, "id": f"dead-{at}"} for at in numbers])


def _bury_many(connection: Connection, like: str) -> None:
    """Add dead letters to C, each in an envelope like that of a message."""
    n = _envelope(connection, like)
    envelope = connection.execute(select(OUTBOX_ENVELOPE).where(OUTBOX_ENVELOPE.c.n == n)).one()._asdict()
    sealed = connection.execute(select(OUTBOX_SEALED).where(OUTBOX_SEALED.c.n == n)).one()._asdict()
    text = connection.execute(select(OUTBOX_MESSAGE).where(OUTBOX_MESSAGE.c.id == like)).one()._asdict()
    delivery = connection.execute(select(OUTBOX_DELIVERY).where(OUTBOX_DELIVERY.c.envelope == n)).one()._asdict()
    numbers = range(9_000_000, 9_000_000 + 100 * DEAD_LETTERS, 100)
    dead = {"epoch": 1, "behind": NEVER_SENT | DEAD}
    connection.execute(insert(OUTBOX_ENVELOPE), [{**envelope, "n": at, "id": f"e-{at}"} for at in numbers])
    connection.execute(insert(OUTBOX_SEALED), [{**sealed, "n": at} for at in numbers])
    connection.execute(insert(OUTBOX_MESSAGE), [{**text, "id": f"dead-{at}", "envelope": at} for at in numbers])
    connection.execute(insert(OUTBOX_DELIVERY), [{**delivery, **dead, "envelope": at, "first": at, "last": at} for at in numbers])
    step = {"recipient": C, "state": "dead", "mask": 1, "at": envelope["created_at"], "code": "recipient-left"}
    connection.execute(insert(OUTBOX_STEP), [{"envelope": at, **step} for at in numbers])


# A node that can't run


@contextlib.contextmanager
def started(config: Path, seconds: float, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a node as a process that says its last words for so long."""
    environment = {**os.environ, "RELAY_CONSOLE__LAST_WORDS_SECONDS": str(seconds)}
    command = [sys.executable, "-m", "relay", "node", "run", "--config", str(config)]
    with log.open("wb") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


async def test_a_node_that_is_refused_at_the_start_says_why_at_its_console(served: Served, tmp_path: Path) -> None:
    """Its page tells code, what happened and what to do, without a sign-in; it is not ready, and SIGTERM ends it at once."""
    network = served.live.network
    store = load(network.node_file(C)).store.file
    store.parent.mkdir(parents=True, exist_ok=True)
    store.write_bytes(b"this is no database, whatever its name says" * 200)
    try:
        with started(network.node_file(C), LAST_WORDS_SECONDS, tmp_path / "log") as process:
            async with httpx2.AsyncClient(base_url=f"http://{network.console(C)}", timeout=60, trust_env=False) as browser:
                answer = await first_answer(browser, "/", process)
                entry = catalogue()["store-damaged"]
                for words in (entry.title, entry.meaning, entry.action, "store-damaged", str(store)):
                    assert escape(words) in answer.text
                assert (answer.status_code, "set-cookie" in answer.headers) == (503, False)
                assert answer.headers["content-security-policy"].startswith("default-src 'none'")
                assert not any(word in answer.text for word in ("<form", "<script"))
                french = await browser.get("/anything?x=1", headers={"accept-language": "fr"})
                assert (french.status_code, 'lang="fr"' in french.text) == (503, True)
                assert (await browser.post("/sign-in", content=b"name=x")).status_code == 503
                assert (await browser.get("/", headers={"host": "elsewhere.example"})).status_code == 403
                ready = await browser.get(f"http://{network.health(C)}/readyz")
                assert (ready.status_code, ready.text) == (503, "no")
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, LAST_WORDS_SECONDS / 2) == 78
        assert b"store-damaged" in (tmp_path / "log").read_bytes()
        async with asyncio.timeout(1):  # with 0 seconds, as the tests' nodes have it, nothing is said
            await last_words.say(load(network.node_file(C)), Misconfigured("store-damaged", "x"), asyncio.Event())
    finally:
        store.unlink()


async def test_a_node_whose_store_is_damaged_while_it_runs_says_so(served: Served, tmp_path: Path) -> None:
    """The console answers with pages until the node ends, and then says why it did."""
    network = served.live.network
    store = load(network.node_file(C)).store.file
    with started(network.node_file(C), LAST_WORDS_SECONDS, tmp_path / "log") as process:
        async with httpx2.AsyncClient(base_url=f"http://{network.console(C)}", timeout=60, trust_env=False) as browser:
            assert (await first_answer(browser, "/sign-in", process)).status_code == 200
            for path in (store, store.with_name(f"{store.name}-wal")):  # where what was committed last still rests
                with path.open("r+b") as file:
                    file.seek(HEAD_BYTES)
                    file.write(b"\xa5" * (path.stat().st_size - HEAD_BYTES))

            async def says() -> bool:
                with contextlib.suppress(httpx2.TransportError):
                    await browser.get(f"http://{network.health(C)}/readyz")
                    return "store-damaged" in (await browser.get("/sign-in")).text
                return False

            await eventually(says)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, LAST_WORDS_SECONDS / 2) == 78


async def first_answer(browser: httpx2.AsyncClient, path: str, process: subprocess.Popen[bytes]) -> httpx2.Response:
    """Return the first answer of a process that begins to listen."""
    found: list[httpx2.Response] = []

    async def answers() -> bool:
        assert process.poll() is None, "it ended"
        with contextlib.suppress(httpx2.TransportError):
            found.append(await browser.get(path))
        return bool(found)

    await eventually(answers)
    return found[0]
