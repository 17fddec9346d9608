"""What an operator does to one message, whichever listener he asks at: done, or asked for where the policy wants two people.

Errors raised: ``NotFound``, ``Conflict`` and ``NotAllowed`` as :mod:`relay.desk`, :mod:`relay.received` and
:mod:`relay.web.four_eyes` say, ``StoreTrouble``.
"""

from __future__ import annotations

from typing import Literal

from starlette.requests import Request

from relay.desk import Order
from relay.received import Act
from relay.store.approvals import Approval
from relay.store.aside import Received
from relay.web import four_eyes
from relay.web.callers import actor
from relay.web.served import here

Verb = Literal["hold", "release", "replay", "discard"]


async def sent(request: Request, message: str, verb: Verb, reason: str) -> Approval | None:
    """Steer a message of this centre; return what waits for a second person now, or None when it is done."""
    if verb == "replay" and (waiting := await four_eyes.asked(request, "replay", message, reason)) is not None:
        return waiting
    desk = here(request).node.desk
    act = {"hold": desk.hold, "release": desk.release, "replay": desk.replay, "discard": desk.discard}[verb]
    await act(Order(message, reason, actor(request)))
    return None


async def received(request: Request, message: str, verb: Verb, reason: str) -> Approval | Received:
    """Settle a received message; return what waits for a second person now, or where the message stands when it is done."""
    messages = here(request).node.received
    of_two = _of_two(verb, await messages.find(message))
    if of_two is not None and (waiting := await four_eyes.asked(request, of_two, message, reason)) is not None:
        return waiting
    act = {"hold": messages.hold, "release": messages.release, "replay": messages.replay, "discard": messages.discard}[verb]
    return await act(Act(message, actor(request), reason))


def _of_two(verb: Verb, found: Received) -> four_eyes.Action | None:
    if verb == "discard":
        return "purge"
    return "quarantine-release" if verb == "release" and found.state == "quarantined" else None
