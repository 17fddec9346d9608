"""What wants somebody now: which peers are late or not what they were, and what waits for a second person.

Errors raised: ``StoreTrouble`` by what reads the store; :func:`late` does without it.
"""

from __future__ import annotations

from pydantic import Field

from relay.deadlines import Alarm
from relay.store import Connection, peers
from relay.store.approvals import Approval
from relay.views.explained import Explained, explained
from relay.views.peers import Duty
from relay.views.times import Moment, Shown
from relay.web import four_eyes
from relay.web.served import Here

MOST = 100


class Late(Shown):
    """A promise that a peer has not kept in time."""

    peer: str
    precedence: str = Field(description="lane of the messages: a precedence, or exercise")
    promise: str = Field(description="accepted, delivered, or half: half of the time to their deadline is over")
    messages: int = Field(description="how many, counted up to some thousands")
    oldest_at: Moment
    duty: Duty | None = Field(description="whom to call; null: the peer is no member of the directory any more")


class PeerTrouble(Shown):
    """The last thing that was wrong with a peer's store, directory or audit log."""

    peer: str
    at: Moment
    why: Explained
    duty: Duty | None


class Waiting(Shown):
    """An act that one person asked for and that waits for a second one, or did."""

    id: str
    action: str = Field(description="replay, quarantine-release or purge")
    subject: str = Field(description="the message's id, or `what is due`")
    reason: str
    asked_by: str
    asked_at: Moment
    expires_at: Moment
    state: str = Field(description="pending, expired, refused; approved: being done; done; failed: it could not be done any more")


def late(here: Here) -> list[Late]:
    """Return the promises that peers have not kept in time, the most urgent lane first."""
    return [_late(here, alarm) for alarm in here.node.deadlines.alarms[:MOST]]


async def of_peers(here: Here) -> list[PeerTrouble]:
    """Return what was last wrong with each peer, the newest first."""

    def read(connection: Connection) -> dict[str, peers.Alarm]:
        return peers.alarms(connection)

    raised = await here.centre.store.read(read)
    found = [PeerTrouble(peer=peer, at=one.at, why=explained(one.code), duty=_duty(here, peer)) for peer, one in raised.items()]
    return sorted(found, key=lambda one: (-one.at, one.peer))[:MOST]


async def waiting(here: Here) -> list[Waiting]:
    """Return what waits for a second person, the newest first."""
    return [of_approval(here, one) for one in await four_eyes.listed(here, MOST, everything=False)]


def of_approval(here: Here, one: Approval) -> Waiting:
    """Return an approval as operators see it."""
    return Waiting(
        id=one.id,
        action=one.action,
        subject=one.subject,
        reason=one.reason,
        asked_by=one.asked_by,
        asked_at=one.asked_at,
        expires_at=one.expires_at,
        state=four_eyes.state(here, one),
    )


def _late(here: Here, alarm: Alarm) -> Late:
    return Late(
        peer=alarm.peer,
        precedence=alarm.lane,
        promise=alarm.promise,
        messages=alarm.messages,
        oldest_at=alarm.since,
        duty=_duty(here, alarm.peer),
    )


def _duty(here: Here, peer: str) -> Duty | None:
    contact = here.node.deadlines.contact(peer)
    return None if contact is None else Duty(name=contact.name, telephone=contact.telephone, email=contact.email)
