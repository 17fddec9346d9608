"""The console's style sheet, script and icon: read once, at addresses that name their content, so that browsers keep them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay.errors import NotFound

FOR_EVER = "public, max-age=31536000, immutable"
KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


def address(name: str) -> str:
    """Return the address of a file."""
    return f"/static/{_read(name)[1]}/{name}"


async def serve(request: Request) -> Response:
    """Give a file under the digest of what it holds now."""
    name = request.path_params["name"]
    if name not in _names() or address(name) != request.url.path:
        raise NotFound("unknown-address", "There is nothing at this address.")
    kind = KINDS[name.rpartition(".")[2]]
    return Response(_read(name)[0], media_type=kind, headers={"Cache-Control": FOR_EVER})


@cache
def _names() -> frozenset[str]:
    return frozenset(one.name for one in resources.files("relay.console").joinpath("static").iterdir())


@cache
def _read(name: str) -> tuple[bytes, str]:
    raw = resources.files("relay.console").joinpath("static", name).read_bytes()
    return raw, hashlib.sha256(raw).hexdigest()[:16]


ROUTES = [Route("/static/{digest}/{name}", serve, methods=["GET"])]
