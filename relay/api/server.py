"""The server: uvicorn inside the node's event loop, on the two addresses of the settings: the API, and whether the node is ready.

Nothing on the API's listener is answered without a token, and nothing on the other one is more than a word. With a certificate
the API is HTTPS, with an authority for clients it asks them for theirs; renewed files are read at the next connection.

The node owns the process's signals, so uvicorn's own handling is off. Stopping is graceful: no new connection is taken, waiting
polls are answered at once with what there is, requests under way get about 3 s to finish, and whatever they were promised is
committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

import uvicorn

from relay.api import roster
from relay.api.app import make_app
from relay.api.connection import connection
from relay.api.limits import Limits
from relay.api.probes import make_probes
from relay.api.served import Here, Readiness, Served
from relay.clients import Clients
from relay.errors import Misconfigured, RelayError
from relay.log import Event, Log
from relay.settings import ApiSettings
from relay.tls import refuse_clear_api

FINISH_SECONDS = 3
BACKLOG = 512


class Api:
    """The HTTP interface of a node: a surface that runs while the node does."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._server: _Server | None = None

    async def run(self, node: Served) -> None:
        """Serve until cancelled; after :meth:`stop`, wait for that."""
        settings, app = node.centre.settings, make_app()
        readiness, limits = Readiness(node), Limits(settings.api.rate)
        here_ = app.state.here = Here(node, Clients(settings.api.clients), limits, readiness, self._stopping)
        with _listening(settings.api.listen) as front, _listening(settings.health.listen) as aside:
            self._server = _Server(_config(app, settings.api, _encryption(settings.api, node.centre.log)))
            self._server.should_exit = self._stopping.is_set()
            probes = _Server(_config(make_probes(readiness), settings.api))
            try:
                async with asyncio.TaskGroup() as group:
                    beside = [group.create_task(here_.refusals.run(node.centre)), group.create_task(roster.watch(here_))]
                    answering = group.create_task(_serve(probes, aside))
                    await _serve(self._server, front)
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
        if self._server is not None:
            self._server.should_exit = True
            await self._stopped.wait()


class _Server(uvicorn.Server):
    """uvicorn, leaving signals to the node."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


async def _serve(server: _Server, listener: socket.socket) -> None:
    """Serve until the server is told to exit; when cancelled, since the node fails, close what is open and go."""
    try:
        await server.serve([listener])
    except asyncio.CancelledError:
        server.force_exit = True
        await server.shutdown([listener])
        raise


def _encryption(settings: ApiSettings, log: Log) -> ssl.SSLContext | None:
    """Return the TLS of the API, or None on loopback without a certificate; raise ``Misconfigured`` when it can't be had."""

    def refused(error: RelayError) -> None:
        log.warning(Event.CERTIFICATE_REFUSED, code=error.code, detail=error.detail)

    encryption = settings.tls.context(refused)
    if encryption is None:
        refuse_clear_api(settings.listen)
    return encryption


def _config(app: object, settings: ApiSettings, encryption: ssl.SSLContext | None = None) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=connection(settings),
        ssl_context_factory=(lambda *_: encryption) if encryption is not None else None,
        access_log=False,
        date_header=False,
        lifespan="off",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=FINISH_SECONDS,
        ws="none",
    )


@contextlib.contextmanager
def _listening(address: str) -> Iterator[socket.socket]:
    """Listen at ``host:port``."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:  # named, else asyncio leaves Nagle on
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, int(port)))
            listener.listen(BACKLOG)
        except OSError as error:
            sentence = f"The API can't listen on {address}: {error.strerror}."
            raise Misconfigured("address-in-use", sentence) from error
        listener.setblocking(False)
        yield listener
