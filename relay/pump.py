"""The pump: the one place from which stored envelopes move to the broker, the most urgent lane first.

It keeps the numbers of what was never confirmed, reads each envelope back from the store when its turn comes, and publishes a
bounded window at once. A confirm makes an envelope ``sent``; confirms are committed in groups. When the broker does not
confirm, the envelope goes back to its place and the pump waits for the broker: nothing is lost, a copy at worst is sent twice,
and the recipients know it. An envelope that a working broker refuses (a queue is missing or full) is put off, longer each time,
and the others go before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random

from relay.audit import AuditStep
from relay.broker import Broker
from relay.centre import Centre
from relay.envelope import commitments
from relay.errors import BrokerTrouble, StoreTrouble
from relay.log import Event
from relay.store import Connection, outgoing
from relay.store.outgoing import Due

READ_AHEAD = 10_000
READ_AT_ONCE = 2
PAUSE_SECONDS = 1.0
CONFIRM_PAUSE_SECONDS = 0.05  # `sent` may be noted a moment late: at worst an envelope is sent twice
LONGEST_PAUSE_SECONDS = 60.0


class Pump:
    """Publishes what is due."""

    def __init__(self, centre: Centre, broker: Broker) -> None:
        self._centre = centre
        self._broker = broker
        self._due: list[tuple[int, int]] = []
        self._seen = 0
        self._loaded: dict[int, Due] = {}
        self._room = asyncio.Semaphore(centre.settings.broker.publish_window)
        self._flying: set[asyncio.Task[None]] = set()
        self._put_off: dict[int, int] = {}
        self._refusals: dict[int, int] = {}
        self._confirmed: list[Due] = []
        self._confirm = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many envelopes wait to be published."""
        return len(self._due) + len(self._flying) + len(self._put_off)

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._commit_confirms(), name="pump confirms")
            while True:
                ticket = self._centre.store.outbox_changed.ticket()
                await self._look()
                await self._publish_due(group)
                await self._centre.store.outbox_changed.changed(ticket, PAUSE_SECONDS)

    async def drain(self) -> None:
        """Wait for the confirms of what is under way and note them; what is not yet begun stays due."""
        if self._flying:
            await asyncio.wait(self._flying)
        confirmed, self._confirmed = self._confirmed, []
        if confirmed:
            await self._commit(confirmed)

    async def _look(self) -> None:
        """Take up the envelopes that were stored since the last look."""
        while True:
            try:
                found = await self._centre.store.read(self._find)
            except StoreTrouble as trouble:  # the next look finds the same
                self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
                return
            for rank, n in found:
                heapq.heappush(self._due, (rank, n))
                self._seen = max(self._seen, n)
            self._centre.metrics.unsent.set(self.waiting)
            if len(found) < READ_AHEAD:
                return

    def _find(self, connection: Connection) -> list[tuple[int, int]]:
        """Find what was stored since the last look; a few are read at the same time, as they go out at once."""
        found = outgoing.due(connection, self._seen, READ_AHEAD)
        if len(found) <= READ_AT_ONCE:
            self._loaded.update((n, due) for _, n in found if (due := outgoing.load(connection, n)))
        return found

    async def _publish_due(self, group: asyncio.TaskGroup) -> None:
        """Publish until nothing is due, letting what is stored meanwhile take its place in the order."""
        looked = self._centre.store.outbox_changed.ticket()
        while self._due:
            await self._reach_broker()
            await self._room.acquire()
            if (changes := self._centre.store.outbox_changed.ticket()) != looked:
                looked = changes
                await self._look()
            task = group.create_task(self._publish(*heapq.heappop(self._due)), name="pump publish")
            self._flying.add(task)
            task.add_done_callback(self._flying.discard)

    async def _reach_broker(self) -> None:
        """Wait for the broker, counting what is stored meanwhile, so that too much is noticed."""
        while not self._broker.connected.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._broker.connected.wait()
            await self._look()

    async def _publish(self, rank: int, n: int) -> None:
        try:
            due = self._loaded.pop(n, None) or await self._centre.store.read(lambda connection: outgoing.load(connection, n))
            if due is not None:
                await self._broker.publish(due.keys, due.raw)
                self._confirmed.append(due)
                self._confirm.set()
            self._refusals.pop(n, None)
        except (BrokerTrouble, StoreTrouble) as trouble:
            self._centre.metrics.publish_failures.labels(trouble.code).inc()
            self._again(rank, n, trouble.code)
        finally:
            self._room.release()

    def _again(self, rank: int, n: int, code: str) -> None:
        """Put an envelope back to its place when the broker is gone, else off for a while: then it is its own trouble.

        One that the broker refuses takes the connection with it, so it would do that again and again in its old place.
        """
        if not self._broker.connected.is_set() and code != "broker-refused":
            heapq.heappush(self._due, (rank, n))
            return
        refusals = self._refusals[n] = self._refusals.get(n, 0) + 1
        longest = min(PAUSE_SECONDS * 2 ** min(refusals - 1, 10), LONGEST_PAUSE_SECONDS)
        pause = random.uniform(longest / 2, longest)  # noqa: S311 - so that what was refused together comes again one by one
        self._put_off[n] = rank
        asyncio.get_running_loop().call_later(pause, self._put_back, n)

    def _put_back(self, n: int) -> None:
        heapq.heappush(self._due, (self._put_off.pop(n), n))
        self._centre.store.outbox_changed.fire()

    async def _commit_confirms(self) -> None:
        while True:
            await self._confirm.wait()
            await asyncio.sleep(CONFIRM_PAUSE_SECONDS)
            self._confirm.clear()
            confirmed, self._confirmed = self._confirmed, []
            if confirmed and not await self._commit(confirmed):
                self._confirmed += confirmed
                self._confirm.set()
                await asyncio.sleep(PAUSE_SECONDS)

    async def _commit(self, confirmed: list[Due]) -> bool:
        """Note what was sent; return False when the store can't take it now."""
        now = self._centre.now()
        leaves = [self._leaf(due, now) for due in confirmed]

        def note(connection: Connection) -> None:
            outgoing.mark_sent(connection, [due.n for due in confirmed], now)
            self._centre.audit.append(connection, leaves)

        try:
            await self._centre.store.write(note)
        except StoreTrouble as trouble:
            self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
            return False
        for due in confirmed:
            self._centre.metrics.sent.labels(due.lane).inc()
        self._centre.log.info(Event.OUTBOX_SENT, envelopes=len(confirmed))
        return True

    def _leaf(self, due: Due, now: int) -> bytes:
        return self._centre.audit.leaf(AuditStep.SENT, now, envelope=due.id, commitments=commitments(due.raw))
