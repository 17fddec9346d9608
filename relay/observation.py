"""What a node last saw when it looked at all that is open, set aside or late: data that nothing changes.

:mod:`relay.observing` makes an :class:`Observation` every few seconds; metrics, views and pages read it, so that none of them
looks through the store. A peer stands in it while it is an active member, and for as long as something is open towards it.

A message is *open* at a peer until its terminal receipt came, or it ended; its age counts from its submission.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

AGES = (60, 300, 900, 3_600, 21_600, 86_400)
"""Where the buckets of ages end, in seconds: 1 m, 5 m, 15 m, 1 h, 6 h, 1 d; what is older is in one more."""

SPAN_SECONDS = 10
SPANS = 360
"""Traffic is kept for an hour, in spans of ten seconds."""


def seconds_since(at: int | None, now: int) -> float:
    """Return how long ago something was, both times in milliseconds; 0 when there is nothing."""
    return 0.0 if at is None else max(now - at, 0) / 1000


def earliest(times: Iterable[int | None]) -> int | None:
    """Return the earliest of some times, or None when there is none."""
    return min((at for at in times if at is not None), default=None)


@dataclass(frozen=True, slots=True)
class Lane:
    """What is open towards a peer in one lane; ``oldest_at`` in milliseconds, counts are of messages.

    ``ages`` are the counts by age, one more than :data:`AGES`. Of what is open, ``deferred`` messages are tried again later,
    ``dead`` ones by nobody, ``held`` ones were parked by an operator, the first of them at ``held_since``, and ``at_risk`` have
    less than a tenth of their time left, or less than 15 minutes.
    """

    peer: str
    precedence: str
    open: int
    ages: tuple[int, ...]
    oldest_at: int | None
    deferred: int = 0
    dead: int = 0
    held: int = 0
    held_since: int | None = None
    at_risk: int = 0

    def oldest_seconds(self, now: int) -> float:
        """Return how old the oldest open message is, given the time in milliseconds; 0 when nothing is open."""
        return seconds_since(self.oldest_at, now)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Messages to a peer (confirmed by the broker) and of it (verified and stored) in each ten seconds of the last hour.

    The newest span stands last; it ended up to ten seconds ago. There are always :data:`SPANS`, 0 before the start.
    """

    sent: tuple[int, ...] = (0,) * SPANS
    received: tuple[int, ...] = (0,) * SPANS


@dataclass(frozen=True, slots=True)
class Peer:
    """What is open, missing and moving between this centre and a peer.

    ``lanes`` are those in which something is open, the most urgent first. ``gaps`` counts messages of the peer that are missing
    here below the last that came, ``recalls`` messages taken back from it of which it has not signed that nothing is left there;
    ``recalls_since`` is when the first update or cancel was made that it has not signed for.
    """

    id: str
    lanes: tuple[Lane, ...] = ()
    gaps: int = 0
    recalls: int = 0
    recalls_since: int | None = None
    traffic: Traffic = Traffic()

    @property
    def open(self) -> int:
        """How many messages are open towards it."""
        return sum(lane.open for lane in self.lanes)

    @property
    def at_risk(self) -> int:
        """How many of these have little of their time left."""
        return sum(lane.at_risk for lane in self.lanes)

    @property
    def ages(self) -> tuple[int, ...]:
        """How many messages are open towards it by age."""
        return tuple(sum(lane.ages[bucket] for lane in self.lanes) for bucket in range(len(AGES) + 1))

    @property
    def oldest_at(self) -> int | None:
        """When the oldest message was submitted that is open towards it, in milliseconds, or None."""
        return earliest(lane.oldest_at for lane in self.lanes)


@dataclass(frozen=True, slots=True)
class SetAside:
    """Messages that don't go on by themselves, or not now; what was sent counts once for each recipient.

    The one held for longest has been since ``held_since``, in milliseconds.
    """

    deferred: int = 0
    held: int = 0
    dead: int = 0
    quarantined: int = 0
    held_since: int | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers that are awaited, and how many of them are overdue."""

    awaited: int = 0
    overdue: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """All that was seen; ``at`` is when the look began, in milliseconds, ``seconds`` how long it kept the processor busy.

    ``asked`` are the answers that peers owe this centre, ``received`` those that it owes. ``waiting`` received messages have not
    been acknowledged by the centre's system, the oldest of them since ``waiting_since``.
    """

    at: int
    seconds: float
    peers: tuple[Peer, ...]
    sent_aside: SetAside
    received_aside: SetAside
    asked: Answers
    received: Answers
    waiting: int
    waiting_since: int | None

    @property
    def open(self) -> int:
        """How many messages are open, once for each recipient."""
        return sum(peer.open for peer in self.peers)

    def peer(self, centre: str) -> Peer:
        """Return what was seen of a peer; of one that is not known here, nothing."""
        return next((one for one in self.peers if one.id == centre), Peer(centre))

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Every lane in which something is open, by peer, the most urgent first."""
        return tuple(lane for peer in self.peers for lane in peer.lanes)
