"""What one person asked for and a second one decides about: an approval, as operators see it.

Errors raised: ``StoreTrouble`` by :func:`listed`.
"""

from __future__ import annotations

from pydantic import Field

from relay.store.approvals import Approval
from relay.views.times import Moment, Shown
from relay.web import four_eyes
from relay.web.served import Here


class ApprovalState(Shown):
    """An act that one person asked for and that waits for a second one, or did."""

    id: str
    action: str = Field(description="replay, quarantine-release or purge")
    subject: str = Field(description="the message's id, or `what is due`")
    reason: str
    asked_by: str = Field(description="the client, and its person in brackets")
    asked_at: Moment
    expires_at: Moment
    state: str = Field(description="pending, expired, refused; approved: being done; done; failed: it could not be done any more")
    decided_by: str | None = None
    decided_at: Moment | None = None
    decided_why: str | None = None


async def listed(here: Here, most: int, *, everything: bool = False) -> list[ApprovalState]:
    """Return what waits for a second person, the newest first; with ``everything``, also what is decided or over."""
    return [shown(here, one) for one in await four_eyes.listed(here, most, everything=everything)]


def shown(here: Here, one: Approval) -> ApprovalState:
    """Return an approval as operators see it."""
    return ApprovalState(
        id=one.id,
        action=one.action,
        subject=one.subject,
        reason=one.reason,
        asked_by=one.asked_by,
        asked_at=one.asked_at,
        expires_at=one.expires_at,
        state=four_eyes.state(here, one),
        decided_by=one.decided_by,
        decided_at=one.decided_at,
        decided_why=one.decided_why,
    )
