"""What a centre's own system writes down, one JSON object a line, on disk before it goes on.

Events: ``asked`` (it begins to submit a message), ``accepted`` (the node answered with success; with id and recipients),
``refused`` (the node's final no), ``seen`` (it was handed a message and its acknowledgement was answered with success: the
message had its effect). A message is known by its origin and the SHA-256 of its bytes. ``at`` is the campaign's own clock.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class Journal:
    """Writes the journal of one centre."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Append events; return when they are on disk."""
        now = time.time()
        self._file.write("".join(json.dumps({"at": now, **event}) + "\n" for event in events))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def spell(message: Mapping[str, Any]) -> bytes:
    """Return a message as every system of the campaign writes it, so that whoever took one finds its digest again."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def digest(raw: bytes) -> str:
    """Return the SHA-256 of a message's bytes in hex."""
    return hashlib.sha256(raw).hexdigest()
