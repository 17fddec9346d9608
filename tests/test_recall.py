"""Updates and recalls reach everyone who ever held any version, on real nodes over a real broker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from relay import messages
from relay.envelope import new_id, parse
from relay.errors import Conflict, Refused
from relay.outbox import Stored, Submission
from relay.rabbit import PrivateBroker
from relay.store import threads
from relay.store.threads import Recalled
from tests.live import EXAMPLES, Live, eventually, message, private_network

CENTRES = ("BRU", "LYO", "SIN", "BUE")
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
    live = Live(private_network(tmp_path_factory.mktemp("recall"), broker, "recall", CENTRES), broker)
    await live.start(*CENTRES)
    yield live
    await live.close()


async def recall(live: Live, first: Stored) -> tuple[Recalled, ...]:
    """Return where the recall of a message of BRU stands."""

    def look(connection: Any) -> tuple[Recalled, ...]:
        thread = threads.thread(connection, "BRU", first.id)
        assert thread is not None
        recalls = (*thread.versions[1:], *thread.cancels, *thread.withdrawals)
        return threads.recall_of(thread, threads.purged_by(connection, recalls))

    return await live["BRU"].centre.store.read(look)


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
    return {centre: [json.loads(one.raw) for one in await live.take(centre)] for centre in centres}


async def test_the_recall_scenario(four: Live) -> None:
    """Sent to three, one of them off; narrowed to one; cancelled; the third never sees the payload, and all confirm the purge."""
    raw = message(to=["LYO", "SIN", "BUE"], countries=EVERYWHERE, case_number="BE-2026-009001")
    await four.stop("BUE")
    first = await four.submit("BRU", raw)
    assert {centre: len(found) for centre, found in (await take_all(four, "LYO", "SIN")).items()} == {"LYO": 1, "SIN": 1}

    narrowed = await four.submit("BRU", update(first, raw, to=["LYO"], case_number="BE-2026-009002"))
    assert narrowed.recipients == ("LYO",)
    assert narrowed.withdrawn_from == ("BUE", "SIN")
    await eventually(lambda: holds(four, first, {"LYO", "SIN"}))

    last = await four.submit("BRU", cancel(first, raw))
    assert last.recipients == ("BUE", "LYO", "SIN")
    await eventually(lambda: holds(four, first, {"LYO", "SIN"}))
    assert {one.centre: one.by for one in await recall(four, first)} == dict.fromkeys(("BUE", "LYO", "SIN"), last.id)

    await four.start("BUE")
    seen = await four.take("BUE")
    await eventually(lambda: holds(four, first, {"LYO", "SIN", "BUE"}))
    seen += await four.take("BUE", wait=1)
    assert {json.loads(one.raw)["kind"] for one in seen} == {"cancel"}
    assert not any(b"BE-2026-009001" in one.raw or b"BE-2026-009002" in one.raw for one in seen)
    steps = await four.reaches("BRU", first.id, "BUE", "rejected")
    assert "delivered" not in steps
    await take_all(four, "LYO", "SIN")


async def holds(live: Live, first: Stored, centres: set[str]) -> bool:
    """Return whether exactly these centres have confirmed the newest recall."""
    return await confirmed(live, first) == centres


REFUSED = {
    "unknown-reference": lambda _, raw: cancel(Stored(new_id("BRU"), ()), raw),
    "not-the-origin": lambda _, raw: cancel(Stored(new_id("LYO"), ()), raw),
    "digest-mismatch": lambda first, raw: cancel(first, raw + b" "),
    "contradiction": lambda first, raw: cancel(first, raw, status="exercise"),
}


@pytest.mark.parametrize("code", REFUSED)
async def test_a_recall_that_does_not_fit_its_message_is_refused(four: Live, code: str) -> None:
    """A recall of an unknown message, of another's, of other bytes or across exercise and actual is refused at submit."""
    raw = message(to=["LYO"])
    first = await four.submit("BRU", raw)
    await four.take("LYO")
    assert await refused(four, "BRU", REFUSED[code](first, raw)) == code
    assert await recall(four, first) == ()


async def test_an_update_is_of_the_same_kind_and_names_the_first_version(four: Live) -> None:
    """An update that changes the kind is refused, and one that refers to an update; after a cancel nothing follows."""
    raw = message(to=["LYO"])
    first = await four.submit("BRU", raw)
    alert = {**json.loads((EXAMPLES / "alert.minimal.json").read_bytes()), "to": ["LYO"]}
    marks = {key: alert[key] for key in ("crime_types", "countries", "tlp", "purpose", "nominal")}
    other = json.loads(update(first, raw)) | {"message": alert} | marks
    assert await refused(four, "BRU", json.dumps(other).encode()) == "contradiction"

    changed = update(first, raw, case_number="BE-2026-009100")
    second = await four.submit("BRU", changed)
    assert await refused(four, "BRU", cancel(second, changed)) == "not-first-version"
    both = [Submission(one, messages.parse(one)) for one in (cancel(first, raw), cancel(first, raw))]
    done = await four["BRU"].outbox.submit(both)
    assert isinstance(done[0], Stored)
    assert isinstance(done[1], Conflict)
    assert await refused(four, "BRU", update(first, raw)) == "already-cancelled"
    await eventually(lambda: holds(four, first, {"LYO"}))
    assert [one["kind"] for one in (await take_all(four, "LYO"))["LYO"]] == ["cancel"]


