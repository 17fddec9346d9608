"""What is damaged at rest, or whose record is: it harms no neighbour, and an operator sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from relay.broker import Delivery
from relay.rabbit import PrivateBroker
from relay.store import Connection, ended
from relay.store.history import DEAD
from relay.store.tables import INBOX_ENVELOPE, INBOX_MESSAGE, OUTBOX_DELIVERY, OUTBOX_SEALED
from tests.live import LANE, PATIENCE, Live, eventually, message, private_network

_DEAD = select(OUTBOX_DELIVERY).where(OUTBOX_DELIVERY.c.behind.op("&")(DEAD) != 0)
A, B = CENTRES = ("DMGA", "DMGB")


@pytest.fixture
async def live(broker: PrivateBroker, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Live]:
    """Run two centres."""
    nodes = Live(private_network(tmp_path / "network", broker, f"damage-{request.node.name[:30]}", CENTRES), broker)
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
    given = await live[B].handover.take(1, PATIENCE)
    assert [one.id for one in given] == [second.id]
    found = await live[B].received.find(first.id)
    assert (found.state, found.code) == ("dead", "cannot-decrypt")


async def test_an_envelope_damaged_in_the_outbox_does_not_end_the_node(live: Live) -> None:
    """A header that can't be read any more is set aside as dead; the node lives, sends what comes after it, and ends it too."""
    await asyncio.wait_for(live[A].centre.may_publish.wait(), PATIENCE)  # its start sets it
    live[A].centre.may_publish.clear()
    await live.submit(A, message(to=[B], case_number="DAMAGED"))

    def damage(connection: Connection) -> None:
        for n, header in connection.execute(select(OUTBOX_SEALED.c.n, OUTBOX_SEALED.c.header)).all():
            connection.execute(update(OUTBOX_SEALED).where(OUTBOX_SEALED.c.n == n).values(header=header[:8] + b"x" + header[9:]))

    await live[A].centre.store.write(damage)
    live[A].centre.may_publish.set()
    second = await live.submit(A, message(to=[B], case_number="SOUND"))
    await live.reaches(A, second.id, B, "accepted")
    await eventually(lambda: is_dead(live))

    def over(connection: Connection) -> list[list[str]]:
        return [one.messages for _ in range(2) for one in ended.over(connection, 2**61, 10)]

    assert await live[A].centre.store.write(over) == [[second.id], [second.id]]


async def is_dead(live: Live) -> bool:
    """Return whether a delivery of A is one that nobody tries again by itself."""
    return bool(await live[A].centre.store.read(lambda connection: connection.execute(_DEAD).all()))


async def test_what_waits_for_a_directory_is_not_taken_once_the_record_is_damaged(live: Live) -> None:
    """An envelope that waited is not stored by a node that takes nothing any more, whatever directory comes."""
    node = live[B]
    sealed = live.seal(A, [B], [message(to=[B], case_number="WAITED")])
    channel = type("Channel", (), {"is_closed": False})()
    delivery = Delivery(LANE, sealed.raw, "", redelivered=False, message=None, channel=channel)  # type: ignore[arg-type]
    node.centre.sound.clear()
    assert node.inbox._waiting.add(delivery, 0)
    await asyncio.sleep(1)  # it would be taken up at once
    found = await node.centre.store.read(lambda connection: connection.execute(select(INBOX_MESSAGE)).all())
    node.centre.sound.set()
    assert found == []
