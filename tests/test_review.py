"""Faults that a review found; each test fails until its fault is mended."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from relay.broker import Delivery
from relay.errors import Busy
from relay.intake import Intake
from relay.rabbit import PrivateBroker
from relay.store import Connection
from relay.store.tables import ATTEMPT, INBOX_ENVELOPE, INBOX_MESSAGE, OUTBOX_SEALED
from tests.live import LANE, Live, eventually, message, private_network

A, B, C = CENTRES = ("RVWA", "RVWB", "RVWC")


@pytest.fixture
async def live(broker: PrivateBroker, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Live]:
    """Run three centres."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_REPAIR__GAP", "0.3")
        nodes = Live(private_network(tmp_path / "network", broker, f"review-{abs(hash(request.node.name))}", CENTRES), broker)
        await nodes.start(*CENTRES)
        yield nodes
        await nodes.close()


async def test_a_message_damaged_at_rest_holds_up_no_other_however_few_are_asked_for(live: Live) -> None:
    """A system that takes one message at a time gets the one behind a message whose bytes at rest are damaged."""
    first = await live.submit(A, message(to=[B], case_number="DAMAGED"))
    await live.reaches(A, first.id, B, "accepted")
    second = await live.submit(A, message(to=[B], case_number="SOUND"))
    await live.reaches(A, second.id, B, "accepted")

    def damage(connection: Connection) -> None:
        row = connection.execute(select(INBOX_MESSAGE.c.envelope).where(INBOX_MESSAGE.c.id == first.id)).one()
        body = connection.execute(select(INBOX_ENVELOPE.c.body).where(INBOX_ENVELOPE.c.n == row.envelope)).scalar_one()
        changed = body[:-1] + bytes([body[-1] ^ 1])
        connection.execute(update(INBOX_ENVELOPE).where(INBOX_ENVELOPE.c.n == row.envelope).values(body=changed))

    await live[B].centre.store.write(damage)
    given = await live[B].handover.take(1, 3)
    assert [one.id for one in given] == [second.id]


async def test_an_envelope_damaged_in_the_outbox_does_not_end_the_node(live: Live) -> None:
    """A header that can't be read any more is set aside; the node lives and sends what comes after it."""
    live[A].centre.may_publish.clear()
    first = await live.submit(A, message(to=[B], case_number="DAMAGED"))

    def damage(connection: Connection) -> None:
        for n, header in connection.execute(select(OUTBOX_SEALED.c.n, OUTBOX_SEALED.c.header)).all():
            connection.execute(update(OUTBOX_SEALED).where(OUTBOX_SEALED.c.n == n).values(header=header[:8] + b"x" + header[9:]))

    await live[A].centre.store.write(damage)
    live[A].centre.may_publish.set()
    second = await live.submit(A, message(to=[B], case_number="SOUND"))
    await live.reaches(A, second.id, B, "accepted")
    assert first


async def test_a_redelivered_envelope_for_somebody_else_leaves_no_attempt(live: Live) -> None:
    """What is dropped since it is not for this centre leaves no row behind, delivered again or not."""
    sealed = live.seal(A, [C], [message(to=[C])])
    node = live[B]
    deliver = node.inbox.deliver

    class Once:
        async def ack(self, multiple: bool = False) -> None: ...

    channel = type("Channel", (), {"is_closed": False})()
    deliver(Delivery(LANE, sealed.raw, f"{A}.to.{B}.actual.routine", True, Once(), channel))  # type: ignore[arg-type]
    await asyncio.sleep(1)
    rows = await node.centre.store.read(lambda connection: connection.execute(select(ATTEMPT)).all())
    assert rows == []


def reference(message_id: str, raw: bytes, relation: str) -> dict[str, str]:
    """Return a reference to a message."""
    return {"id": message_id, "digest": hashlib.sha256(raw).hexdigest(), "relation": relation}


async def test_a_recall_is_passed_on_also_when_the_node_could_take_nothing_as_it_came(live: Live) -> None:
    """B released A's message to C; as A takes it back, B's outbox is full for a moment. C is told all the same."""
    raw = message(to=[B], tlp="GREEN", case_number="ONWARD")
    first = await live.submit(A, raw)
    await live.take(B)
    passed = await live.submit(
        B, message(to=[C], tlp="GREEN", case_number="ONWARD-2", references=[reference(first.id, raw, "releases")])
    )
    await live.reaches(B, passed.id, C, "accepted")
    await live.take(C)
    full = live[B].outbox._full
    asked = []

    def busy() -> Busy:
        asked.append(1)
        return Busy("outbox-full", "Full.")

    live[B].outbox._full = busy
    given = json.loads(raw)
    body = {name: given[name] for name in ("crime_types", "countries", "purpose", "nominal", "tlp")} | {
        "kind": "cancel",
        "references": [reference(first.id, raw, "cancels")],
        "language": "en",
        "reason": "withdrawn",
    }
    await live.submit(A, json.dumps(body).encode())
    await eventually(lambda: bool(asked))
    live[B].outbox._full = full
    seen = await live.take(C, 15)
    assert [json.loads(one.raw)["kind"] for one in seen] == ["cancel"]


async def test_a_flood_in_the_most_urgent_lane_starves_no_other() -> None:
    """However much of the most urgent lane waits all the time, what waits in another is taken up before long."""
    intake, channel = Intake(), type("Channel", (), {"is_closed": False})()

    def delivery(lane: str) -> Delivery:
        return Delivery(lane, b"x" * 1000, "", redelivered=False, message=None, channel=channel)  # type: ignore[arg-type]

    intake.add(delivery(LANE))
    for _ in range(100):
        for _ in range(32):
            intake.add(delivery("flash"))
        group = await intake.take()
        if any(one.lane == LANE for one in group):
            return
        intake.rest()
    pytest.fail("a hundred groups, and none with what waited first")


async def test_what_waits_for_a_directory_is_not_taken_once_the_record_is_damaged(live: Live) -> None:
    """An envelope that waited is not stored by a node that takes nothing any more, whatever directory comes."""
    node = live[B]
    sealed = live.seal(A, [B], [message(to=[B], case_number="WAITED")])
    channel = type("Channel", (), {"is_closed": False})()
    delivery = Delivery(LANE, sealed.raw, "", redelivered=False, message=None, channel=channel)  # type: ignore[arg-type]
    node.centre.sound.clear()
    assert node.inbox._waiting.add(delivery, 0)
    await asyncio.sleep(2)
    found = await node.centre.store.read(lambda connection: connection.execute(select(INBOX_MESSAGE)).all())
    node.centre.sound.set()
    assert found == []
