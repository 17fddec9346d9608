"""Who makes a request: the client that the guard found by its token, and the address that it comes from."""

from __future__ import annotations

from typing import cast

from starlette.requests import Request

from relay.clients import Client


def caller(request: Request) -> Client | None:
    """Return the client that asks, or None when the request brought no right token."""
    return cast("Client | None", getattr(request.state, "client", None))


def actor(request: Request) -> str:
    """Return who asks, as the audit record says it: the client that the token names, never a word of the request."""
    client = caller(request)
    if client is None:
        raise RuntimeError("a route was reached without the guard")
    return client.actor


def address(request: Request) -> str:
    """Return the address that a request comes from; behind a proxy, the proxy's."""
    return request.client.host if request.client is not None else "unknown"
