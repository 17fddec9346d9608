"""Two clocks: what ends by its deadline, what is said late, and who is alarmed about whom."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import select, update

from relay import deadlines, messages, seal
from relay.api import messages as shown
from relay.audit import AuditStep
from relay.clock import iso, now_ms
from relay.envelope import parse
from relay.rabbit import PrivateBroker
from relay.receipts import Void
from relay.store import Connection, aged, ended, outgoing, parked, record, said
from relay.store.aged import Aged
from relay.store.history import Step
from relay.store.tables import OUTBOX_DELIVERY, OUTBOX_ENVELOPE, OUTBOX_MESSAGE
from relay.submissions import Stored, Submission
from tests.live import LANE, Live, eventually, message, private_network, set_clock

A, B = CENTRES = ("DEAA", "DEAB")
SECONDS = {"flash": 120.0, "immediate": 600.0, "priority": 3600.0, "routine": 28800.0}


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run two centres that grant little grace and alarm at once."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "REPAIR__MARK_FIRST": "0.2",
            "REPAIR__GAP": "0.3",
            "BROKER__RECONNECT_SECONDS": "1",
            "DEADLINES__GRACE": "0.5",
            "ALARMS__FLASH": "0.5",
        }.items():
            patch.setenv(f"RELAY_{name}", value)
        patch.setattr(deadlines, "FAR_SECONDS", 0.3)
        patch.setattr(deadlines, "NEAR_SECONDS", 0.1)
        nodes = Live(private_network(tmp_path_factory.mktemp("deadlines") / "network", broker, "deadlines", CENTRES), broker)
        await nodes.start(*CENTRES)
        yield nodes
        await nodes.close()


@pytest.fixture(autouse=True)
async def both(live: Live) -> None:
    """Let both run, whatever became of an earlier test."""
    await live.restore(*CENTRES)


def soon(seconds: float) -> str:
    """Return a deadline that lies so many seconds ahead."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def state(live: Live, message_id: str) -> tuple[list[Step], list[Step]]:
    """Return the states and the notes of a message at B, as A knows them."""
    sent = await live[A].centre.store.read(lambda connection: outgoing.message(connection, message_id))
    assert sent is not None
    steps = sent.recipients[B]
    return [step for step in steps if not step.note], [step for step in steps if step.note]


