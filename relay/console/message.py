"""One message: where it stands at every centre, what took it back, what the record says of it; and what it says, with a reason.

The content is shown in the answer to a form, and nowhere else: it needs the role ``read`` and a reason, is on record before it is
shown, stands in no address, and is never sent again by itself.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay.console.acts import act
from relay.console.languages import wanted
from relay.console.messages import label
from relay.console.page import Page, show, text
from relay.views import content, message, trail
from relay.views.message import Way
from relay.web.callers import actor
from relay.web.served import here

LIVE = "/live/"
PROMISES = ("sent", "accepted", "delivered")


async def gather(request: Request) -> dict[str, Any]:
    """Return where the message stands; the record is looked through for the page alone, not each time it is kept up to date."""
    node, id_ = here(request).node, request.path_params["message"]
    found = await message.way(node, id_)
    live = request.url.path.startswith(LIVE)
    entries = None if live else await trail.entries(node, id_, request.query_params.get("trail", ""))
    return {"way": found, "trail": entries, "stuck": _is_stuck(found), "kind_label": partial(label, wanted(request))}


async def reveal(request: Request) -> Response:
    """Show what the message says, to who has the role and gives a reason."""
    form = await act(request, "read")
    id_ = request.path_params["message"]
    found = await content.read(here(request).node, id_, actor(request), form.reason)
    return await show(request, "content.html", {"id": id_, "content": found, "reason": form.reason})


def _is_stuck(way: Way) -> bool:
    """Return whether there is something that an operator may do about it."""
    states = {one.state for one in way.recipients} if way.here is None else {way.here.state}
    return not states <= {"delivered", "rejected", "expired", "cancelled", "withdrawn"}


PAGE = Page(name="message", path="/messages/{message}", title=text("Message"), gather=gather, menu=False)
ROUTES = [Route("/messages/{message}/content", reveal, methods=["POST"])]
