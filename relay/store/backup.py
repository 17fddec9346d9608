"""A copy of a store for safekeeping, made while its node runs or not: consistent, checked, whole or not there at all.

The copy is one snapshot of what is committed (SQLite's online backup API, sqlite.org/backup.html, in one step): it holds a read
transaction and neither stops nor slows whoever writes, but the write-ahead log grows until it is done. It needs no file beside
it, is written under another name first, read through by SQLite's own check, forced to disk, and only then has its name; only its
owner may read it. What it holds rests as ciphertext, under the storage key that is not in it.

Errors raised: ``Misconfigured`` (``no-store``, ``store-damaged``), ``RelayError`` (``cannot-write``).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from relay.errors import Misconfigured, RelayError

BUSY_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy holds: whose store it is, its epoch, how many entries of the record, and its size in bytes."""

    centre: str
    epoch: int
    entries: int
    size: int


def back_up(store: Path, target: Path) -> Copied:
    """Write a copy of a store to a new file and return what it holds; a file that is there already is left alone."""
    if not store.is_file():
        raise Misconfigured("no-store", f"There is no store {store}.")
    part = target.with_name(f"{target.name}.part")
    try:
        _claim(target, part)
        try:
            found = _copy(store, part)
            _force(part)
            part.rename(target)
        finally:
            part.unlink(missing_ok=True)
        _force(target.parent)
    except OSError as error:
        raise RelayError("cannot-write", f"{target} can't be written: {error.strerror}.") from error
    return found


def _claim(target: Path, part: Path) -> None:
    """Make the file to write to, for its owner alone."""
    if target.exists():
        raise RelayError("cannot-write", f"{target} is there already; a copy replaces nothing.")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _copy(store: Path, part: Path) -> Copied:
    source = f"file:{quote(str(store.resolve()))}?mode=ro"
    try:
        with (
            contextlib.closing(sqlite3.connect(source, uri=True, timeout=BUSY_SECONDS)) as original,
            contextlib.closing(sqlite3.connect(part)) as copy,
        ):
            original.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file and no log beside it
            return _described(copy, part)
    except sqlite3.OperationalError as error:
        raise RelayError("cannot-write", f"The store {store} could not be copied: {error}.") from error
    except sqlite3.DatabaseError as error:
        raise _damaged(str(error)) from error


def _described(copy: sqlite3.Connection, part: Path) -> Copied:
    """Read the whole copy through, and return what it holds."""
    said = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if said != "ok":
        raise _damaged(said)
    meta = dict(copy.execute("SELECT name, value FROM meta"))
    epoch = int(meta["epoch"])
    entries = copy.execute("SELECT count(*) FROM audit WHERE epoch = ?", (epoch,)).fetchone()[0]
    return Copied(meta["centre"], epoch, entries, part.stat().st_size)


def _damaged(said: str) -> Misconfigured:
    return Misconfigured("store-damaged", f"The store, or the copy of it, is damaged: {said}. No copy was kept.")


def _force(path: Path) -> None:
    """Force a file, or what a folder lists, to disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
