"""What a page of the console is made of.

A module of a page has a :class:`Page` as ``PAGE`` and, for its acts, ``ROUTES``. ``PAGE.gather`` returns what its template shows;
from it come the whole page at ``PAGE.path``, and its region at ``/live`` and the path, sent again when it changed. Templates
extend ``base.html``; their block ``live`` is the region, and sees what ``gather`` returned and what :func:`common` says.

Errors raised: ``NotAllowed`` (``not-allowed``), ``TooMany``, ``StoreTrouble`` when a page can't be gathered in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Match, Route

from relay.clients import Role
from relay.console import rendering
from relay.console.acts import require
from relay.console.front import front, session, signed_in
from relay.console.languages import text, wanted
from relay.console.live import MEDIA_TYPE, Shown
from relay.console.rendering import LIVE, Moment
from relay.errors import RelayError, StoreTrouble, catalogue, http_status
from relay.log import Event
from relay.web.problems import refusal_of
from relay.web.served import here

__all__ = ["Page", "show", "text"]

SEE: tuple[Role, ...] = ("watch", "operate", "audit")
"""The roles that open the console's pages, any one of them."""
GATHER_SECONDS = 5.0
REFRESHED = "refreshed"
"""The parameter by which a page without scripts asks for itself again: nobody did anything."""

Gather = Callable[[Request], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its name is its template's, its path is where it is, ``{parts}`` of it are the request's ``path_params``."""

    name: str
    path: str
    title: str
    gather: Gather
    menu: bool = True
    roles: tuple[Role, ...] = SEE

    @property
    def template(self) -> str:
        """The template's name."""
        return f"{self.name}.html"

    @property
    def live(self) -> str:
        """Where its region is sent from; of the first page, ``/live/`` and its name."""
        return f"/live{self.path}" if self.path != "/" else f"/live/{self.name}"

    def routes(self) -> list[Route]:
        """Return the routes of the page and of its region."""
        return [
            Route(self.path, partial(_show, self), methods=["GET"]),
            Route(self.live, partial(_stream, self), methods=["GET"]),
        ]


async def common(request: Request) -> dict[str, Any]:
    """Return what every template may use: who is signed in, the centre, the pages, what is wrong with the node."""
    front_, found, now = front(request), signed_in(request), here(request).centre.now()
    client = found.client if found else None
    member = here(request).centre.directory.member(here(request).centre.id)
    return {
        "centre": here(request).centre.id,
        "centre_name": member.name if member else here(request).centre.id,
        "client": client,
        "can": lambda role: client is not None and role in client.roles,
        "menu": request.app.state.menu if client else (),
        "path": request.url.path,
        "back": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "troubles": [trouble_words(one) for one in await front_.condition.troubles()],
        "refreshed": str(request.url.include_query_params(**{REFRESHED: 1}).replace(scheme="", netloc="")),
        "now": now,
    }


def moment(request: Request) -> Moment:
    """Return what macros need of a request."""
    centre = here(request).centre
    member = centre.directory.member(centre.id)
    return Moment(signed_in(request), centre.now(), member.time_zone if member else None)


async def show(request: Request, template: str, values: dict[str, Any], status: int = 200) -> Response:
    """Return a whole page."""
    found = signed_in(request)
    said = {**await common(request), "live": None, "notices": found.heard() if found else [], **values}
    return HTMLResponse(rendering.page(wanted(request), template, said, moment(request)), status)


async def show_error(request: Request, error: Exception, status: int | None = None) -> Response:
    """Return the page of an error: what happened, what it means, what to do."""
    refusal = refusal_of(error)
    said = {"error": trouble_words(refusal), "back_to": _page_above(request)}
    return await show(request, "error.html", said, status or http_status(refusal))


def _page_above(request: Request) -> str:
    """Return the page from which an address is reached: the longest beginning of it at which there is a page."""
    above = request.url.path.rstrip("/")
    while above := above.rpartition("/")[0]:
        scope = {**request.scope, "path": above, "method": "GET"}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            return above
    return "/"


def trouble_words(error: RelayError) -> dict[str, Any]:
    """Return what is told of an error: its sentence, and what the catalogue says of its code."""
    entry = catalogue().get(error.code)
    return {
        "code": error.code,
        "detail": error.detail,
        "title": entry.title if entry else error.code,
        "meaning": entry.meaning if entry else "",
        "action": entry.action if entry else "",
    }


async def _show(page: Page, request: Request) -> Response:
    require(request, *page.roles)
    values = await _gather(page, request)
    return await show(request, page.template, {"live": _live(page, request), **values})


async def _stream(page: Page, request: Request) -> Response:
    require(request, *page.roles)
    front_, found = front(request), session(request)
    key = (request.url.path, request.url.query, wanted(request), found)
    chunks = front_.lives.stream(
        key, partial(_region, page, request), partial(front_.sessions.goes_on, found), here(request).stopping
    )
    return StreamingResponse(chunks, media_type=MEDIA_TYPE, headers={"X-Accel-Buffering": "no"})


async def _region(page: Page, request: Request) -> Shown:
    """Return the parts of a page that are kept up to date; what can't be gathered now is said in their place."""
    language, when = wanted(request), moment(request)
    values = {**await common(request), "live": None, "notices": []}
    banner = rendering.block(language, "base.html", "banner", values, when)
    try:
        given = await _gather(page, request)
        return {"banner": banner, "region": rendering.block(language, page.template, LIVE, {**values, **given}, when)}
    except Exception as error:  # whatever it was, the page says so and goes on
        return {"banner": banner, "region": _failed(request, error, values)}


def _failed(request: Request, error: Exception, values: dict[str, Any]) -> str:
    refusal = refusal_of(error)
    if refusal.code == "internal-error":
        here(request).centre.log.error(Event.API_FAILED, error=type(error).__name__, method=request.method)
    told = {**values, "error": trouble_words(refusal)}
    return rendering.block(wanted(request), "error.html", "error", told, moment(request))


async def _gather(page: Page, request: Request) -> dict[str, Any]:
    try:
        async with asyncio.timeout(GATHER_SECONDS):
            return await page.gather(request)
    except TimeoutError:
        raise StoreTrouble("store-locked", f"The node's store did not answer within {GATHER_SECONDS:.0f} s.") from None


def _live(page: Page, request: Request) -> str:
    path = page.live if page.path == "/" else f"/live{request.url.path}"
    return path + (f"?{request.url.query}" if request.url.query else "")
