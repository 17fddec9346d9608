"""Recalls carried out here: what an update or cancel buries, and what is said of it to its origin and the record."""

from __future__ import annotations

from dataclasses import dataclass

from relay import points
from relay.audit import AuditStep
from relay.centre import Centre
from relay.control import statements
from relay.keeping import Recall
from relay.log import Event
from relay.points import Point
from relay.receipts import Statement
from relay.store import Connection, incoming, recalled
from relay.store.incoming import Place
from relay.store.recalled import Buried


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """What a recall did: statements for its origin's receipt, leaves for the record."""

    said: tuple[Statement, ...]
    leaves: tuple[bytes, ...]
    buried: Buried


def carry_out(connection: Connection, centre: Centre, place: Place, recall: Recall, envelope: str, now: int) -> CarriedOut:
    """Bury, in this transaction, what came before an update or cancel that was just taken at ``place``."""
    buried = recalled.bury(connection, place.origin, recall, place.id, now)
    rejected = incoming.places(connection, buried.rejected)
    said = statements(rejected, "rejected", now, buried.code).get(place.origin, [])
    if buried.complete:
        said += statements([place], "purged", now)[place.origin]
    leaf, common = centre.audit.leaf, {"envelope": envelope, "peer": place.origin, "code": buried.code}
    commitments = [one.commitment for one in rejected]
    leaves = (
        leaf(AuditStep.RECALLED, now, commitments=commitments, **common),
        leaf(AuditStep.PURGED, now, commitments=list(buried.purged), **common),
    )
    return CarriedOut(tuple(said), leaves, buried)


def say(centre: Centre, origin: str, envelope: str, buried: Buried) -> None:
    """After the commit: count and log what a recall did, and wake who waits for it."""
    points.reach(Point.RECALL_CARRIED_OUT)
    centre.metrics.purged.labels(buried.code).inc(len(buried.purged))
    centre.log.warning(Event.INBOX_RECALLED, peer=origin, envelope=envelope, purged=len(buried.purged), code=buried.code)
    own = ({"message": message} for message in buried.messages)
    centre.log.messages(Event.MESSAGE_RECALLED, own, envelope=envelope, peer=origin, code=buried.code)
    centre.store.recalls_changed.fire()
