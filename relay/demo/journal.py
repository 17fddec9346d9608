"""The journal of a centre's own system: what it submitted and what it took, one JSON object a line, written as it happens.

A message is known by the SHA-256 of its bytes, as its system wrote them, and by who said it: no node gives either, and a message
that was changed on its way is another. Systems of the demonstration write every message as :func:`spell` does, so that whoever
took one finds its digest again.

``at`` is when the node answered, in seconds of this machine's monotonic clock: one process runs all systems, so that times of
different journals of a run can be compared, and a clock that is set moves none of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO


@dataclass(frozen=True, slots=True)
class Submitted:
    """The node answered with success: the message will reach these recipients.

    ``updates`` is the digest of the first version of what it updates; ``withdrawn_from`` are the centres that the node will tell
    to purge that, as this version leaves them out.
    """

    digest: str
    recipients: tuple[str, ...]
    updates: str = ""
    withdrawn_from: tuple[str, ...] = ()
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Took:
    """The node handed a message over and its acknowledgement was answered with success; ``marks`` say what it was about.

    ``cancels`` is the digest of the first version of what a cancel takes back.
    """

    digest: str
    origin: str
    marks: dict[str, Any]
    cancels: str = ""
    at: float = 0.0


class Journal:
    """Writes the journal of one centre."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("a", encoding="utf-8", buffering=1)

    def write(self, *entries: Submitted | Took) -> None:
        """Append entries."""
        lines = (json.dumps({"event": type(one).__name__.lower(), **asdict(one)}) for one in entries)
        self._file.write("".join(f"{line}\n" for line in lines))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> Iterator[Submitted | Took]:
    """Return the entries of a journal, in order."""
    kinds = {"submitted": Submitted, "took": Took}
    with path.open(encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            yield kinds[entry.pop("event")](**entry)


def spell(message: Mapping[str, Any]) -> bytes:
    """Return a message as the systems of the demonstration write it."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def digest(raw: bytes) -> str:
    """Return the SHA-256 of a message's bytes, in hex: what a reference to it quotes."""
    return hashlib.sha256(raw).hexdigest()
