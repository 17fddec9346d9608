"""What is known of the peers: which live, what each goes by, what is wrong with it, and whom to call.

Errors raised: ``StoreTrouble`` by :func:`rows`, when the store can't be read; :func:`peer` does without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from relay.directory import Member
from relay.store import Connection, compared, peers
from relay.views.times import Moment, Shown
from relay.web.served import Served

Liveness = Literal["heard", "silent", "never"]
"""Whether a peer lives: silent when three of its heartbeats are missing, never when none came since the node's start."""


class Duty(Shown):
    """Whom to call at a centre, at any hour."""

    name: str
    telephone: str
    email: str


class PeerAlarm(Shown):
    """The last thing that was wrong with a peer's store, directory or audit log."""

    code: str = Field(description="`peer-went-back`, `peer-new-epoch` or `directory-mismatch`; `relay explain CODE` says more")
    at: Moment


class CountsDiffer(Shown):
    """Where this centre and a peer count other messages of one time and lane (audit-mismatch)."""

    side: Literal["sent", "received"] = Field(description="sent: this centre's messages to the peer; received: the peer's to it")
    lane: str
    first: Moment = Field(description="ids given from this time on")
    until: Moment = Field(description="and before this one")
    ours: int = Field(description="sent: messages that the peer signed for; received: messages that are held here")
    theirs: int = Field(description="the same, as the peer counts; equal numbers: other messages")
    times: int = Field(description="how often it was seen, unchanged; the second time raises the alarm")


class PeerState(Shown):
    """What is known of a peer from its heartbeats; null before the first."""

    centre: str
    state: Liveness = Field(description="silent: three heartbeats missed; never: none since the start")
    heard_at: Moment | None = Field(description="when its last heartbeat came, also before the node's start")
    clock_offset_seconds: float | None = Field(description="its clock less ours")
    epoch: int | None
    directory_version: int | None
    directory_differs: bool = Field(description="whether it goes by other bytes than ours under the same version")
    release: str | None
    alarm: PeerAlarm | None = Field(description="the last alarm that was raised about it here")
    differences: list[CountsDiffer] = Field(description="where what was sent is not what was received, the newest time first")
    duty: Duty


@dataclass(frozen=True, slots=True)
class Rows:
    """What the store knows of the peers; nothing when it can't be read."""

    known: dict[str, peers.Peer] = field(default_factory=dict)
    alarms: dict[str, peers.Alarm] = field(default_factory=dict)
    differences: list[compared.Difference] = field(default_factory=list)


def rows(connection: Connection) -> Rows:
    """Read what the store knows of the peers."""
    return Rows(peers.known(connection), peers.alarms(connection), compared.differences(connection))


def others(node: Served) -> list[Member]:
    """Return the other active centres, by id."""
    return [member for id_, member in sorted(node.centre.directory.active.items()) if id_ != node.centre.id]


def duty(node: Served, peer: str) -> Duty | None:
    """Return whom to call at a peer, None when it is no member any more."""
    contact = node.deadlines.contact(peer)
    return None if contact is None else Duty(name=contact.name, telephone=contact.telephone, email=contact.email)


def peer(node: Served, member: Member, found: Rows) -> PeerState:
    """Return what is known of a peer."""
    register, known, raised = node.centre.directory, found.known.get(member.id), found.alarms.get(member.id)
    heard = known if known is not None and known.heard_at else None
    return PeerState(
        centre=member.id,
        state=node.heartbeats.state(member.id),
        heard_at=heard.heard_at if heard else None,
        clock_offset_seconds=heard.offset / 1000 if heard else None,
        epoch=known.epoch if known else None,
        directory_version=heard.directory if heard else None,
        directory_differs=bool(heard and heard.directory == register.version and heard.digest != register.digest),
        release=heard.release if heard else None,
        alarm=PeerAlarm(code=raised.code, at=raised.at) if raised else None,
        differences=[_differs(one) for one in found.differences if one.peer == member.id],
        duty=Duty(name=member.contact.name, telephone=member.contact.telephone, email=member.contact.email),
    )


def _differs(one: compared.Difference) -> CountsDiffer:
    return CountsDiffer(
        side=one.side, lane=one.lane, first=one.first, until=one.until, ours=one.ours, theirs=one.theirs, times=one.times
    )
