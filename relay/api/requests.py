"""The routes of requests: which answers are awaited or owed, since when and until when; and the release of H2 messages.

What is said here of a request is its clock and the ids of its answers, never its content. The two routes that send something are
an operator's: the node composes the message (:mod:`relay.release`), submits it like any other, and records who asked and why.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from relay import messages
from relay.api.auth import OPERATE, WORK
from relay.api.contract import Accepted, Id, Time
from relay.audit import AuditStep
from relay.clock import iso
from relay.errors import NotFound, Problem, Refused, RelayError
from relay.log import Event
from relay.release import Done, Releases
from relay.requests import SIDES
from relay.store import Connection, clocks
from relay.store.clocks import ANSWERED, Clock, Which
from relay.submissions import Submission
from relay.web.body import read_body
from relay.web.callers import actor
from relay.web.served import Here, here

BODY_BYTES = 128 * 1024

Side = Literal["asked", "received"]
ClockState = Literal["open", "partial", "clarification", "delay", "full", "refusal", "cancelled", "rejected"]
Limit = Annotated[int, Query(ge=1, le=1000, description="most requests of the answer")]
State = Annotated[
    Which,
    Query(description="open: an answer is awaited; overdue: one is late; answered: somebody answered and nobody is awaited"),
]
Before = Annotated[str | None, Query(max_length=36, description="the `next` of the page before")]
OnSide = Annotated[Side | None, Query(description="asked by this centre, or received by it; absent: both")]

router = APIRouter(tags=["requests"])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RequestPeer(_Body):
    """A request's clock at one peer: who was asked, or who asked."""

    centre: str
    state: ClockState = Field(description="open, partial, clarification and delay run; the others stopped")
    hours: int = Field(description="hours that the answer may take")
    started_at: Time | None = Field(description="when the peer's node had the request (asked) or this one (received)")
    due_at: Time | None = Field(description="when the answer is due: after the hours, or at the date of a delay")
    reminders: list[Literal[50, 90]] = Field(description="percent of the clock that were reminded of")
    overdue: bool
    answered_at: Time | None = Field(description="when the full answer or the refusal was sent, or came")
    answered_late: bool | None = Field(description="whether that was after its time; null without one")


class RequestAnswer(_Body):
    """A reply to a request."""

    id: Id
    centre: str = Field(description="who answered")


class RequestState(_Body):
    """A request, its clocks and the ids of its answers."""

    id: Id
    side: Side
    open: bool = Field(description="whether an answer is awaited")
    overdue: bool = Field(description="whether an answer is late")
    peers: list[RequestPeer]
    answers: list[RequestAnswer] = Field(description="the oldest first; `GET /v1/messages/ID` and the inbox know them")


class RequestStates(_Body):
    """Requests, the newest first."""

    requests: list[RequestState]
    next: Id | None = Field(description="value of `before` for the next page, or null")


class ReleaseQuestion(_Body):
    """To which centres a message marked H2 is to be released, and why."""

    to: Annotated[list[str], Field(min_length=1, max_length=50)]
    reason: Annotated[str, Field(min_length=1, max_length=1000)]
    urgency: Annotated[str, Field(description="how soon the answer is needed: a code of the list urgencies")] = "normal"


class ReleaseDecision(_Body):
    """Whether the release that a request asks for is permitted (`full`) or denied (`refusal`, with its ground)."""

    outcome: Literal["full", "refusal"]
    ground: Annotated[str | None, Field(description="with a refusal: a code of the list refusal_grounds")] = None
    text: Annotated[str, Field(min_length=1, max_length=20_000, description="the decision in words, sent with it")]


Given = TypeVar("Given", ReleaseQuestion, ReleaseDecision)


def _taking(model: type[BaseModel]) -> dict[str, Any]:
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


@router.get("/v1/requests", dependencies=[WORK], responses={200: {"model": RequestStates}}, summary="List requests")
async def list_(
    request: Request, state: State = "open", side: OnSide = None, limit: Limit = 100, before: Before = None
) -> Response:
    """List the requests that this centre asked and was asked, the newest first, with their clocks. Any role but `admin`."""
    centre, now = here(request).centre, here(request).centre.now()
    asked = None if side is None else side == "asked"

    def find(connection: Connection) -> list[dict[str, Any]]:
        found = clocks.page(connection, state, asked=asked, before=before, limit=limit + 1, now=now)
        return [_shown(connection, centre.id, one, now) for one in found]

    found = await centre.store.read(find)
    return _json({"requests": found[:limit], "next": found[limit - 1]["id"] if len(found) > limit else None})


