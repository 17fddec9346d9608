"""Nothing is sent to a centre in a version that the directory says it can't read; what is newer and known survives untouched."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from relay import messages
from relay.errors import Refused
from relay.rabbit import PrivateBroker
from relay.submissions import Submission
from tests.live import Live, message, private_network, redirect

CENTRES = ("VBRU", "VLYO", "VSIN")
EVERYWHERE = ["BE", "SG"]


def unread(register: dict[str, Any]) -> None:
    """Let VSIN read no seizure of version 1.0."""
    member = next(one for one in register["members"] if one["id"] == "VSIN")
    member["reads"]["seizure"] = ["1.7"]


@pytest.fixture(scope="module")
async def net(tmp_path_factory: pytest.TempPathFactory, broker: PrivateBroker) -> AsyncIterator[Live]:
    """Run three nodes; one of them reads other versions."""
    network = redirect(private_network(tmp_path_factory.mktemp("reads"), broker, "reads", CENTRES), unread)
    live = Live(network, broker)
    await live.start(*CENTRES)
    yield live
    await live.close()


async def test_a_centre_that_can_not_read_it_is_left_out_and_the_sender_is_told(net: Live) -> None:
    """A broadcast goes to the others, and the answer names who is left out and why."""
    sent = await net.submit("VBRU", message(countries=EVERYWHERE))
    assert sent.recipients == ("VLYO",)
    assert [(one.centre, one.code) for one in sent.withheld] == [("VSIN", "unreadable-version")]
    assert [one.id for one in await net.take("VLYO")] == [sent.id]
    assert await net.take("VSIN", wait=0.5) == []


async def test_a_named_centre_that_can_not_read_it_is_refused(net: Live) -> None:
    """Naming it is a mistake that the sender learns of at once."""
    raw = message(countries=EVERYWHERE, to=["VSIN"])
    outcome = (await net["VBRU"].outbox.submit([Submission(raw, messages.parse(raw))]))[0]
    assert isinstance(outcome, Refused)
    assert [(one.pointer, one.code) for one in outcome.problems] == [("/to/0", "unreadable-version")]


async def test_a_newer_minor_version_arrives_byte_for_byte(net: Live) -> None:
    """A field that this release does not know survives the relay untouched, in the original bytes."""
    raw = json.dumps({**json.loads(message(to=["VLYO"])), "version": "1.9", "added_later": {"so": ["it", "is"]}}).encode()
    sealed = net.seal("VBRU", ["VLYO"], [raw])
    await net.inject("VBRU", "VLYO", sealed.raw)
    assert [one.raw for one in await net.take("VLYO")] == [raw]
