"""Processes of a benchmark: one per role, told what to do by lines of JSON, and how much CPU each of them uses."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import psutil  # type: ignore[import-untyped]

Said = dict[str, Any]
MACHINE = "machine"


class Worker:
    """A process in the role ``role`` (a function of :mod:`tests.bench.roles`); a context manager that ends it."""

    def __init__(self, role: str, **given: Any) -> None:
        command = [sys.executable, "-m", "tests.bench.roles", role, json.dumps(given, default=str)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        self.pid = self._process.pid
        self._role = role

    def __enter__(self) -> Worker:
        self.hear()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            cast("TextIO", self._process.stdin).close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def tell(self, do: str, **given: Any) -> None:
        """Say what to do, and return at once."""
        stdin = cast("TextIO", self._process.stdin)
        stdin.write(json.dumps({"do": do, **given}) + "\n")
        stdin.flush()

    def hear(self) -> Said:
        """Return the answer to what it was told."""
        line = cast("TextIO", self._process.stdout).readline()
        if not line:
            raise RuntimeError(f"the {self._role} process ended")
        return cast("Said", json.loads(line))

    def ask(self, do: str, **given: Any) -> Said:
        """Say what to do and return the answer."""
        self.tell(do, **given)
        return self.hear()


async def commands() -> AsyncIterator[Said]:
    """Yield what the parent says, until it closes the pipe; runs in the worker."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield json.loads(line)


def answer(said: Said) -> None:
    """Answer the parent; runs in the worker."""
    print(json.dumps(said), flush=True)  # the parent reads it


def cpu_seconds(pids: Iterable[int | None]) -> float:
    """Return the CPU seconds these processes have used, with their children; this process alone without."""
    total = 0.0
    for pid in filter(None, pids):
        process = psutil.Process(pid)
        mine = pid == os.getpid()  # its children are the other parts
        for one in (process, *([] if mine else process.children(recursive=True))):
            times = one.cpu_times()
            total += times.user + times.system
    return total


@contextmanager
def cpu(parts: dict[str, int | None], used: dict[str, float]) -> Iterator[None]:
    """Write into ``used`` how many CPU seconds each part uses meanwhile, and the whole machine."""
    before = {name: cpu_seconds([pid]) for name, pid in parts.items()} | {MACHINE: _busy_seconds()}
    yield
    after = {name: cpu_seconds([pid]) for name, pid in parts.items()} | {MACHINE: _busy_seconds()}
    used.update({name: after[name] - before[name] for name in after})


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))
