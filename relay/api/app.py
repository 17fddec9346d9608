"""The API put together: routes, guard, error handlers, and its OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from relay.api import (
    alarms,
    approvals,
    audit,
    auth,
    codes,
    docs,
    find,
    health,
    inbox,
    keys,
    messages,
    network,
    peers,
    policy,
    queues,
    received,
    requests,
    retention,
    steering,
    tokens,
    way,
)
from relay.api.auth import roles_of
from relay.api.contract import PROBLEM, schemas
from relay.errors import RelayError
from relay.web import problems
from relay.web.guard import Guard

DESCRIPTION = """\
What a centre's own system and its operators say to their node.

Every request needs a token: `Authorization: Bearer TOKEN`. It names a client, and the client's roles say what it may do:
`submit`, `receive`, `operate`, `audit`, `admin`. Each operation's `security` names the roles that open it, any one of them.
These pages take HTTP Basic as well, with any user name and the token as password, so that a browser can open them. Whether the
node is ready is said elsewhere, without a token (`health.listen`).

A client that asks too often is answered 429 with `Retry-After`.

Every error is a problem document (RFC 9457) with a stable code; `relay explain CODE` says what it means and what to do.
"""
TAGS = [
    {"name": "messages", "description": "Submit messages and see what became of them."},
    {"name": "inbox", "description": "Take what arrived, and say so."},
    {"name": "received", "description": "See and settle what is set aside of what arrived."},
    {"name": "requests", "description": "Reply clocks, and the release of messages that need their origin's word."},
    {"name": "policy", "description": "See who would get a message, and why."},
    {"name": "codes", "description": "The code lists, with labels in four languages."},
    {"name": "retention", "description": "Purge what is due; keep what is under legal hold."},
    {"name": "alarms", "description": "See which peers are late, and whom to call."},
    {"name": "audit", "description": "The audit record: proofs, who received a message, verification, export."},
    {"name": "peers", "description": "The other centres, and stores that are not what they were."},
    {"name": "keys", "description": "How keys stand, and what a revoked one casts doubt on."},
    {"name": "approvals", "description": "What waits for a second person."},
    {"name": "clients", "description": "Who may use this API, and for what."},
    {"name": "health", "description": "How the node does."},
]
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "the token of a client"},
    "basic": {"type": "http", "scheme": "basic", "description": "for /docs and /openapi.json: any name, the token as password"},
}

PARTS = (
    messages,
    steering,
    find,
    way,
    alarms,
    inbox,
    received,
    requests,
    queues,
    policy,
    codes,
    retention,
    network,
    peers,
    audit,
    keys,
    approvals,
    tokens,
    health,
    docs,
)


def make_app() -> FastAPI:
    """Return the application; it serves once ``app.state.here`` is set."""
    app = FastAPI(title="Inter-centre Relay", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for part in PARTS:
        app.include_router(part.router, responses={"default": {"description": "What went wrong.", "content": PROBLEM}})
    for kind in (RelayError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, problems.answer)
    app.add_middleware(Guard, look=auth.look, headers=auth.guarded, answer=problems.answer)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def routes() -> list[APIRoute]:
    """Return every route of the API."""
    return [route for part in PARTS for route in part.router.routes if isinstance(route, APIRoute)]


def openapi() -> dict[str, Any]:
    """Return the API as an OpenAPI 3.1 document."""
    return _openapi(make_app())


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version="1", description=DESCRIPTION, tags=TAGS, routes=app.routes)
        components = document.setdefault("components", {})
        components["schemas"] = dict(sorted({**components.get("schemas", {}), **schemas()}.items()))
        components["securitySchemes"] = SCHEMES
        document["security"] = [{"bearer": []}]
        for route in routes():
            if route.include_in_schema:
                _declare(document["paths"][route.path], route)
        app.openapi_schema = document
    return app.openapi_schema


def _declare(operations: dict[str, Any], route: APIRoute) -> None:
    """Say in the contract which roles open a route, any one of them."""
    for method in route.methods or ():
        operations[method.lower()]["security"] = [{"bearer": [role]} for role in roles_of(route)]
