"""What does not go on by itself, and who must be called: one page for the watch; what waits for a second person is decided here.

Without a filter the page shows the head of each list; a filter (``group``, ``side``, ``peer``, ``code``) shows one list in pages.
What the store knows is left out while it can't be read, and why is said; who is late and whom to call stays.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay.console.acts import act, done
from relay.console.page import Page, text
from relay.errors import Refused, RelayError, StoreTrouble
from relay.views import alarms, approvals, counted, trouble
from relay.views.alarms import PeerTrouble
from relay.views.approvals import ApprovalState
from relay.views.explained import of_error
from relay.views.trouble import GROUPS, MOST_WORDS, SIDES, StuckPage, Wanted
from relay.web import four_eyes
from relay.web.served import Here, here

HEAD = 10
PAGE_OF = 50
STORE_SECONDS = 2.0
FILTERS = ("group", "side", "peer", "code")


async def gather(request: Request) -> dict[str, Any]:
    """Return what is in trouble, and the filter that was asked for."""
    here_, chosen = here(request), _chosen(request)
    values = {
        "late": alarms.late(here_, alarms.MOST),
        "chosen": chosen,
        "groups": GROUPS,
        "sides": SIDES,
        "counts": counted.counts(here_.node),
    }
    try:
        async with asyncio.timeout(STORE_SECONDS):
            peers, waiting, lists = await _read(here_, request, chosen)
    except (StoreTrouble, TimeoutError) as error:
        return {**values, "peers": [], "waiting": [], "lists": [], "unreadable": of_error(_unreadable(error))}
    return {**values, "peers": peers, "waiting": waiting, "lists": lists, "unreadable": None}


async def approve(request: Request) -> Response:
    """Approve what another person asked for, and do it."""
    form = await act(request, "operate")
    found = await four_eyes.approve(request, request.path_params["approval"], form.reason)
    return done(request, PAGE.path, text("Approved and done: %(action)s of %(subject)s."), **_named(found.action, found.subject))


async def refuse(request: Request) -> Response:
    """Say no to what was asked for, or take it back."""
    form = await act(request, "operate")
    found = await four_eyes.refuse(request, request.path_params["approval"], form.reason)
    return done(request, PAGE.path, text("Refused: %(action)s of %(subject)s."), **_named(found.action, found.subject))


async def _read(
    here_: Here, request: Request, chosen: dict[str, str]
) -> tuple[list[PeerTrouble], list[ApprovalState], list[StuckPage]]:
    lists = [await trouble.listed(here_.node, one) for one in _wanted(request, chosen)]
    return await alarms.of_peers(here_), await approvals.listed(here_, alarms.MOST), lists


def _chosen(request: Request) -> dict[str, str]:
    chosen = {name: request.query_params.get(name, "").strip() for name in FILTERS}
    if chosen["group"] not in {"", *GROUPS} or chosen["side"] not in {"", *SIDES}:
        raise Refused("bad-request", "There is no such group or side of messages.")
    if any(len(value) > MOST_WORDS for value in chosen.values()):
        raise Refused("bad-request", f"A filter has at most {MOST_WORDS} characters.")
    return chosen


def _wanted(request: Request, chosen: dict[str, str]) -> list[Wanted]:
    """Return the lists that a page shows: one in pages when it is named, else the heads of all that fit."""
    peer, code, after = chosen["peer"], chosen["code"], request.query_params.get("after", "")
    pairs = [
        (group, side)
        for group in GROUPS
        for side in SIDES
        if chosen["group"] in {"", group} and chosen["side"] in {"", side} and (group, side) != ("quarantined", "sent")
    ]
    whole = len(pairs) == 1
    return [Wanted(group, side, peer, code, after if whole else "", PAGE_OF if whole else HEAD) for group, side in pairs]


def _unreadable(error: StoreTrouble | TimeoutError) -> RelayError:
    if isinstance(error, StoreTrouble):
        return error
    return StoreTrouble("store-locked", f"The node's store did not answer within {STORE_SECONDS:.0f} s.")


def _named(action: str, subject: str) -> dict[str, object]:
    return {"action": action, "subject": subject}


PAGE = Page(name="trouble", path="/trouble", title=text("Trouble"), gather=gather)
ROUTES = [
    Route("/trouble/approvals/{approval}/approve", approve, methods=["POST"]),
    Route("/trouble/approvals/{approval}/refuse", refuse, methods=["POST"]),
]
