"""What the audit record says of one message: who did what to it, when and why, entry by entry.

The record is looked through from the message's own time on, a piece at a time (:mod:`relay.store.trail`): a page says where to
look further. An entry may be of many messages at once (a batch, a receipt, what ended together); it says of how many.

Errors raised: ``NotFound`` (``not-kept-here``), ``Refused`` (``bad-request``) for a place that is none, ``StoreTrouble``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import Field

from relay.audit import digest
from relay.envelope import commitments
from relay.errors import NotFound, Refused
from relay.store import Connection, outgoing, traces, trail
from relay.store.history import ENDED
from relay.store.traces import Leaf, ReceivedEvidence, SentEvidence
from relay.store.trail import Place
from relay.views.times import Moment, Shown
from relay.web.served import Served

_PLACE = re.compile(r"([0-9]{1,16})\.([0-9]{1,16})")


@dataclass(frozen=True, slots=True)
class _About:
    """By what a leaf about a message is known: its envelope, the digest of its commitment, the receipts that speak of it.

    ``together`` are the times at which it ended or was purged, with whom that was about: a leaf of several messages that ended
    at once names no envelope.
    """

    envelope: str
    digest: str
    said: dict[str, set[tuple[str, str | None]]]
    together: dict[int, set[str]]


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
    about = _about(connection, message, side)
    found = trail.piece(connection, place, {about.envelope, *about.said}, [about.digest, *map(_at, about.together)])
    shown = [_entry(leaf, says) for leaf, says in traces.entries(found.leaves) if _is_about(says, about)]
    following = None if found.following is None else ".".join(map(str, found.following))
    return Trail(entries=shown, following=following)


def _about(connection: Connection, message: str, side: SentEvidence | ReceivedEvidence) -> _About:
    own = commitments(side.resting.header)
    together: dict[int, set[str]] = {}
    if isinstance(side, ReceivedEvidence):
        ended: list[tuple[int | None, str]] = [(side.at, side.origin), (side.purged_at, side.origin)]
    else:
        sent = outgoing.message(connection, message)
        ended = [(one.at, one.recipient) for one in side.said if one.state in ENDED]
        ended += [(sent.purged_at, "")] if sent is not None else []
    for at, peer in ended:
        if at is not None:
            together.setdefault(at, set()).add(peer)
    return _About(side.envelope, digest([own[side.position]]), _said(connection, side), together)


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


def _at(time: int) -> str:
    return f'"time":{time},"step":"'


def _is_about(says: dict[str, Any], about: _About) -> bool:
    """Return whether a leaf that was found speaks of the message, and not of others that were beside it."""
    envelope, alone = says.get("envelope"), says.get("count") == 1
    if says.get("commitments") == about.digest or (envelope == about.envelope and not alone):
        return True
    if envelope is not None:
        return (says.get("step"), says.get("code")) in about.said.get(envelope, ())
    return says.get("count", 0) > 1 and says.get("peer", "") in {"", *about.together.get(says.get("time", 0), ())}


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
