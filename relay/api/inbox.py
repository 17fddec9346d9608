"""The routes by which a centre's own system takes what arrived, and says that it has it.

A message is given out as the very bytes that its origin's system submitted, embedded in the answer and never written anew.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from relay.api.asked import asking, read
from relay.api.auth import RECEIVE, require
from relay.api.contract import Acknowledged, Acknowledgement, Id, Inbox, Time, described
from relay.clock import iso
from relay.errors import Problem, Refused
from relay.handover import Given, No
from relay.web.body import read_body
from relay.web.callers import caller
from relay.web.served import Here, here

ACK_BYTES = 256 * 1024
NACK_BYTES = 16 * 1024
LOOK_SECONDS = 0.5

router = APIRouter(tags=["inbox"], dependencies=[RECEIVE])

Limit = Annotated[int, Query(ge=1, le=1000, description="most messages of the answer")]
Wait = Annotated[float, Query(ge=0, le=60, description="seconds to wait for the first message")]


@router.get("/v1/inbox", responses={200: {"model": Inbox}}, summary="Take what arrived")
async def take(request: Request, limit: Limit = 100, wait: Wait = 0) -> Response:
    """Give the unacknowledged messages, the oldest of the highest precedence first; what is not acknowledged is given again.

    Role `receive`. With `wait` the answer comes with the first message, or empty when the seconds have passed.
    """
    here_, client = here(request), require(request, "receive")[0]
    here_.limits.messages(client, 0, time.monotonic())
    given = await _take(request, here_, limit, wait)
    here_.limits.given(client, len(given), time.monotonic())
    return Response(b'{"messages":[' + b",".join(map(_written, given)) + b"]}", media_type="application/json")


@router.post(
    "/v1/inbox/ack",
    responses={200: {"model": Acknowledged}},
    openapi_extra=described(Acknowledgement),
    summary="Acknowledge messages",
)
async def acknowledge(request: Request) -> Response:
    """Say that the centre's system has these messages; their senders will see `delivered`. Doing it again changes nothing.

    Role `receive`. `delivered` counts those that this request settled; `unknown` lists ids that were never given out; those in
    `unconfirmed` carry a restriction in words (H3): show it, have it confirmed, and say so by naming them in `confirmed` as well.
    """
    asked = _acknowledgement(await read_body(request, ACK_BYTES))
    done = await here(request).node.handover.acknowledge(asked.ids, asked.confirmed)
    body = Acknowledged(delivered=done.delivered, unknown=list(done.unknown), unconfirmed=list(done.unconfirmed))
    return Response(body.model_dump_json(), media_type="application/json")


class Nack(BaseModel):
    """That the centre's system does not take a message, now or ever."""

    model_config = ConfigDict(extra="forbid")

    id: Id
    code: str = Field(pattern=r"^[a-z0-9-]{1,64}$", description="why; of a final refusal its origin sees it")
    reason: str | None = Field(default=None, min_length=1, max_length=2000, description="in words; stays at this node")
    retry_after: int | None = Field(
        default=None, ge=1, le=86_400, description="seconds until the system wants it again; without it the refusal is final"
    )


class Nacked(BaseModel):
    """Where a message stands after it was not taken."""

    model_config = ConfigDict(extra="forbid")

    id: Id
    state: Literal["deferred", "held", "dead", "rejected"] = Field(
        description="deferred: given out again at `retry_at`; dead: put off too often, or beyond its deadline; "
        "held: an operator parked it meanwhile; rejected: for good"
    )
    code: str | None
    attempts: int = Field(description="how often it was put off")
    retry_at: Time | None


@router.post(
    "/v1/inbox/nack", responses={200: {"model": Nacked}}, openapi_extra=asking(Nack), summary="Refuse a message, now or for good"
)
async def refuse(request: Request) -> Response:
    """Say that the centre's system does not take a message: with `retry_after` now, without it ever.

    Role `receive`. Doing it again changes nothing. A message that is refused for good is rejected: its sender sees the code. One
    that is put off holds up no other.
    """
    asked = read(Nack, await read_body(request, NACK_BYTES))
    done = await here(request).node.handover.refuse(No(asked.id, asked.code, asked.reason, asked.retry_after))
    at = None if done.retry_at is None else iso(done.retry_at)
    body = {"id": asked.id, "state": done.state, "code": done.code, "attempts": done.attempts, "retry_at": at}
    return Response(Nacked.model_validate(body).model_dump_json(), media_type="application/json")


async def _take(request: Request, here_: Here, limit: int, wait: float) -> list[Given]:
    """Take messages, waiting until some come, the time passes, the node stops, or the caller leaves or is not let in any more."""
    if not wait:
        return await here_.node.handover.take(limit, 0)
    taking = asyncio.create_task(here_.node.handover.take(limit, wait))
    ends = [
        asyncio.create_task(here_.stopping.wait()),
        asyncio.create_task(_gone(request)),
        asyncio.create_task(_shut_out(request)),
    ]
    try:
        await asyncio.wait([taking, *ends], return_when=asyncio.FIRST_COMPLETED)
        return taking.result() if taking.done() else []
    finally:
        for task in (taking, *ends):
            task.cancel()
        await asyncio.gather(taking, *ends, return_exceptions=True)


async def _gone(request: Request) -> None:
    """Return when the caller has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _shut_out(request: Request) -> None:
    """Return when the caller's token opens nothing any more."""
    here_, client = here(request), caller(request)
    while client is not None and here_.clients.valid(client, here_.centre.now()):  # noqa: ASYNC110 - a token may expire, too
        await asyncio.sleep(LOOK_SECONDS)  # as often as the clients' file is looked at


def _written(given: Given) -> bytes:
    head = f'{{"id":"{given.id}","origin":"{given.origin}","received_at":"{iso(given.received_at)}"'
    head += f',"handling":"{given.handling}"'
    if given.warnings:
        head += f',"warnings":{json.dumps([asdict(one) for one in given.warnings])}'
    return head.encode() + b',"message":' + given.raw + b"}"


def _acknowledgement(raw: bytes) -> Acknowledgement:
    try:
        return Acknowledgement.model_validate_json(raw)
    except ValidationError as error:
        found = tuple(
            Problem("".join(f"/{part}" for part in one["loc"]), "bad-request", f"{one['msg']}.")
            for one in error.errors(include_input=False, include_url=False)[:20]
        )
        raise Refused("bad-request", 'The body must be {"ids": [...]} with 1 to 1000 message ids.', found) from None
