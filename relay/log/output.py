"""Where the log goes: standard error or output, or a file that is renamed when it is full and kept a number of times.

Whatever can't be written (a full disk, a reader that went away) is left out: the node goes on, since what it promises stands in
its store. Errors raised: ``Misconfigured`` (``log-unwritable``) when a file can't be opened at the start.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Protocol, TextIO

from relay.errors import Misconfigured

PRIVATE = 0o600


class Output(Protocol):
    """What the log is written to; neither method ever raises for want of space or of a reader."""

    def write(self, text: str) -> int:
        """Write whole lines."""

    def flush(self) -> None:
        """Let nothing wait in memory."""

    def isatty(self) -> bool:
        """Return whether a person reads along."""


class Standard:
    """Standard error or output of the process."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Write whole lines; what can't be written is left out."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Let nothing wait in memory."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Return whether a person reads along."""
        return self._stream.isatty()


class _Private(RotatingFileHandler):
    """Files that only their owner may read."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=_private)

    def take(self, text: str) -> None:
        """Write, without the ways of a log record."""
        if self.stream is not None:
            self.stream.write(text)


class Rotating:
    """A file of at most ``most`` bytes; when it is full it becomes ``.1``, what was that ``.2``, up to ``kept`` of them."""

    def __init__(self, path: Path, most: int, kept: int) -> None:
        try:
            self._files = _Private(path, maxBytes=most, backupCount=kept)
        except OSError as error:
            raise Misconfigured("log-unwritable", f"The log file {path} can't be written: {error.strerror}.") from error
        self._lock = threading.Lock()
        self._most = most
        self._size = path.stat().st_size

    def write(self, text: str) -> int:
        """Write whole lines, in a new file when they do not fit; what can't be written is left out."""
        size = len(text.encode())
        with self._lock, contextlib.suppress(OSError):
            if self._size and self._size + size > self._most:
                self._files.doRollover()
                self._size = 0
            self._files.take(text)
            self._size += size
        return len(text)

    def flush(self) -> None:
        """Let nothing wait in memory."""
        with self._lock, contextlib.suppress(OSError):
            self._files.flush()

    def isatty(self) -> bool:
        """Return False: a file is for machines."""
        return False

    def close(self) -> None:
        """Close the file."""
        self._files.close()


def standard(name: str) -> Standard:
    """Return ``stderr`` or ``stdout`` as an output."""
    return Standard(sys.stdout if name == "stdout" else sys.stderr)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE)
