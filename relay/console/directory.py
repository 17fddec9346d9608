"""The directory in force: who the members are, what each may say and hear, whose keys end, and who goes by another version."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from relay.console.page import Page, text
from relay.errors import StoreTrouble
from relay.views import members
from relay.views.explained import Explained, of_error
from relay.web.served import here

STORE_SECONDS = 2.0


async def gather(request: Request) -> dict[str, Any]:
    """Return the directory; by which versions the peers go is left open while the store can't be read."""
    node, unreadable = here(request).node, None
    try:
        async with asyncio.timeout(STORE_SECONDS):
            known = await members.versions(node)
    except (StoreTrouble, TimeoutError) as error:
        known, unreadable = {}, _told(error)
    return {"listing": members.listing(node, known), "unreadable": unreadable}


def _told(error: Exception) -> Explained:
    if isinstance(error, StoreTrouble):
        return of_error(error)
    return of_error(StoreTrouble("store-locked", f"The node's store did not answer within {STORE_SECONDS:.0f} s."))


PAGE = Page(name="directory", path="/directory", title=text("Directory"), gather=gather)
ROUTES: list[Route] = []
