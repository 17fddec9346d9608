"""Retention on real nodes: what is due goes and leaves no byte, a hold keeps it, and the record says which."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import os
import re
import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import update as sql_update

from relay import messages, retention
from relay.api import Api
from relay.audit import digest
from relay.clock import iso, now_ms
from relay.directory import Directory
from relay.envelope import new_id, parse
from relay.keeping import DAY_MS
from relay.log import Event
from relay.network import write_network
from relay.node import Node, open_node
from relay.rabbit import PrivateBroker
from relay.retention import Outcome
from relay.seal import Addressee, Draft
from relay.settings import load
from relay.store import Connection, incoming, outgoing, record, retained, samples, threads
from relay.store.incoming import Arrival
from relay.store.outgoing import NewEnvelope
from relay.store.tables import IDEMPOTENCY, INBOX_MESSAGE, OUTBOX_DELIVERY, OUTBOX_MESSAGE, SAMPLE
from relay.submissions import Stored, Submission
from tests.live import EXAMPLES, LANE, PATIENCE, Heard, Live, eventually, message, private_network
from tests.said import said

A, B = CENTRES = ("RETA", "RETB")
ROOT = Path(__file__).resolve().parent.parent
HOWTO = ROOT / "docs" / "howto" / "keep-and-purge.md"
WINDOW = 24
HOUR_MS = 3_600_000
UNKNOWN = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run two centres that purge only when they are asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_REPAIR__GAP", "0.3")
        patch.setenv("RELAY_RETENTION__EVERY_SECONDS", "86400")
        patch.setenv("RELAY_CLOCK__MOST_AHEAD_SECONDS", "0")  # one of the tests sets a clock ahead, so that something is due
        patch.setenv("RELAY_AUDIT__CHECKPOINT_SECONDS", "3600")  # what is signed by that clock would be refused at its peer
        patch.setenv("RELAY_AUDIT__COMPARISON_SECONDS", "3600")
        patch.setattr(retention, "FIRST_SECONDS", 86400.0)
        nodes = Live(private_network(tmp_path_factory.mktemp("retention") / "network", broker, "retention", CENTRES), broker)
        await nodes.start(*CENTRES)
        yield nodes
        await nodes.close()


@pytest.fixture
async def api(live: Live) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve B's API, and ask it as its operator."""
    served, node = Api(), live[B]
    task = asyncio.create_task(served.run(node), name="api")
    headers = {"Authorization": f"Bearer {live.network.token(B, 'operator')}"}
    url = f"http://{node.centre.settings.api.listen}"
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
        await eventually(lambda: answers(client))
        yield client
    await served.stop()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def answers(client: httpx2.AsyncClient) -> bool:
    """Return whether the API answers."""
    try:
        return (await client.get("/v1/codes")).status_code == 200
    except httpx2.TransportError:
        return False


def until() -> str:
    """Return the time in an hour, as a message says it."""
    return iso(now_ms() + HOUR_MS)


async def an_hour_passes(node: Node) -> None:
    """Let all that a node keeps be due an hour earlier: a wait, however short, would be over before a slow machine submits."""

    def age(connection: Connection) -> None:
        for table in (INBOX_MESSAGE, OUTBOX_MESSAGE):
            connection.execute(sql_update(table).values(purge_at=table.c.purge_at - HOUR_MS))

    await node.centre.store.write(age)


async def submit(live: Live, number: str, **fields: Any) -> tuple[Stored, bytes]:
    """Submit a message of A to B that is to be kept for an hour."""
    raw = message(**{"to": [B], "case_number": number, "retention_until": until(), **fields})
    return await live.submit(A, raw), raw


async def delivered(live: Live, number: str, **fields: Any) -> tuple[Stored, bytes]:
    """Submit such a message and have it delivered."""
    stored, raw = await submit(live, number, **fields)
    assert [one.id for one in await live.take(B, PATIENCE)] == [stored.id]
    await live.reaches(A, stored.id, B, "delivered")
    return stored, raw


async def shows(node: Node, *ids: str) -> Outcome:
    """Let an hour pass and wait until exactly these are due; return what a dry run says."""
    await an_hour_passes(node)

    async def due() -> bool:
        return {one.id for one in (await node.retention.purge(dry_run=True)).listed} == set(ids)

    await eventually(due)
    return await node.retention.purge(dry_run=True)


