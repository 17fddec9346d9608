"""The route by which an operator sees which peers are late with what they owe, and whom to call: role `operate`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from relay.api.auth import WATCH
from relay.views.alarms import RaisedAlarm, late
from relay.views.times import Shown
from relay.web.served import here

router = APIRouter(tags=["alarms"], dependencies=[WATCH])


class Alarms(Shown):
    """What stands now, the most urgent lane first."""

    alarms: list[RaisedAlarm]


@router.get("/v1/alarms", responses={200: {"model": Alarms}}, summary="See which peers are late")
async def list_(request: Request) -> Response:
    """List the promises that peers have not kept in time, with the duty contact of each peer. Role `operate` or `watch`."""
    body = Alarms(alarms=late(here(request)))
    return Response(body.model_dump_json(), media_type="application/json")
