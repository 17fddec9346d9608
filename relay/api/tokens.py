"""The routes by which clients of the API are added, given new tokens and shut out: role `admin`, each with a reason, audited.

A token is in the answer that makes it, and nowhere else. What is changed here is changed in the clients' file, and holds at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from relay.api.asked import ASKED_BYTES, Reason, asking, read
from relay.api.auth import ADMIN
from relay.api.contract import Time
from relay.clients import ROLES, Client, Role
from relay.clock import iso, to_ms
from relay.web import roster
from relay.web.body import read_body
from relay.web.callers import actor
from relay.web.served import here

router = APIRouter(tags=["clients"], dependencies=[ADMIN])

T = TypeVar("T")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClientState(_Body):
    """A client of the API."""

    name: str
    person: str | None = Field(description="whose token it is, if it is one person's alone")
    roles: list[Role]
    created: Time = Field(description="when its token was made")
    expires: Time | None
    revoked: Time | None
    valid: bool = Field(description="whether its token opens anything now")


class ClientList(_Body):
    """The clients of the API, the revoked ones too."""

    clients: list[ClientState]


class ClientToken(_Body):
    """A client's new token, shown this once."""

    client: ClientState
    token: str


class ClientAsked(_Body):
    """A client to add."""

    name: str = Field(max_length=63, description="small letters, digits, dots, hyphens and underscores")
    roles: Annotated[list[Role], Field(min_length=1, max_length=len(ROLES))]
    person: str | None = Field(default=None, min_length=1, max_length=100, description="whose token it is, if one person's alone")
    expires: AwareDatetime | None = Field(default=None, description="RFC 3339; from then on its token opens nothing")
    reason: Reason


class WhyClient(_Body):
    """Why a client is changed."""

    reason: Reason


_CHANGES: dict[str, Any] = {"openapi_extra": asking(WhyClient)}


@router.get("/v1/clients", responses={200: {"model": ClientList}}, summary="List the API's clients")
async def list_(request: Request) -> Response:
    """List the clients with their roles; tokens are kept nowhere. Role `admin`."""
    return _answer(ClientList(clients=[_shown(request, one) for one in here(request).clients.known]))


@router.post(
    "/v1/clients",
    status_code=201,
    responses={201: {"model": ClientToken}},
    openapi_extra=asking(ClientAsked),
    summary="Add a client",
)
async def add(request: Request) -> Response:
    """Add a client; its token is in the answer and nowhere else. Role `admin`."""
    asked = read(ClientAsked, await read_body(request, ASKED_BYTES))
    register = here(request).clients.register
    made, token = await _change(
        request,
        partial(
            register.add,
            asked.name,
            tuple(asked.roles),
            person=asked.person,
            expires=asked.expires,
            by=actor(request),
            why=asked.reason,
        ),
    )
    return _answer(ClientToken(client=_shown(request, made), token=token), 201)


@router.post(
    "/v1/clients/{name}/rotate", **_CHANGES, responses={200: {"model": ClientToken}}, summary="Give a client a new token"
)
async def rotate(request: Request, name: str) -> Response:
    """Give a client another token; the one it had opens nothing from now on. Role `admin`."""
    asked = read(WhyClient, await read_body(request, ASKED_BYTES))
    register = here(request).clients.register
    made, token = await _change(request, partial(register.rotate, name, by=actor(request), why=asked.reason))
    return _answer(ClientToken(client=_shown(request, made), token=token))


@router.post("/v1/clients/{name}/revoke", **_CHANGES, responses={200: {"model": ClientState}}, summary="Shut a client out")
async def revoke(request: Request, name: str) -> Response:
    """Let a client's token open nothing any more, from now on and for good. Role `admin`."""
    asked = read(WhyClient, await read_body(request, ASKED_BYTES))
    register = here(request).clients.register
    return _answer(_shown(request, await _change(request, partial(register.revoke, name, by=actor(request), why=asked.reason))))


async def _change(request: Request, change: Callable[[], T]) -> T:
    """Change the clients' file, go by it at once, and write it to the record."""
    here_ = here(request)
    done = await asyncio.to_thread(change)
    here_.clients.reload()
    await roster.record(here_)
    return done


def _shown(request: Request, one: Client) -> ClientState:
    return ClientState(
        name=one.name,
        person=one.person,
        roles=list(one.roles),
        created=iso(to_ms(one.created)),
        expires=_time(one.expires),
        revoked=_time(one.revoked),
        valid=one.valid(here(request).centre.now()),
    )


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else iso(to_ms(moment))


def _answer(body: BaseModel, status: int = 200) -> Response:
    return Response(body.model_dump_json(), status, media_type="application/json")
