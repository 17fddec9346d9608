"""The life of a surface: it serves while the node runs, and stops gracefully.

No new connection is taken then, streams and waiting polls end at once, and requests under way get about 3 s to finish
(:mod:`relay.web.listener`). A node may be told to stop before a surface listens; that serves nobody then, and ends at once.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod

import uvicorn

from relay.web.listener import Server, serve
from relay.web.served import Here, Served, make_here


class Surface(ABC):
    """Something that listens while the node runs; ``here_`` is what it shares with the node's other surfaces."""

    def __init__(self, here_: Here | None = None) -> None:
        self._here = here_
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._server: Server | None = None

    async def run(self, node: Served) -> None:
        """Serve until cancelled; after :meth:`stop`, wait for that."""
        try:
            await self._serve(node)
        finally:
            self._stopped.set()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Take no further requests, let go of who waits, and finish what is under way."""
        self._stopping.set()
        if self._here is not None:
            self._here.stopping.set()
        if self._server is not None:
            self._server.should_exit = True
            await self._stopped.wait()

    @abstractmethod
    async def _serve(self, node: Served) -> None:
        """Serve until told to stop."""

    def _share(self, node: Served) -> Here:
        """Return what the node's surfaces share; raise ``Misconfigured`` when the clients' file can't be read."""
        self._here = self._here or make_here(node)
        if self._stopping.is_set():
            self._here.stopping.set()
        return self._here

    async def _answer(self, listener: socket.socket, how: uvicorn.Config) -> None:
        """Answer what comes until told to stop."""
        self._server = Server(how)
        self._server.should_exit = self._stopping.is_set()
        await serve(self._server, listener)
