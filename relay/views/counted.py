"""How many messages do not go on by themselves: by group and side, and of this centre's own by peer; no look at the store."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from relay.observation import Lane, SetAside
from relay.views.times import Moment, Shown
from relay.views.trouble import Group
from relay.web.served import Served


class AtPeer(Shown):
    """How many messages of this centre do not go on at a peer."""

    peer: str
    deferred: int
    held: int
    dead: int


class Counts(Shown):
    """How many messages do not go on by themselves, as the node last saw; what was sent counts once for each recipient."""

    at: Moment
    sent: dict[Group, int]
    received: dict[Group, int]
    peers: list[AtPeer] = Field(description="where messages of this centre do not go on, most dead ones first")


def counts(node: Served) -> Counts | None:
    """Return how many messages stand in each group, without a look at the store; None before the node looked."""
    seen = node.observer.latest
    if seen is None:
        return None
    found = [_at_peer(one.id, one.lanes) for one in seen.peers]
    stuck_at = [one for one in found if one.deferred or one.held or one.dead]
    return Counts(
        at=seen.at,
        sent=_by_group(seen.sent_aside),
        received=_by_group(seen.received_aside),
        peers=sorted(stuck_at, key=lambda one: (-one.dead, -one.held, -one.deferred, one.peer)),
    )


def _at_peer(peer: str, lanes: Iterable[Lane]) -> AtPeer:
    some = tuple(lanes)
    totals = [sum(getattr(one, name) for one in some) for name in ("deferred", "held", "dead")]
    return AtPeer(peer=peer, deferred=totals[0], held=totals[1], dead=totals[2])


def _by_group(some: SetAside) -> dict[Group, int]:
    return {"dead": some.dead, "held": some.held, "quarantined": some.quarantined, "deferred": some.deferred}
