"""The routes by which supervisors, operators and Prometheus see how the node does.

Without a token a caller learns one word; with the operator's, the sentences and numbers behind it.
"""

from __future__ import annotations

import shutil
from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from relay.api.auth import EITHER, OPERATOR
from relay.api.contract import Health
from relay.api.served import here
from relay.clock import iso, to_ms
from relay.errors import StoreTrouble
from relay.store import Connection, incoming, outgoing

router = APIRouter(tags=["health"])

_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"description": "no", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


@router.get("/livez", response_class=PlainTextResponse, summary="Does the process live?")
async def alive() -> PlainTextResponse:
    """Answer `yes`. Needs no token."""
    return PlainTextResponse("yes")


@router.get("/readyz", response_class=PlainTextResponse, responses=_NOT_READY, summary="Can the node work?")
async def ready(request: Request) -> PlainTextResponse:
    """Answer `yes` when the node can sign, write its store and reach its broker, else `no`. Needs no token."""
    return PlainTextResponse("no", 503) if await here(request).readiness.problems() else PlainTextResponse("yes")


@router.get("/v1/health", dependencies=[OPERATOR], responses={200: {"model": Health}}, summary="How the node does")
async def health(request: Request) -> Response:
    """Say what is wrong, in sentences, and how much waits. Role `operator`. The status is 200 even when something is wrong."""
    here_ = here(request)
    centre, register = here_.centre, here_.centre.directory
    problems = await here_.readiness.problems()
    counts: dict[str, int] = {}
    try:
        counts = await centre.store.read(_counts)
    except StoreTrouble as trouble:
        problems = (*problems, trouble.detail)
    body = Health(
        centre=centre.id,
        ready=not problems,
        problems=list(dict.fromkeys(problems)),
        broker_connected=here_.node.broker.connected.is_set(),
        unsent_envelopes=counts.get("unsent"),
        open_deliveries=counts.get("open"),
        waiting_messages=counts.get("waiting"),
        quarantined_messages=counts.get("quarantined"),
        disk_free_bytes=shutil.disk_usage(centre.settings.store.file.parent).free,
        disk_floor_bytes=centre.settings.store.disk_floor_bytes,
        queued_envelopes_limit=centre.settings.limits.queued_envelopes,
        directory_version=register.version,
        directory_warn_after=iso(to_ms(register.warn_after)),
        directory_expires_at=iso(to_ms(register.expires_at)),
        epoch=centre.store.epoch,
    )
    return Response(body.model_dump_json(), media_type="application/json")


@router.get("/metrics", dependencies=[EITHER], response_class=PlainTextResponse, summary="Metrics for Prometheus")
async def metrics(request: Request) -> Response:
    """Give every metric of the node in Prometheus' text format. Either role."""
    return Response(here(request).centre.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _counts(connection: Connection) -> dict[str, int]:
    return {
        **outgoing.counts(connection),
        "waiting": incoming.waiting(connection),
        "quarantined": incoming.quarantined(connection),
    }