async def purged(node: Node, *ids: str) -> Outcome:
    """Let an hour pass, wait until exactly these are due, purge, and check that what went is what a dry run had shown."""
    shown = await shows(node, *ids)
    done = await node.retention.purge()
    assert done.listed == shown.listed
    assert (done.received, done.sent, done.held, done.needed) == (shown.received, shown.sent, shown.held, shown.needed)
    return done


async def ciphertext(node: Node, message_id: str) -> bytes:
    """Return the ciphertext of a message as it lies in a node's store; empty when it was purged."""

    def look(connection: Connection) -> bytes:
        if (sent := outgoing.message(connection, message_id)) is not None:
            rest, position = sent.resting, sent.position
        else:
            found = threads.received(connection, message_id)
            assert found is not None
            rest, position = found.resting, found.position
        return parse(rest.header + rest.body).ciphertexts[position]

    return await node.centre.store.read(look)


def traces(node: Node, secret: bytes) -> int:
    """Return how many pieces of some bytes are found in the files of a node's store."""
    file = node.centre.settings.store.file
    raw = b"".join(path.read_bytes() for path in sorted(file.parent.glob(f"{file.name}*")))
    return sum(secret[at : at + WINDOW] in raw for at in range(0, len(secret) - WINDOW, WINDOW))


async def leaves(node: Node, step: str) -> list[dict[str, Any]]:
    """Return the leaves of a step in a node's record."""
    store = node.centre.store
    raw = await store.read(partial(record.leaves, epoch=store.epoch, limit=100_000))
    return [leaf for leaf in map(json.loads, raw) if leaf["step"] == step]


async def row(node: Node, message_id: str) -> Any:
    """Return a message's row and commitment."""
    found = await node.centre.store.read(partial(retained.find, message=message_id))
    assert found is not None
    return found


def attached(size: int) -> dict[str, Any]:
    """Return a message's fields with an attachment of so many bytes."""
    content = os.urandom(size)
    one = {
        "media_type": "image/png",
        "digest": hashlib.sha256(content).hexdigest(),
        "content": base64.b64encode(content).decode(),
    }
    return {"attachments": [one]}


@pytest.mark.parametrize("fields", [{}, attached(100_000)], ids=["small", "over many pages of the file"])
async def test_after_its_time_no_byte_of_a_message_is_left_and_its_evidence_is(live: Live, fields: dict[str, Any]) -> None:
    """Both sides purge it: rows, header, states and a leaf with its commitment stay; its ciphertext is in no file."""
    stored, _ = await delivered(live, "RET-1", **fields)
    secret = await ciphertext(live[A], stored.id)
    for centre in CENTRES:
        assert secret == await ciphertext(live[centre], stored.id)
        assert traces(live[centre], secret)
        assert (await live[centre].retention.purge(dry_run=True)).listed == []
        done = await purged(live[centre], stored.id)
        assert (done.received, done.sent) == ((0, 1) if centre == A else (1, 0))
        assert traces(live[centre], secret) == 0
        found = await row(live[centre], stored.id)
        assert found.row.purged_at is not None
        last = (await leaves(live[centre], "purged"))[-1]
        assert (last["code"], last["count"], last["commitments"]) == ("retention", 1, digest([found.commitment]))
    assert await live.states(A, stored.id, B) == ["queued", "sent", "accepted", "delivered"]
    await live.stop(*CENTRES)
    await live.start(*CENTRES)
    for centre in CENTRES:
        assert await ciphertext(live[centre], stored.id) == b""
        assert (await purged(live[centre])).listed == []
    assert await live.take(B, wait=0.2) == []


