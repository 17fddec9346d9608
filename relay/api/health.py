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
from relay.web.served import here

router = APIRouter(tags=["health"])


@router.get("/v1/health", dependencies=[SEE], responses={200: {"model": Health}}, summary="How the node does")
async def health(request: Request) -> Response:
    """Say what is wrong, in sentences, and how much waits; the status is 200 even then. Role `operate`, `audit` or `watch`.

    However much waits, asking costs the same: the counts are what the node last saw (`observed_at`).
    """
    here_ = here(request)
    centre, register = here_.centre, here_.centre.directory
    problems, seen, unseen = await here_.readiness.problems(), here_.node.observer.latest, here_.node.observer.trouble
    body = Health(
        centre=centre.id,
        ready=not problems,
        problems=list(problems),
        warnings=[*here_.node.custody.warnings, *filter(None, [centre.doubt(), unseen.detail if unseen else None])],
        broker_connected=here_.node.broker.connected.is_set(),
        unsent_envelopes=here_.node.pump.waiting,
        open_messages=seen.open if seen else None,
        waiting_messages=seen.waiting if seen else None,
        quarantined_messages=seen.received_aside.quarantined if seen else None,
        observed_at=iso(seen.at) if seen else None,
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
