"""The contract as a page: interactive docs that load nothing but what this node serves.

The page's script and style come from the installed ``swagger-ui-bundle``; a content security policy forbids the browser
everything else. That release reads OpenAPI 3.0 alone and shows 3.1 well when told that it is 3.0, so the page gets a copy
that says so; ``/openapi.json`` is what it is.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, cast

import swagger_ui_bundle  # type: ignore[import-untyped]
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from relay.api.auth import ANYBODY

POLICY = "; ".join((
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
))  # fmt: skip
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Inter-centre Relay API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
START = 'SwaggerUIBundle({url: "/docs/openapi.json", dom_id: "#swagger-ui", validatorUrl: null, deepLinking: true});\n'

router = APIRouter(include_in_schema=False, dependencies=[ANYBODY])


@router.get("/openapi.json")
async def contract(request: Request) -> Response:
    """Give the API as OpenAPI."""
    return JSONResponse(_contract(request))


@router.get("/docs")
async def page() -> Response:
    """Give the page."""
    return _page_part(PAGE.encode(), "text/html")


@router.get("/docs/openapi.json")
async def contract_of_page(request: Request) -> Response:
    """Give the API as the page can read it."""
    return JSONResponse({**_contract(request), "openapi": "3.0.3"})


@router.get("/docs/start.js")
async def start() -> Response:
    """Give the line that starts the page."""
    return _page_part(START.encode(), "text/javascript")


@router.get("/docs/swagger-ui-bundle.js")
async def script() -> Response:
    """Give the page's script."""
    return _page_part(_asset("swagger-ui-bundle.js"), "text/javascript")


@router.get("/docs/swagger-ui.css")
async def style() -> Response:
    """Give the page's style."""
    return _page_part(_asset("swagger-ui.css"), "text/css")


def _contract(request: Request) -> dict[str, Any]:
    return cast("dict[str, Any]", request.app.openapi())


def _page_part(content: bytes, media_type: str) -> Response:
    return Response(content, media_type=media_type, headers={"Content-Security-Policy": POLICY})


@cache
def _asset(name: str) -> bytes:
    return Path(swagger_ui_bundle.swagger_ui_path, name).read_bytes()
