"""Who received a message: who was sent it, and what became of it there, each by the signed receipt that says so.

Errors raised: ``NotFound`` (``not-kept-here``), ``StoreTrouble``.
"""

from __future__ import annotations

from dataclasses import asdict

from pydantic import Field

from relay.centre import Centre
from relay.proving import Proving, Receiver
from relay.views.recipient import Reached
from relay.views.times import Moment, Shown


class ReceiverState(Reached):
    """What a recipient did with a message; null: nothing is known of it here."""

    accepted_at: Moment | None = Field(description="when its node verified and stored it, by its own clock")
    delivered_at: Moment | None = Field(description="when its own system took it")
    rejected_at: Moment | None = Field(description="when it refused it for good")
    purged_at: Moment | None = Field(description="when it said that nothing is left of what the message takes back")
    receipts: dict[str, str] = Field(description="id of the signed receipt that says so, by state")


class WhoReceived(Shown):
    """Who was sent a message, and what became of it there."""

    id: str = Field(description="a message's id, at every centre the same")
    origin: str
    envelope: str
    submitted_at: Moment
    recipients: list[ReceiverState]


async def receivers(centre: Centre, message: str) -> WhoReceived:
    """Return who received a message."""
    found = await Proving(centre).receivers(message)
    return WhoReceived(
        id=found.message,
        origin=found.origin,
        envelope=found.envelope,
        submitted_at=found.submitted_at,
        recipients=[_state(one) for one in found.recipients],
    )


def _state(one: Receiver) -> ReceiverState:
    return ReceiverState(**asdict(one))
