"""Turns: which of several ranks comes next, so that what is urgent goes first and what is not still goes.

The most urgent rank that waits has the turn. But whoever floods a lane, by mistake or on purpose, must not stop the others: after
some turns in a row something else that waits has one, whatever has waited longest.
"""

from __future__ import annotations

from collections.abc import Sequence

IN_A_ROW = 8


class Turns:
    """Counts how often the most urgent had its turn while others waited."""

    def __init__(self) -> None:
        self._passed_over = 0

    def next(self, waiting: Sequence[int]) -> int:
        """Return whose turn it is, given the ranks of what waits in order of arrival (0 is the most urgent; not empty)."""
        first = min(waiting)
        other = next((rank for rank in waiting if rank != first), None)
        if other is None:
            self._passed_over = 0
            return first
        if self._passed_over >= IN_A_ROW:
            self._passed_over = 0
            return other
        self._passed_over += 1
        return first
