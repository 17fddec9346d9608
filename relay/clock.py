"""Time, read in one place: UTC, milliseconds since the Unix epoch on the wire and in the store, RFC 3339 for people.

Everything that judges time takes ``now`` as an argument, so policies are tested without sleeping; only the edges call
:func:`now_ms`. Pauses are counted by :func:`elapsed_ms`: a clock that is set must neither shorten nor stretch them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now_ms() -> int:
    """Return the current time in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def elapsed_ms() -> int:
    """Return milliseconds that only ever go on, whatever somebody does to the clock; for pauses, and of no meaning by itself."""
    return time.monotonic_ns() // 1_000_000


def to_ms(moment: datetime) -> int:
    """Return an aware moment in milliseconds since the Unix epoch."""
    return int(moment.timestamp() * 1000)


def from_ms(ms: int) -> datetime:
    """Return milliseconds since the Unix epoch as an aware UTC moment."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def iso(ms: int) -> str:
    """Return milliseconds since the Unix epoch as RFC 3339 in UTC with milliseconds: ``2026-01-31T08:15:00.000Z``."""
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
