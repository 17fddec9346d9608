"""One process at a time: the lock on a store, held as long as the process lives and freed by the system when it ends."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from relay.errors import Misconfigured

_HELD = frozenset({errno.EWOULDBLOCK, errno.EACCES})


class Lock:
    """A lock on a store, kept in a file beside it; a file system that has no locks gives none, and forbids nothing."""

    def __init__(self, store: Path) -> None:
        store.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file: int | None = None
        file = -1
        try:
            file = os.open(store.with_name(f"{store.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if file >= 0:
                os.close(file)
            if error.errno in _HELD and file >= 0:
                sentence = f"Another process works on the store {store}; stop it first (one node to a store)."
                raise Misconfigured("store-in-use", sentence) from error
        else:
            self._file = file

    def release(self) -> None:
        """Let others have it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
