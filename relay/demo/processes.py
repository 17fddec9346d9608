"""The processes of the demonstration: one per node, started, killed, brought back and always ended by their process id."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

STOP_SECONDS = 10


class NodeProcess:
    """A node as a process of its own; its log goes to a file.

    ``environment`` is added to ours, and holds what ends the node should the demonstration be killed (the bond of its broker).
    Where the system has the means, the kernel ends it, too: should even the broker's watchdog be killed.
    """

    def __init__(self, settings: Path, log: Path, environment: Mapping[str, str]) -> None:
        self._command = [*_bound_to_us(), sys.executable, "-m", "relay", "node", "run", "--config", str(settings)]
        self._log = log
        self._environment = {**os.environ, **environment, "RELAY_LOG__FORMAT": "json", "RELAY_BROKER__RECONNECT_SECONDS": "2"}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The id of the process; None when it does not live."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def ending(self) -> str:
        """In words, how the process ended."""
        status = None if self._process is None else self._process.poll()
        if status is None:
            return "it runs"
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    def start(self) -> None:
        """Start the node; returns at once. Called from the main thread, to which its life is bound."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the demonstration, which then stops its nodes in order
            )

    def kill(self) -> None:
        """End the process as a power cut would: SIGKILL, no farewell."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def ask_to_stop(self) -> None:
        """Ask the process to stop gracefully; :meth:`wait` for it."""
        if self.running and self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until the process has ended, killing it when it takes too long."""
        if self._process is None:
            return
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def last_words(self) -> str:
        """Return the end of the node's log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-5:])


def _bound_to_us() -> list[str]:
    """Return what to put before a command, so that the process ends with this one."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []
