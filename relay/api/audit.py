"""The routes of the audit record: who received a message, proofs, the record as lines, its verification. Role `audit`.

Nothing here shows what a message says, but for a proof that is asked to reveal it, which needs a reason. Making a proof and
exporting the record go on record themselves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from relay import exporting, points
from relay.api.auth import AUDIT
from relay.api.contract import Id
from relay.audit import AuditStep
from relay.centre import Centre
from relay.clock import iso, to_ms
from relay.errors import Refused
from relay.exporting import Span
from relay.points import Point
from relay.proving import Proving
from relay.store import traces
from relay.verifying import EpochFound, Verification, Verified, registers
from relay.views.receivers import WhoReceived, receivers
from relay.web.body import read_body
from relay.web.callers import actor
from relay.web.served import here

ASKED_BYTES = 16 * 1024
MOST_REASON = 500
LINES = "application/x-ndjson"

router = APIRouter(tags=["audit"], dependencies=[AUDIT])

Since = Annotated[datetime | None, Query(alias="from", description="only what is of this time or later, RFC 3339")]
Until = Annotated[datetime | None, Query(alias="to", description="only what is of before this time, RFC 3339")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProofAsked(_Body):
    """Which message to prove; with `reveal`, its content stands in the proof, and `reason` says why."""

    id: Id
    reveal: bool = False
    reason: Annotated[str | None, Field(min_length=1, max_length=MOST_REASON)] = None


class EpochVerified(_Body):
    """How much of an epoch's record was verified."""

    epoch: int
    entries: int
    checkpoints: int
    signed: int = Field(description="entries that the last checkpoint covers")
    countersigned: int = Field(description="entries that the last countersigned checkpoint covers")


class AuditFault(_Body):
    """The first place at which the record is not what it was."""

    epoch: int
    first: int = Field(description="position of the first entry that may be the one")
    last: int = Field(description="position of the last entry that may be the one")
    detail: str
    says: str | None = Field(description="what the entry says now, if it is one entry and there")


class AuditVerified(_Body):
    """What a verification of the record found."""

    entries: int
    epochs: list[EpochVerified]
    fault: AuditFault | None = Field(description="null: everything fits")


@router.get("/v1/audit/who-received/{message_id}", responses={200: {"model": WhoReceived}}, summary="Who received a message")
async def who_received(request: Request, message_id: str) -> Response:
    """Say who was sent a message, accepted it, delivered it to its system, purged it, and when. Role `audit`."""
    return _answer(await receivers(here(request).centre, message_id))


@router.post(
    "/v1/audit/proofs",
    responses={200: {"content": {"application/json": {}}}},
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": ProofAsked.model_json_schema()}}}
    },
    summary="Prove what became of a message",
)
async def prove(request: Request) -> Response:
    """Return the file that proves what became of a message (docs/reference/proof-format.md). Role `audit`, on record."""
    asked = _asked(await read_body(request, ASKED_BYTES))
    reason = asked.reason if asked.reveal else None
    made = await Proving(here(request).centre).prove(asked.id, actor(request), reason)
    return Response(made, media_type="application/json")


@router.post("/v1/audit/verify", responses={200: {"model": AuditVerified}}, summary="Verify the record now")
async def verify(request: Request) -> Response:
    """Hash every entry of every epoch anew and compare it with what was signed for. Role `audit`."""
    centre = here(request).centre
    epochs, bundles = await centre.store.read(lambda connection: (traces.epochs(connection), traces.directories(connection)))
    network, root = centre.settings.network, centre.settings.directory.root.read_bytes()
    known = [*await centre.work(partial(registers, root, network, bundles)), centre.directory]
    return _answer(_verified(await Verification(network, known).bit_by_bit(centre.store.read, epochs)))


@router.get(
    "/v1/audit/export", responses={200: {"content": {LINES: {}}}}, response_class=StreamingResponse, summary="Export the record"
)
async def export(request: Request, since: Since = None, until: Until = None) -> Response:
    """Stream the record as JSON lines: entries in order, checkpoints behind what they cover. Role `audit`, on record."""
    centre = here(request).centre
    span = Span(_ms(since), _ms(until))
    bounds = [f"{name}:{iso(at)}" for name, at in (("from", span.since), ("to", span.until)) if at is not None]
    leaf = centre.audit.leaf(AuditStep.EXPORTED, centre.now(), actor=actor(request), why=" ".join(bounds) or None)
    points.reach(Point.EXPORT_COMMIT_BEFORE)
    await centre.store.write(lambda connection: centre.audit.append(connection, [leaf]))
    points.reach(Point.EXPORT_COMMIT_AFTER)
    return StreamingResponse(_lines(centre, span), media_type=LINES)


async def _lines(centre: Centre, span: Span) -> AsyncIterator[bytes]:
    after: tuple[int, int] | None = (0, -1)
    while after is not None:
        some, after = await centre.store.read(partial(exporting.page, after=after, span=span))
        if some:
            yield some


def _asked(raw: bytes) -> ProofAsked:
    try:
        asked = ProofAsked.model_validate_json(raw)
    except ValidationError:
        raise Refused("bad-request", "The body must be a JSON object with `id`, and if wanted `reveal` and `reason`.") from None
    if asked.reveal and asked.reason is None:
        raise Refused("bad-request", "A proof that reveals the content needs a `reason`; it goes on record.")
    return asked


def _ms(given: datetime | None) -> int | None:
    if given is not None and given.tzinfo is None:
        raise Refused("bad-request", "A time needs its offset from UTC, such as 2026-01-31T08:15:00Z.")
    return None if given is None else to_ms(given)


def _verified(found: Verified) -> AuditVerified:
    fault = found.fault
    return AuditVerified(
        entries=found.entries,
        epochs=[EpochVerified(**{name: getattr(one, name) for name in EpochFound.__slots__}) for one in found.epochs],
        fault=AuditFault(epoch=fault.epoch, first=fault.first, last=fault.last, detail=fault.detail, says=found.says)
        if fault
        else None,
    )


def _answer(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json")
