"""Updates and recalls reach everyone who ever held any version, on real nodes over a real broker."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay import messages
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
