"""The route by which operators see the shape of the queues, as `relay queue shape` and the console show it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from relay.api.auth import SEE
from relay.views.queues import Queues, queues
from relay.web.served import here

router = APIRouter(tags=["messages"])

ByPrecedence = Annotated[bool, Query(description="a row for each lane of a peer, in place of one for the peer")]


@router.get("/v1/queues", dependencies=[SEE], responses={200: {"model": Queues}}, summary="See the shape of the queues")
async def shape(request: Request, precedence: ByPrecedence = False) -> Response:
    """Say what is open at each peer, and what waits for the centre's own system, by age. Role `operate`, `audit` or `watch`."""
    found = await queues(here(request).node, by_precedence=precedence)
    return Response(found.model_dump_json(), media_type="application/json")
