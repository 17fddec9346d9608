"""The routes by which a second person approves what the directory's policy wants two people for: role `operate`, audited."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from relay.api.asked import ASKED_BYTES, Reason, asking, read
from relay.api.auth import OPERATE, SEE
from relay.api.contract import Time
from relay.clock import iso
from relay.store.approvals import Approval
from relay.web import four_eyes
from relay.web.body import read_body
from relay.web.served import Here, here

router = APIRouter(tags=["approvals"])

Limit = Annotated[int, Query(ge=1, le=1000, description="most approvals of the answer")]
Everything = Annotated[bool, Query(alias="all", description="true: also what is decided or over")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ApprovalState(_Body):
    """An act that one person asked for and that waits for a second one, or did."""

    id: str
    action: str = Field(description="replay, quarantine-release or purge")
    subject: str = Field(description="the message's id, or `what is due`")
    reason: str
    asked_by: str = Field(description="the client, and its person in brackets")
    asked_at: Time
    expires_at: Time
    state: str = Field(description="pending, expired, refused; approved: being done; done; failed: it could not be done any more")
    decided_by: str | None = None
    decided_at: Time | None = None
    decided_why: str | None = None


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
    here_ = here(request)
    found = await four_eyes.listed(here_, limit, everything=everything)
    body = ApprovalList(approvals=[_shown(here_, one) for one in found])
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
    return Response(_shown(here_, one).model_dump_json(), status, media_type="application/json")


def _shown(here_: Here, one: Approval) -> ApprovalState:
    return ApprovalState(
        id=one.id,
        action=one.action,
        subject=one.subject,
        reason=one.reason,
        asked_by=one.asked_by,
        asked_at=iso(one.asked_at),
        expires_at=iso(one.expires_at),
        state=four_eyes.state(here_, one),
        decided_by=one.decided_by,
        decided_at=iso(one.decided_at) if one.decided_at else None,
        decided_why=one.decided_why,
    )
