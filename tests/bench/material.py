"""What every path carries: the same realistic nested seizure, each copy with a case number of its own."""

from __future__ import annotations

import json
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "schemas" / "examples" / "seizure.full.json"
SENDER, RECEIVER = "SIN", "LYO"  # SIN may publish worldwide and subscribes to none of this, so nothing echoes back to it
_LEFT_OUT = ("origin", "exclude", "images", "links", "remarks")  # brings it to the 1.8 kB that the design was measured with


def messages(count: int, start: int = 0, precedence: str = "routine") -> list[bytes]:
    """Return this many distinct messages; their numbers run from ``start``."""
    document = json.loads(EXAMPLE.read_bytes())
    for key in _LEFT_OUT:
        del document[key]
    document |= {"precedence": precedence, "classification": "unclassified", "case_number": "@"}
    before, after = json.dumps(document, separators=(",", ":")).split('"@"')
    return [f'{before}"{case_number(number)}"{after}'.encode() for number in range(start, start + count)]


def case_number(number: int) -> str:
    """Return the case number of a message."""
    return f"BE-2026-{number:08d}"


def number_of(case: str) -> int:
    """Return the number of a message from its case number."""
    return int(case.rpartition("-")[2])
