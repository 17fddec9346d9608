"""The first page: every peer as it is seen from here, those that need somebody first."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from relay.console.front import front
from relay.console.page import Page, text
from relay.errors import StoreTrouble
from relay.views import approvals
from relay.views.alarms import MOST
from relay.views.network import network
from relay.web.served import Here, here

MOST_POINTS = 180
"""Points of a sparkline: half an hour in tens of seconds."""


async def gather(request: Request) -> dict[str, Any]:
    """Return the network as this centre sees it, and how many acts wait for a second person."""
    here_ = here(request)
    found = await network(here_.node, front(request).condition)
    return {"network": found, "most": MOST_POINTS, "waiting": await _waiting(here_)}


async def _waiting(here_: Here) -> int:
    if not here_.centre.directory.policy.four_eyes:
        return 0
    try:
        return len(await approvals.listed(here_, MOST))
    except StoreTrouble:  # the page says that the store can't be read
        return 0


PAGE = Page(name="network", path="/", title=text("Network"), gather=gather)
ROUTES: list[Route] = []
