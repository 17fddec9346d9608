"""The journal of a centre's own system: what it submitted and what it took, one JSON object a line, written as it happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO


@dataclass(frozen=True, slots=True)
class Submitted:
    """The node answered with success: it will reach these recipients."""

    id: str
    case: str
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Took:
    """The node handed a message over and its acknowledgement was answered with success; ``marks`` say what it was about."""

    id: str
    case: str
    origin: str
    marks: dict[str, Any]


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