async def test_other_messages_of_the_same_envelope_stay_readable(live: Live) -> None:
    """One of three messages of an envelope goes; the centre's system still gets the others, byte for byte."""
    raws = [message(to=[B], case_number=f"RET-2-{n}", retention_until=until() if n == 1 else None) for n in range(3)]
    outcomes = await live[A].outbox.submit([Submission(raw, messages.parse(raw)) for raw in raws])
    ids = [one.id for one in outcomes if isinstance(one, Stored)]
    for one in ids:
        await live.reaches(A, one, B, "accepted")
    assert (await purged(live[B], ids[1])).listed[0].why == "expired"
    assert [one.raw for one in await live.take(B, PATIENCE)] == [raws[0], raws[2]]
    for one in (ids[0], ids[2]):
        await live.reaches(A, one, B, "delivered")
    await purged(live[A], ids[1])


async def test_what_the_system_never_took_is_rejected_first_and_its_origin_told(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that waits, and one that was given out and not acknowledged: both end as rejected, code expired."""
    heard = Heard(monkeypatch)
    handed, _ = await submit(live, "RET-3-handed")
    await eventually(lambda: is_given(live, handed.id))
    waiting, _ = await submit(live, "RET-3-waiting")
    await live.reaches(A, waiting.id, B, "accepted")
    done = await purged(live[B], handed.id, waiting.id)
    assert {one.id: (one.state, one.why) for one in done.listed} == {
        handed.id: ("handed", "expired"),
        waiting.id: ("waiting", "expired"),
    }
    for one in (handed, waiting):
        assert (await live.reaches(A, one.id, B, "rejected"))[-1] == "rejected"
        sent = await live[A].centre.store.read(partial(outgoing.message, message_id=one.id))
        assert sent is not None
        assert sent.recipients[B][-1].code == "expired"
    expected = digest([(await row(live[B], one.id)).commitment for one in (handed, waiting)])
    last = (await leaves(live[B], "expired-by-retention"))[-1]
    assert (last["peer"], last["code"], last["commitments"]) == (A, "expired", expected)
    assert await live.take(B, wait=0.2) == []
    assert (await live[B].handover.acknowledge([handed.id])).unknown == (handed.id,)
    await purged(live[A], handed.id, waiting.id)
    ids = sorted((handed.id, waiting.id))
    rejected = heard.said(Event.RETENTION_REJECTED)
    assert sorted((one["message"], one["centre"], one["peer"], one["code"]) for one in rejected) == [
        (one, B, A, "expired") for one in ids
    ]
    for centre, side in ((A, "sent"), (B, "received")):
        gone = heard.said(Event.RETENTION_PURGED, centre)
        assert sorted((one["message"], one["side"]) for one in gone) == [(one, side) for one in ids]


async def is_given(live: Live, message_id: str) -> bool:
    """Return whether a message is given out now, without acknowledging it."""
    return message_id in [one.id for one in await live[B].handover.take(10, 0.2)]


async def test_what_was_refused_on_arrival_is_purged_too(live: Live) -> None:
    """A quarantined message goes when its time is up, and is no longer counted as kept for an operator."""
    stored, _ = await delivered(live, "RET-4", retention_until=None)
    await live[B].centre.store.write(lambda connection: set_row(connection, stored.id, state="quarantined", purge_at=now_ms()))
    done = await purged(live[B], stored.id)
    assert (done.listed[0].state, done.listed[0].why) == ("quarantined", "retention")
    assert await live[B].centre.store.read(incoming.quarantined) == 0


def set_row(connection: Connection, message_id: str, **values: Any) -> None:
    """Change a received message's row."""
    connection.execute(sql_update(INBOX_MESSAGE).where(INBOX_MESSAGE.c.id == message_id).values(**values))


async def test_what_is_open_stays_sendable_and_goes_once_it_is_closed(live: Live) -> None:
    """While the recipient is away the origin keeps a message beyond its time; its receipt lets it go."""
    await live.stop(B)
    stored, _ = await submit(live, "RET-5")
    await an_hour_passes(live[A])
    await eventually(lambda: needed(live[A], 1))
    assert (await purged(live[A])).sent == 0
    assert await ciphertext(live[A], stored.id)
    await live.start(B)
    await live.reaches(A, stored.id, B, "accepted")
    await purged(live[B], stored.id)
    await live.reaches(A, stored.id, B, "rejected")
    await purged(live[A], stored.id)


async def needed(node: Node, count: int) -> bool:
    """Return whether so many messages are due and still needed."""
    return (await node.retention.purge(dry_run=True)).needed == count


async def test_an_envelope_that_lost_a_message_is_never_sent_again(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven days behind its deadline a message goes though nobody answered; its peer is told so, and gets nothing forged."""
    await live.stop(B)
    stored, _ = await submit(live, "RET-6")
    await live.reaches(A, stored.id, B, "sent")
    assert await live.purge(B, LANE) >= 1
    centre = live[A].centre
    monkeypatch.setattr(live[A].deadlines, "_end_some", nothing)  # by that clock its deadline is over, which ends it, too
    monkeypatch.setattr(centre, "now", lambda: now_ms() + 9 * DAY_MS)
    assert (await purged(live[A])).needed == 1
    monkeypatch.setattr(centre, "now", lambda: now_ms() + 11 * DAY_MS)
    done = await purged(live[A], stored.id)
    assert (done.listed[0].state, done.listed[0].why) == ("open", "unanswered")
    monkeypatch.undo()
    metrics = centre.metrics
    resent = metrics.resent.labels(B)._value.get()
    await live.start(B)

    async def ended() -> bool:
        return (await live.states(A, stored.id, B))[-1] in ("expired", "cancelled")

    await eventually(ended)
    await asyncio.sleep(0.6)  # longer than the loop that sends again needs
    assert metrics.resent.labels(B)._value.get() == resent
    sampled = await live[B].centre.store.read(samples.listed)
    assert [one for one in sampled if one[0] != "from-the-future"] == []  # heartbeats of the clock that was set ahead
    found = (await row(live[A], stored.id)).row
    due = await centre.store.read(lambda connection: outgoing.load(connection, found.envelope))
    assert due is not None
    assert not due.whole


async def nothing() -> bool:
    """Do nothing, and say that there is nothing more to do."""
    return False


async def test_a_hold_keeps_a_message_on_either_side_until_it_is_lifted(live: Live) -> None:
    """Held, nothing goes; lifted, the next run takes it. The record says who and why."""
    stored, _ = await delivered(live, "RET-7")
    for centre in CENTRES:
        node = live[centre]
        await shows(node, stored.id)
        await node.retention.hold(stored.id, "order 17 of the court", "operator")
        assert (await purged(node)).held == 1
        assert await ciphertext(node, stored.id)
        await node.retention.lift(stored.id, "order 17 ended", "operator")
        await purged(node, stored.id)
        committed = digest([(await row(node, stored.id)).commitment])
        for step, why in (("hold-set", "order 17 of the court"), ("hold-lifted", "order 17 ended")):
            leaf = (await leaves(node, step))[-1]
            assert (leaf["actor"], leaf["why"], leaf["commitments"]) == ("operator", why, committed)


def cancelling(stored: Stored, raw: bytes) -> bytes:
    """Return the cancel of a message."""
    reference = {"id": stored.id, "digest": hashlib.sha256(raw).hexdigest(), "relation": "cancels"}
    return json.dumps({**json.loads((EXAMPLES / "cancel.minimal.json").read_bytes()), "references": [reference]}).encode()


async def confirmed(live: Live, cancel: Stored) -> bool:
    """Return whether B said that nothing is left of what a cancel took back."""
    return "purged" in await live.states(A, cancel.id, B)


async def test_a_recall_that_meets_a_hold_is_carried_out_when_the_hold_ends(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The origin sees it unconfirmed while the hold lasts, and confirmed after; the content leaves every file."""
    stored, raw = await delivered(live, "RET-8", retention_until=None)
    secret = await ciphertext(live[B], stored.id)
    await live[B].retention.hold(stored.id, "order 18", "operator")
    cancel = await live.submit(A, cancelling(stored, raw))
    assert [one.id for one in await live.take(B, PATIENCE)] == [cancel.id]
    await live.reaches(A, cancel.id, B, "delivered")
    assert not await confirmed(live, cancel)
    assert await ciphertext(live[B], stored.id) == secret
    await live.stop(B)
    await live.start(B)
    assert await ciphertext(live[B], stored.id) == secret
    heard = Heard(monkeypatch)
    await live[B].retention.lift(stored.id, "order 18 ended", "operator")
    assert [(one["message"], one["code"]) for one in heard.said(Event.MESSAGE_RECALLED, B)] == [(stored.id, "recalled")]
    assert await ciphertext(live[B], stored.id) == b""
    assert traces(live[B], secret) == 0
    await eventually(lambda: confirmed(live, cancel))
    last = (await leaves(live[B], "purged"))[-1]
    assert (last["code"], last["peer"]) == ("recalled", A)


async def test_a_recall_of_what_waits_under_hold_withholds_it(live: Live) -> None:
    """A held message that nobody took is not given out once it is recalled; its content stays until the hold ends."""
    stored, raw = await submit(live, "RET-9", retention_until=None)
    await live.reaches(A, stored.id, B, "accepted")
    await live[B].retention.hold(stored.id, "order 19", "operator")
    cancel = await live.submit(A, cancelling(stored, raw))
    await live.reaches(A, stored.id, B, "rejected")
    assert [one.id for one in await live.take(B, PATIENCE)] == [cancel.id]
    assert await ciphertext(live[B], stored.id)
    await live[B].retention.lift(stored.id, "order 19 ended", "operator")
    assert await ciphertext(live[B], stored.id) == b""
    await eventually(lambda: confirmed(live, cancel))


def updating(stored: Stored, raw: bytes, **fields: Any) -> bytes:
    """Return an update of a message with fields of it changed."""
    inner = {**json.loads(raw), **fields}
    marks = {key: inner[key] for key in ("crime_types", "countries", "tlp", "purpose", "nominal", "to") if key in inner}
    reference = {"id": stored.id, "digest": hashlib.sha256(raw).hexdigest(), "relation": "updates"}
    outer = json.loads((EXAMPLES / "update.minimal.json").read_bytes())
    return json.dumps({**outer, **marks, "references": [reference], "message": inner}).encode()


async def test_holds_on_two_versions_each_keep_their_own_recall_waiting(live: Live) -> None:
    """The update is confirmed when the first version's hold ends, the cancel only when the last hold does."""
    first, raw = await delivered(live, "RET-18", retention_until=None)
    await live[B].retention.hold(first.id, "order 23", "operator")
    second = await live.submit(A, updating(first, raw, case_number="RET-18-2"))
    assert [one.id for one in await live.take(B, PATIENCE)] == [second.id]
    await live[B].retention.hold(second.id, "order 24", "operator")
    cancel = await live.submit(A, cancelling(first, raw))
    assert [one.id for one in await live.take(B, PATIENCE)] == [cancel.id]
    await live.reaches(A, cancel.id, B, "delivered")
    assert not await confirmed(live, second)
    await live[B].retention.lift(first.id, "order 23 ended", "operator")
    await eventually(lambda: confirmed(live, second))
    assert not await confirmed(live, cancel)
    assert [bool(await ciphertext(live[B], one.id)) for one in (first, second)] == [False, True]
    await live[B].retention.lift(second.id, "order 24 ended", "operator")
    await eventually(lambda: confirmed(live, cancel))
    assert await ciphertext(live[B], second.id) == b""


async def test_a_run_that_is_killed_in_the_middle_is_finished_by_the_next(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node ends between two transactions; after the restart the rest goes, and nothing goes twice."""
    monkeypatch.setattr(retention, "PAGE", 2)
    ids = [(await delivered(live, f"RET-10-{n}"))[0].id for n in range(5)]
    secrets = [await ciphertext(live[B], one) for one in ids]
    await shows(live[B], *ids)
    before = len(await leaves(live[B], "purged"))
    committed = asyncio.Event()
    purge = live[B].retention._purge

    async def then_hang(*given: Any) -> Any:
        await purge(*given)
        committed.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(live[B].retention, "_purge", then_hang)
    task = asyncio.create_task(live[B].retention.purge())
    await committed.wait()
    task.cancel()
    await live.abort(B)
    await live.start(B)
    await purged(live[B], *ids[2:])
    assert sum(traces(live[B], secret) for secret in secrets) == 0
    assert [leaf["count"] for leaf in (await leaves(live[B], "purged"))[before:]] == [2, 2, 1]
    await purged(live[A], *ids)


async def test_an_origin_that_can_not_be_told_holds_up_nothing(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the origin has left the network its message goes all the same, and the record says that it expired."""
    stored, _ = await submit(live, "RET-11")
    await live.reaches(A, stored.id, B, "accepted")
    left = Directory.model_validate({**live[B].centre.directory.model_dump(), "members": ()})
    monkeypatch.setattr(live[B].centre.judge, "directory", left)
    await purged(live[B], stored.id)
    assert "rejected" not in await live.states(A, stored.id, B)
    assert (await leaves(live[B], "expired-by-retention"))[-1]["peer"] == A


async def test_old_samples_and_keys_are_forgotten(live: Live) -> None:
    """Samples go after 90 days, idempotency keys after 30; younger ones stay."""
    store, now = live[B].centre.store, now_ms()

    def write(connection: Connection) -> None:
        for days in (89, 91):
            samples.add(connection, "altered", f"{days} days", b"junk", now - days * DAY_MS)
        rows = [{"key": f"{n}", "digest": b"", "message": UNKNOWN, "created_at": now - n * DAY_MS} for n in (29, 31, 32)]
        connection.execute(IDEMPOTENCY.insert(), rows)

    await store.write(write)
    shown = await live[B].retention.purge(dry_run=True)
    assert (shown.samples, shown.keys) == (1, 2)
    done = await live[B].retention.purge()
    assert (done.samples, done.keys) == (1, 2)
    kept = await store.read(lambda connection: list(connection.execute(IDEMPOTENCY.select())))
    assert [one.key for one in kept] == ["29"]
    assert "91 days" not in [detail for _, detail in await store.read(samples.listed)]
    await store.write(lambda connection: connection.execute(SAMPLE.delete()))


async def test_the_node_purges_by_itself(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks: soon after the start, and then regularly, what is due goes."""
    monkeypatch.setenv("RELAY_RETENTION__EVERY_SECONDS", "0.2")
    await live.stop(B)
    await live.start(B)
    runs = live[B].centre.metrics.retention_run
    stored, _ = await delivered(live, "RET-12")
    await an_hour_passes(live[B])
    await eventually(lambda: is_purged(live[B], stored.id))
    last = runs._value.get()
    await eventually(lambda: runs._value.get() > last)
    monkeypatch.undo()
    await live.stop(B)
    await live.start(B)
    await purged(live[A], stored.id)


async def is_purged(node: Node, message_id: str) -> bool:
    """Return whether a message was purged."""
    return (await row(node, message_id)).row.purged_at is not None


async def test_the_operator_holds_lifts_lists_and_purges_over_http(live: Live, api: httpx2.AsyncClient) -> None:
    """Each route does what it says; what a dry run lists is what a run lists."""
    stored, _ = await delivered(live, "RET-13")
    await shows(live[B], stored.id)
    made = await api.post("/v1/retention/holds", json={"id": stored.id, "reason": "order 20"})
    assert made.status_code == 201, made.text
    assert {**made.json(), "at": ""} == {"id": stored.id, "reason": "order 20", "actor": "operator", "at": ""}
    assert (await api.get("/v1/retention/holds")).json() == {"holds": [made.json()]}
    shown = (await api.post("/v1/retention/run", json={"dry_run": True})).json()
    assert (shown["held"], shown["messages"]) == (1, [])
    lifted = await api.delete(f"/v1/retention/holds/{stored.id}", params={"reason": "ended"})
    assert lifted.status_code == 204, lifted.text
    assert (await api.get("/v1/retention/holds")).json() == {"holds": []}
    shown = (await api.post("/v1/retention/run", json={"dry_run": True})).json()
    assert [(one["id"], one["side"], one["state"], one["why"]) for one in shown["messages"]] == [
        (stored.id, "received", "delivered", "retention")
    ]
    done = (await api.post("/v1/retention/run", json={"dry_run": False, "reason": "order 19"})).json()
    assert done == {**shown, "dry_run": False}
    assert (await leaves(live[B], "purged"))[-1]["actor"] == "operator"
    late = await api.post("/v1/retention/holds", json={"id": stored.id, "reason": "order 21"})
    assert (late.status_code, late.json()["code"]) == (409, "already-purged")
    await purged(live[A], stored.id)


async def test_what_can_not_be_done_is_refused_with_a_code(live: Live, api: httpx2.AsyncClient) -> None:
    """Unknown ids, a second hold, a hold that is not there, bodies that say nothing, and the wrong role."""
    stored, _ = await delivered(live, "RET-14", retention_until=None)
    asked = {"id": stored.id, "reason": "order 22"}
    assert (await api.post("/v1/retention/holds", json=asked)).status_code == 201
    refusals = [
        (await api.post("/v1/retention/holds", json=asked), 409, "already-held"),
        (await api.post("/v1/retention/holds", json={**asked, "id": UNKNOWN}), 404, "not-kept-here"),
        (await api.delete(f"/v1/retention/holds/{UNKNOWN}", params={"reason": "x"}), 404, "no-hold"),
        (await api.delete(f"/v1/retention/holds/{stored.id}"), 422, "bad-request"),
        (await api.post("/v1/retention/holds", json={"id": stored.id}), 422, "bad-request"),
        (await api.post("/v1/retention/holds", json={**asked, "reason": ""}), 422, "bad-request"),
        (await api.post("/v1/retention/run", content=b""), 422, "bad-request"),
        (await api.post("/v1/retention/run", json={"dry_run": True, "more": 1}), 422, "bad-request"),
    ]
    system = {"Authorization": f"Bearer {live.network.token(B, 'system')}"}
    refusals += [
        (await api.post("/v1/retention/run", json={"dry_run": False}, headers=system), 403, "not-allowed"),
        (await api.get("/v1/retention/holds", headers=system), 403, "not-allowed"),
        (await api.post("/v1/retention/holds", json=asked, headers=system), 403, "not-allowed"),
        (await api.delete(f"/v1/retention/holds/{stored.id}", params={"reason": "x"}, headers=system), 403, "not-allowed"),
    ]
    for answer, status, code in refusals:
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert (await api.delete(f"/v1/retention/holds/{stored.id}", params={"reason": "ended"})).status_code == 204


async def test_a_purged_message_still_shows_its_states_over_http(live: Live, api: httpx2.AsyncClient) -> None:
    """The sender's system and operator see what became of it, though the content is gone."""
    raw = message(to=[A], case_number="RET-15", retention_until=until())
    stored = await live.submit(B, raw)
    assert [one.id for one in await live.take(A, PATIENCE)] == [stored.id]
    await live.reaches(B, stored.id, A, "delivered")
    await purged(live[B], stored.id)
    shown = await api.get(f"/v1/messages/{stored.id}")
    assert shown.status_code == 200, shown.text
    assert [step["state"] for step in shown.json()["recipients"][0]["history"]] == ["queued", "sent", "accepted", "delivered"]
    assert stored.id in [one["id"] for one in (await api.get("/v1/messages")).json()["messages"]]
    await purged(live[A], stored.id)


def relay(command: str, config: Path) -> str:
    """Run a command of the page against a node of this process; return what it wrote, without what the node logs meanwhile."""
    words = shlex.split(re.sub(r"--config \S+", f"--config {config}", command))
    status, out = said(words[1:])
    assert status == 0, command
    return out


async def test_the_commands_of_the_page_work_in_their_order(live: Live, api: httpx2.AsyncClient) -> None:
    """The how-to's dry run, run, hold, list and lift, typed as they stand."""
    del api  # it serves while the commands run
    due, _ = await delivered(live, "RET-16")
    kept, _ = await delivered(live, "RET-17", retention_until=None)
    await shows(live[B], due.id)
    text = HOWTO.read_text(encoding="utf-8")
    typed = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    config = live.network.node_file(B)
    wrote = [await asyncio.to_thread(relay, command.replace(" ID ", f" {kept.id} "), config) for command in typed]
    assert [command.split()[2] for command in typed] == ["run", "run", "hold", "list", "lift"]
    assert wrote[0] == wrote[1]
    assert wrote[0].split()[:2] == [due.id, "received"]
    assert wrote[3].startswith(kept.id)
    assert "order 17/2026" in wrote[3]
    assert await is_purged(live[B], due.id)
    assert await asyncio.to_thread(relay, "relay retention list --json --config x", config) == '{"holds":[]}\n'
    await purged(live[A], due.id)


@dataclass(frozen=True)
class Case:
    """A message in a store: whether its time is up, where it stands, whether it is held; ``late``: its deadline is long over."""

    side: str
    due: bool
    state: str
    held: bool
    open: bool
    late: bool

    @property
    def goes(self) -> bool:
        """Whether a run must purge it."""
        return self.due and not self.held and (self.side == "received" or not self.open or self.late)


cases = st.builds(
    Case,
    side=st.sampled_from(["received", "sent"]),
    due=st.booleans(),
    state=st.sampled_from(["waiting", "handed", "deferred", "held", "dead", "withdrawn", "delivered", "rejected", "quarantined"]),
    held=st.booleans(),
    open=st.booleans(),
    late=st.booleans(),
)


@pytest.fixture(scope="module")
async def still(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Node, Node]]:
    """Open two nodes whose loops do not run."""
    network = write_network(tmp_path_factory.mktemp("still") / "network", CENTRES)
    nodes = [await open_node(load(network.node_file(centre))) for centre in CENTRES]
    yield nodes[0], nodes[1]
    for node in nodes:
        await node.centre.store.close()
        node.centre.workers.shutdown()


@settings(max_examples=25, deadline=None)
@given(st.lists(cases, min_size=1, max_size=12))
async def test_what_a_dry_run_shows_is_what_goes(still: tuple[Node, Node], drawn: list[Case]) -> None:
    """Whatever lies in the store: a dry run lists exactly what has to go, changes nothing, and the run purges exactly that."""
    node, peer = still
    ids = {await put(node, peer, case): case for case in drawn}
    wanted = {one for one, case in ids.items() if case.goes}
    for _ in range(2):
        shown = await node.retention.purge(dry_run=True)
        assert {one.id for one in shown.listed} == wanted
        assert [one for one in ids if await is_purged(node, one)] == []
    done = await node.retention.purge()
    assert done.listed == shown.listed
    assert {one for one in ids if await is_purged(node, one)} == wanted
    assert (done.held, done.needed) == (
        sum(case.due and case.held for case in drawn),
        sum(case.due and not case.held and not case.goes for case in drawn),
    )
    assert (await node.retention.purge()).listed == []
    for one, case in ids.items():
        if case.held:
            await node.retention.lift(one, "over", "operator")
    await node.centre.store.write(lambda connection: connection.execute(sql_update(OUTBOX_DELIVERY).values(open=0)))
    rest = await node.retention.purge()
    assert {one.id for one in rest.listed} == {one for one, case in ids.items() if case.due} - wanted


async def put(node: Node, peer: Node, case: Case) -> str:
    """Put a message into a node's store as a case says; return its id."""
    origin, recipient = (peer, node) if case.side == "received" else (node, peer)
    now = now_ms()
    raw = message()
    kept = origin.centre.keeper.keep(messages.read(raw), origin.centre.id, now)
    kept = replace(kept, purge_at=now - 1 if case.due else now + DAY_MS)
    made = now - 40 * DAY_MS if case.late else now
    new, first = new_id(origin.centre.id), next(_SEQUENCES)
    sealed = origin.centre.sealer.seal(
        "batch",
        LANE,
        [Draft(new, raw, made + DAY_MS)],
        [Addressee(recipient.centre.id, origin.centre.sealing_key(recipient.centre.id), first)],
        epoch=origin.centre.store.epoch,
        directory=1,
        now=now,
    )
    key = node.centre.storage_key.wrap(sealed.content_key)

    def receive(connection: Connection) -> None:
        incoming.take(connection, Arrival(sealed.envelope, first, key, 0, (None,), (kept,)), now)
        set_row(connection, new, state=case.state)

    def send(connection: Connection) -> None:
        outgoing.add(connection, [NewEnvelope(sealed.envelope, key, ("key",), 0, made, (kept,))], [])
        delivery = sql_update(OUTBOX_DELIVERY).where(OUTBOX_DELIVERY.c.first == first)
        connection.execute(delivery.values(open=int(case.open)))

    await node.centre.store.write(receive if case.side == "received" else send)
    if case.held:
        await node.retention.hold(new, "order", "operator")
    return new


_SEQUENCES = itertools.count(1)
