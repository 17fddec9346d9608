"""The routes by which operators see the whole network from here, as `relay top` and the console show it, and what is wrong."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from relay.api.auth import SEE
from relay.views.checks import Checks, checks
from relay.views.network import Network, network
from relay.web.served import here

router = APIRouter(tags=["peers"])


@router.get("/v1/network", dependencies=[SEE], responses={200: {"model": Network}}, summary="The network, seen from here")
async def see(request: Request) -> Response:
    """Say how this node does and, of each peer, whether it lives, what it owes and whom to call; silent ones first.

    The status is 200 even while the store is broken: `trouble` says what is not known. Role `operate`, `audit` or `watch`.
    """
    here_ = here(request)
    body = await network(here_.node, here_.readiness)
    return Response(body.model_dump_json(), media_type="application/json")


@router.get("/v1/checks", dependencies=[SEE], responses={200: {"model": Checks}}, summary="Is this node fit to work?")
async def check(request: Request) -> Response:
    """Say of each thing that can be wrong whether it is, and what to do; `relay check` prints it for monitoring systems.

    The status is 200 whatever was found. Role `operate`, `audit` or `watch`.
    """
    here_ = here(request)
    body = await checks(here_.node, here_.readiness)
    return Response(body.model_dump_json(), media_type="application/json")
