"""The newest messages, sent and received: marks that are known without opening anything, their way, and where each stands.

A page is read in pieces of bounded cost (:mod:`relay.store.listed`), whatever the store holds. A message's kind is found by its
keyed tokens in the index, so nothing is decrypted; of one that was purged or refused on arrival it is not known.

Errors raised: ``Refused`` (``bad-request``) with everything that is wrong with the filters, ``StoreTrouble``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Literal, get_args

from pydantic import Field

from relay import messages as models
from relay.centre import Centre
from relay.clock import to_ms
from relay.errors import Problem, Refused
from relay.store import Connection, found
from relay.store.listed import Asked, Listed, Page, received, sent
from relay.topology import LANES
from relay.views.times import Moment, Shown
from relay.web.served import Served

Direction = Literal["sent", "received"]

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
LIMIT = 50
LEAST_PREFIX = 8
STATES = tuple(dict.fromkeys((*sent.STATES, *received.STATES)))
"""Every state by which messages are listed, of either side."""
SHOWN_PEERS = 3
_PREFIX = re.compile(r"[0-9a-f-]{8,36}")
_PEER = re.compile(r"[A-Z0-9]{2,8}(-[A-Z0-9]{2,8})?")
_BEFORE = re.compile(r"([0-9a-f]{1,16}|x)\.([0-9a-f]{1,16}|x)")
_OVER = "x"


@dataclass(frozen=True, slots=True)
class Filters:
    """What is looked for, as it was asked; empty is anything. Times are RFC 3339, ``before`` is the ``next`` of a page."""

    direction: str = ""
    peer: str = ""
    precedence: str = ""
    state: str = ""
    since: str = ""
    until: str = ""
    id: str = ""
    before: str = ""


class ListedMessage(Shown):
    """A message on the list."""

    id: str
    direction: Direction
    at: Moment = Field(description="when it was submitted or received")
    precedence: str = Field(description="its lane: a precedence, or exercise")
    kind: str | None = Field(description="null: it is not known without opening it, or there is nothing left to open")
    updates: str | None = Field(description="of an update, the kind that it updates")
    origin: str
    recipients: list[str] = Field(description="of a sent message, the first of them; of a received one, this centre")
    recipient_count: int
    states: dict[str, int] = Field(description="at how many recipients it stands where; received: its state here")
    code: str | None = Field(description="why it was refused, ended or put off, at one recipient at least")
    purged: bool


class Messages(Shown):
    """A page of messages, the newest first."""

    messages: list[ListedMessage]
    next: str | None = Field(description="where the next page begins, or null")
    looked_to: Moment | None = Field(description="to when was looked, if not to the end: the next page goes on there")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Filters that were judged; ``below`` has the sides that are looked at, and where each goes on, None at its beginning."""

    asked: Asked
    below: dict[Direction, int | None]


async def messages(node: Served, filters: Filters, limit: int = LIMIT) -> Messages:
    """Return a page of messages."""
    wanted = _judged(filters)
    pages, tokens = await node.centre.store.read(partial(_read, wanted=wanted, limit=limit))
    rows, following, looked_to = _merged(pages, wanted, limit)
    kinds = _kinds(node.centre)
    return Messages(
        messages=[_shown(node.centre, side, row, tokens.get(row.found, frozenset()), kinds) for side, row in rows],
        next=following,
        looked_to=looked_to,
    )


def _read(connection: Connection, wanted: _Wanted, limit: int) -> tuple[dict[Direction, Page], dict[int, frozenset[str]]]:
    of = {"sent": sent, "received": received}
    pages = {side: of[side].page(connection, wanted.asked, wanted.below[side], limit) for side in wanted.below}
    return pages, found.tokens(connection, [row.found for page in pages.values() for row in page.rows])


def _merged(
    pages: dict[Direction, Page], wanted: _Wanted, limit: int
) -> tuple[list[tuple[Direction, Listed]], str | None, int | None]:
    """Return the newest of both sides, where the next page begins, and to when was looked.

    Where a side was not looked through as far as the other, what is older than that waits for the next page.
    """
    horizon = max((page.looked_to for page in pages.values() if page.looked_to is not None), default=0)
    both = [(side, row) for side, page in pages.items() for row in page.rows if row.at >= horizon]
    rows = sorted(both, key=lambda one: one[1].at, reverse=True)[:limit]
    places = [
        _place(pages[side], wanted.below[side], [row for on, row in rows if on == side]) if side in pages else _OVER
        for side in DIRECTIONS
    ]
    following = None if places == [_OVER, _OVER] else ".".join(places)
    return rows, following, horizon or None


