"""What the console's guard looks at: who is let in, from where a form may come, and what a browser may do with an answer.

Every answer forbids what a page does not need (Content Security Policy 3, no framing, no sniffing, no referrer, no shared
opener), and pages are kept by nobody. A request that changes something must come from a page of this console: the browser says so
in ``Sec-Fetch-Site`` (Fetch Metadata), or in ``Origin``; a form that no browser vouches for is refused, whatever its token.
Without encryption the console answers to names of this machine alone, so that no name that was pointed at it (DNS rebinding)
opens it. Whoever is turned away (403, 429) is counted for the record; an unexpected error is answered without its content.

Errors raised: ``NotAllowed`` (``foreign-form``) and ``Refused`` (``wrong-host``).
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from relay.console import live, page
from relay.console.front import front
from relay.console.sign_in import OPEN, PATH
from relay.errors import NotAllowed, Refused, TooMany
from relay.tls import is_loopback
from relay.web.guard import Headers
from relay.web.limits import whole_seconds
from relay.web.problems import noted

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
NOT_KEPT = "no-store"
SAFE = frozenset({"GET", "HEAD"})


async def answer(request: Request, error: Exception) -> Response:
    """Return the page of what went wrong, counting and recording who was turned away."""
    refusal = noted(request, error)
    response = await page.show_error(request, error)
    if isinstance(refusal, TooMany):
        response.headers["Retry-After"] = whole_seconds(refusal.seconds)
    return response


def look(request: Request) -> Response | None:
    """Look who asks and from where; return the answer to who is not signed in and must be."""
    front_ = front(request)
    request.state.session = request.state.client = None
    _check_host(request, encrypted=front_.encrypted)
    if request.method not in SAFE:
        _check_origin(request)
    path = request.url.path
    touch = not path.startswith("/live/") and page.REFRESHED not in request.query_params
    found = front_.sessions.find(request.cookies.get(front_.cookie, ""), touch=touch)
    if found is not None:
        request.state.session, request.state.client = found, found.client
        return None
    if path.startswith(OPEN):
        return None
    if path.startswith("/live/"):
        return Response(live.OVER, media_type=live.MEDIA_TYPE)  # a browser would ask again after a refusal, not after this
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "") if request.method in SAFE else "/"
    return RedirectResponse(PATH if back == "/" else f"{PATH}?next={quote(back, safe='/')}", 303)


def _check_host(request: Request, *, encrypted: bool) -> None:
    if not encrypted and not is_loopback(request.url.hostname):
        raise Refused("wrong-host", "Without encryption the console answers to this machine's own names alone.")


def _check_origin(request: Request) -> None:
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if site != "same-origin" if site is not None else origin != own:
        raise NotAllowed("foreign-form", "What was sent did not come from a page of this console.")


def guarded(given: Headers) -> Headers:
    """Return the headers of an answer with what forbids what a page does not need."""
    kept = any(name == b"cache-control" for name, _ in given)
    more = HEADERS if kept else {**HEADERS, "cache-control": NOT_KEPT}
    return [*given, *((name.encode(), value.encode()) for name, value in more.items())]