async def test_what_nobody_proves_expires_and_a_late_receipt_is_a_note(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its deadline and grace a message is expired, signed by its origin; delivered late is a note, never a second state."""
    await live.stop(B)
    stored = await live.submit(A, message(case_number="LATE", to=[B], expires_at=soon(1800)))
    other = await live.submit(A, message(case_number="LONG", to=[B]))
    await live.reaches(A, stored.id, B, "sent")
    set_clock(monkeypatch, A, 3600)
    await live.reaches(A, stored.id, B, "expired")
    assert "expired" not in await live.states(A, other.id, B)
    voids = await live[A].centre.store.read(partial(ended.voids, recipient=B))
    opened = seal.content(parse(voids[-1].raw), live[A].centre.storage_key.unwrap(voids[-1].content_key), 0)
    assert isinstance(opened, bytes)
    statement = Void.model_validate_json(opened).statements[0]
    assert (statement.state, len(statement.commitments), statement.code) == ("expired", 1, None)
    leaves = await live[A].centre.store.read(partial(record.leaves, epoch=live[A].centre.store.epoch))
    assert AuditStep.EXPIRED in [json.loads(leaf)["step"] for leaf in leaves]
    for word in ("accepted", "delivered"):
        spoken = statement.model_copy(update={"state": word, "time": now_ms()})
        applied = await live[A].centre.store.write(partial(said.apply, sender=B, statement=spoken, receipt=1))
        assert applied.changed == list(statement.commitments)
        again = await live[A].centre.store.write(partial(said.apply, sender=B, statement=spoken, receipt=1))
        assert not again.changed
    way, notes = await state(live, stored.id)
    assert [step.state for step in way] == ["queued", "sent", "expired"]
    assert [step.state for step in notes] == ["accepted", "delivered"]
    body = shown._recipient(B, [*way, *notes])
    assert body["state"] == "expired"
    assert [note["state"] for note in body["notes"]] == ["accepted", "delivered"]
    expired = await live[A].centre.store.read(partial(parked.waiting, state="expired", before=None, limit=10))
    assert [one.id for one in expired] == [stored.id]
    await live.start(B)
    await live.reaches(A, other.id, B, "accepted")


async def test_each_message_of_an_envelope_has_its_own_deadline(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch only what is over expires; the envelope's deadline is then the next of what is open."""
    await live.stop(B)
    live[A].broker.connected.clear()
    raws = [message(case_number=f"OWN-{seconds}", to=[B], expires_at=soon(seconds)) for seconds in (1800, 7200, 10_800)]
    outcomes = await live[A].outbox.submit([Submission(raw, messages.parse(raw)) for raw in raws])
    live[A].broker.connected.set()
    ids = [one.id for one in outcomes if isinstance(one, Stored)]
    set_clock(monkeypatch, A, 3600)
    await live.reaches(A, ids[0], B, "expired")

    def find(connection: Connection) -> int:
        envelope = select(OUTBOX_MESSAGE.c.envelope).where(OUTBOX_MESSAGE.c.id == ids[0]).scalar_subquery()
        query = select(OUTBOX_DELIVERY.c.deadline).where(OUTBOX_DELIVERY.c.envelope == envelope)
        return int(connection.execute(query).scalar_one())

    assert now_ms() + 6_000_000 < await live[A].centre.store.read(find) < now_ms() + 7_300_000
    await live.start(B)
    await live.reaches(A, ids[1], B, "accepted")


async def test_an_alarm_names_whom_to_call_and_ends(live: Live) -> None:
    """A flash message that a peer does not accept in time raises alarms with its duty contact, which end with its receipt."""
    await live.stop(B)
    stored = await live.submit(A, message(case_number="ALARM", to=[B], precedence="flash"))
    about = (B, "flash", "accepted")
    await eventually(lambda: about in [one.about for one in live[A].deadlines.alarms])
    await eventually(lambda: (B, "flash", "delivered") in [one.about for one in live[A].deadlines.alarms])
    alarm = next(one for one in live[A].deadlines.alarms if one.about == about)
    assert alarm.messages == 1
    contact = live[A].deadlines.contact(B)
    assert contact is not None
    assert "@" in contact.email
    assert live[A].deadlines.contact("NOBODY") is None
    assert b'relay_alarms{peer="DEAB",precedence="flash",promise="accepted"} 1.0' in live[A].centre.metrics.text()
    await live.start(B)
    await live.reaches(A, stored.id, B, "accepted")
    await eventually(lambda: about not in [one.about for one in live[A].deadlines.alarms])
    while stored.id not in {one.id for one in await live.take(B)}:
        pass
    await eventually(lambda: not [one for one in live[A].deadlines.alarms if one.lane == "flash"])


async def test_half_of_the_time_is_warned_of(live: Live) -> None:
    """What was submitted as long ago as its deadline lies ahead is found, however young the lane's others are."""
    await live.stop(B)
    stored = await live.submit(A, message(case_number="HALF", to=[B]))

    def age(connection: Connection) -> None:
        envelope = select(OUTBOX_MESSAGE.c.envelope).where(OUTBOX_MESSAGE.c.id == stored.id).scalar_subquery()
        hours = 37 * 3_600_000
        connection.execute(update(OUTBOX_ENVELOPE).where(OUTBOX_ENVELOPE.c.n == envelope).values(created_at=now_ms() - hours))
        connection.execute(
            update(OUTBOX_DELIVERY).where(OUTBOX_DELIVERY.c.envelope == envelope).values(deadline=now_ms() + hours - 7_200_000)
        )

    await live[A].centre.store.write(age)
    found = await live[A].centre.store.read(partial(aged.half_over, now=now_ms()))
    assert [(one.recipient, one.lane, one.messages) for one in found] == [(B, LANE, 1)]
    await live.start(B)
    await live.reaches(A, stored.id, B, "accepted")


@pytest.mark.parametrize(
    ("lane", "promise", "milliseconds"),
    [
        ("flash", "accepted", 120_000),
        ("flash", "delivered", 240_000),
        ("immediate", "accepted", 600_000),
        ("priority", "delivered", 7_200_000),
        ("routine", "accepted", 28_800_000),
        ("exercise", "accepted", 28_800_000),
    ],
)
def test_how_long_a_peer_may_take(lane: str, promise: deadlines.Promise, milliseconds: int) -> None:
    """By precedence, twice as long to deliver, and exercises as routine."""
    assert deadlines.limit(SECONDS, lane, promise) == milliseconds


def test_alarms_come_in_order_of_urgency() -> None:
    """The most urgent lane first, then by peer and promise."""
    found: dict[deadlines.Promise, list[Aged]] = {
        "accepted": [Aged(B, "routine", 3, 5), Aged(B, "flash", 1, 9)],
        "delivered": [Aged(A, "flash", 2, 7)],
        "half": [],
    }
    assert [(one.peer, one.lane, one.promise, one.messages) for one in deadlines.raised(found)] == [
        (A, "flash", "delivered", 2),
        (B, "flash", "accepted", 1),
        (B, "routine", "accepted", 3),
    ]


def test_the_pause_is_short_when_something_is_about_to_end() -> None:
    """One second before a deadline and its grace are over, else longer; without any, longer."""
    assert deadlines.pause(None, 60_000, 0) == deadlines.pause(100_000, 60_000, 0) == deadlines.FAR_SECONDS
    assert deadlines.pause(100_000, 60_000, 159_900) == deadlines.NEAR_SECONDS


def test_a_late_receipt_is_shown_as_a_note() -> None:
    """`GET /v1/messages/ID` shows one state, and beside it what contradicts it."""
    steps = [Step("queued", 0), Step("sent", 1), Step("expired", 2), Step("delivered", 3, note=True), Step("purged", 4)]
    body = shown._recipient(B, steps)
    assert (body["state"], body["at"]) == ("expired", iso(2))
    assert body["notes"] == [{"state": "delivered", "at": iso(3)}]
    assert [step["state"] for step in body["history"]] == ["queued", "sent", "expired"]
