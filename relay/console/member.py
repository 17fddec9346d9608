"""One member of the directory: what it may say and hear, what its node reads, its keys and their ends."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from relay.console.directory import versions
from relay.console.page import Page, text
from relay.views import members
from relay.web.served import here


async def gather(request: Request) -> dict[str, Any]:
    """Return what the directory says of the member."""
    known, unreadable = await versions(request)
    return {"member": members.detail(here(request).node, known, request.path_params["centre"]), "unreadable": unreadable}


PAGE = Page(name="member", path="/directory/{centre}", title=text("Member"), gather=gather, menu=False)
ROUTES: list[Route] = []
