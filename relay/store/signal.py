"""How the loops of a node wake each other without knowing each other."""

from __future__ import annotations

import asyncio


class Signal:
    """Says that something changed; a waiter that looked before the change is woken by it."""

    def __init__(self) -> None:
        self._changes = 0
        self._waiters: set[asyncio.Future[None]] = set()

    def ticket(self) -> int:
        """Return what to hand to :meth:`changed`; take it before looking at what the signal speaks of."""
        return self._changes

    def fire(self) -> None:
        """Wake everyone who waits."""
        self._changes += 1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self, ticket: int, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - a wait is what it does
        """Wait until something changed since the ticket was taken; return False when the seconds passed without."""
        if self._changes != ticket:
            return True
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True
