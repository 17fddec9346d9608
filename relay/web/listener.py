"""The server: uvicorn inside the node's event loop, for whatever listens.

The node owns the process's signals, so uvicorn's own handling is off. Stopping is graceful: no new connection is taken, requests
under way get some seconds to finish.

Errors raised: ``Misconfigured`` with ``address-in-use``, and of :func:`encryption` those of :mod:`relay.tls`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

import uvicorn

from relay.errors import Misconfigured, RelayError
from relay.log import Event, Log
from relay.settings import ApiSettings
from relay.web.connection import connection

FINISH_SECONDS = 3
BACKLOG = 512


class Server(uvicorn.Server):
    """uvicorn, leaving signals to the node."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


async def serve(server: Server, listener: socket.socket) -> None:
    """Serve until the server is told to exit; when cancelled, since the node fails, close what is open and go."""
    try:
        await server.serve([listener])
    except asyncio.CancelledError:
        server.force_exit = True
        await server.shutdown([listener])
        raise


def config(app: object, settings: ApiSettings, encryption: ssl.SSLContext | None = None) -> uvicorn.Config:
    """Return how an application is served: the limits of ``settings``, over TLS where ``encryption`` is given."""
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


def encryption(
    address: str,
    certificate: Callable[[Callable[[RelayError], None]], ssl.SSLContext | None],
    refuse_clear: Callable[[str], None],
    log: Log,
) -> ssl.SSLContext | None:
    """Return the TLS of what listens at an address, or None on loopback without a certificate.

    ``certificate`` reads the files; it is given who hears of renewed ones that are no use. Raises ``Misconfigured`` when they
    can't be used now, and what ``refuse_clear`` raises about an address that other machines reach in clear.
    """

    def refused(error: RelayError) -> None:
        log.warning(Event.CERTIFICATE_REFUSED, code=error.code, detail=error.detail)

    found = certificate(refused)
    if found is None:
        refuse_clear(address)
    return found


@contextlib.contextmanager
def listening(address: str) -> Iterator[socket.socket]:
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
            sentence = f"The node can't listen on {address}: {error.strerror}."
            raise Misconfigured("address-in-use", sentence) from error
        listener.setblocking(False)
        yield listener
