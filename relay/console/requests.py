"""Requests: whose answer is awaited or owed, how much time is left, what was reminded of; what is overdue stands first."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from relay.console.page import Page, text
from relay.views.requests import MOST, requests
from relay.web.served import here


async def gather(request: Request) -> dict[str, Any]:
    """Return the open clocks of both sides."""
    return {"requests": await requests(here(request).node), "most": MOST}


PAGE = Page(name="requests", path="/requests", title=text("Requests"), gather=gather)
ROUTES: list[Route] = []
