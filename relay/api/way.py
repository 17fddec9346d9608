"""The route of one message's whole way across centres, as `relay message show` and the console show it."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from relay.api.auth import needs
from relay.errors import NotFound
from relay.views.message import Way, way
from relay.web.callers import caller
from relay.web.served import here

router = APIRouter(tags=["messages"])

SEES_ALL = frozenset({"operate", "audit", "watch"})


@router.get(
    "/v1/messages/{message_id}/way",
    dependencies=[needs("submit", "operate", "audit", "watch")],
    responses={200: {"model": Way}},
    summary="See a message's whole way",
)
async def see(request: Request, message_id: str) -> Response:
    """Say where a message stands at every centre, by whose signed receipt, what took it back and whose answer it awaits.

    Role `operate`, `audit` or `watch`; `submit` for what this centre sent. Nothing of its content is said.
    """
    found = await way(here(request).node, message_id)
    client = caller(request)
    if found.direction == "received" and (client is None or SEES_ALL.isdisjoint(client.roles)):
        raise NotFound("not-kept-here", f"Message {message_id} is not known here as one that this centre sent.")
    return Response(found.model_dump_json(), media_type="application/json")
