"""Updates and recalls reach everyone who ever held any version, on real nodes over a real broker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from relay import messages, outbox
from relay.envelope import new_id, parse
from relay.errors import Busy, Conflict, Refused
from relay.rabbit import PrivateBroker
from relay.store import threads
from relay.store.threads import Recalled
from relay.submissions import Stored, Submission
from tests.live import EXAMPLES, PATIENCE, Live, eventually, message, private_network

CENTRES = ("RBRU", "RLYO", "RSIN", "RBUE")
EVERYWHERE = ["AR", "BE", "SG"]


def reference(stored: Stored, raw: bytes, relation: str) -> dict[str, str]:
    """Return a reference to a message that was submitted."""
    return {"id": stored.id, "digest": hashlib.sha256(raw).hexdigest(), "relation": relation}


def update(stored: Stored, raw: bytes, **fields: Any) -> bytes:
    """Return an update of a message with fields of it changed; marks are said on the update as well."""
    inner = {key: value for key, value in {**json.loads(raw), **fields}.items() if value is not None}
    outer = json.loads((EXAMPLES / "update.minimal.json").read_bytes())
    marks = {
        key: inner[key] for key in ("crime_types", "countries", "tlp", "purpose", "nominal", "to", "exclude") if key in inner
    }
    outer |= {**marks, "references": [reference(stored, raw, "updates")], "message": inner}
    return json.dumps(outer).encode()


def cancel(stored: Stored, raw: bytes, **fields: Any) -> bytes:
    """Return the cancel of a message."""
    body = json.loads((EXAMPLES / "cancel.minimal.json").read_bytes())
    return json.dumps({**body, "references": [reference(stored, raw, "cancels")], **fields}).encode()


@pytest.fixture(scope="module")
async def four(tmp_path_factory: pytest.TempPathFactory, broker: PrivateBroker) -> AsyncIterator[Live]:
    """Run four nodes on a virtual host of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__GAP", "0.5")
        live = Live(private_network(tmp_path_factory.mktemp("recall"), broker, "recall", CENTRES), broker)
        await live.start(*CENTRES)
        yield live
        await live.close()


async def recall(live: Live, first: Stored) -> tuple[Recalled, ...]:
    """Return where the recall of a message of BRU stands."""

    def look(connection: Any) -> tuple[Recalled, ...]:
        thread = threads.thread(connection, "RBRU", first.id)
        assert thread is not None
        recalls = (*thread.versions[1:], *thread.cancels, *thread.withdrawals)
        return threads.recall_of(thread, threads.purged_by(connection, recalls))

    return await live["RBRU"].centre.store.read(look)


async def confirmed(live: Live, first: Stored) -> set[str]:
    """Return which centres said that nothing is left with them."""
    return {one.centre for one in await recall(live, first) if one.purged_at is not None}


async def refused(live: Live, origin: str, raw: bytes) -> str:
    """Return the code with which a message is refused at submit."""
    outcome = (await live[origin].outbox.submit([Submission(raw, messages.parse(raw))]))[0]
    assert isinstance(outcome, Refused | Conflict), outcome
    return outcome.code


async def take_all(live: Live, *centres: str) -> dict[str, list[dict[str, Any]]]:
    """Take and acknowledge what waits at centres; return the messages as JSON."""
    return {centre: [json.loads(one.raw) for one in await live.take(centre, PATIENCE)] for centre in centres}