def _place(page: Page, below: int | None, shown: Sequence[Listed]) -> str:
    """Return where a side goes on: behind what was shown of it; at its beginning again when nothing was."""
    if len(shown) == len(page.rows):
        return _OVER if page.below is None else f"{page.below:x}"
    if shown:
        return f"{shown[-1].key:x}"
    return f"{page.rows[0].key + 1:x}" if below is None else f"{below:x}"


def _kinds(centre: Centre) -> dict[str, str]:
    """Return the kinds by the token under which a message of each is found."""
    return {centre.keeper.tokens([f"kind:{kind}"]): kind for kind in models.MODELS}


def _shown(centre: Centre, side: Direction, row: Listed, tokens: frozenset[str], kinds: dict[str, str]) -> ListedMessage:
    of = [kind for token, kind in kinds.items() if token in tokens]
    update = "update" if "update" in of else None
    inner = next((kind for kind in of if kind != "update"), None)
    return ListedMessage(
        id=row.id,
        direction=side,
        at=row.at,
        precedence=row.lane,
        kind=update or inner,
        updates=inner if update else None,
        origin=centre.id if side == "sent" else row.peers[0],
        recipients=list(row.peers[:SHOWN_PEERS]) if side == "sent" else [centre.id],
        recipient_count=len(row.peers),
        states=row.states,
        code=row.code,
        purged=row.purged,
    )


def _judged(filters: Filters) -> _Wanted:
    """Return what is asked; raise ``Refused`` with everything that is wrong with it."""
    wrong: list[tuple[str, str]] = []
    given = {name: getattr(filters, name).strip() for name in Filters.__slots__}
    for name, known in (("direction", DIRECTIONS), ("precedence", LANES), ("state", STATES)):
        if given[name] and given[name] not in known:
            wrong.append((name, f"it is none of {', '.join(known)}"))
    if given["peer"] and not _PEER.fullmatch(given["peer"]):
        wrong.append(("peer", "it is no id of a centre"))
    if given["id"] and not _PREFIX.fullmatch(given["id"]):
        wrong.append(("id", f"give at least its first {LEAST_PREFIX} characters: digits, a to f, and hyphens"))
    if given["before"] and not _BEFORE.fullmatch(given["before"]):
        wrong.append(("before", "it is not the `next` of a page"))
    since, until = _time(given["since"], "since", wrong), _time(given["until"], "until", wrong)
    if since is not None and until is not None and until <= since:
        wrong.append(("until", "it is not after since"))
    if wrong:
        problems = tuple(Problem("", "bad-request", f"The parameter `{name}` can't be taken: {why}.") for name, why in wrong)
        raise Refused("bad-request", " ".join(one.detail for one in problems), problems)
    asked = Asked(given["peer"] or None, given["precedence"] or None, given["state"] or None, since, until, given["id"] or None)
    return _from(asked, given["direction"], given["before"])


def _from(asked: Asked, direction: str, before: str) -> _Wanted:
    """Return where each side goes on, leaving out those that are over or have no such state."""
    of_sent, _, of_received = before.partition(".")
    sides: tuple[tuple[Direction, str, tuple[str, ...]], ...] = (
        ("sent", of_sent, sent.STATES),
        ("received", of_received, received.STATES),
    )
    below = {
        side: int(place, 16) if place else None
        for side, place, states in sides
        if direction in ("", side) and place != _OVER and asked.state in (None, *states)
    }
    return _Wanted(asked, below)


def _time(given: str, name: str, wrong: list[tuple[str, str]]) -> int | None:
    """Return a time in milliseconds; without an offset, as a browser's field gives it, it is UTC."""
    if not given:
        return None
    try:
        moment = datetime.fromisoformat(given)
        return to_ms(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        wrong.append((name, "it is no time such as 2026-01-31T08:15"))
        return None
