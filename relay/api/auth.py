"""Who may ask what: a guard before every route, and the role that a route needs.

The guard knows only two open paths; everything else, unknown addresses included, needs a token: ``Authorization: Bearer
TOKEN``, or, for the pages that a browser opens (``/docs``, ``/openapi.json``), HTTP Basic with any user name and the token as
password. Elsewhere Basic is not taken, since a browser would send it along with a foreign page's request. Tokens are compared
by their SHA-256.

The guard is also the last to hear of an unexpected error: it answers ``internal-error`` without any content and logs its
kind.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path

from fastapi import Depends
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay.api import problems
from relay.api.served import Role, here
from relay.errors import Misconfigured, NotAllowed
from relay.settings import read_secret

OPEN = frozenset({"/livez", "/readyz"})
PAGES = ("/docs", "/openapi.json")
ROLES: tuple[Role, ...] = ("system", "operator")
SHORTEST = 16
HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


def read_roles(folder: Path) -> dict[bytes, Role]:
    """Return which token, known by its digest, has which role."""
    found: dict[bytes, Role] = {}
    for name in ROLES:
        token = read_secret(folder / name)
        if len(token) < SHORTEST:
            raise Misconfigured("bad-token-file", f"The token in {folder / name} is shorter than {SHORTEST} characters.")
        found[_digest(token.encode())] = name
    if len(found) < len(ROLES):
        raise Misconfigured("bad-token-file", f"The tokens in {folder} are the same; each role needs one of its own.")
    return found


class Guard:
    """The ASGI layer before the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the request through to its route."""
        request = Request(scope, receive)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        try:
            if scope["path"] not in OPEN:
                request.state.role = _authenticate(request)
            await self._app(scope, receive, sending)
        except Exception as error:  # the last resort: whatever went wrong, the caller gets an answer without content
            response = await problems.answer(request, error)
            if not begun:
                await response(scope, receive, sending)


class _Needs:
    """A dependency that lets only some roles through."""

    def __init__(self, *roles: Role) -> None:
        self._roles = roles

    async def __call__(self, request: Request) -> None:
        """Raise ``NotAllowed`` when who asks has another role."""
        if request.state.role not in self._roles:
            sentence = f"The token has the role {request.state.role}; this needs {' or '.join(self._roles)}."
            raise NotAllowed("not-allowed", sentence)


SYSTEM = Depends(_Needs("system"))
OPERATOR = Depends(_Needs("operator"))
EITHER = Depends(_Needs(*ROLES))


def _authenticate(request: Request) -> Role:
    token = _token(request)
    if token is None:
        raise NotAllowed("not-authenticated", "The request brings no token.")
    digest, found = _digest(token), None
    for known, role in here(request).roles.items():
        if hmac.compare_digest(digest, known):
            found = role
    if found is None:
        raise NotAllowed("not-authenticated", "The token is not one of this node's.")
    return found


def _token(request: Request) -> bytes | None:
    given = request.headers.getlist("authorization")
    scheme, _, value = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() == "bearer":
        return value.strip().encode()
    if scheme.lower() == "basic" and request.url.path.startswith(PAGES):
        return _password(value)
    return None


def _password(value: str) -> bytes | None:
    try:
        return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return None


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
