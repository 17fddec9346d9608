"""The server: uvicorn inside the node's event loop, on the address of the settings.

The node owns the process's signals, so uvicorn's own handling is off. Stopping is graceful: no new connection is taken,
waiting polls are answered at once with what there is, requests under way get about 3 s to finish, and whatever they were
promised is committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from relay.api.app import make_app
from relay.api.auth import read_roles
from relay.api.served import Here, Readiness, Served
from relay.errors import Misconfigured

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
        settings = node.centre.settings.api
        app = make_app()
        app.state.here = Here(node, read_roles(settings.tokens), Readiness(node), self._stopping)
        with _listening(settings.listen) as listener:
            self._server = server = _Server(_config(app))
            server.should_exit = self._stopping.is_set()
            try:
                await server.serve([listener])
            except asyncio.CancelledError:  # the node fails: close what is open and go
                server.force_exit = True
                await server.shutdown([listener])
                raise
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


def _config(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
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
