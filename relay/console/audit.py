"""The audit record: how it stands, verified now, a proof to take along, who received a message. Acts need the role `audit`."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay.console.acts import act, done, require
from relay.console.front import session
from relay.console.page import Page, text
from relay.errors import NotFound, Refused
from relay.proving import Proving
from relay.views import record
from relay.views.explained import of_error
from relay.views.receivers import WhoReceived, receivers
from relay.web.callers import actor
from relay.web.served import here

MOST_ID = 100


async def gather(request: Request) -> dict[str, Any]:
    """Return how the record stands; who received a message, when one is named and who asks has the role for it."""
    asked, found, unknown = request.query_params.get("message", "").strip(), None, None
    try:
        found = await _receivers(request, asked)
    except NotFound as error:
        unknown = of_error(error)
    return {"record": await record.record(here(request)), "asked": asked, "receivers": found, "unknown": unknown}


async def verify(request: Request) -> Response:
    """Verify the whole record; who asks waits a moment, and is told on the page what is found after that."""
    await act(request, "audit", reason=False)
    here_ = here(request)
    run = await here_.verifications.ask(here_.centre, actor(request), here_.stopping)
    if run.found is None:
        return done(request, PAGE.path, text("The verification goes on; this page says what it finds."))
    if run.found.fault is None:
        return done(request, PAGE.path, text("Verified: all %(entries)s entries are what was signed."), entries=run.found.entries)
    return done(request, PAGE.path, text("The record is NOT what was signed; the first fault is shown below."))


async def prove(request: Request) -> Response:
    """Return the file that proves what became of a message, to be kept; who asked and why goes on record."""
    form = await act(request, "audit")
    message = _id(form["message"])
    made = await Proving(here(request).centre).prove(message, actor(request), why=form.reason)
    headers = {"Content-Disposition": f'attachment; filename="{_name(message)}.proof.json"'}
    return Response(made, media_type="application/json", headers=headers)


async def _receivers(request: Request, message: str) -> WhoReceived | None:
    if not message or "audit" not in session(request).client.roles:
        return None
    require(request, "audit")
    return await receivers(here(request).centre, _id(message))


def _id(given: str) -> str:
    if not 0 < len(given) <= MOST_ID:
        raise Refused("bad-request", f"A message's id has 1 to {MOST_ID} characters.")
    return given


def _name(message: str) -> str:
    """Return a message's id as the name of a file: whatever else an id could hold is left out."""
    return "".join(one for one in message if one.isascii() and (one.isalnum() or one in "-_")) or "message"


PAGE = Page(name="audit", path="/audit", title=text("Audit"), gather=gather)
ROUTES = [
    Route("/audit/verify", verify, methods=["POST"]),
    Route("/audit/proof", prove, methods=["POST"]),
]