async def test_an_old_version_that_comes_late_never_overwrites_a_newer_one(four: Live) -> None:
    """What was lost on the way and comes again by repair, after its update, is rejected as superseded and never given out."""
    raw = message(to=["LYO"], case_number="BE-2026-009200")
    await four.stop("LYO")
    first = await four.submit("BRU", raw)
    await four.reaches("BRU", first.id, "LYO", "sent")
    assert await four.purge("LYO", "routine") >= 1
    await four.submit("BRU", update(first, raw, case_number="BE-2026-009201"))
    await four.start("LYO")
    seen = await four.take("LYO")
    assert [json.loads(one.raw)["message"]["case_number"] for one in seen] == ["BE-2026-009201"]
    steps = await four.reaches("BRU", first.id, "LYO", "rejected", 30)
    assert steps[-1] == "rejected"
    assert await four.take("LYO", wait=0.5) == []


async def test_a_recalled_message_that_waits_is_never_given_out(four: Live) -> None:
    """A message taken by the node and not yet by its system is rejected as recalled, and its bytes leave the store."""
    raw = message(to=["LYO"], case_number="BE-2026-009300")
    first = await four.submit("BRU", raw)
    await four.reaches("BRU", first.id, "LYO", "accepted")
    body = await ciphertext(four, "LYO", first.id)
    assert body
    assert in_store(four, "LYO", body)
    await four.submit("BRU", cancel(first, raw))
    assert "delivered" not in await four.reaches("BRU", first.id, "LYO", "rejected")
    assert [one["kind"] for one in (await take_all(four, "LYO"))["LYO"]] == ["cancel"]
    assert await ciphertext(four, "LYO", first.id) == b""
    await eventually(lambda: not in_store(four, "LYO", body))


async def test_what_was_given_and_then_recalled_is_not_given_again(four: Live) -> None:
    """A message given out, recalled and not acknowledged is not given again; acknowledging the recall closes it as recalled."""
    raw = message(to=["LYO"], case_number="BE-2026-009400")
    first = await four.submit("BRU", raw)
    assert len(await four["LYO"].handover.take(10, 10)) == 1
    recalled = await four.submit("BRU", cancel(first, raw))
    await eventually(lambda: holds(four, first, {"LYO"}))
    assert [one.id for one in await four.take("LYO")] == [recalled.id]
    assert (await four.reaches("BRU", first.id, "LYO", "rejected"))[-1] == "rejected"
    assert await four.states("BRU", recalled.id, "LYO") == ["queued", "sent", "accepted", "purged", "delivered"]


async def test_what_was_given_and_acknowledged_after_its_recall_is_delivered(four: Live) -> None:
    """A system that acknowledges what it was given before the recall has it delivered; the purge is a track of its own."""
    raw = message(to=["LYO"], case_number="BE-2026-009450")
    first = await four.submit("BRU", raw)
    given = await four["LYO"].handover.take(10, 10)
    await four.submit("BRU", cancel(first, raw))
    await eventually(lambda: holds(four, first, {"LYO"}))
    await four["LYO"].handover.acknowledge([one.id for one in given])
    assert (await four.reaches("BRU", first.id, "LYO", "delivered"))[-1] == "delivered"
    await four.take("LYO")


async def test_a_centre_left_out_and_let_in_again_gets_the_newer_version(four: Live) -> None:
    """After a narrower version took the message from a centre, a wider one gives it the new version, and not the old."""
    raw = message(to=["LYO", "SIN"], countries=EVERYWHERE, case_number="BE-2026-009500")
    first = await four.submit("BRU", raw)
    await four.submit("BRU", update(first, raw, to=["LYO"]))
    again = update(first, raw, to=["LYO", "SIN"], case_number="BE-2026-009501")
    wide = await four.submit("BRU", again)
    await eventually(lambda: holds(four, first, {"LYO", "SIN"}))
    assert {one.by for one in await recall(four, first)} == {wide.id}
    seen = (await take_all(four, "LYO", "SIN"))["SIN"]
    assert [one["message"]["case_number"] for one in seen if one["kind"] == "update"] == ["BE-2026-009501"]