async def test_the_recall_scenario(four: Live) -> None:
    """Sent to three, one of them off; narrowed to one; cancelled; the third never sees the payload, and all confirm the purge."""
    raw = message(to=["RLYO", "RSIN", "RBUE"], countries=EVERYWHERE, case_number="BE-2026-009001")
    await four.stop("RBUE")
    first = await four.submit("RBRU", raw)
    assert {centre: len(found) for centre, found in (await take_all(four, "RLYO", "RSIN")).items()} == {"RLYO": 1, "RSIN": 1}

    narrowed = await four.submit("RBRU", update(first, raw, to=["RLYO"], case_number="BE-2026-009002"))
    assert narrowed.recipients == ("RLYO",)
    assert narrowed.withdrawn_from == ("RBUE", "RSIN")
    await eventually(lambda: holds(four, first, {"RLYO", "RSIN"}))

    last = await four.submit("RBRU", cancel(first, raw))
    assert last.recipients == ("RBUE", "RLYO", "RSIN")
    await eventually(lambda: holds(four, first, {"RLYO", "RSIN"}))
    assert {one.centre: one.by for one in await recall(four, first)} == dict.fromkeys(("RBUE", "RLYO", "RSIN"), last.id)

    await four.start("RBUE")
    seen = await four.take("RBUE", PATIENCE)
    await eventually(lambda: holds(four, first, {"RLYO", "RSIN", "RBUE"}))
    seen += await four.take("RBUE", wait=1)
    assert {json.loads(one.raw)["kind"] for one in seen} == {"cancel"}
    assert not any(b"BE-2026-009001" in one.raw or b"BE-2026-009002" in one.raw for one in seen)
    steps = await four.reaches("RBRU", first.id, "RBUE", "rejected")
    assert "delivered" not in steps
    await take_all(four, "RLYO", "RSIN")


async def holds(live: Live, first: Stored, centres: set[str]) -> bool:
    """Return whether exactly these centres have confirmed the newest recall."""
    return await confirmed(live, first) == centres


REFUSED = {
    "unknown-reference": lambda _, raw: cancel(Stored(new_id("RBRU"), ()), raw),
    "not-the-origin": lambda _, raw: cancel(Stored(new_id("RLYO"), ()), raw),
    "digest-mismatch": lambda first, raw: cancel(first, raw + b" "),
    "contradiction": lambda first, raw: cancel(first, raw, status="exercise"),
}


@pytest.mark.parametrize("code", REFUSED)
async def test_a_recall_that_does_not_fit_its_message_is_refused(four: Live, code: str) -> None:
    """A recall of an unknown message, of another's, of other bytes or across exercise and actual is refused at submit."""
    raw = message(to=["RLYO"])
    first = await four.submit("RBRU", raw)
    await four.take("RLYO", PATIENCE)
    assert await refused(four, "RBRU", REFUSED[code](first, raw)) == code
    assert await recall(four, first) == ()


async def test_an_update_is_of_the_same_kind_and_names_the_first_version(four: Live) -> None:
    """An update that changes the kind is refused, and one that refers to an update; after a cancel nothing follows."""
    raw = message(to=["RLYO"])
    first = await four.submit("RBRU", raw)
    alert = {**json.loads((EXAMPLES / "alert.minimal.json").read_bytes()), "to": ["RLYO"]}
    marks = {key: alert[key] for key in ("crime_types", "countries", "tlp", "purpose", "nominal")}
    other = json.loads(update(first, raw)) | {"message": alert} | marks
    assert await refused(four, "RBRU", json.dumps(other).encode()) == "contradiction"

    changed = update(first, raw, case_number="BE-2026-009100")
    second = await four.submit("RBRU", changed)
    assert await refused(four, "RBRU", cancel(second, changed)) == "not-first-version"
    both = [Submission(one, messages.parse(one)) for one in (cancel(first, raw), cancel(first, raw))]
    done = await four["RBRU"].outbox.submit(both)
    assert isinstance(done[0], Stored)
    assert isinstance(done[1], Conflict)
    assert await refused(four, "RBRU", update(first, raw)) == "already-cancelled"
    await eventually(lambda: holds(four, first, {"RLYO"}))
    assert [one["kind"] for one in (await take_all(four, "RLYO"))["RLYO"]] == ["cancel"]


async def test_an_old_version_that_comes_late_never_overwrites_a_newer_one(four: Live) -> None:
    """What was lost on the way and comes again by repair, after its update, is rejected as superseded and never given out."""
    raw = message(to=["RLYO"], case_number="BE-2026-009200")
    await four.stop("RLYO")
    first = await four.submit("RBRU", raw)
    await four.reaches("RBRU", first.id, "RLYO", "sent")
    assert await four.purge("RLYO", "routine") >= 1
    newer = await four.submit("RBRU", update(first, raw, case_number="BE-2026-009201"))
    await four.reaches("RBRU", newer.id, "RLYO", "sent")
    await four.start("RLYO")
    seen = await four.take("RLYO", PATIENCE)
    assert [json.loads(one.raw)["message"]["case_number"] for one in seen] == ["BE-2026-009201"]
    steps = await four.reaches("RBRU", first.id, "RLYO", "rejected")
    assert steps[-1] == "rejected"
    assert await four.take("RLYO", wait=0.5) == []


