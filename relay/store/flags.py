"""What the row of a received message says about its content, so that it need not be opened to know: bits of one number."""

from __future__ import annotations

from relay import codes
from relay.keeping import Kept

DOUBTFUL = 1
RECALL = 2
_HANDLING_SHIFT = 2


def of(kept: Kept) -> int:
    """Return the flags of a message."""
    marks = (DOUBTFUL if kept.warnings else 0) | (RECALL if kept.recall else 0)
    return marks | codes.HANDLING_CODES.index(kept.handling) << _HANDLING_SHIFT


def handling(flags: int) -> str:
    """Return the handling code that flags say."""
    return codes.HANDLING_CODES[flags >> _HANDLING_SHIFT & 3]
