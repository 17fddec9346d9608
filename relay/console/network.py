"""The first page: every peer as it is seen from here, those that need somebody first."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from relay.console.front import front
from relay.console.page import Page, text
from relay.views.network import network
from relay.web.served import here

MOST_POINTS = 180
"""Points of a sparkline: half an hour in tens of seconds."""


async def gather(request: Request) -> dict[str, Any]:
    """Return the network as this centre sees it."""
    return {"network": await network(here(request).node, front(request).condition), "most": MOST_POINTS}


PAGE = Page(name="network", path="/", title=text("Network"), gather=gather)
ROUTES: list[Route] = []