async def test_a_recalled_message_that_waits_is_never_given_out(four: Live) -> None:
    """A message taken by the node and not yet by its system is rejected as recalled, and its bytes leave the store."""
    raw = message(to=["RLYO"], case_number="BE-2026-009300")
    first = await four.submit("RBRU", raw)
    await four.reaches("RBRU", first.id, "RLYO", "accepted")
    body = await ciphertext(four, "RLYO", first.id)
    assert body
    assert in_store(four, "RLYO", body)
    await four.submit("RBRU", cancel(first, raw))
    assert "delivered" not in await four.reaches("RBRU", first.id, "RLYO", "rejected")
    assert [one["kind"] for one in (await take_all(four, "RLYO"))["RLYO"]] == ["cancel"]
    assert await ciphertext(four, "RLYO", first.id) == b""
    await eventually(lambda: not in_store(four, "RLYO", body))


async def test_what_was_given_and_then_recalled_is_not_given_again(four: Live) -> None:
    """A message given out, recalled and not acknowledged is not given again; acknowledging the recall closes it as recalled."""
    raw = message(to=["RLYO"], case_number="BE-2026-009400")
    first = await four.submit("RBRU", raw)
    assert len(await four["RLYO"].handover.take(10, PATIENCE)) == 1
    recalled = await four.submit("RBRU", cancel(first, raw))
    await eventually(lambda: holds(four, first, {"RLYO"}))
    assert [one.id for one in await four.take("RLYO", PATIENCE)] == [recalled.id]
    assert (await four.reaches("RBRU", first.id, "RLYO", "rejected"))[-1] == "rejected"
    await four.reaches("RBRU", recalled.id, "RLYO", "sent")
    steps = await four.reaches("RBRU", recalled.id, "RLYO", "delivered")
    assert steps == ["queued", "sent", "accepted", "purged", "delivered"]


async def test_what_was_given_and_acknowledged_after_its_recall_is_delivered(four: Live) -> None:
    """A system that acknowledges what it was given before the recall has it delivered; the purge is a track of its own."""
    raw = message(to=["RLYO"], case_number="BE-2026-009450")
    first = await four.submit("RBRU", raw)
    given = await four["RLYO"].handover.take(10, PATIENCE)
    await four.submit("RBRU", cancel(first, raw))
    await eventually(lambda: holds(four, first, {"RLYO"}))
    await four["RLYO"].handover.acknowledge([one.id for one in given])
    assert (await four.reaches("RBRU", first.id, "RLYO", "delivered"))[-1] == "delivered"
    await four.take("RLYO", PATIENCE)


async def test_a_centre_left_out_and_let_in_again_gets_the_newer_version(four: Live) -> None:
    """After a narrower version took the message from a centre, a wider one gives it the new version, and not the old."""
    raw = message(to=["RLYO", "RSIN"], countries=EVERYWHERE, case_number="BE-2026-009500")
    first = await four.submit("RBRU", raw)
    await four.submit("RBRU", update(first, raw, to=["RLYO"]))
    again = update(first, raw, to=["RLYO", "RSIN"], case_number="BE-2026-009501")
    wide = await four.submit("RBRU", again)
    await eventually(lambda: holds(four, first, {"RLYO", "RSIN"}))
    assert {one.by for one in await recall(four, first)} == {wide.id}
    seen = (await take_all(four, "RLYO", "RSIN"))["RSIN"]
    assert [one["message"]["case_number"] for one in seen if one["kind"] == "update"] == ["BE-2026-009501"]


