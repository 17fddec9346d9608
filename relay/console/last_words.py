"""Last words: the page of a node that could not start, or had to end, at the console's address, for a while before it is gone.

It says which code, what happened, what that means and what to do, to whoever asks: nobody can sign in, and nothing of the centre
but its name and that sentence is shown. Every other address is answered the same, with 503, and so is whether the node is ready,
at ``health.listen``. What another start may heal (:class:`StoreTrouble`) is said for a few seconds only. Where the address can't
be had nothing is said, and the process ends as it would without a console.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from relay.clock import now_ms
from relay.console import files, rendering
from relay.console.guard import HEADERS, NOT_KEPT
from relay.console.languages import wanted
from relay.console.page import trouble_words
from relay.console.rendering import Moment
from relay.errors import Misconfigured, RelayError, StoreTrouble
from relay.log import Event, Log
from relay.settings import Settings
from relay.tls import is_loopback, refuse_clear_console
from relay.web.listener import Server, config, encryption, listening, serve
from relay.web.probes import make_probes

BRIEF_SECONDS = 5.0
"""How long at most is said what another start may heal: a supervisor must not be kept from it."""
AGAIN_SECONDS = 5


async def say(settings: Settings, error: RelayError, stopping: asyncio.Event) -> None:
    """Say why the node does not run, until the time for it is over or the process is to stop."""
    address, seconds = settings.console.listen, settings.console.last_words_seconds
    if isinstance(error, StoreTrouble):
        seconds = min(seconds, BRIEF_SECONDS)
    if address is None or not seconds or stopping.is_set():
        return
    log = Log(settings.centre)
    with contextlib.suppress(Misconfigured):  # the address can't be had; what is wrong is said by how the process ends
        certificate = partial(settings.console.context, settings.api.tls)
        encrypted = encryption(address, certificate, refuse_clear_console, log)
        pages = _pages(settings, error, encrypted=encrypted is not None)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(_served(pages, settings, address, encrypted))
            with contextlib.suppress(Misconfigured):  # then who asks gets no answer, which is a no as well
                probes = make_probes(partial(_problems, error))
                await stack.enter_async_context(_served(probes, settings, settings.health.listen, None))
            log.error(Event.NODE_FAILED, error=error.code, detail=error.detail)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await stopping.wait()


@contextlib.asynccontextmanager
async def _served(app: Starlette, settings: Settings, address: str, encrypted: ssl.SSLContext | None) -> AsyncIterator[None]:
    """Serve an application at an address meanwhile; raise ``Misconfigured`` when that can't be had."""
    with listening(address) as listener:
        server = Server(config(app, settings.api, encrypted))
        answering = asyncio.create_task(serve(server, listener), name="last words")
        try:
            yield
        finally:
            server.should_exit = True
            await answering


def _pages(settings: Settings, error: RelayError, *, encrypted: bool) -> Starlette:
    answer = partial(_answer, settings.centre, error, encrypted)

    async def instead(request: Request, _other: Exception) -> Response:
        return await answer(request)

    handlers = {HTTPException: instead, RelayError: instead}  # another method, a style sheet of another release
    return Starlette(routes=[*files.ROUTES, Route("/{path:path}", answer)], exception_handlers=handlers)


async def _answer(centre: str, error: RelayError, encrypted: bool, request: Request) -> Response:
    if not encrypted and not is_loopback(request.url.hostname):
        return PlainTextResponse("wrong-host", 403, HEADERS)
    now = now_ms()
    said = {"centre": centre, "error": trouble_words(error), "again": AGAIN_SECONDS, "now": now}
    page = rendering.page(wanted(request), "last-words.html", said, Moment(None, now, None))
    return HTMLResponse(page, 503, {**HEADERS, "cache-control": NOT_KEPT, "retry-after": str(AGAIN_SECONDS)})


async def _problems(error: RelayError) -> tuple[str, ...]:
    """Return what supervisors are to know: the process lives, and is not ready."""
    return (error.detail,)
