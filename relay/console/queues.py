"""Queues: what is open at each peer, and what waits for the centre's own system, by age, as Postfix's ``qshape``."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from relay.console.page import Page, text
from relay.views.queues import queues
from relay.web.served import here

BY_PRECEDENCE = "precedence"


async def gather(request: Request) -> dict[str, Any]:
    """Return the shape of the queues, by peer, or by peer and lane."""
    by_precedence = request.query_params.get("by", "") == BY_PRECEDENCE
    return {"queues": await queues(here(request).node, by_precedence=by_precedence), "by_precedence": by_precedence}


PAGE = Page(name="queues", path="/queues", title=text("Queues"), gather=gather)
ROUTES: list[Route] = []
