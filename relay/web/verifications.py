"""Verifying the record by hand while the node runs: one run at a time, in the background, in half of the time at most.

Who asks waits a moment and is told what is known by then; the run goes on, and its result stays until the next one. It ends early
when the node stops. What it finds changes nothing by itself: the node looks by itself, too, and stops when its record is damaged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from relay.centre import Centre
from relay.errors import RelayError, StoreTrouble
from relay.store import Connection, traces, trees
from relay.verifying import Verification, Verified, registers

PATIENCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Run:
    """A verification: who asked and when (milliseconds), how far it is, and its end: what was found, or why it was given up."""

    by: str
    begun_at: int
    entries: int = 0
    total: int = 0
    ended_at: int | None = None
    found: Verified | None = None
    trouble: RelayError | None = None


class Verifications:
    """The verifications that people ask for; ``latest`` is the one that runs, or ran last."""

    def __init__(self) -> None:
        self.latest: Run | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def runs(self) -> bool:
        """Whether one is under way."""
        return self._task is not None and not self._task.done()

    async def ask(self, centre: Centre, by: str, stopping: asyncio.Event) -> Run:
        """Begin a verification unless one runs; return it when it ended, or after a moment as far as it is."""
        if not self.runs:
            self.latest = Run(by, centre.now())
            self._task = asyncio.create_task(self._run(centre, stopping), name="verification by hand")
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=PATIENCE_SECONDS)
        return self._now()

    async def _run(self, centre: Centre, stopping: asyncio.Event) -> None:
        try:
            found = await self._verify(centre, stopping)
            self.latest = replace(self._now(), entries=found.entries, ended_at=centre.now(), found=found)
        except RelayError as error:
            self.latest = replace(self._now(), ended_at=centre.now(), trouble=error)
        except OSError as error:
            sentence = f"A file that the verification needs can't be read: {error}."
            self.latest = replace(self._now(), ended_at=centre.now(), trouble=StoreTrouble("store-unavailable", sentence))
        except RuntimeError:  # the store's threads are gone already
            self.latest = replace(self._now(), ended_at=centre.now(), trouble=_stops())

    async def _verify(self, centre: Centre, stopping: asyncio.Event) -> Verified:
        epochs, bundles, total = await centre.store.read(_extent)
        self.latest = replace(self._now(), total=total)
        network, root = centre.settings.network, centre.settings.directory.root.read_bytes()
        known = [*await centre.work(partial(registers, root, network, bundles)), centre.directory]
        verification = Verification(network, known)

        async def read(step: Callable[[Connection], bool]) -> bool:
            if stopping.is_set():
                raise _stops()
            begun = centre.elapsed()
            more = await centre.store.read(step)
            self.latest = replace(self._now(), entries=verification.found.entries)
            await asyncio.sleep((centre.elapsed() - begun) / 1000)  # the other half of the time is the messages'
            return more

        return await verification.bit_by_bit(read, epochs)

    def _now(self) -> Run:
        if self.latest is None:
            raise RuntimeError("nobody asked for a verification")
        return self.latest


def _extent(connection: Connection) -> tuple[list[int], list[bytes], int]:
    epochs = traces.epochs(connection)
    return epochs, traces.directories(connection), sum(trees.size(connection, epoch) for epoch in epochs)


def _stops() -> StoreTrouble:
    return StoreTrouble("store-unavailable", "The node stops; the verification was given up.")