async def test_a_lost_purge_receipt_comes_again(four: Live) -> None:
    """The origin sees the purge confirmed also when every receipt of the recall was lost once."""
    raw = message(to=["RLYO"], case_number="BE-2026-009600")
    first = await four.submit("RBRU", raw)
    await four.take("RLYO", PATIENCE)
    await four.reaches("RBRU", first.id, "RLYO", "delivered")
    recalled = await four.submit("RBRU", cancel(first, raw))
    await four.reaches("RBRU", recalled.id, "RLYO", "sent")
    await four.stop("RBRU")
    await four.take("RLYO", PATIENCE)
    await eventually(lambda: lost_something(four))
    await four.start("RBRU")
    await eventually(lambda: holds(four, first, {"RLYO"}))
    assert (await four.reaches("RBRU", recalled.id, "RLYO", "delivered"))[-1] == "delivered"


async def test_nobody_else_recalls_a_message(four: Live) -> None:
    """A cancel of another centre's message, sealed by a member that bends its node, is refused; the message is given out."""
    raw = message(to=["RLYO"], case_number="BE-2026-009700")
    first = await four.submit("RBRU", raw)
    await four.reaches("RBRU", first.id, "RLYO", "accepted")
    forged = four.seal("RSIN", ["RLYO"], [cancel(first, raw)], lane="flash")
    await four.inject("RSIN", "RLYO", forged.raw, lane="flash")
    await eventually(lambda: quarantined(four, "RLYO", "not-the-origin"))
    assert [json.loads(one.raw)["case_number"] for one in await four.take("RLYO", PATIENCE)] == ["BE-2026-009700"]


async def test_a_recall_reaches_the_quarantine(four: Live) -> None:
    """An update that was refused on arrival, and is kept for an operator, is purged with the rest of its thread."""
    raw = message(to=["RLYO"], case_number="BE-2026-009750")
    first = await four.submit("RBRU", raw)
    await four.take("RLYO", PATIENCE)
    refused_update = four.seal("RBRU", ["RLYO"], [update(first, raw, to=["RSIN"])])
    await four.inject("RBRU", "RLYO", refused_update.raw)
    await eventually(lambda: quarantined(four, "RLYO", "recipient-not-named"))
    identity = refused_update.envelope.core.messages[0].id
    assert await ciphertext(four, "RLYO", identity)
    await four.submit("RBRU", cancel(first, raw))
    await eventually(lambda: holds(four, first, {"RLYO"}))
    assert await ciphertext(four, "RLYO", identity) == b""
    await four.take("RLYO", PATIENCE)


async def test_a_recall_is_passed_on_to_those_who_got_the_message_second_hand(four: Live) -> None:
    """A centre that released a message takes its release back by itself when the message is taken back from it."""
    raw = message(to=["RLYO"], tlp="GREEN", countries=EVERYWHERE, case_number="BE-2026-009800")
    first = await four.submit("RBRU", raw)
    await four.take("RLYO", PATIENCE)
    passed = message(to=["RSIN"], tlp="GREEN", countries=EVERYWHERE, references=[reference(first, raw, "releases")])
    release = await four.submit("RLYO", passed)
    assert [json.loads(one.raw)["kind"] for one in await four.take("RSIN", PATIENCE)] == ["seizure"]
    await four.submit("RBRU", cancel(first, raw))
    seen = await four.take("RSIN", PATIENCE)
    assert [json.loads(one.raw)["references"][0]["id"] for one in seen] == [release.id]
    assert (seen[0].origin, json.loads(seen[0].raw)["kind"]) == ("RLYO", "cancel")
    assert await ciphertext(four, "RSIN", release.id) == b""
    await four.take("RLYO", PATIENCE)


