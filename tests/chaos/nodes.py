"""The node processes of a campaign: started, killed, stopped in their tracks, their clocks set, and restarted by a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
ROOT = Path(__file__).resolve().parents[2]
WATCH_SECONDS = 0.3
RESTART_SECONDS = 1.0
STOP_SECONDS = 15.0


def faketime() -> Path | None:
    """Return the library that sets a process's clock, where it is installed."""
    if FAKETIME.exists():
        return FAKETIME
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


class NodeProcess:
    """One node; ``ended`` lists how it ended when nobody had killed it."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], clock: Path | None = None) -> None:
        self.ended: list[str] = []
        self._command = _bound_to_us(command)
        self._log = log
        self._clock = clock
        self._environment = {**os.environ, **environment, **_clock_environment(clock)}
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; returns at once. Called from the main thread, to which its life is bound."""
        self._wanted = True
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it as a power cut would."""
        self._wanted = False
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self, *, stop: bool) -> None:
        """Stop it in its tracks, or let it go on."""
        if self.running and self._process is not None:
            self._process.send_signal(signal.SIGSTOP if stop else signal.SIGCONT)

    def set_clock(self, offset: str) -> None:
        """Set its clock off the machine's by some seconds, as in ``+60``."""
        if self._clock is not None:
            fresh = self._clock.with_suffix(".new")
            fresh.write_text(f"{offset}\n", encoding="utf-8")
            fresh.replace(self._clock)  # never half written, whenever the node looks

    def stop(self) -> None:
        """Ask it to stop gracefully, and insist after a while."""
        self._wanted = False
        if self._process is None or not self.running:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self.kill()

    async def supervise(self) -> None:
        """Start it again whenever it ended by itself, as a supervisor does; until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._wanted and not self.running and self._process is not None:
                self.ended.append(f"exit status {self._process.returncode}: {self._last_line()}")
                await asyncio.sleep(RESTART_SECONDS)
                if self._wanted and not self.running:
                    self.start()

    def _last_line(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line[:300] for line in reversed(lines) if line.strip()), "")


def node_command(settings: Path) -> list[str]:
    """Return the command that runs a node."""
    return [sys.executable, "-m", "relay", "node", "run", "--config", str(settings)]


def _bound_to_us(command: Sequence[str]) -> list[str]:
    """Let the process end with this one, where the system has the means."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else list(command)


def _clock_environment(clock: Path | None) -> dict[str, str]:
    library = faketime()
    if clock is None or library is None:
        return {}
    clock.write_text("+0\n", encoding="utf-8")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # a clock that is set leaves the monotonic one alone
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else waits of threads for each other end at once, and a node spins
        "DONT_FAKE_MONOTONIC": "1",
    }
