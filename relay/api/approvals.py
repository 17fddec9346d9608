"""The routes by which a second person approves what the directory's policy wants two people for: role `operate`, audited."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from relay.api.asked import ASKED_BYTES, Reason, asking, read
from relay.api.auth import OPERATE, SEE
from relay.store.approvals import Approval
from relay.views.approvals import ApprovalState, listed, shown
from relay.web import four_eyes
from relay.web.body import read_body
from relay.web.served import Here, here

router = APIRouter(tags=["approvals"])

Limit = Annotated[int, Query(ge=1, le=1000, description="most approvals of the answer")]
Everything = Annotated[bool, Query(alias="all", description="true: also what is decided or over")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ApprovalList(_Body):
    """What waits for a second person."""

    approvals: list[ApprovalState] = Field(description="the newest first")


class Decision(_Body):
    """Why it is approved or refused."""

    reason: Reason


WAITING: dict[int | str, dict[str, Any]] = {202: {"model": ApprovalState, "description": "It waits for a second person."}}
_DECIDES: dict[str, Any] = {"responses": {200: {"model": ApprovalState}}, "openapi_extra": asking(Decision)}


@router.get(
    "/v1/approvals", dependencies=[SEE], responses={200: {"model": ApprovalList}}, summary="What waits for a second person"
)
async def list_(request: Request, limit: Limit = 100, everything: Everything = False) -> Response:
    """List what waits for a second person, or everything that was asked for. Role `operate`, `audit` or `watch`."""
    body = ApprovalList(approvals=await listed(here(request), limit, everything=everything))
    return Response(body.model_dump_json(), media_type="application/json")


@router.post("/v1/approvals/{approval_id}/approve", dependencies=[OPERATE], **_DECIDES, summary="Approve an act, and do it")
async def approve(request: Request, approval_id: str) -> Response:
    """Approve what another person asked for; it is done before the answer. Role `operate`, and a token of one person's own."""
    asked = read(Decision, await read_body(request, ASKED_BYTES))
    return _answer(here(request), await four_eyes.approve(request, approval_id, asked.reason))


@router.post("/v1/approvals/{approval_id}/refuse", dependencies=[OPERATE], **_DECIDES, summary="Refuse an act, or take it back")
async def refuse(request: Request, approval_id: str) -> Response:
    """Say no to what was asked for; who asked may take it back so. Role `operate`, and a token of one person's own."""
    asked = read(Decision, await read_body(request, ASKED_BYTES))
    return _answer(here(request), await four_eyes.refuse(request, approval_id, asked.reason))


def waits(request: Request, one: Approval) -> Response:
    """Return the answer to who asked for an act that waits for a second person now."""
    return _answer(here(request), one, 202)


def _answer(here_: Here, one: Approval, status: int = 200) -> Response:
    return Response(shown(here_, one).model_dump_json(), status, media_type="application/json")
