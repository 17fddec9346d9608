"""The server: uvicorn inside the node's event loop, on the two addresses of the settings: the API, and whether the node is ready.

Nothing on the API's listener is answered without a token, and nothing on the other one is more than a word. With a certificate
the API is HTTPS, with an authority for clients it asks them for theirs; renewed files are read at the next connection.

Stopping is graceful: no new connection is taken, waiting polls are answered at once with what there is, requests under way get
about 3 s to finish, and whatever they were promised is committed.
"""

from __future__ import annotations

import asyncio
import ssl

from relay.api.app import make_app
from relay.api.probes import make_probes
from relay.errors import RelayError
from relay.log import Event, Log
from relay.settings import ApiSettings
from relay.tls import refuse_clear_api
from relay.web import roster
from relay.web.listener import Server, config, listening, serve
from relay.web.served import Here, Served, make_here


class Api:
    """The HTTP interface of a node: a surface that runs while the node does; ``here_`` is what it shares with other surfaces."""

    def __init__(self, here_: Here | None = None) -> None:
        self._here = here_
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._server: Server | None = None

    async def run(self, node: Served) -> None:
        """Serve until cancelled; after :meth:`stop`, wait for that."""
        settings, app = node.centre.settings, make_app()
        here_ = app.state.here = self._here = self._here or make_here(node)
        if self._stopping.is_set():
            here_.stopping.set()
        with listening(settings.api.listen) as front, listening(settings.health.listen) as aside:
            self._server = Server(config(app, settings.api, _encryption(settings.api, node.centre.log)))
            self._server.should_exit = self._stopping.is_set()
            probes = Server(config(make_probes(here_.readiness), settings.api))
            try:
                async with asyncio.TaskGroup() as group:
                    beside = [group.create_task(here_.refusals.run(node.centre)), group.create_task(roster.watch(here_))]
                    answering = group.create_task(serve(probes, aside))
                    await serve(self._server, front)
                    probes.should_exit = True
                    await answering
                    for task in beside:
                        task.cancel()
                await here_.refusals.write(node.centre)
            finally:
                self._stopped.set()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Take no further requests and finish those under way."""
        self._stopping.set()
        if self._here is not None:
            self._here.stopping.set()
        if self._server is not None:
            self._server.should_exit = True
            await self._stopped.wait()


def _encryption(settings: ApiSettings, log: Log) -> ssl.SSLContext | None:
    """Return the TLS of the API, or None on loopback without a certificate; raise ``Misconfigured`` when it can't be had."""

    def refused(error: RelayError) -> None:
        log.warning(Event.CERTIFICATE_REFUSED, code=error.code, detail=error.detail)

    encryption = settings.tls.context(refused)
    if encryption is None:
        refuse_clear_api(settings.listen)
    return encryption
