"""Whether the node lives and is ready, for supervisors and load balancers: two addresses, one word, and a listener of their own.

They need no token, so they are not where management is: who reaches this listener can do nothing but ask. ``/livez`` says that
the process answers, ``/readyz`` that the node can sign, write its store and reach its broker (``no`` and 503 when it can't); how
it does is looked at once a second at most, however often somebody asks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


def make_probes(problems: Callable[[], Awaitable[Sequence[str]]]) -> Starlette:
    """Return the application of the health listener, given how to learn what keeps the node from being ready."""

    async def alive(_request: Request) -> Response:
        return PlainTextResponse("yes")

    async def ready(_request: Request) -> Response:
        return PlainTextResponse("no", 503) if await problems() else PlainTextResponse("yes")

    return Starlette(routes=[_only_get("/livez", alive), _only_get("/readyz", ready)])


def _only_get(path: str, answer: Callable[[Request], Awaitable[Response]]) -> Route:
    return Route(path, answer, methods=["GET"])
