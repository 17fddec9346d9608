"""Windows: how many bytes are under way to each peer in each lane without a receipt, and whether there is room for more.

Counts only, kept by the pump and rebuilt from the store when a node starts. A window that was full has room again when a
quarter of it is free, so that a slow peer is not left out and taken in again with every envelope.
"""

from __future__ import annotations

from collections.abc import Mapping

Lane = tuple[str, str]
"""A recipient and a lane towards it."""

ROOM_AGAIN = 0.75


class Windows:
    """Counts bytes under way; ``bounds`` has the size of a window by lane."""

    def __init__(self, bounds: Mapping[str, int]) -> None:
        self._bounds = bounds
        self._under_way: dict[Lane, int] = {}

    def rebuild(self, under_way: Mapping[Lane, int]) -> None:
        """Begin with these counts."""
        self._under_way = dict(under_way)

    def put(self, lane: Lane, size: int) -> None:
        """Set a count that was taken anew."""
        self._under_way[lane] = size

    def take(self, lane: Lane, size: int) -> None:
        """Count bytes that were sent."""
        self._under_way[lane] = self._under_way.get(lane, 0) + size

    def free(self, lane: Lane, size: int) -> None:
        """Count bytes that got a receipt; it may overtake the count of having sent them."""
        left = self._under_way.get(lane, 0) - size
        if left:
            self._under_way[lane] = left
        else:
            self._under_way.pop(lane, None)

    def under_way(self, lane: Lane) -> int:
        """Return how many bytes are under way."""
        return self._under_way.get(lane, 0)

    def full(self, lane: Lane) -> bool:
        """Return whether nothing more may be sent."""
        return self.under_way(lane) >= self._bounds[lane[1]]

    def full_with(self, lane: Lane, under_way: int) -> bool:
        """Return whether nothing more may be sent once so many bytes are under way."""
        return under_way >= self._bounds[lane[1]]

    def filled(self) -> list[Lane]:
        """Return the lanes whose windows are full."""
        return [lane for lane in self._under_way if self.full(lane)]

    def has_room(self, lane: Lane) -> bool:
        """Return whether a window that was full takes something again."""
        return self.under_way(lane) <= ROOM_AGAIN * self._bounds[lane[1]]
