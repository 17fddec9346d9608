"""The routes about keys: how this centre's stand, which keys of others are revoked, and what was taken under them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from relay.api.auth import SEE
from relay.api.contract import Time
from relay.clock import iso, to_ms
from relay.keyring import KeyState, Standing, Use
from relay.store import Connection, suspects
from relay.store.suspects import Revocation
from relay.web.served import here

router = APIRouter(tags=["keys"], dependencies=[SEE])

PAGE = 1000


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OwnKey(_Body):
    """A key of this centre; the times are null of one that the directory does not list."""

    id: str
    use: Use
    state: KeyState = Field(description="not-held: listed as valid, but its private half is not here; announced: not valid yet")
    held: bool
    valid_from: Time | None
    valid_until: Time | None
    revoked_from: Time | None


class RevokedKey(_Body):
    """A signing key that the directory revokes; `messages` were taken under it since then."""

    key: str
    centre: str
    revoked_from: Time
    noticed_at: Time
    messages: int


class Keys(_Body):
    """The keys of this centre, and the revoked keys of all."""

    keys: list[OwnKey]
    warnings: list[str] = Field(description="sentences: what to see to soon")
    revoked: list[RevokedKey]


class SuspectMessage(_Body):
    """A message that was taken under a key which is revoked since; `signed_at` is what its signer said."""

    id: str
    origin: str
    envelope: str
    signed_at: Time
    received_at: Time


class Affected(_Body):
    """A page of suspect messages by id; go on after the last one when there are `more`."""

    messages: list[SuspectMessage]
    more: bool


@router.get("/v1/keys", responses={200: {"model": Keys}}, summary="How the keys stand")
async def list_(request: Request) -> Response:
    """List this centre's keys and the revoked keys of all. Role `operate`, `audit` or `watch`."""
    here_ = here(request)
    found, counts = await here_.centre.store.read(_revoked)
    body = Keys(
        keys=[_own(one) for one in here_.centre.keyring.standings(here_.centre.now())],
        warnings=list(here_.node.custody.warnings),
        revoked=[_of(one, counts.get(one.key, 0)) for one in found],
    )
    return Response(body.model_dump_json(), media_type="application/json")


@router.get("/v1/keys/{key}/affected", responses={200: {"model": Affected}}, summary="See what a revoked key casts doubt on")
async def affected(
    request: Request, key: str, after: Annotated[str, Query(max_length=128, description="id of the last message seen")] = ""
) -> Response:
    """List the messages that were taken under a revoked key since it must not count. Role `operate`, `audit` or `watch`."""
    found = await here(request).centre.store.read(lambda connection: suspects.listed(connection, key, after, PAGE + 1))
    messages = [
        SuspectMessage(
            id=one.id,
            origin=one.origin,
            envelope=one.envelope,
            signed_at=iso(one.signed_at),
            received_at=iso(one.received_at),
        )
        for one in found[:PAGE]
    ]
    return Response(Affected(messages=messages, more=len(found) > PAGE).model_dump_json(), media_type="application/json")


def _revoked(connection: Connection) -> tuple[list[Revocation], dict[str, int]]:
    return sorted(suspects.known(connection).values(), key=lambda one: (-one.noticed_at, one.key)), suspects.counts(connection)


def _own(one: Standing) -> OwnKey:
    listed = one.listed
    return OwnKey(
        id=one.id,
        use=one.use,
        state=one.state,
        held=one.held,
        valid_from=iso(to_ms(listed.valid_from)) if listed else None,
        valid_until=iso(to_ms(listed.valid_until)) if listed else None,
        revoked_from=iso(to_ms(listed.revoked_from)) if listed and listed.revoked_from else None,
    )


def _of(one: Revocation, messages: int) -> RevokedKey:
    return RevokedKey(
        key=one.key,
        centre=one.origin,
        revoked_from=iso(one.revoked_from),
        noticed_at=iso(one.noticed_at),
        messages=messages,
    )
