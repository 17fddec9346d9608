"""One message that does not go on by itself: why, what it means, and what an operator may do about it, with a reason."""

from __future__ import annotations

from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay.clock import iso
from relay.console.acts import act, done
from relay.console.page import Page, text
from relay.errors import NotFound
from relay.store.approvals import Approval
from relay.views import trouble
from relay.views.message import way
from relay.views.trouble import ACTS, SIDES, Side
from relay.web import steering
from relay.web.served import here
from relay.web.steering import Verb

SAID: dict[tuple[str, str], str] = {
    ("sent", "hold"): text("Message %(id)s is held: it is not sent, or not sent again, until it is released."),
    ("sent", "release"): text("Message %(id)s is released: it goes on."),
    ("sent", "replay"): text("Message %(id)s is sent again to whoever has not ended it."),
    ("sent", "discard"): text("Message %(id)s is discarded: cancelled wherever it had not ended; what a peer holds stays there."),
    ("received", "hold"): text("Message %(id)s is held: it is not given out until it is released."),
    ("received", "release"): text("Message %(id)s is released: it is given out."),
    ("received", "replay"): text("Message %(id)s is given out again."),
    ("received", "discard"): text("Message %(id)s is discarded: rejected, and its content purged."),
}
WAITS = text("It waits for a second person, until %(until)s: nothing was done yet (%(id)s).")


async def gather(request: Request) -> dict[str, Any]:
    """Return where the message stands, at each recipient if it is ours."""
    side, message = _named(request)
    node = here(request).node
    entries = await trouble.one(node, side, message)
    recipients = (await way(node, message)).recipients if side == "sent" else []
    return {"side": side, "message": message, "entries": entries, "acts": entries[0].acts, "recipients": recipients}


async def steer(request: Request) -> Response:
    """Hold, release, replay or discard a message, or ask for it where two people must want it."""
    form = await act(request, "operate")
    side, message = _named(request)
    verb = request.path_params["act"]
    if verb not in ACTS:
        raise NotFound("unknown-address", "There is nothing at this address.")
    await trouble.one(here(request).node, side, message)  # nobody is asked to approve what is about no message
    do = steering.sent if side == "sent" else steering.received
    found = await do(request, message, cast("Verb", verb), form.reason)
    back = request.url.path.rpartition("/")[0]
    if isinstance(found, Approval):
        return done(request, back, WAITS, id=found.id, until=iso(found.expires_at))
    return done(request, back, SAID[side, verb], id=message)


def _named(request: Request) -> tuple[Side, str]:
    side, message = request.path_params["side"], request.path_params["message"]
    if side not in SIDES:
        raise NotFound("unknown-address", "There is nothing at this address.")
    return side, message


PAGE = Page(name="stuck", path="/trouble/{side}/{message}", title=text("Message in trouble"), gather=gather, menu=False)
ROUTES = [Route("/trouble/{side}/{message}/{act}", steer, methods=["POST"])]