@router.get(
    "/v1/requests/{request_id}", dependencies=[WORK], responses={200: {"model": RequestState}}, summary="See a request's clocks"
)
async def show(request: Request, request_id: str) -> Response:
    """Say who was asked or asked, since when and until when, and which messages answered. Any role but `admin`."""
    centre = here(request).centre

    def find(connection: Connection) -> dict[str, Any] | None:
        found = clocks.of(connection, request_id)
        return _shown(connection, centre.id, found, centre.now()) if found else None

    if (found := await centre.store.read(find)) is None:
        raise NotFound("unknown-request", "This node sent and received no request with this id.")
    return _json(found)


@router.post(
    "/v1/messages/{message_id}/ask-release",
    status_code=202,
    dependencies=[OPERATE],
    responses={202: {"model": Accepted}},
    openapi_extra=_taking(ReleaseQuestion),
    summary="Ask to release a message",
)
async def ask_release(request: Request, message_id: str) -> Response:
    """Ask the origin of a received message whether it may be released to these centres; a full reply permits it.

    Role `operate`.
    """
    given = _given(ReleaseQuestion, await read_body(request, BODY_BYTES))
    releases = Releases(here(request).centre)
    raw, peer = await releases.ask(message_id, given.to, given.reason, given.urgency)
    done = partial(Done, AuditStep.RELEASE_ASKED, peer=peer, code=None, why=given.reason)
    return await _submit(request, releases, raw, done)


@router.post(
    "/v1/requests/{request_id}/answer",
    status_code=202,
    dependencies=[OPERATE],
    responses={202: {"model": Accepted}},
    openapi_extra=_taking(ReleaseDecision),
    summary="Permit or deny a release",
)
async def answer(request: Request, request_id: str) -> Response:
    """Answer a received request that asks to release a message of this centre. Other requests are answered with a message.

    Role `operate`.
    """
    given = _given(ReleaseDecision, await read_body(request, BODY_BYTES))
    releases = Releases(here(request).centre)
    raw, peer = await releases.answer(request_id, given.outcome, given.ground, given.text)
    done = partial(Done, AuditStep.RELEASE_ANSWERED, peer=peer, code=given.outcome, why=given.text)
    return await _submit(request, releases, raw, done)


async def _submit(request: Request, releases: Releases, raw: bytes, done: partial[Done]) -> Response:
    """Submit a composed message like any other, and record who asked for it and why."""
    here_ = here(request)
    outcome = (await here_.node.outbox.submit([Submission(raw, messages.parse(raw))]))[0]
    if isinstance(outcome, RelayError):
        raise outcome
    await _record(here_, releases, done(message=outcome.id, actor=actor(request)))
    status = f"/v1/messages/{outcome.id}"
    return _json({"id": outcome.id, "recipients": outcome.recipients, "status": status}, 202, {"Location": status})


async def _record(here_: Here, releases: Releases, done: Done) -> None:
    """Write the record; the message is committed and on its way, so trouble with the store changes nothing of the answer."""
    try:
        await releases.record(done)
    except RelayError as trouble:
        here_.centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)


def _given(model: type[Given], raw: bytes) -> Given:
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        found = tuple(
            Problem("".join(f"/{part}" for part in one["loc"]), "bad-request", f"{one['msg']}.")
            for one in error.errors(include_input=False, include_url=False)[:20]
        )
        raise Refused("bad-request", "The body is not of the form that /openapi.json describes.", found) from None


def _shown(connection: Connection, me: str, found: list[Clock], now: int) -> dict[str, Any]:
    answers = [{"id": id_, "centre": origin} for id_, origin in clocks.answers(connection, me, found)]
    return {
        "id": found[0].request,
        "side": SIDES[found[0].asked],
        "open": any(clock.stopped_at is None for clock in found),
        "overdue": any(clock.overdue(now) for clock in found),
        "peers": [_peer(clock, now) for clock in found],
        "answers": answers,
    }


def _peer(clock: Clock, now: int) -> dict[str, Any]:
    return {
        "centre": clock.peer,
        "state": clock.state,
        "hours": clock.hours,
        "started_at": _time(clock.started_at),
        "due_at": _time(clock.due_at),
        "reminders": [int(step) for step in clock.steps if step != "overdue"],
        "overdue": clock.overdue(now),
        "answered_at": _time(clock.stopped_at) if clock.state in ANSWERED else None,
        "answered_late": clock.late,
    }


def _time(at: int | None) -> str | None:
    return None if at is None else iso(at)


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(body, separators=(",", ":")), status, headers, "application/json")