async def test_a_lost_purge_receipt_comes_again(four: Live) -> None:
    """The origin sees the purge confirmed also when every receipt of the recall was lost once."""
    raw = message(to=["LYO"], case_number="BE-2026-009600")
    first = await four.submit("BRU", raw)
    await four.take("LYO")
    await four.reaches("BRU", first.id, "LYO", "delivered")
    recalled = await four.submit("BRU", cancel(first, raw))
    await four.reaches("BRU", recalled.id, "LYO", "sent")
    await four.stop("BRU")
    await four.take("LYO")
    await eventually(lambda: lost_something(four))
    await four.start("BRU")
    await eventually(lambda: holds(four, first, {"LYO"}), 40)
    assert (await four.reaches("BRU", recalled.id, "LYO", "delivered"))[-1] == "delivered"


async def test_nobody_else_recalls_a_message(four: Live) -> None:
    """A cancel of another centre's message, sealed by a member that bends its node, is refused; the message is given out."""
    raw = message(to=["LYO"], case_number="BE-2026-009700")
    first = await four.submit("BRU", raw)
    await four.reaches("BRU", first.id, "LYO", "accepted")
    forged = four.seal("SIN", ["LYO"], [cancel(first, raw)], lane="flash")
    await four.inject("SIN", "LYO", forged.raw, lane="flash")
    await eventually(lambda: quarantined(four, "LYO", "not-the-origin"))
    assert [json.loads(one.raw)["case_number"] for one in await four.take("LYO")] == ["BE-2026-009700"]


async def test_a_recall_is_passed_on_to_those_who_got_the_message_second_hand(four: Live) -> None:
    """A centre that released a message takes its release back by itself when the message is taken back from it."""
    raw = message(to=["LYO"], tlp="GREEN", countries=EVERYWHERE, case_number="BE-2026-009800")
    first = await four.submit("BRU", raw)
    await four.take("LYO")
    passed = message(to=["SIN"], tlp="GREEN", countries=EVERYWHERE, references=[reference(first, raw, "releases")])
    release = await four.submit("LYO", passed)
    assert [json.loads(one.raw)["kind"] for one in await four.take("SIN")] == ["seizure"]
    await four.submit("BRU", cancel(first, raw))
    seen = await four.take("SIN")
    assert [json.loads(one.raw)["references"][0]["id"] for one in seen] == [release.id]
    assert (seen[0].origin, json.loads(seen[0].raw)["kind"]) == ("LYO", "cancel")
    assert await ciphertext(four, "SIN", release.id) == b""
    await four.take("LYO")


async def test_a_release_keeps_to_the_marks(four: Live) -> None:
    """What is marked AMBER is released to no other centre, and only what the system was given can be released."""
    raw = message(to=["LYO"], tlp="AMBER", case_number="BE-2026-009900")
    first = await four.submit("BRU", raw)
    passed = message(to=["BUE"], countries=EVERYWHERE, references=[reference(first, raw, "releases")])
    await four.reaches("BRU", first.id, "LYO", "accepted")
    assert await refused(four, "LYO", passed) == "unknown-reference"
    await four.take("LYO")
    assert await refused(four, "LYO", passed) == "release-forbidden"


async def test_a_restriction_in_words_is_confirmed_before_its_message_counts_as_taken(four: Live) -> None:
    """A message marked H3 is acknowledged only when its restriction is confirmed; until then it is given again."""
    raw = message(to=["LYO"], handling="H3", handling_text="Not to be used in court.")
    first = await four.submit("BRU", raw)
    handover = four["LYO"].handover
    given = await handover.take(10, 10)
    assert [one.handling for one in given] == ["H3"]
    done = await handover.acknowledge([first.id])
    assert (done.delivered, done.unknown, done.unconfirmed) == (0, (), (first.id,))
    assert [one.id for one in await handover.take(10, 1)] == [first.id]
    assert (await handover.acknowledge([first.id], [first.id])).delivered == 1
    await four.reaches("BRU", first.id, "LYO", "delivered")


async def test_warnings_travel_with_the_message(four: Live) -> None:
    """What looks wrong is told to the sender and, with the message, to the receiver; it refuses nothing."""
    goods = json.loads(message())["commodities"]
    details = {"family": "medicines", "product_name": "Invented 20 mg", "who_class": "falsified"}
    raw = message(to=["LYO"], commodities=[{**goods[0], "hs": "440710", "details": details}])
    stored = await four.submit("BRU", raw)
    assert [one.code for one in stored.warnings] == ["doubtful-chapter"]
    assert [one.warnings for one in await four.take("LYO")] == [stored.warnings]


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
    return await live.purge("BRU", "control") > 0


async def quarantined(live: Live, centre: str, code: str) -> bool:
    """Return whether a centre keeps a message that it refused under a code."""
    found = await live[centre].centre.store.read(lambda c: c.exec_driver_sql("SELECT state, code FROM inbox_message").all())
    return ("quarantined", code) in [tuple(row) for row in found]
