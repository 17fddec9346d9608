"""The routes by which operators and Prometheus see how the node does, in sentences and numbers.

Supervisors, which bring no token, ask at another address and learn one word (:mod:`relay.web.probes`).
"""

from __future__ import annotations

import shutil

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from relay.api.auth import SEE, WORK
from relay.api.contract import Health
from relay.clock import iso, to_ms
from relay.errors import StoreTrouble
from relay.store import Connection, incoming, outgoing
from relay.web.served import here

router = APIRouter(tags=["health"])


@router.get("/v1/health", dependencies=[SEE], responses={200: {"model": Health}}, summary="How the node does")
async def health(request: Request) -> Response:
    """Say what is wrong, in sentences, and how much waits; the status is 200 even then. Role `operate`, `audit` or `watch`."""
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
        warnings=list(here_.node.custody.warnings),
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


@router.get("/metrics", dependencies=[WORK], response_class=PlainTextResponse, summary="Metrics for Prometheus")
async def metrics(request: Request) -> Response:
    """Give every metric of the node in Prometheus' text format. Any role but `admin`."""
    return Response(here(request).centre.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _counts(connection: Connection) -> dict[str, int]:
    return {
        **outgoing.counts(connection),
        "waiting": incoming.waiting(connection),
        "quarantined": incoming.quarantined(connection),
    }
