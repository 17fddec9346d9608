"""A link between a node and its broker that can be made slow, cut, frozen half-open, and reset: a TCP proxy of our own.

All connections of a link share its bandwidth, in each direction on its own, and each byte arrives half a round trip late. What
happens to a link happens to the connections it has at that moment: a *cut* resets them and refuses new ones until it is mended; a
*half-open* connection takes bytes and passes nothing on, not even its end, in either direction and for good, while new
connections work; a *reset* ends them once. The demonstration and the campaigns of faults put their nodes behind it.

Errors raised: ``OSError`` by :meth:`Link.start`. A connection that breaks, or a broker that is away, ends that connection alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

CHUNK = 16 * 1024
AHEAD = 64  # chunks under way in one direction of one connection
SOCKET_BYTES = 64 * 1024  # what the system may buffer at each end, or a slow link would be a long queue instead
HOST = "127.0.0.1"
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Line:
    """How good a link is: round trip in seconds, bits a second (none: as fast as it goes), mean seconds between resets."""

    round_trip: float = 0.0
    bits: float | None = None
    reset_every: float | None = None


@dataclass(eq=False, slots=True)
class _Wire:
    """One connection through the link: its two ends; ``dead`` passes nothing on any more."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    dead: bool = False

    def reset(self) -> None:
        """End both sides at once, with a reset."""
        for end in (self.near, self.far):
            with contextlib.suppress(OSError):
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()


class Link:
    """The link of one node to ``target``, a port of loopback; listens on ``port`` once started.

    ``line`` may be replaced while it runs, but how often it resets by itself is settled at the start; the same ``seed`` draws the
    same times. ``resets`` counts those that ended connections.
    """

    def __init__(self, target: int, line: Line, seed: str) -> None:
        self.line = line
        self.port = self.resets = 0
        self._target = target
        self._dice = random.Random(seed)  # noqa: S311 - when a link breaks is no secret
        self._wires: set[_Wire] = set()
        self._cut = False
        self._free = {"up": 0.0, "down": 0.0}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        listener.bind((HOST, 0))
        self.port = listener.getsockname()[1]
        self._server = await asyncio.start_server(
            lambda *ends: self._begin(self._serve(*ends)), sock=listener, limit=SOCKET_BYTES
        )
        self._begin(self._reset_now_and_then())

    async def close(self) -> None:
        """Listen no more and end every connection."""
        if self._server is not None:
            self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> None:
        """Reset the connections there are."""
        for wire in self._wires:
            wire.reset()

    def cut(self) -> None:
        """Reset the connections there are and refuse new ones until :meth:`mend`."""
        self._cut = True
        self.reset()

    def mend(self) -> None:
        """Take new connections again."""
        self._cut = False

    def half_open(self) -> None:
        """Let the connections there are pass nothing on any more, without either side being told."""
        for wire in self._wires:
            wire.dead = True

    def _begin(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reset_now_and_then(self) -> None:
        if (every := self.line.reset_every) is None:
            return
        while True:
            await asyncio.sleep(self._dice.expovariate(1 / every))
            self.resets += bool(self._wires)
            self.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = _Wire(writer, writer)
        try:
            if self._cut:
                return
            far_reader, wire.far = await self._reach()
            self._wires.add(wire)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(wire, reader, wire.far, "up"))
                group.create_task(self._carry(wire, far_reader, wire.near, "down"))
        except* (OSError, asyncio.IncompleteReadError):
            pass  # a connection that breaks is what links do
        finally:
            self._wires.discard(wire)
            wire.reset()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        end = socket.socket()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        end.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(end, (HOST, self._target))
            return await asyncio.open_connection(sock=end, limit=SOCKET_BYTES)
        except OSError:
            end.close()
            raise

    async def _carry(self, wire: _Wire, source: asyncio.StreamReader, to: asyncio.StreamWriter, way: str) -> None:
        """Carry one direction of a connection; its end ends the connection, unless that is half-open."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(AHEAD)
        arriving = asyncio.create_task(self._arrive(wire, under_way, to))
        try:
            while not arriving.done():
                data = await source.read(CHUNK)
                if wire.dead:
                    if not data:
                        return  # this side has given up; the other is not told and finds out by itself
                    continue
                await under_way.put((self._arrival(len(data), way), data))
                if not data:
                    break
            await arriving
        finally:
            arriving.cancel()
        if not wire.dead:
            wire.reset()

    def _arrival(self, size: int, way: str) -> float:
        """Return when a piece arrives, given what goes the same way before it."""
        now = asyncio.get_running_loop().time()
        if self.line.bits is not None:
            self._free[way] = max(now, self._free[way]) + size * 8 / self.line.bits
            return self._free[way] + self.line.round_trip / 2
        return now + self.line.round_trip / 2

    async def _arrive(self, wire: _Wire, under_way: asyncio.Queue[tuple[float, bytes]], to: asyncio.StreamWriter) -> None:
        while True:
            at, data = await under_way.get()
            if (pause := at - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(pause)
            if not data:
                return
            if not wire.dead:
                to.write(data)
                await to.drain()
