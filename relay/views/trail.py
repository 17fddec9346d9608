"""What the audit record says of one message: who did what to it, when and why, entry by entry.

The record is looked through from the message's own time on, a piece at a time (:mod:`relay.store.trail`): a page says where to
look further. An entry about a receipt, or about what the centre's system took, may be of many messages; it says of how many.

Errors raised: ``NotFound`` (``not-kept-here``), ``Refused`` (``bad-request``) for a place that is none, ``StoreTrouble``.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from pydantic import Field

from relay.audit import AuditStep, digest
from relay.envelope import commitments
from relay.errors import NotFound, Refused
from relay.store import Connection, traces, trail
from relay.store.traces import Leaf, ReceivedEvidence, SentEvidence
from relay.store.trail import Place
from relay.views.times import Moment, Shown
from relay.web.served import Served

_PLACE = re.compile(r"([0-9]{1,16})\.([0-9]{1,16})")


class Entry(Shown):
    """An entry of the audit record."""

    epoch: int
    position: int
    at: Moment
    step: str
    peer: str | None
    code: str | None
    actor: str | None = Field(description="who asked for it; null: the node did it by itself")
    why: str | None
    messages: int | None = Field(description="of how many messages it speaks")


class Trail(Shown):
    """Entries about a message, in order."""

    entries: list[Entry]
    following: str | None = Field(description="where to look further; null: the record was looked through to its end")


async def entries(node: Served, message: str, place: str = "") -> Trail:
    """Return what the record says of a message, from its own time on, or from where the piece before ended."""
    given = _PLACE.fullmatch(place)
    if place and given is None:
        raise Refused("bad-request", "The parameter `trail` is no place in the record.")
    start = (int(given[1]), int(given[2])) if given else None
    return await node.centre.store.read(partial(_read, message=message, start=start))


def _read(connection: Connection, message: str, start: Place | None) -> Trail:
    side = traces.sent(connection, message) or traces.received(connection, message)
    if side is None:
        raise NotFound("not-kept-here", f"Message {message} is not known here, neither sent nor received.")
    since = side.submitted_at if isinstance(side, SentEvidence) else side.received_at
    place = start or trail.begin(connection, since)
    if place is None:
        return Trail(entries=[], following=None)
    said = _said(connection, side)
    own = commitments(side.resting.header)
    texts = [digest([own[side.position]]), *_taken(side)]
    found = trail.piece(connection, place, {side.envelope, *said}, texts)
    shown = [_entry(leaf, says) for leaf, says in traces.entries(found.leaves) if _is_about(says, side, said)]
    following = None if found.following is None else ".".join(map(str, found.following))
    return Trail(entries=shown, following=following)


def _said(connection: Connection, side: SentEvidence | ReceivedEvidence) -> dict[str, set[tuple[str, str | None]]]:
    """Return the receipts that speak of a message of this centre, by id, each with the states and codes that it gives it."""
    if isinstance(side, ReceivedEvidence):
        return {}
    ids = traces.receipt_ids(connection, {one.receipt for one in side.said if one.receipt is not None})
    found: dict[str, set[tuple[str, str | None]]] = {}
    for one in side.said:
        if one.receipt in ids:
            found.setdefault(ids[one.receipt], set()).add((one.state, one.code))
    return found


def _taken(side: SentEvidence | ReceivedEvidence) -> list[str]:
    """Return what a leaf holds that says that the centre's system took a received message, since it names no envelope."""
    if isinstance(side, SentEvidence) or side.state != "delivered":
        return []
    return [f'"time":{side.at},"step":"{AuditStep.TAKEN_BY_SYSTEM}"']


def _is_about(says: dict[str, Any], side: SentEvidence | ReceivedEvidence, said: dict[str, set[tuple[str, str | None]]]) -> bool:
    """Return whether a leaf that was found speaks of the message and not of others beside it alone."""
    if says.get("envelope") in said:
        return (says.get("step"), says.get("code")) in said[says["envelope"]]
    if says.get("step") == AuditStep.TAKEN_BY_SYSTEM and isinstance(side, ReceivedEvidence):
        return says.get("peer") == side.origin
    return True


def _entry(leaf: Leaf, says: dict[str, Any]) -> Entry:
    return Entry(
        epoch=leaf.epoch,
        position=leaf.position,
        at=int(says.get("time", 0)),
        step=str(says.get("step", "")),
        peer=says.get("peer"),
        code=says.get("code"),
        actor=says.get("actor"),
        why=says.get("why"),
        messages=says.get("count"),
    )
