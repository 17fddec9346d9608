"""What does not go on by itself: deferred, held, dead and quarantined messages, each with why and what may be done about it.

There are two *sides*: messages of this centre on their way, and received ones. A list is read in pages, behind a *place* that the
page before ended at, and costs what it shows. What is wrong with the node itself stands first: it may be why.

Errors raised: ``Refused`` (``bad-request``) for a place that is none, ``NotFound`` (``unknown-message``, ``not-received``) by
:func:`one`; ``StoreTrouble`` is caught by :func:`trouble` and told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import Field

from relay.audit import AuditStep, digest
from relay.centre import Centre
from relay.errors import NotFound, Refused
from relay.received import FROM, RELEASABLE
from relay.store import Connection, aside, parked, stuck, traces
from relay.store.aside import Received
from relay.store.parked import Parked
from relay.store.stuck import Place, State, Stuck
from relay.views.explained import Explained, explained
from relay.views.times import Moment, Shown
from relay.web.served import Served

Side = Literal["sent", "received"]
Group = Literal["deferred", "held", "dead", "quarantined"]
Case = Literal["code", "operator", "system", "refused", "room", "again", "waits"]
Act = Literal["hold", "release", "replay", "discard"]

GROUPS: tuple[Group, ...] = ("dead", "held", "quarantined", "deferred")
"""What needs a hand first: what is deferred goes on by itself."""
SIDES: tuple[Side, ...] = ("sent", "received")
ACTS: tuple[Act, ...] = ("hold", "release", "replay", "discard")
MOST_PLACE = 400
MOST_WORDS = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which list is wanted: of a group and side, at a peer, under a code, behind a place, so many."""

    group: Group
    side: Side
    peer: str = ""
    code: str = ""
    after: str = ""
    limit: int = 50


class StuckMessage(Shown):
    """A message that does not go on by itself."""

    side: Side
    state: str = Field(description="deferred, held, dead or quarantined; of one that was asked for by its id any state")
    id: str
    peers: list[str] = Field(description="sent: where it waits; received: its origin")
    precedence: str = Field(description="its lane: a precedence, or exercise")
    since: Moment
    known_at: Moment = Field(description="when it was submitted, or received")
    case: Case = Field(
        description="code: `why` says it; operator: somebody held it; system: the centre's system put it off; refused: the "
        "broker refuses it, `why` says how; room: the peer has not receipted what is under way; again: it is to be sent again; "
        "waits: for nothing but its recipients' word, or for nothing any more"
    )
    why: Explained | None
    reason: str | None = Field(description="the words of who put it there")
    attempts: int = Field(description="how often it was put off, or refused in a row")
    next_attempt: Moment | None = Field(description="when it is tried again, where that is known")
    purged_at: Moment | None = Field(description="when its content was purged")
    acts: list[Act] = Field(description="what may be done about it")
    place: str = Field(description="where a list goes on behind it")


class StuckPage(Shown):
    """A page of a list; ``after`` begins the next one."""

    group: Group
    side: Side
    messages: list[StuckMessage]
    after: str | None


async def listed(node: Served, wanted: Wanted) -> StuckPage:
    """Return a page of what is in a group on a side; nothing of ours is quarantined here."""
    if wanted.side == "sent":
        found = [] if wanted.group == "quarantined" else await _sent(node, wanted, wanted.group)
    else:
        found = await _received(node, wanted)
    more = len(found) > wanted.limit
    shown = found[: wanted.limit]
    return StuckPage(group=wanted.group, side=wanted.side, messages=shown, after=shown[-1].place if more else None)


async def one(node: Served, side: Side, message: str) -> list[StuckMessage]:
    """Return where one message stands: of a received one a single entry, of ours one for each state that it waits in."""
    if side == "received":
        return [_of_received(node, await node.received.find(message))]
    found, at, reason = await node.centre.store.read(partial(_find, message=message, centre=node.centre))
    return [_of_sent(node, here, found, reason) for here in at]