async def test_a_recall_is_passed_on_also_when_the_node_could_take_nothing_as_it_came(
    four: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A centre whose outbox is full as a message is taken back from it takes its release back once there is room again."""
    raw = message(to=["RLYO"], tlp="GREEN", countries=EVERYWHERE, case_number="BE-2026-009850")
    first = await four.submit("RBRU", raw)
    await four.take("RLYO", PATIENCE)
    passed = message(to=["RSIN"], tlp="GREEN", countries=EVERYWHERE, references=[reference(first, raw, "releases")])
    release = await four.submit("RLYO", passed)
    assert [json.loads(one.raw)["kind"] for one in await four.take("RSIN", PATIENCE)] == ["seizure"]
    refused_: list[str] = []

    def full() -> Busy:
        refused_.append("outbox-full")
        return Busy("outbox-full", "Nothing is taken for a moment.")

    with monkeypatch.context() as patch:
        patch.setattr(four["RLYO"].outbox, "_full", full)
        patch.setattr(outbox, "PAUSE_SECONDS", 0.2)
        await four.submit("RBRU", cancel(first, raw))
        await eventually(lambda: len(refused_) > 1)
    seen = await four.take("RSIN", PATIENCE)
    assert [json.loads(one.raw)["references"][0]["id"] for one in seen] == [release.id]
    await four.take("RLYO", PATIENCE)


async def test_a_release_keeps_to_the_marks(four: Live) -> None:
    """What is marked AMBER is released to no other centre, and only what the system was given can be released."""
    raw = message(to=["RLYO"], tlp="AMBER", case_number="BE-2026-009900")
    first = await four.submit("RBRU", raw)
    passed = message(to=["RBUE"], countries=EVERYWHERE, references=[reference(first, raw, "releases")])
    await four.reaches("RBRU", first.id, "RLYO", "accepted")
    assert await refused(four, "RLYO", passed) == "unknown-reference"
    await four.take("RLYO", PATIENCE)
    assert await refused(four, "RLYO", passed) == "release-forbidden"


async def test_a_restriction_in_words_is_confirmed_before_its_message_counts_as_taken(four: Live) -> None:
    """A message marked H3 is acknowledged only when its restriction is confirmed; until then it is given again."""
    raw = message(to=["RLYO"], handling="H3", handling_text="Not to be used in court.")
    first = await four.submit("RBRU", raw)
    handover = four["RLYO"].handover
    given = await handover.take(10, PATIENCE)
    assert [one.handling for one in given] == ["H3"]
    done = await handover.acknowledge([first.id])
    assert (done.delivered, done.unknown, done.unconfirmed) == (0, (), (first.id,))
    assert [one.id for one in await handover.take(10, PATIENCE)] == [first.id]
    assert (await handover.acknowledge([first.id], [first.id])).delivered == 1
    await four.reaches("RBRU", first.id, "RLYO", "delivered")


async def test_warnings_travel_with_the_message(four: Live) -> None:
    """What looks wrong is told to the sender and, with the message, to the receiver; it refuses nothing."""
    goods = json.loads(message())["commodities"]
    details = {"family": "medicines", "product_name": "Invented 20 mg", "who_class": "falsified"}
    raw = message(to=["RLYO"], commodities=[{**goods[0], "hs": "440710", "details": details}])
    stored = await four.submit("RBRU", raw)
    assert [one.code for one in stored.warnings] == ["doubtful-chapter"]
    assert [one.warnings for one in await four.take("RLYO", PATIENCE)] == [stored.warnings]


async def ciphertext(live: Live, centre: str, message_id: str) -> bytes:
    """Return the ciphertext of a received message as it rests, empty once it is purged."""
    found = await live[centre].centre.store.read(lambda connection: threads.received(connection, message_id))
    assert found is not None
    return parse(found.resting.header + found.resting.body).ciphertexts[found.position]


def in_store(live: Live, centre: str, content: bytes) -> bool:
    """Return whether bytes lie anywhere in the files of a centre's store."""
    file = live[centre].centre.settings.store.file
    return any(content in path.read_bytes() for path in file.parent.glob(f"{file.name}*"))


async def lost_something(live: Live) -> bool:
    """Throw away what waits for BRU in its control queue; return whether anything did."""
    return await live.purge("RBRU", "control") > 0


async def quarantined(live: Live, centre: str, code: str) -> bool:
    """Return whether a centre keeps a message that it refused under a code."""
    found = await live[centre].centre.store.read(lambda c: c.exec_driver_sql("SELECT state, code FROM inbox_message").all())
    return ("quarantined", code) in [tuple(row) for row in found]
