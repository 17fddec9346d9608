"""The directory in force: the rules for all, who the members are, and who goes by another version."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from relay.console.page import Page, text
from relay.errors import StoreTrouble
from relay.store.peers import Peer
from relay.views import members
from relay.views.explained import Explained, of_error
from relay.views.member_keys import SOON_DAYS
from relay.web.served import here

STORE_SECONDS = 2.0


async def gather(request: Request) -> dict[str, Any]:
    """Return the directory; by which versions the peers go is left open while the store can't be read."""
    known, unreadable = await versions(request)
    return {"listing": members.listing(here(request).node, known), "unreadable": unreadable, "soon": SOON_DAYS}


async def versions(request: Request) -> tuple[dict[str, Peer], Explained | None]:
    """Return what the peers' heartbeats said of their directories, or why that can't be read now."""
    try:
        async with asyncio.timeout(STORE_SECONDS):
            return await members.versions(here(request).node), None
    except StoreTrouble as error:
        return {}, of_error(error)
    except TimeoutError:
        sentence = f"The node's store did not answer within {STORE_SECONDS:.0f} s."
        return {}, of_error(StoreTrouble("store-locked", sentence))


PAGE = Page(name="directory", path="/directory", title=text("Directory"), gather=gather)
ROUTES: list[Route] = []
