"""How an act in the console is checked: who does it, by which form, for what reason.

An act is a form sent with POST. Its handler calls :func:`act` first: the session must have the role, the form its token, and a
reason where one is asked; then it does what it does by the node's own parts, and ends with :func:`done`, which leads back to a
page that says so. Whatever it raises is shown as an error with what to do.

Errors raised: ``NotAllowed`` (``not-allowed``, ``bad-csrf``), ``Conflict`` (``form-used``), ``Refused`` (``bad-request`` and
those of :func:`relay.web.body.read_body`), ``TooMany``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from relay.clients import Client, Role
from relay.console.front import session
from relay.console.languages import translations, wanted
from relay.errors import NotAllowed, Refused
from relay.web.body import read_body
from relay.web.served import here

FORM_BYTES = 16 * 1024
MOST_FIELDS = 50
MOST_REASON = 500


@dataclass(frozen=True, slots=True)
class Form:
    """What was sent: the reason, and the other fields by name; a field that is not there is empty."""

    reason: str
    fields: dict[str, list[str]]

    def __getitem__(self, name: str) -> str:
        """Return a field's first value."""
        return self.fields.get(name, [""])[0].strip()

    def all(self, name: str) -> list[str]:
        """Return every value of a field."""
        return self.fields.get(name, [])


def require(request: Request, *roles: Role) -> Client:
    """Return who is signed in; raise ``NotAllowed`` when it has none of these roles, ``TooMany`` when it asks too often."""
    client = session(request).client
    held = [role for role in roles if role in client.roles]
    if not held:
        sentence = f"Your roles are: {', '.join(client.roles)}; this needs {' or '.join(roles)}."
        raise NotAllowed("not-allowed", sentence)
    here(request).limits.request(client, held[0], time.monotonic())
    return client


async def act(request: Request, *roles: Role, reason: bool = True) -> Form:
    """Return the form of an act, checked: role, token, and a reason unless none is asked for. Its token is used up."""
    require(request, *roles)
    form = await read_form(request)
    if reason and not form.reason:
        raise Refused("bad-request", "An act needs a reason; the record keeps it.")
    if len(form.reason) > MOST_REASON:
        raise Refused("bad-request", f"A reason has at most {MOST_REASON} characters.")
    session(request).use(request.url.path, form["csrf"])
    return form


async def read_form(request: Request) -> Form:
    """Return what a form sent."""
    raw = await read_body(request, FORM_BYTES)
    try:
        fields = parse_qs(raw.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise Refused("bad-request", "The form can't be read.") from None
    return Form(fields.get("reason", [""])[0].strip(), fields)


def done(request: Request, back: str, said: str, **values: object) -> Response:
    """Lead back to a page (an address of this console) that says what was done; ``said`` is marked by :func:`text`."""
    words = translations(wanted(request)).gettext(said)
    session(request).say(words % values if values else words)
    return RedirectResponse(back, 303)
