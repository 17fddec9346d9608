"""Laggards: the peers that are behind in a lane, and how each catches up, addressed to it alone.

A lane of a peer is here while its window is full, while the broker refuses what is sent to it, or while something that was left
out is still to be sent. What is behind goes out in order, the oldest first, urgent lanes first, as far as there is room; when
nothing is left the lane takes part in the fan-out again. A refusal waits as :mod:`relay.retry` decides; one that another try
does not change makes what is behind *dead*: nobody tries again by itself before the directory changes or the node starts anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from relay import copies, points, retry, topology
from relay.audit import AuditStep
from relay.broker import Broker
from relay.centre import Centre
from relay.copies import Copies
from relay.envelope import read_core
from relay.errors import BrokerTrouble, RelayError, StoreTrouble
from relay.log import Event
from relay.points import Point
from relay.store import Connection, behind
from relay.store.behind import Again, Behind, Lane
from relay.store.said import Settled
from relay.windows import Windows

PAGE = 64
AT_ONCE = 8
PAUSE_SECONDS = 0.5
RECOUNT_SECONDS = 30.0
_NOBODY: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Lag:
    """A lane that is behind: how many envelopes were left out of it, and of how many the store knows that.

    ``refusals`` in a row, the last with ``code``, tried again at ``due`` (milliseconds).
    """

    left: int = 0
    noted: int = 0
    refusals: int = 0
    due: int = 0
    code: str | None = None


@dataclass(frozen=True, slots=True)
class _Done:
    """An envelope that went to a peer alone: the mask of what of it was sent, and the messages and commitments of that."""

    n: int
    envelope: str
    sent: int
    commitments: list[str]
    messages: list[str]


class Laggards:
    """Knows who is behind, and lets them catch up."""

    def __init__(self, centre: Centre, broker: Broker) -> None:
        self._centre = centre
        self._broker = broker
        self._windows = Windows(centre.settings.windows.model_dump())
        self._lags: dict[Lane, _Lag] = {}
        self._by_lane: dict[str, set[str]] = {}
        self._stirred = asyncio.Event()
        self._look_again = False
        self._recounted = 0.0
        self._version = 0

    def of(self, lane: str) -> Collection[str]:
        """Return the peers that are behind in a lane."""
        return self._by_lane.get(lane, _NOBODY)

    def next_attempt(self, lane: Lane) -> int | None:
        """Return when a lane is tried again, in milliseconds, or None when it waits for nothing but room."""
        lag = self._lags.get(lane)
        left = 0 if lag is None else lag.due - self._centre.elapsed()
        return self._centre.now() + left if left > 0 else None

    def refusals(self, lane: Lane) -> tuple[int, str | None]:
        """Return how often in a row the broker refused what is for a lane, and the last code; 0 when it waits for room alone."""
        lag = self._lags.get(lane)
        return (lag.refusals, lag.code) if lag is not None and lag.refusals else (0, None)

    def sent(self, lane: str, to: Iterable[str], size: int) -> None:
        """Count what was sent to peers; one whose window is full now is behind from here on."""
        for recipient in to:
            self._windows.take((recipient, lane), size)
            if self._windows.full((recipient, lane)):
                self._lag((recipient, lane))

    def leave_out(self, lane: str, left: Iterable[str]) -> None:
        """Note that an envelope was not sent to some; the store is told next."""
        for recipient in left:
            self._lag((recipient, lane)).left += 1

    def noted(self, lane: str, left: Iterable[str]) -> None:
        """Note that the store knows of an envelope to whom it was not sent."""
        for recipient in left:
            self._lag((recipient, lane)).noted += 1
            self._stirred.set()

    def refused(self, lane: Lane, code: str) -> None:
        """Note that the broker refused what was sent to a peer alone."""
        lag = self._lag(lane)
        if lag.due > self._centre.elapsed():  # others of the same moment were refused, too
            return
        lag.refusals, lag.code = lag.refusals + 1, code
        lag.due = self._centre.elapsed() + int((retry.decide(code, lag.refusals).after or 0) * 1000)

    def settled(self, settled: Sequence[Settled]) -> None:
        """Count what got its receipts."""
        for one in settled:
            self._windows.free((one.recipient, one.lane), one.size)
            if (one.recipient, one.lane) in self._lags:
                self._stirred.set()

    def look_again(self) -> None:
        """Look into the store for lanes that are behind: an operator made one."""
        self._look_again = True
        self._stirred.set()

    async def begin(self) -> None:
        """Learn from the store what is under way and behind; try once more what was dead, unless its recipient left."""
        await self._revive()
        self._windows.rebuild(await self._centre.store.read(behind.under_way))
        for lane in [*await self._centre.store.read(behind.lanes), *self._windows.filled()]:
            self._lag(lane)

    async def follow(self) -> None:
        """Try once more what was dead whenever the directory is another, until cancelled."""
        changed = self._centre.directory_changed
        while True:
            ticket = changed.ticket()
            if self._version == self._centre.directory.version:
                await changed.changed(ticket)
                continue
            try:
                await self._revive()
                self.look_again()
            except StoreTrouble as trouble:
                self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _revive(self) -> None:
        """Let what was dead be behind again, and bury what is for those who left and is not dead yet."""
        centre, version = self._centre, self._centre.directory.version

        def begin(connection: Connection) -> dict[str, dict[int, int]]:
            left = [one for one in behind.recipients(connection) if centre.directory.member(one) is None]
            behind.revive(connection, but=left)
            return {one: behind.bury(connection, one, "recipient-left", centre.now()) for one in left}

        points.reach(Point.BEHIND_COMMIT_BEFORE)
        buried = await centre.store.write(begin)
        points.reach(Point.BEHIND_COMMIT_AFTER)
        self._version = version
        for peer, masks in buried.items():
            if masks:
                centre.log.warning(Event.OUTBOX_DEAD, peer=peer, code="recipient-left", envelopes=len(masks))
                await self._say_dead(peer, "recipient-left", masks)

    async def run(self) -> None:
        """Let whoever is behind catch up, until cancelled."""
        busy = asyncio.Semaphore(AT_ONCE)
        while True:
            self._stirred.clear()
            if self._lags or self._look_again:
                await self._centre.may_publish.wait()
                await self._centre.is_member.wait()
                await self._broker.connected.wait()
                await self._round(busy)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS if self._lags else None):
                    await self._stirred.wait()

    async def _round(self, busy: asyncio.Semaphore) -> None:
        """Let each lane that has room send some; urgent lanes begin first."""
        try:
            await self._refresh()
        except StoreTrouble as trouble:
            self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
            return
        now = self._centre.elapsed()
        ready = [lane for lane, lag in self._lags.items() if lag.due <= now and self._windows.has_room(lane)]
        ready.sort(key=lambda lane: topology.LANES.index(lane[1]))
        async with asyncio.TaskGroup() as group:
            for lane in ready:
                group.create_task(self._catch_up(lane, busy), name="pump catch up")

    async def _refresh(self) -> None:
        """Take up what an operator made behind, and count anew the windows that look full, now and then."""
        read = self._centre.store.read
        if self._look_again:
            self._look_again = False
            for lane in await read(behind.lanes):
                self._lag(lane).due = 0
        loop_time = asyncio.get_running_loop().time()
        if loop_time - self._recounted >= RECOUNT_SECONDS:
            self._recounted = loop_time
            for lane in [lane for lane in self._lags if not self._windows.has_room(lane)]:
                self._windows.put(lane, (await read(partial(behind.under_way, lane=lane))).get(lane, 0))

    async def _catch_up(self, lane: Lane, busy: asyncio.Semaphore) -> None:
        """Send a lane's oldest; when nothing is left, the lane is not behind any more."""
        async with busy:
            if (lag := self._lags.get(lane)) is None:
                return
            left, complete = lag.left, lag.left == lag.noted
            try:
                page = await self._centre.store.read(partial(behind.oldest, lane=lane, limit=PAGE))
                if not page and complete and lag.left == left:
                    self._drop(lane)
                elif page:
                    await self._send_page(lane, lag, page)
                    self._stirred.set()
            except StoreTrouble as trouble:
                self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)

    async def _send_page(self, lane: Lane, lag: _Lag, page: Sequence[Behind]) -> None:
        done: list[_Done] = []
        room = self._windows.under_way(lane)
        try:
            for one in page:
                if one.never_sent and self._windows.full_with(lane, room):
                    break
                if (sent := await self._send(lane, one.envelope)) is not None:
                    done.append(sent)
                room += one.size if one.never_sent else 0
            lag.refusals = 0
        except BrokerTrouble as trouble:
            self._centre.metrics.publish_failures.labels(trouble.code).inc()
            if self._broker.connected.is_set():
                self.refused(lane, trouble.code)
        finally:
            await self._note(lane, done)

    async def _send(self, lane: Lane, n: int) -> _Done | None:
        """Send what may be sent of an envelope to a peer alone; what can never be sent is buried."""
        centre, recipient = self._centre, lane[0]
        again = await centre.store.read(partial(behind.load, recipient=recipient, n=n))
        if again is None:
            return None
        try:
            made = await centre.work(partial(copies.make, centre, again, again.open))
        except RelayError as error:
            if not retry.decide(error.code, 1).dead:
                raise BrokerTrouble(error.code, error.detail) from error
            await self._bury(lane, again, error.code)
            return None
        for raw in made.raws:
            points.reach(Point.CATCH_UP_BEFORE)
            await self._broker.publish([made.key], raw)
            points.reach(Point.CATCH_UP_CONFIRMED)
        return _done(again, made)

    async def _bury(self, lane: Lane, again: Again, code: str) -> None:
        """Note that nobody tries again by itself: everything of a peer that can't be sealed to, else the one envelope."""
        only = None if code in retry.OF_ONE_PEER else again.n
        bury = partial(behind.bury, recipient=lane[0], code=code, at=self._centre.now(), n=only)
        points.reach(Point.DEAD_COMMIT_BEFORE)
        masks = await self._centre.store.write(bury)
        points.reach(Point.DEAD_COMMIT_AFTER)
        self._centre.log.warning(Event.OUTBOX_DEAD, peer=lane[0], lane=lane[1], code=code, envelopes=len(masks))
        await self._say_dead(lane[0], code, masks)

    async def _say_dead(self, peer: str, code: str, masks: dict[int, int]) -> None:
        """Say it of each message, some envelopes at a time; what is dead is so whether or not its line can be written."""
        centre, numbers = self._centre, list(masks)
        try:
            for at in range(0, len(numbers), PAGE):
                page = {n: masks[n] for n in numbers[at : at + PAGE]}
                for one in await centre.store.read(partial(behind.named, masks=page)):
                    own = ({"message": message} for message in one.messages)
                    centre.log.messages(Event.MESSAGE_DEAD, own, envelope=one.id, peer=peer, lane=one.lane, code=code)
        except StoreTrouble as trouble:
            centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)

    async def _note(self, lane: Lane, done: Sequence[_Done]) -> None:
        """Commit what was sent, and count it as under way."""
        if not done:
            return
        now, recipient = self._centre.now(), lane[0]
        leaf = partial(self._centre.audit.leaf, AuditStep.SENT, now, peer=recipient)
        leaves = [leaf(envelope=one.envelope, commitments=one.commitments) for one in done if one.sent]

        def note(connection: Connection) -> int:
            self._centre.audit.append(connection, leaves)
            return sum(behind.caught_up(connection, recipient, one.n, one.sent, now) for one in done)

        points.reach(Point.CATCH_UP_COMMIT_BEFORE)
        self._windows.take(lane, await self._centre.store.write(note))
        points.reach(Point.CATCH_UP_COMMIT_AFTER)
        self._centre.metrics.sent_messages.labels(recipient).inc(sum(len(one.commitments) for one in done if one.sent))
        self._centre.log.info(Event.OUTBOX_CAUGHT_UP, peer=recipient, lane=lane[1], envelopes=len(done))
        for one in done:
            own = ({"message": message} for message in one.messages)
            self._centre.log.messages(Event.MESSAGE_CAUGHT_UP, own, envelope=one.envelope, peer=recipient, lane=lane[1])

    def _lag(self, lane: Lane) -> _Lag:
        if (lag := self._lags.get(lane)) is None:
            lag = self._lags[lane] = _Lag()
            self._by_lane.setdefault(lane[1], set()).add(lane[0])
            self._stirred.set()
        return lag

    def _drop(self, lane: Lane) -> None:
        del self._lags[lane]
        self._by_lane[lane[1]].discard(lane[0])


def _done(again: Again, made: Copies) -> _Done:
    core = read_core(again.at_rest.header)
    items = [core.messages[position] for position in behind.positions(made.sent)]
    return _Done(again.n, core.id, made.sent, [item.commitment for item in items], [item.id for item in items])
