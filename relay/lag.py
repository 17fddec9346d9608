"""The lag of the event loop: how late it runs what is due. A loop that is late holds up everything of the node at once."""

from __future__ import annotations

import asyncio
from collections import deque

EVERY_SECONDS = 0.1
WITHIN_SECONDS = 10.0


class Lag:
    """Measures the lag ten times a second; :attr:`worst` is the longest of the last ten seconds, in seconds."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque([0.0], maxlen=round(WITHIN_SECONDS / EVERY_SECONDS))

    @property
    def worst(self) -> float:
        """The longest lag of the last ten seconds, in seconds."""
        return max(self._seen)

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY_SECONDS
            await asyncio.sleep(EVERY_SECONDS)
            self._seen.append(max(loop.time() - due, 0.0))