async def _sent(node: Served, wanted: Wanted, state: State) -> list[StuckMessage]:
    place = _place(wanted.after, (str, str, int, int, str) if state != "held" else (int, str))

    def read(connection: Connection) -> list[tuple[Stuck, Parked | None, str | None]]:
        found = stuck.listed(connection, state, wanted.limit + 1, place, wanted.peer, wanted.code)
        known = {id_: parked.find(connection, id_) for id_ in {each.id for each in found}}
        why = {id_: _reason(connection, node.centre, at) for id_, at in known.items() if state == "held" and at is not None}
        return [(each, known[each.id], why.get(each.id)) for each in found]

    return [_of_sent(node, each, found, reason) for each, found, reason in await node.centre.store.read(read) if found]


async def _received(node: Served, wanted: Wanted) -> list[StuckMessage]:
    place = _place(wanted.after, (int,))
    last = int(place[0]) if place else 0
    read = partial(aside.listed, state=wanted.group, after=last, limit=wanted.limit + 1, origin=wanted.peer, code=wanted.code)
    return [_of_received(node, each) for each in await node.centre.store.read(read)]


def _find(connection: Connection, message: str, centre: Centre) -> tuple[Parked, list[Stuck], str | None]:
    found = parked.find(connection, message)
    if found is None:
        raise NotFound("unknown-message", "This node submitted no message with this id.")
    return found, stuck.of_message(connection, message), _reason(connection, centre, found)


def _reason(connection: Connection, centre: Centre, found: Parked) -> str | None:
    """Return the words of who holds a message of this centre: they stand in the audit record, and nowhere else."""
    if found.held_at is None:
        return None
    said = (f'"time":{found.held_at},"step":"{AuditStep.HELD}"', digest([found.commitment]))
    for _, leaf in traces.entries(traces.leaves_at(connection, centre.store.epoch, found.held_at, said)):
        return str(leaf.get("why") or "") or None
    return None


def _of_sent(node: Served, at: Stuck, found: Parked, reason: str | None) -> StuckMessage:
    refusals, code = node.pump.refusals(at.peers[0], at.lane) if at.state == "deferred" else (0, None)
    code = at.code or code
    return StuckMessage(
        side="sent",
        state=at.state,
        id=at.id,
        peers=list(at.peers),
        precedence=at.lane,
        since=at.since,
        known_at=at.submitted_at,
        case=_case(at, refusals),
        why=explained(code) if code else None,
        reason=reason,
        attempts=refusals,
        next_attempt=node.pump.next_attempt(at.peers[0], at.lane) if at.state == "deferred" else None,
        purged_at=found.purged_at,
        acts=_may(found),
        place=json.dumps(at.place),
    )


def _case(at: Stuck, refusals: int) -> Case:
    if at.state == "deferred":
        return "refused" if refusals else "room" if at.never_sent else "again"
    cases: dict[str, Case] = {"held": "operator", "dead": "code"}
    return cases.get(at.state, "waits")


def _may(found: Parked) -> list[Act]:
    if not found.open:
        return []
    if found.held_at is not None:
        return ["release", "discard"]
    return ["hold", "discard"] if found.purged_at is not None else ["hold", "replay", "discard"]


def _of_received(node: Served, one: Received) -> StuckMessage:
    return StuckMessage(
        side="received",
        state=one.state,
        id=one.id,
        peers=[one.origin],
        precedence=one.lane,
        since=one.since,
        known_at=one.received_at,
        case=_received_case(one),
        why=explained(one.code) if one.code else None,
        reason=node.received.reason(one),
        attempts=one.attempts,
        next_attempt=one.retry_at,
        purged_at=one.purged_at,
        acts=[act for act in ACTS if one.state in FROM[act] and (act != "release" or _is_releasable(one))],
        place=json.dumps([one.n]),
    )


def _received_case(one: Received) -> Case:
    if one.state == "held":
        return "operator"
    if one.state == "deferred":
        return "system"
    return "code" if one.code else "waits"


def _is_releasable(one: Received) -> bool:
    return one.state == "held" or (one.code in RELEASABLE and one.purged_at is None)


def _place(given: str, form: tuple[type, ...]) -> Place:
    """Return the place that a page's link names; raise ``Refused`` when it is none."""
    if not given:
        return ()
    try:
        place = json.loads(given) if len(given) <= MOST_PLACE else None
    except ValueError:
        place = None
    if not isinstance(place, list) or [type(part) for part in place] != list(form):
        raise Refused("bad-request", "`after` is no place of this list; begin it anew.")
    return tuple(place)
