"""What wants somebody now: which peers are late, and which are not what they were.

Errors raised: ``StoreTrouble`` by :func:`of_peers`; :func:`late` does without the store.
"""

from __future__ import annotations

from pydantic import Field

from relay.deadlines import Alarm, Promise
from relay.store import Connection
from relay.store import peers as stored
from relay.views import peers
from relay.views.explained import Explained, explained
from relay.views.peers import Duty
from relay.views.times import Moment, Shown
from relay.web.served import Here

MOST = 100


class RaisedAlarm(Shown):
    """A promise that a peer has not kept in time."""

    peer: str
    precedence: str = Field(description="lane of the messages: a precedence, or exercise")
    promise: Promise = Field(description="half: half of the time to their deadline is over")
    messages: int = Field(description="how many, counted up to some thousands")
    oldest_at: Moment = Field(description="when the oldest of them was submitted")
    contact: Duty | None = Field(description="whom to call; null: the peer is no member of the directory any more")


class PeerTrouble(Shown):
    """The last thing that was wrong with a peer's store, directory or audit log."""

    peer: str
    at: Moment
    why: Explained
    duty: Duty | None


def late(here: Here, most: int | None = None) -> list[RaisedAlarm]:
    """Return the promises that peers have not kept in time, the most urgent lane first; ``most``: not more than so many."""
    return [_late(here, alarm) for alarm in here.node.deadlines.alarms[:most]]


async def of_peers(here: Here) -> list[PeerTrouble]:
    """Return what was last wrong with each peer, the newest first."""

    def read(connection: Connection) -> dict[str, stored.Alarm]:
        return stored.alarms(connection)

    raised = await here.centre.store.read(read)
    found = [
        PeerTrouble(peer=peer, at=one.at, why=explained(one.code), duty=peers.duty(here.node, peer))
        for peer, one in raised.items()
    ]
    return sorted(found, key=lambda one: (-one.at, one.peer))[:MOST]


def _late(here: Here, alarm: Alarm) -> RaisedAlarm:
    return RaisedAlarm(
        peer=alarm.peer,
        precedence=alarm.lane,
        promise=alarm.promise,
        messages=alarm.messages,
        oldest_at=alarm.since,
        contact=peers.duty(here.node, alarm.peer),
    )
