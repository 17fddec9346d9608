"""What ends every process of a private broker: all carry one mark in their environment, and a watchdog ends them with us.

The watchdog is a process of its own that holds a pipe from this one. When that closes, by whatever death of this process, it ends
whoever carries the mark, and goes only when nobody had it for two seconds: a process that was being started while we died shows
its mark only a moment later. So the watchdog has to run before the first process gets the mark (:attr:`Watch.bond`), and is the
last to be ended (:meth:`Watch.end`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path

MARK = "RELAY_PRIVATE_BROKER"
_PATH = "/usr/local/bin:/usr/bin:/bin"
_SCRIPT = """
read -r _
quiet=0
while [ "$quiet" -lt 20 ]; do
    quiet=$((quiet + 1))
    for file in $(grep -lsz "^$1$" /proc/[0-9]*/environ); do
        quiet=0; process=${file#/proc/}; kill -KILL "${process%/environ}"
    done
    sleep 0.1
done
"""


class Watch:
    """The mark of one broker, and the watchdog over whoever carries it."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self._dog: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # whoever starts the broker in a thread may start others beside it

    @property
    def bond(self) -> dict[str, str]:
        """Environment that ties a process to us; from now on, at the latest, the watchdog runs."""
        with self._lock:
            if self._dog is None:
                self._dog = _watchdog(self.mark)
        return {MARK: self.mark}

    def end(self, limit: float = 5.0) -> None:
        """End everyone who carries the mark, trying for ``limit`` seconds, and then the watchdog."""
        deadline = time.monotonic() + limit
        while (found := marked(self.mark)) and time.monotonic() < deadline:
            for process in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.02)
        if self._dog is not None:
            self._dog.kill()
            self._dog.communicate()
            self._dog = None


def marked(mark: str) -> list[int]:
    """Return the ids of the living processes that carry this mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def _watchdog(mark: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  a constant script and our mark
        ["/bin/sh", "-c", _SCRIPT, "relay-watchdog", f"{MARK}={mark}"],
        env={"PATH": _PATH},  # without the mark, or it would end itself first
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
