"""The first page: every peer as it is seen from here, those that need somebody first."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from relay.console.page import Page, text
from relay.views.network import network
from relay.web.served import here

MOST_BARS = 180
"""Points of a sparkline: half an hour in tens of seconds."""


async def gather(request: Request) -> dict[str, Any]:
    """Return the network as this centre sees it."""
    here_ = here(request)
    return {"network": await network(here_.node, here_.readiness), "most": MOST_BARS}


PAGE = Page(name="network", path="/", title=text("Network"), gather=gather)
ROUTES: list[Route] = []
