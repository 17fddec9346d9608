"""The routes by which an operator looks after received messages: role `operate`, every act with a reason, in the record.

Nothing here shows what a message says; only the centre's own system gets that.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from relay.api.approvals import WAITING, waits
from relay.api.asked import ASKED_BYTES, Reason, asking, read
from relay.api.auth import OPERATE, WATCH
from relay.api.contract import Id, Time
from relay.clock import iso
from relay.received import RELEASABLE, ReceivedMessages
from relay.store.approvals import Approval
from relay.store.aside import Received
from relay.web import steering
from relay.web.body import read_body
from relay.web.served import here
from relay.web.steering import Verb

router = APIRouter(tags=["received"])

State = Literal["waiting", "handed", "deferred", "held", "dead", "quarantined"]
InState = Annotated[State, Query(description="where they stand")]
Limit = Annotated[int, Query(ge=1, le=1000, description="most messages of the answer")]
After = Annotated[Id | None, Query(description="list only what is behind this message")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ReceivedState(_Body):
    """Where a received message stands here."""

    id: Id
    origin: str
    lane: str
    envelope: Id = Field(description="the envelope that brought it")
    state: str = Field(
        description="waiting: not given out yet; handed: given out, not acknowledged; deferred: given out again at `retry_at`; "
        "held: an operator parked it; dead: nobody tries again by itself; quarantined: refused on arrival; and what is over: "
        "delivered, rejected, withdrawn (recalled while the system had it)"
    )
    since: Time
    received_at: Time
    deadline: Time | None = Field(description="after it the message is not given out for the first time; null: overruled")
    given_at: Time | None = Field(description="when the centre's system was first given it")
    code: str | None = Field(description="why it was refused or put off")
    reason: str | None = Field(description="the words of who put it there")
    attempts: int = Field(description="how often the system put it off")
    retry_at: Time | None = Field(description="when it is given out again")
    purged_at: Time | None = Field(description="when its content was purged")
    releasable: bool = Field(description="whether `release` can change anything")


class ReceivedList(_Body):
    """Received messages in one state, the oldest first."""

    messages: list[ReceivedState]
    next: Id | None = Field(description="value of `after` for the next page, or null")


class ActAsked(_Body):
    """Why an operator does it."""

    reason: Reason


@router.get(
    "/v1/received", dependencies=[WATCH], responses={200: {"model": ReceivedList}}, summary="List received messages by state"
)
async def list_(request: Request, state: InState, limit: Limit = 100, after: After = None) -> Response:
    """List received messages in one state, the oldest first. Role `operate` or `watch`."""
    messages = here(request).node.received
    found = await messages.listed(state, after, limit + 1)
    page = [_shown(messages, one) for one in found[:limit]]
    return _answer(ReceivedList(messages=page, next=page[-1].id if len(found) > limit else None))


@router.get(
    "/v1/received/{message_id}",
    dependencies=[WATCH],
    responses={200: {"model": ReceivedState}},
    summary="See a received message's state",
)
async def show(request: Request, message_id: str) -> Response:
    """Say where a received message stands here. Role `operate` or `watch`."""
    messages = here(request).node.received
    return _answer(_shown(messages, await messages.find(message_id)))


_ACT: dict[str, Any] = {
    "dependencies": [OPERATE],
    "responses": {200: {"model": ReceivedState}},
    "openapi_extra": asking(ActAsked),
}
_ACT_OF_TWO: dict[str, Any] = {**_ACT, "responses": {200: {"model": ReceivedState}, **WAITING}}


@router.post("/v1/received/{message_id}/hold", **_ACT, summary="Hold a received message")
async def hold(request: Request, message_id: str) -> Response:
    """Park a message: it is not given out until it is released. Role `operate`."""
    return await _act(request, message_id, "hold")


@router.post("/v1/received/{message_id}/release", **_ACT_OF_TWO, summary="Release a held or quarantined message")
async def release(request: Request, message_id: str) -> Response:
    """Let a held message be given out; or overrule, with its deadline, the refusal of a quarantined one. Role `operate`.

    Only what a policy refused can be overruled: `sender-not-entitled`, `recipient-not-entitled`, `recipient-not-named`. Its
    origin is told that the message was taken after all, and sees that beside the rejection, which stands. 202: the directory's
    policy wants a second person for a quarantined one.
    """
    return await _act(request, message_id, "release")


@router.post("/v1/received/{message_id}/replay", **_ACT, summary="Give a dead or deferred message out again")
async def replay(request: Request, message_id: str) -> Response:
    """Give a dead or deferred message out again at once, whatever its deadline says. Role `operate`."""
    return await _act(request, message_id, "replay")


@router.post("/v1/received/{message_id}/discard", **_ACT_OF_TWO, summary="Discard a received message")
async def discard(request: Request, message_id: str) -> Response:
    """End a message as rejected (`discarded`) and purge its content; its row stays. Role `operate`.

    202: the directory's policy wants a second person.
    """
    return await _act(request, message_id, "discard")


async def _act(request: Request, message_id: str, verb: Verb) -> Response:
    asked = read(ActAsked, await read_body(request, ASKED_BYTES))
    done = await steering.received(request, message_id, verb, asked.reason)
    return waits(request, done) if isinstance(done, Approval) else _answer(_shown(here(request).node.received, done))


def _shown(messages: ReceivedMessages, one: Received) -> ReceivedState:
    sound = one.state == "quarantined" and one.code in RELEASABLE and one.purged_at is None
    return ReceivedState(
        id=one.id,
        origin=one.origin,
        lane=one.lane,
        envelope=one.envelope,
        state=one.state,
        since=iso(one.since),
        received_at=iso(one.received_at),
        deadline=_time(one.deadline or None),
        given_at=_time(one.given_at),
        code=one.code,
        reason=messages.reason(one),
        attempts=one.attempts,
        retry_at=_time(one.retry_at),
        purged_at=_time(one.purged_at),
        releasable=sound or one.state == "held",
    )


def _time(at: int | None) -> str | None:
    return None if at is None else iso(at)


def _answer(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), 200, media_type="application/json")
