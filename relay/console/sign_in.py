"""Sign in with a client's name and password, sign out, and choose a language.

The password is tried in a thread, two at a time, for a name that is not known too, so that neither the answer nor its time tells
which names there are; the number of tries is bounded per name and per address (:meth:`relay.web.limits.Limits.sign_in`). A
sign-in that fails is counted and goes to the record each minute.

Errors raised: ``NotAllowed`` (``sign-in-failed``) and ``TooMany`` (``too-many-sign-ins``).
"""

from __future__ import annotations

import asyncio
import time
from functools import cache

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from relay import passwords
from relay.clients import Client
from relay.console import languages
from relay.console.acts import read_form
from relay.console.front import Front, front, signed_in
from relay.console.page import show, trouble_words
from relay.errors import NotAllowed, RelayError, TooMany, http_status
from relay.log import Event
from relay.web.callers import address
from relay.web.limits import whole_seconds
from relay.web.served import here

PATH = "/sign-in"
LONGEST_NAME = 63
WAIT_SECONDS = 10.0
YEAR_SECONDS = 365 * 24 * 3600


async def ask(request: Request) -> Response:
    """Show the form; who is signed in already is led on."""
    target = _target(request.query_params.get("next", "/"))
    if signed_in(request) is not None:
        return RedirectResponse(target, 303)
    return await _form(request, target)


async def sign_in(request: Request) -> Response:
    """Begin a session, or say that name and password do not belong together."""
    form = await read_form(request)
    name, target = form["name"][:LONGEST_NAME], _target(form["next"])
    password = form.fields.get("password", [""])[0]
    try:
        client = await _check(request, name, password)
    except (NotAllowed, TooMany) as error:
        return await _refused(request, error, target, name)
    here_, front_ = here(request), front(request)
    here_.centre.metrics.sign_ins.labels("signed-in").inc()
    here_.centre.log.info(Event.SIGNED_IN, client=client.name)
    front_.note(client, address(request))
    front_.sessions.end(request.cookies.get(front_.cookie, ""))
    response = RedirectResponse(target, 303)
    _give_cookie(front_, response, front_.sessions.begin(client))
    return response


async def sign_out(request: Request) -> Response:
    """End the session."""
    front_ = front(request)
    front_.sessions.end(request.cookies.get(front_.cookie, ""))
    response = RedirectResponse(PATH, 303)
    response.delete_cookie(front_.cookie, path="/", secure=front_.encrypted, httponly=True, samesite="strict")
    return response


async def choose_language(request: Request) -> Response:
    """Keep the language that was chosen, and lead back."""
    form = await read_form(request)
    response = RedirectResponse(_target(form["back"]), 303)
    if form["language"] in languages.LANGUAGES:
        secure = front(request).encrypted
        response.set_cookie(
            languages.COOKIE, form["language"], max_age=YEAR_SECONDS, secure=secure, httponly=True, samesite="lax"
        )
    return response


async def _check(request: Request, name: str, password: str) -> Client:
    """Return the client of a name whose password this is."""
    here_, front_ = here(request), front(request)
    most = here_.centre.settings.console.attempts_per_minute
    here_.limits.sign_in(name, address(request), most, time.monotonic())
    client = here_.clients.named(name)
    held = client.password if client is not None and client.signs_in else None
    good = await _try(front_, password, held or _nobodys())
    if client is None or held is None or not good or not client.valid(here_.centre.now()):
        request.state.client = client if held is not None else None  # the record may name whose door it was
        raise NotAllowed("sign-in-failed", "Name and password do not belong together.")
    return client


async def _try(front_: Front, password: str, held: str) -> bool:
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await front_.trying.acquire()
    except TimeoutError:
        raise TooMany("too-many-sign-ins", "Too many sign-ins are tried at once.", WAIT_SECONDS) from None
    trying = asyncio.create_task(asyncio.to_thread(passwords.right, password, held))
    trying.add_done_callback(lambda _: front_.trying.release())  # a thread goes on when the browser that asked is gone
    return await asyncio.shield(trying)


async def _refused(request: Request, error: RelayError, target: str, name: str) -> Response:
    here_ = here(request)
    here_.refusals.note(request, error.code)
    here_.centre.metrics.sign_ins.labels("refused" if isinstance(error, NotAllowed) else "too-many").inc()
    here_.centre.log.info(Event.API_REFUSED, code=error.code, client=None)
    request.state.client = None
    response = await _form(request, target, error=trouble_words(error), name=name, status=http_status(error))
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = whole_seconds(error.seconds)
    return response


async def _form(request: Request, target: str, *, error: object = None, name: str = "", status: int = 200) -> Response:
    return await show(request, "sign-in.html", {"target": target, "error": error, "name": name}, status)


def _target(given: str) -> str:
    """Return an address of this console to lead on to: a path, never another host."""
    plain = given.startswith("/") and not given.startswith(("//", "/\\", PATH)) and given.isprintable()
    return given if plain else "/"


def _give_cookie(front_: Front, response: Response, name: str) -> None:
    response.set_cookie(front_.cookie, name, path="/", secure=front_.encrypted, httponly=True, samesite="strict")


@cache
def _nobodys() -> str:
    return passwords.nobodys()


ROUTES = [
    Route(PATH, ask, methods=["GET"]),
    Route(PATH, sign_in, methods=["POST"]),
    Route("/sign-out", sign_out, methods=["POST"]),
    Route("/language", choose_language, methods=["POST"]),
]
OPEN = (PATH, "/language", "/static/")
"""Where nobody needs to be signed in."""
