"""Messages: the newest ones, sent and received, with their way and where they stand; found by peer, state, time, id and so on."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from relay import codes
from relay.console.languages import wanted
from relay.console.page import Page, text
from relay.console.rendering import with_query
from relay.topology import LANES
from relay.views import messages as view
from relay.views.messages import DIRECTIONS, STATES, Filters
from relay.web.served import here

PATH = "/messages"
FILTERS = tuple(name for name in Filters.__slots__ if name != "before")


async def gather(request: Request) -> dict[str, Any]:
    """Return a page of messages, and the filter that was asked for."""
    node = here(request).node
    given = {name: request.query_params.get(name, "").strip() for name in Filters.__slots__}
    found = await view.messages(node, Filters(**given))
    chosen = {name: given[name] for name in FILTERS}
    return {
        "page": found,
        "chosen": chosen,
        "filtered": any(chosen.values()) or bool(given["before"]),
        "next": with_query(PATH, **chosen, before=found.next) if found.next else None,
        "peers": sorted(one for one in node.centre.directory.active if one != node.centre.id),
        "lanes": LANES,
        "states": STATES,
        "directions": DIRECTIONS,
        "kind_label": partial(label, wanted(request)),
    }


def label(language: str, kind: str) -> str:
    """Return what a kind is called."""
    return codes.label("kinds", kind, language)


PAGE = Page(name="messages", path=PATH, title=text("Messages"), gather=gather)
ROUTES: list[Route] = []
