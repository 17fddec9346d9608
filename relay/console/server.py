"""The console as a surface of the node: uvicorn in its event loop, at ``console.listen``, over TLS unless it is loopback.

Stopping is graceful and does not wait for open pages: their streams end at once, requests under way get about 3 s to finish.

Errors raised: ``Misconfigured`` (``console-not-encrypted``, ``address-in-use`` and those of :mod:`relay.tls`).
"""

from __future__ import annotations

import asyncio
import ssl

from relay.console import rendering
from relay.console.app import make_app
from relay.console.front import make_front
from relay.errors import RelayError
from relay.log import Event, Log
from relay.settings import Settings
from relay.tls import refuse_clear_console
from relay.web.listener import Server, config, listening, serve
from relay.web.served import Here, Served, make_here


class Console:
    """The web pages of a node; ``here_`` is what it shares with the other surfaces. A node without an address has none."""

    def __init__(self, here_: Here | None = None) -> None:
        self._here = here_
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._server: Server | None = None

    async def run(self, node: Served) -> None:
        """Serve until cancelled; after :meth:`stop`, wait for that."""
        settings = node.centre.settings
        if settings.console.listen is not None:
            await self._serve(node, settings, settings.console.listen)
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Take no further requests, let go of open pages, finish what is under way."""
        self._stopping.set()
        if self._here is not None:
            self._here.stopping.set()
        if self._server is not None:
            self._server.should_exit = True
            await self._stopped.wait()

    async def _serve(self, node: Served, settings: Settings, address: str) -> None:
        here_ = self._here = self._here or make_here(node)
        encryption = _encryption(settings, address, node.centre.log)
        front = make_front(here_, encrypted=encryption is not None)
        try:
            with listening(address) as listener:
                await asyncio.to_thread(rendering.prepare)
                self._server = Server(config(make_app(front), settings.api, encryption))
                self._server.should_exit = self._stopping.is_set()
                await serve(self._server, listener)
        finally:
            await front.close()
            self._stopped.set()


def _encryption(settings: Settings, address: str, log: Log) -> ssl.SSLContext | None:
    """Return the console's TLS, or None on loopback without a certificate; raise ``Misconfigured`` when it can't be had."""

    def refused(error: RelayError) -> None:
        log.warning(Event.CERTIFICATE_REFUSED, code=error.code, detail=error.detail)

    encryption = settings.console.context(settings.api.tls, refused)
    if encryption is None:
        refuse_clear_console(address)
    return encryption
