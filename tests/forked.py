"""Node processes that share their imports: one process imports what a node is made of, and forks a node whenever it is asked.

Each is a process of its own, with settings, log and end of its own, killed as any other. It only does not import the same modules
anew, which is three quarters of the CPU of a start. Where a command or its start is what a test shows, run the command.

All of them end when the process of the tests does, whatever ends that.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PRELOADED = ["relay.cli.node", "relay.api", "relay.console", "relay.node", "relay.web.served", "tests.chaos.mutants"]
SET_PARENT_DEATH_SIGNAL = 1  # linux/prctl.h

_context = multiprocessing.get_context("forkserver")


class Forked:
    """A process that calls a function, which must be importable by its name."""

    def __init__(self, call: Callable[..., Any], *given: Any, environment: Mapping[str, str], log: Path | None = None) -> None:
        _context.set_forkserver_preload(PRELOADED)
        self._process = _context.Process(target=_begin, args=(call, given, dict(environment), log), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def status(self) -> int | None:
        """How it ended, as :mod:`subprocess` says it; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it ended."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, seconds: float = 15) -> int | None:
        """Ask it to end, and insist after a while; return how it ended."""
        self.send_signal(signal.SIGTERM)
        if self.wait(seconds) is None:
            self.kill()
        return self.status

    def kill(self) -> None:
        """End it as a power cut would, and wait until it has."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait until it ended, for so long at most; return how."""
        self._process.join(seconds)
        return self.status

    async def ended(self) -> int:
        """Return how it ended, once it has."""
        while self.status is None:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.05)
        return self.status


def _begin(call: Callable[..., Any], given: tuple[Any, ...], environment: dict[str, str], log: Path | None) -> None:
    """Become a process like one that was started by a command, and call the function."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.exit(call(*given))
