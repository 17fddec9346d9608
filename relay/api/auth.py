"""Who may ask what: what the guard looks at before every route, and the roles that a route needs.

Everything needs a token, unknown addresses included: ``Authorization: Bearer TOKEN``, or, for the pages that a browser opens
(``/docs``, ``/openapi.json``), HTTP Basic with any user name and the token as password. Elsewhere Basic is not taken, since a
browser would send it along with a foreign page's request. The token names a client (:mod:`relay.clients`); its roles say what
it may do, and every route declares the ones that open it:

- ``submit``: submit messages and see what became of them;
- ``receive``: take what arrived, and say so;
- ``watch``: see what there is to see of operations, and change nothing;
- ``operate``: steer, hold, release, replay, discard, purge, and see how the node does;
- ``audit``: search, and read the record;
- ``read``: open a message's content in the console (:mod:`relay.console`), nothing here;
- ``admin``: give and take tokens. It includes none of the others.

Whoever is turned away (401, 403, 429) is counted for the audit record (:mod:`relay.web.refusals`). The guard
(:mod:`relay.web.guard`) is also the last to hear of an unexpected error: the answer is ``internal-error`` without any content,
and the log has its kind.

Errors raised: ``NotAllowed`` (``not-authenticated``, ``not-allowed``) and those of :mod:`relay.web.limits`.
"""

from __future__ import annotations

import base64
import binascii
import time

from fastapi import params
from fastapi.routing import APIRoute
from starlette.requests import Request

from relay.clients import ROLES, Client, Role
from relay.errors import NotAllowed
from relay.web.callers import address, caller
from relay.web.guard import Headers
from relay.web.served import here

PAGES = ("/docs", "/openapi.json")
HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


def look(request: Request) -> None:
    """Note who asks; raise ``NotAllowed`` when no right token says it, ``TooMany`` when that happens too often."""
    request.state.client = _authenticate(request)


def guarded(given: Headers) -> Headers:
    """Return the headers of an answer with those that keep it from being kept, or taken for what it is not."""
    return [*given, *HEADERS]


class Needs:
    """A dependency that lets a client through that has one of some roles, as often as its role may ask."""

    def __init__(self, *roles: Role) -> None:
        self.roles = roles

    async def __call__(self, request: Request) -> None:
        """Raise ``NotAllowed`` when who asks has another role, ``TooMany`` when it asks too often."""
        client, role = require(request, *self.roles)
        here(request).limits.request(client, role, time.monotonic())


def require(request: Request, *roles: Role) -> tuple[Client, Role]:
    """Return who asks and the first of these roles that it has; raise ``NotAllowed`` when it has none of them."""
    client = caller(request)
    held = [role for role in roles if client is not None and role in client.roles]
    if client is None or not held:
        mine = ", ".join(client.roles) if client is not None else "none"
        sentence = f"The token's roles are: {mine}; this needs {' or '.join(roles)}."
        raise NotAllowed("not-allowed", sentence)
    return client, held[0]


def needs(*roles: Role) -> params.Depends:
    """Return what a route declares that any of these roles opens."""
    return params.Depends(Needs(*roles))


SUBMIT = needs("submit")
RECEIVE = needs("receive")
OPERATE = needs("operate")
AUDIT = needs("audit")
ADMIN = needs("admin")
WATCH = needs("operate", "watch")
SEE = needs("operate", "audit", "watch")
WORK = needs(*(role for role in ROLES if role != "admin"))
ANYBODY = needs(*ROLES)


def roles_of(route: APIRoute) -> tuple[Role, ...]:
    """Return the roles that open a route: what its dependencies declare; none when it declares nothing."""
    declared = [one.dependency for one in route.dependencies if isinstance(one.dependency, Needs)]
    return declared[-1].roles if declared else ()


def _authenticate(request: Request) -> Client:
    here_ = here(request)
    token = _token(request)
    found = here_.clients.find(token, here_.centre.now()) if token is not None else None
    if found is None:
        here_.limits.failure(address(request), time.monotonic())
        sentence = "The request brings no token." if token is None else "The token is not one of this node's, or not any more."
        raise NotAllowed("not-authenticated", sentence)
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
