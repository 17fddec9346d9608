"""The routes by which an operator purges what is due, and keeps what a court or an inquiry needs: role `operate`, audited."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from relay.api.approvals import WAITING, waits
from relay.api.asked import ASKED_BYTES, MOST_REASON, Reason, asking, read
from relay.api.auth import OPERATE, WATCH
from relay.api.contract import Id, Time
from relay.clock import iso
from relay.retention import LISTED, Outcome
from relay.store import retained
from relay.web import four_eyes
from relay.web.body import read_body
from relay.web.callers import actor
from relay.web.served import here

router = APIRouter(tags=["retention"])

Why = Annotated[str, Query(min_length=1, max_length=MOST_REASON, description="why the hold ends; the audit record keeps it")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RetentionRun(_Body):
    """What to do: purge what is due, or only show it."""

    dry_run: bool = Field(description="true: show what would go, and change nothing")
    reason: Reason | None = Field(default=None, description="required unless it is a dry run")

    @model_validator(mode="after")
    def _has_a_reason(self) -> Self:
        if not self.dry_run and self.reason is None:
            raise ValueError("without `dry_run` a reason is needed")
        return self


class Going(_Body):
    """A message whose content goes."""

    id: Id
    side: Literal["received", "sent"]
    purge_at: Time
    state: str = Field(description="received: where it stood here; sent: settled, or open at a recipient that never answered")
    why: Literal["retention", "expired", "unanswered"] = Field(
        description="retention: its time is up; expired: and the centre's system never took it, so it is rejected first; "
        "unanswered: and nobody will ask for it again"
    )


class RetentionDone(_Body):
    """What was purged, or with `dry_run` what would be."""

    dry_run: bool
    received: int = Field(description="received messages")
    sent: int = Field(description="messages that this centre sent")
    held: int = Field(description="messages that are due and stay, under legal hold")
    needed: int = Field(description="messages that are due and stay for now, since they may have to be sent again")
    samples: int = Field(description="samples of bytes that were not authentic, older than 90 days")
    keys: int = Field(description="idempotency keys older than 30 days")
    messages: list[Going] = Field(description=f"the first {LISTED} of the messages")


class HoldAsked(_Body):
    """A message to put under legal hold."""

    id: Id
    reason: Reason


class LegalHold(_Body):
    """A message under legal hold."""

    id: Id
    reason: str
    actor: str = Field(description="who set it")
    at: Time


class LegalHolds(_Body):
    """The messages under legal hold."""

    holds: list[LegalHold] = Field(description="the oldest first")


@router.post(
    "/v1/retention/run",
    dependencies=[OPERATE],
    responses={200: {"model": RetentionDone}, **WAITING},
    openapi_extra=asking(RetentionRun),
    summary="Purge what is due, or show it",
)
async def run(request: Request) -> Response:
    """Purge what is due now, as the node does by itself every hour; with `dry_run` show what would go. Role `operate`.

    202: the directory's policy wants a second person.
    """
    asked = read(RetentionRun, await read_body(request, ASKED_BYTES))
    waiting = None if asked.dry_run else await four_eyes.asked(request, "purge", four_eyes.DUE, asked.reason or "")
    if waiting is not None:
        return waits(request, waiting)
    retention = here(request).node.retention
    outcome = await retention.purge(dry_run=asked.dry_run, actor=actor(request), why=asked.reason)
    return _answer(_done(outcome))


@router.get("/v1/retention/holds", dependencies=[WATCH], responses={200: {"model": LegalHolds}}, summary="List legal holds")
async def list_(request: Request) -> Response:
    """List the messages under legal hold. Role `operate` or `watch`."""
    found = await here(request).centre.store.read(retained.holds)
    return _answer(LegalHolds(holds=[_hold(one) for one in found]))


@router.post(
    "/v1/retention/holds",
    dependencies=[OPERATE],
    status_code=201,
    responses={201: {"model": LegalHold}},
    openapi_extra=asking(HoldAsked),
    summary="Set a legal hold",
)
async def hold(request: Request) -> Response:
    """Put a message, received or sent, under legal hold: neither time nor a recall purges it until the hold is lifted.

    Role `operate`. While the hold lasts, the origin of a recall sees it unconfirmed here.
    """
    asked = read(HoldAsked, await read_body(request, ASKED_BYTES))
    return _answer(_hold(await here(request).node.retention.hold(asked.id, asked.reason, actor(request))), 201)


@router.delete("/v1/retention/holds/{message_id}", dependencies=[OPERATE], status_code=204, summary="Lift a legal hold")
async def lift(request: Request, message_id: str, reason: Why) -> Response:
    """End a legal hold. A recall that came meanwhile is carried out now, and its origin told. Role `operate`."""
    await here(request).node.retention.lift(message_id, reason, actor(request))
    return Response(status_code=204)


def _done(outcome: Outcome) -> RetentionDone:
    return RetentionDone(
        dry_run=outcome.dry_run,
        received=outcome.received,
        sent=outcome.sent,
        held=outcome.held,
        needed=outcome.needed,
        samples=outcome.samples,
        keys=outcome.keys,
        messages=[
            Going(id=one.id, side=one.side, purge_at=iso(one.purge_at), state=one.state, why=one.why) for one in outcome.listed
        ],
    )


def _hold(found: retained.Hold) -> LegalHold:
    return LegalHold(id=found.id, reason=found.reason, actor=found.actor, at=iso(found.at))


def _answer(body: BaseModel, status: int = 200) -> Response:
    return Response(body.model_dump_json(), status, media_type="application/json")
