"""The pump: the one place from which stored envelopes move to the broker, the most urgent lane first.

How do envelopes get out? The pump keeps the numbers of what was never confirmed, reads each envelope back from the store when
its turn comes, and publishes a bounded number at once. A confirm makes an envelope ``sent``; confirms are committed in groups.
When the broker does not confirm, the envelope goes back to its place and the pump waits for the broker: nothing is lost, a copy
at worst is sent twice, and the recipients know it.

What if one recipient can't take it? A peer whose window is full (:mod:`relay.windows`), or whose queue a working broker finds
full or missing, is left out: the envelope goes to all others, addressed to exactly those, and the peer is *behind* in that
lane. What is behind is sent to that peer alone by :mod:`relay.laggards`, the oldest first, when there is room again. So a slow
peer never delays another, and keeps its order.

What if a key in an envelope was revoked or ran out before it was sent? It is left out in the same way, and sealed anew. A
recipient that is no active member any more is left out, too; what is behind for it is dead, until it is one again.

What does an operator's hold do? An envelope with a held message is left out for everyone and caught up without that message.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from relay import points, retry, topology
from relay.audit import AuditStep
from relay.broker import Broker
from relay.centre import Centre
from relay.envelope import Outline, outline
from relay.errors import BrokerTrouble, NotAuthentic, StoreTrouble
from relay.laggards import Laggards
from relay.log import Event
from relay.points import Point
from relay.store import Connection, behind, outgoing
from relay.store.outgoing import Due
from relay.store.said import Settled

READ_AHEAD = 10_000
LOAD_AT_ONCE = 16
PAUSE_SECONDS = 1.0
CONFIRM_PAUSE_SECONDS = 0.05  # `sent` may be noted a moment late: at worst an envelope is sent twice


@dataclass(frozen=True, slots=True)
class _Sent:
    """An envelope that left: to whom it went, who was left out."""

    due: Due
    about: Outline
    to: tuple[str, ...]
    left: tuple[str, ...]


class Pump:
    """Publishes what is due."""

    def __init__(self, centre: Centre, broker: Broker) -> None:
        self._centre = centre
        self._broker = broker
        self._laggards = Laggards(centre, broker)
        self._due: list[tuple[int, int]] = []
        self._seen = 0
        self._offered: dict[int, Due] = {}
        self._looked = -1  # what was stored up to this change of the outbox is taken up
        self._held: set[int] = set()
        self._room = asyncio.Semaphore(centre.settings.broker.publish_window)
        self._flying: set[asyncio.Task[None]] = set()
        self._put_off: dict[int, int] = {}
        self._forbidden: dict[int, int] = {}
        self._confirmed: list[_Sent] = []
        self._confirm = asyncio.Event()
        self._stage = centre.metrics.stages["publish"]
        self._stage.measure(lambda: self.waiting)

    @property
    def waiting(self) -> int:
        """How many envelopes wait for the broker; what one slow peer is behind with does not count."""
        return len(self._due) + len(self._flying) + len(self._put_off)

    async def run(self) -> None:
        """Publish until cancelled."""
        await self._begin()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._commit_confirms(), name="pump confirms")
            group.create_task(self._laggards.run(), name="pump laggards")
            group.create_task(self._laggards.follow(), name="pump directory")
            while True:
                ticket = self._centre.store.outbox_changed.ticket()
                await self._look()
                await self._publish_due(group)
                await self._centre.store.outbox_changed.changed(ticket, PAUSE_SECONDS)

    def offer(self, stored: Sequence[Due]) -> None:
        """Take up envelopes that were just committed, before it is said that the outbox changed.

        Where little waits they go as they are: to read them back took longer than to publish them. They are taken only if all
        that was stored before is taken up, so none is passed over.
        """
        changes = self._centre.store.outbox_changed.ticket()
        follows = [due.n for due in stored] == list(range(self._seen + 1, self._seen + 1 + len(stored)))
        waits = len(self._due) > LOAD_AT_ONCE or self._room.locked() or not self._broker.connected.is_set()
        if not follows or waits:
            return
        for due in stored:
            self._take_up(due.rank, due.n)
            self._offered[due.n] = due
        if changes == self._looked:
            self._looked = changes + 1

    def _take_up(self, rank: int, n: int) -> None:
        heapq.heappush(self._due, (rank, n))
        self._seen = n
        self._stage.enter()
        self._centre.metrics.unsent.set(self.waiting)

    async def drain(self) -> None:
        """Wait for the confirms of what is under way and note them; what is not yet begun stays due."""
        if self._flying:
            await asyncio.wait(self._flying)
        confirmed, self._confirmed = self._confirmed, []
        if confirmed:
            await self._commit(confirmed)

    def settled(self, settled: Sequence[Settled]) -> None:
        """Take note of deliveries that got their receipts, or ended: there is room for more."""
        self._laggards.settled(settled)

    def steer(self, n: int, *, held: bool) -> None:
        """Take note that an operator changed something of an envelope: whether a message of it is held, or that it goes again."""
        if held:
            self._held.add(n)
        else:
            self._held.discard(n)
        self._laggards.look_again()

    def next_attempt(self, recipient: str, lane: str) -> int | None:
        """Return when what a peer is behind with is tried again, in milliseconds, or None when that waits for its receipts."""
        return self._laggards.next_attempt((recipient, lane))

    def refusals(self, recipient: str, lane: str) -> tuple[int, str | None]:
        """Return how often in a row the broker refused what is for a peer's lane, and the last code."""
        return self._laggards.refusals((recipient, lane))

    async def _begin(self) -> None:
        """Learn from the store what is under way, behind and held."""
        while True:
            try:
                self._held = await self._centre.store.read(behind.held)
                await self._laggards.begin()
            except StoreTrouble as trouble:
                self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return

    async def _look(self) -> None:
        """Take up the envelopes that were stored since the last look."""
        while (changes := self._centre.store.outbox_changed.ticket()) != self._looked:
            try:
                found = await self._centre.store.read(lambda connection: outgoing.due(connection, self._seen, READ_AHEAD))
            except StoreTrouble as trouble:  # the next look finds the same
                self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
                return
            for rank, n in found:
                if n > self._seen:  # else it was offered meanwhile
                    self._take_up(rank, n)
            if len(found) < READ_AHEAD:
                self._looked = max(self._looked, changes)

    async def _publish_due(self, group: asyncio.TaskGroup) -> None:
        """Publish until nothing is due, letting what is stored meanwhile take its place in the order."""
        looked = self._centre.store.outbox_changed.ticket()
        while self._due:
            await self._reach_broker()
            await self._room.acquire()
            if (changes := self._centre.store.outbox_changed.ticket()) != looked:
                looked = changes
                await self._look()
            for rank, n, due in await self._load():
                task = group.create_task(self._publish(rank, n, due), name="pump publish")
                self._flying.add(task)
                task.add_done_callback(self._flying.discard)

    async def _load(self) -> list[tuple[int, int, Due | None]]:
        """Take the most urgent of what is due from the store, as many as there is room for: in this order they go out.

        The caller has taken the place of one; each that is returned has one. None stands for what is no longer kept.
        """
        taken = [heapq.heappop(self._due)]
        while self._due and len(taken) < LOAD_AT_ONCE and not self._room.locked():
            await self._room.acquire()
            taken.append(heapq.heappop(self._due))
        here = {n: due for _, n in taken if (due := self._offered.pop(n, None)) is not None}
        if len(here) == len(taken):
            return [(rank, n, here[n]) for rank, n in taken]
        try:
            loaded = await self._centre.store.read(
                lambda connection: [(rank, n, outgoing.load(connection, n)) for rank, n in taken]
            )
        except StoreTrouble as trouble:
            self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
            await asyncio.sleep(PAUSE_SECONDS)
            for one in taken:
                heapq.heappush(self._due, one)
                self._room.release()
            return []
        return loaded

    async def _reach_broker(self) -> None:
        """Wait for the broker, and until the node may publish, counting what is stored meanwhile, so that too much is noticed."""
        for needed in (self._broker.connected, self._centre.may_publish, self._centre.is_member):
            while not needed.is_set():
                self._offered.clear()  # it may be purged, or held, before it goes
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE_SECONDS):
                        await needed.wait()
                await self._look()

    async def _publish(self, rank: int, n: int, due: Due | None) -> None:
        try:
            if due is not None:
                await self._send(due)
            self._forbidden.pop(n, None)
        except (BrokerTrouble, StoreTrouble) as trouble:
            self._centre.metrics.publish_failures.labels(trouble.code).inc()
            if trouble.code == "broker-refused":
                self._later(rank, n, trouble.code)
            else:
                await self._again(rank, n)
        finally:
            self._room.release()

    async def _send(self, due: Due) -> None:
        """Publish an envelope to all of its recipients but those that are left out."""
        try:
            about = outline(due.raw)
        except NotAuthentic as damage:
            about, due = await self._damaged(due, damage), replace(due, whole=False)
        recipients = list(about.sealed_to)
        left = self._left_out(due, about)
        to = [recipient for recipient in recipients if recipient not in left] if left else recipients
        keys = self._addressed(due, to) if left else due.keys
        try:
            if to:
                points.reach(Point.PUBLISH_BEFORE)
                await self._broker.publish(keys, due.raw)
                points.reach(Point.PUBLISH_CONFIRMED)
        except BrokerTrouble as trouble:
            if trouble.code not in retry.REFUSED or not self._broker.connected.is_set():
                raise
            self._centre.metrics.publish_failures.labels(trouble.code).inc()
            refused = await self._send_one_by_one(due, to, trouble)
            left, to = {*left, *refused}, [recipient for recipient in to if recipient not in refused]
        self._laggards.sent(due.lane, to, due.size)
        self._laggards.leave_out(due.lane, left)
        self._confirmed.append(_Sent(due, about, tuple(to), tuple(left)))
        self._confirm.set()

    async def _damaged(self, due: Due, damage: NotAuthentic) -> Outline:
        """Return all that is known of an envelope whose header is damaged at rest: whoever makes it go later finds it dead."""
        self._centre.log.error(Event.STORE_TROUBLE, code=damage.code, detail=f"Envelope {due.id}: {damage.detail}")
        recipients = await self._centre.store.read(partial(behind.recipients_of, n=due.n))
        return Outline(due.id, "", dict.fromkeys(recipients, ""), [], [])

    def _left_out(self, due: Due, about: Outline) -> set[str]:
        """Return to whom an envelope is not sent as it is: to nobody when it lost or must lose a message."""
        if not due.whole or due.n in self._held:
            return set(about.sealed_to)
        slow, active = self._laggards.of(due.lane), self._centre.directory.active
        not_now = {recipient for recipient in about.sealed_to if recipient in slow or recipient not in active}
        return self._centre.outdated(about) | not_now

    def _addressed(self, due: Due, recipients: Sequence[str]) -> list[str]:
        return [topology.lane_key(self._centre.id, recipient, due.lane) for recipient in recipients]

    async def _send_one_by_one(self, due: Due, to: Sequence[str], trouble: BrokerTrouble) -> set[str]:
        """Publish an envelope that the broker refused to each recipient alone; return those of which it is refused."""
        refused: dict[str, BrokerTrouble] = {}
        for recipient, key in zip(to, self._addressed(due, to), strict=True):
            if list(due.keys) == [key]:
                refused[recipient] = trouble
                continue
            try:
                points.reach(Point.PUBLISH_ALONE_BEFORE)
                await self._broker.publish([key], due.raw)
                points.reach(Point.PUBLISH_ALONE_CONFIRMED)
            except BrokerTrouble as again:
                if again.code not in retry.REFUSED or not self._broker.connected.is_set():
                    raise
                refused[recipient] = again
        for recipient, why in refused.items():
            self._laggards.refused((recipient, due.lane), why.code)
        return set(refused)

    def _later(self, rank: int, n: int, code: str) -> None:
        """Put off an envelope that the broker forbids: each try costs the connection, so in its place it would stop all."""
        attempt = self._forbidden[n] = self._forbidden.get(n, 0) + 1
        self._put_off[n] = rank
        asyncio.get_running_loop().call_later(retry.decide(code, attempt).after or PAUSE_SECONDS, self._put_back, n)

    def _put_back(self, n: int) -> None:
        heapq.heappush(self._due, (self._put_off.pop(n), n))
        self._centre.store.outbox_changed.fire()

    async def _again(self, rank: int, n: int) -> None:
        """Put an envelope back to its place; a moment later when the broker is there all the same."""
        if self._broker.connected.is_set():
            await asyncio.sleep(PAUSE_SECONDS)
        heapq.heappush(self._due, (rank, n))
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

    async def _commit(self, confirmed: list[_Sent]) -> bool:
        """Note what was sent, and to whom not; return False when the store can't take it now."""
        now = self._centre.now()
        leaves = [self._leaf(one, now) for one in confirmed if one.to]
        left = [(one.due.n, recipient) for one in confirmed for recipient in one.left]

        def note(connection: Connection) -> None:
            outgoing.mark_sent(connection, [one.due.n for one in confirmed], now)
            behind.leave_out(connection, left)
            self._centre.audit.append(connection, leaves)

        try:
            points.reach(Point.SENT_COMMIT_BEFORE)
            await self._centre.store.write(note)
            points.reach(Point.SENT_COMMIT_AFTER)
        except StoreTrouble as trouble:
            self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
            return False
        for one in confirmed:
            self._laggards.noted(one.due.lane, one.left)
            if one.to:
                self._centre.metrics.sent.labels(one.due.lane).inc()
        self._stage.leave(len(confirmed))
        self._count(confirmed)
        self._centre.log.debug(Event.OUTBOX_SENT, envelopes=len(leaves), left_out=len(left))
        for one in confirmed:
            if one.to:
                own = ({"message": message} for message in one.about.messages)
                given = {"envelope": one.due.id, "to": one.to, "left_out": one.left, "lane": one.due.lane}
                self._centre.log.messages(Event.MESSAGE_SENT, own, **given)
        return True

    def _count(self, confirmed: list[_Sent]) -> None:
        """Count the messages that went, by peer."""
        counts: Counter[str] = Counter()
        for one in confirmed:
            for peer in one.to:
                counts[peer] += len(one.about.commitments)
        for peer, messages in counts.items():
            self._centre.metrics.sent_messages.labels(peer).inc(messages)

    def _leaf(self, one: _Sent, now: int) -> bytes:
        return self._centre.audit.leaf(AuditStep.SENT, now, envelope=one.due.id, commitments=one.about.commitments)
