"""The routes by which an operator steers a message that is on its way: role `operate`, audited with the reason."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from relay.api.approvals import WAITING, waits
from relay.api.asked import ASKED_BYTES, Reason, asking, read
from relay.api.auth import OPERATE
from relay.web import steering
from relay.web.body import read_body
from relay.web.steering import Verb

router = APIRouter(tags=["messages"], dependencies=[OPERATE])


class Steering(BaseModel):
    """Why an operator steps in."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason


_TAKES = asking(Steering)


@router.post("/v1/messages/{message_id}/hold", status_code=204, openapi_extra=_TAKES, summary="Hold a message back")
async def hold(request: Request, message_id: str) -> Response:
    """Keep a message from being sent, or sent again, until it is released; the others of its envelope go on. Role `operate`."""
    return await _steer(request, message_id, "hold")


@router.post("/v1/messages/{message_id}/release", status_code=204, openapi_extra=_TAKES, summary="Release a held message")
async def release(request: Request, message_id: str) -> Response:
    """Let a held message go on: it is sent now. Role `operate`."""
    return await _steer(request, message_id, "release")


@router.post(
    "/v1/messages/{message_id}/replay", status_code=204, responses=WAITING, openapi_extra=_TAKES, summary="Send a message again"
)
async def replay(request: Request, message_id: str) -> Response:
    """Send a message again now to every recipient that has not ended it; who has it takes no harm. Role `operate`.

    202: the directory's policy wants a second person.
    """
    return await _steer(request, message_id, "replay")


@router.post("/v1/messages/{message_id}/discard", status_code=204, openapi_extra=_TAKES, summary="Discard a message")
async def discard(request: Request, message_id: str) -> Response:
    """End a message as `cancelled`, signed, at every recipient that has not ended it, and send it no more. Role `operate`.

    A recipient that already holds it keeps it: send a `cancel` to take it back.
    """
    return await _steer(request, message_id, "discard")


async def _steer(request: Request, message: str, verb: Verb) -> Response:
    asked = read(Steering, await read_body(request, ASKED_BYTES))
    waiting = await steering.sent(request, message, verb, asked.reason)
    return Response(status_code=204) if waiting is None else waits(request, waiting)
