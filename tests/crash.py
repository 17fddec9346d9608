"""Cutting the power of one of several nodes in this process, at a named point, and looking at what is left.

From the moment of the cut the victim's database refuses every commit, also the one under way; its sockets are cut with what they
had not sent; every task of it is cancelled. The cut leaves the point as an exception that is no ``Exception``, so that nothing
takes it for a trouble that one waits out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event

from relay import envelope, messages, points
from relay.handover import Given
from relay.node import Surface, open_node
from relay.points import Point
from relay.settings import load
from relay.store import Connection, Store, outgoing, parked
from relay.store.history import FINAL
from relay.submissions import Stored, Submission
from tests.live import Live, eventually

SECONDS = 60
FAREWELL_SECONDS = 0.5  # what is left of an act may end by itself; some would wait for ever
STEPS = {  # of the audit record, and the rows that are written in the same transaction
    ("submitted",): "SELECT count(*) FROM outbox_message",
    ("taken", "refused-on-arrival"): "SELECT count(*) FROM inbox_message",
    ("taken-by-system",): "SELECT count(*) FROM inbox_message WHERE state = 'delivered'",
}

_where: ContextVar[tuple[Crashing, str] | None] = ContextVar("where", default=None)
_armed: dict[tuple[Crashing, str], Point] = {}


class PowerCut(BaseException):
    """The node ends here."""


class NoPowerError(Exception):
    """What a database says after the cut."""


def _reached(point: Point) -> None:
    """Cut the power of the node whose task this is, if it is to end here."""
    where = _where.get()
    if where is not None and _armed.get(where) is point:
        del _armed[where]
        where[0].cut_power(where[1])
        raise PowerCut(point)


class Crashing(Live):
    """Live nodes whose power can be cut, and a system of each that does not lose what it took."""

    surfaces: Callable[[str], list[Surface]] = staticmethod(lambda _: [])

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.taken: dict[str, dict[str, bytes]] = {}
        self._stores: dict[str, list[Store]] = {}
        self._dead: set[Store] = set()
        self._cut = asyncio.Event()

    @contextlib.contextmanager
    def at(self, centre: str) -> Iterator[None]:
        """Let what is done in a block count as done by a node."""
        token = _where.set((self, centre))
        try:
            yield
        finally:
            _where.reset(token)

    def opened(self, centre: str, store: Store) -> None:
        """Take note of a store that a node opened."""
        self._stores.setdefault(centre, []).append(store)

        def check(_: Connection) -> None:
            if store in self._dead:
                raise NoPowerError

        event.listen(store._engine, "commit", check)

    async def start(self, *centres: str) -> None:
        """Start nodes, each in a context that says whose tasks they are."""
        for centre in centres:
            with self.at(centre):
                self.nodes[centre] = node = await open_node(load(self.network.node_file(centre)))
                self._tasks[centre] = asyncio.create_task(node.run(*self.surfaces(centre)), name=centre)
        for centre in centres:
            await self._unless_it_ends(centre, self.nodes[centre].broker.connected.wait())

    async def calm(self, centre: str) -> None:
        """Wait until a node that was started has nothing to say."""
        node = self.nodes[centre]
        await self._unless_it_ends(centre, node.centre.may_publish.wait())
        await eventually(lambda: not node.control._waiting and not node.pump.waiting)

    async def _unless_it_ends(self, centre: str, wanted: Coroutine[Any, Any, Any]) -> None:
        """Wait for something of a node; should the node end instead, raise what ended it."""
        task, node = asyncio.create_task(wanted), self._tasks[centre]
        try:
            await asyncio.wait({task, node}, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if node.done():
                node.result()
            assert task.done(), f"{centre} did not get so far"
        finally:
            task.cancel()

    async def crash(self, centre: str, point: Point, act: Callable[[], Awaitable[Any]]) -> None:
        """Do something, cut a node's power when it reaches a point, and wait until nothing of it is left."""
        self._cut.clear()
        _armed[self, centre] = point
        task = asyncio.create_task(_await(act))
        cut = asyncio.create_task(self._cut.wait())
        await asyncio.wait({cut}, timeout=SECONDS)
        _armed.pop((self, centre), None)
        cut.cancel()
        if not self._cut.is_set():
            task.cancel()
            await asyncio.wait({task})
            pytest.fail(f"{point} was not reached: {task!r}; the node: {self._tasks.get(centre)!r}")
        await self._end(centre)
        await asyncio.wait({task}, timeout=FAREWELL_SECONDS)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        for store in [one for one in self._dead if not one._writer._closed]:
            await store.close()

    def cut_power(self, centre: str) -> None:
        """From here on nothing of a node is written or sent any more; its tasks end as soon as they run."""
        self._dead.update(self._stores.pop(centre, ()))
        self._cut.set()
        if (node := self.nodes.pop(centre, None)) is not None:
            node.broker._ending = True
            if (link := node.broker._link) is not None:
                link.exchange = None
                link._sockets.cut()
        if (task := self._tasks.get(centre)) is not None:
            task.cancel()

    async def _end(self, centre: str) -> None:
        """Wait for the end of a node's tasks."""
        if (task := self._tasks.pop(centre, None)) is not None:
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()

    async def promise(self, origin: str, raw: bytes) -> Stored:
        """Submit a message as a system does that has not heard yet whether it was taken: again under the same key."""
        parsed = messages.parse(raw)
        key = str(json.loads(raw).get("case_number") or raw)
        with self.at(origin):
            outcome = (await self.nodes[origin].outbox.submit([Submission(raw, parsed, key)]))[0]
        assert isinstance(outcome, Stored), outcome
        return outcome

    async def hand_out(self, centre: str, wait: float = 0.2) -> list[Given]:
        """Give messages to a centre's system; none that it acknowledged with success is given again, none with other bytes."""
        with self.at(centre):
            given = await self.nodes[centre].handover.take(1000, wait)
        taken = self.taken.setdefault(centre, {})
        assert not taken.keys() & {one.id for one in given}, "what was acknowledged was given again"
        return given

    async def acknowledge(self, centre: str, given: list[Given]) -> None:
        """Let a centre's system acknowledge what it was given."""
        with self.at(centre):
            await self.nodes[centre].handover.acknowledge([one.id for one in given])
        self.taken[centre].update((one.id, one.raw) for one in given)

    async def take(self, centre: str, wait: float = 0.2) -> list[Given]:
        """Take what waits at a centre and acknowledge it."""
        given = await self.hand_out(centre, wait)
        await self.acknowledge(centre, given)
        return given

    async def lose_next(self, origin: str) -> None:
        """Let the broker confirm and lose the next new batch that a node publishes; copies of older ones pass."""
        broker, now = self.nodes[origin].broker, envelope.new_id(origin)
        publish = broker.publish

        async def lose(keys: Any, raw: bytes) -> None:
            core = envelope.parse(raw).core
            if core.type != "batch" or core.messages[0].id[:13] < now[:13]:  # the milliseconds in it
                await publish(keys, raw)
            else:
                broker.publish = publish  # type: ignore[method-assign]

        broker.publish = lose  # type: ignore[method-assign]

    async def states(self, origin: str, message_id: str, recipient: str) -> list[str]:
        """Return the states that a message went through at a recipient, without what contradicted its end later."""
        sent = await self.nodes[origin].centre.store.read(partial(outgoing.message, message_id=message_id))
        assert sent is not None
        return [step.state for step in sent.recipients[recipient] if not step.note]

    async def settled(self, *expected: tuple[str, str, str, str]) -> None:
        """Let systems take what comes until each (origin, message, recipient) has a terminal state; check it, and what is left.

        ``expected`` says origin, message, recipient, and the state, or several with a bar between.
        """
        open_ = list(expected)

        async def done() -> bool:
            for centre in {recipient for _, _, recipient, _ in open_} & self.nodes.keys():
                await self.take(centre)
            for one in tuple(open_):
                origin, message, recipient, wanted = one
                if set(wanted.split("|")) & set(await self.states(origin, message, recipient)):
                    open_.remove(one)
            return not open_

        try:
            await eventually(done)
        except BaseException:
            left = [(*one, await self.states(*one[:3])) for one in open_]
            pytest.fail(f"not settled: {left}")
        for origin, message, recipient, _ in expected:
            states = await self.states(origin, message, recipient)
            assert len(FINAL & set(states)) == 1, states
        for centre in tuple(self.nodes):
            await self.whole(centre)

    async def whole(self, centre: str) -> None:
        """Check that nothing is stuck at a node and that its record has no holes and all that was done."""
        node = self.nodes[centre]
        await eventually(lambda: not node.pump.waiting and not node.control._waiting)
        read = node.centre.store.read
        leaves = [(row[0], row[1], json.loads(row[2])) for row in await read(_record)]
        for epoch in {epoch for epoch, *_ in leaves}:
            positions = [position for other, position, _ in leaves if other == epoch]
            assert positions == list(range(len(positions))), (centre, epoch)
        for steps, query in STEPS.items():
            said = sum(leaf["count"] for *_, leaf in leaves if leaf["step"] in steps)
            done = await read(lambda connection, query=query: connection.exec_driver_sql(query).scalar())  # type: ignore[misc]
            assert said == done, (centre, steps, said, done)
        left = await read(partial(parked.waiting, state="open", before=None, limit=10))
        assert [one.id for one in left] == [], centre


def _record(connection: Connection) -> list[Any]:
    query = "SELECT epoch, position, leaf FROM audit ORDER BY epoch, position"
    return list(connection.exec_driver_sql(query).all())


async def _await(act: Callable[[], Awaitable[Any]]) -> Any:
    return await act()


@contextlib.contextmanager
def armed() -> Iterator[None]:
    """Let points end nodes in a block, and every store that is opened in it be known to the node that opened it."""
    real, one_at_a_time = Store.open.__func__, asyncio.Lock()  # type: ignore[attr-defined]

    async def opens(cls: type[Store], *given: Any) -> Store:
        async with one_at_a_time:  # the library that migrates is not made for several threads
            store: Store = await real(cls, *given)
        if (where := _where.get()) is not None:
            where[0].opened(where[1], store)
        return store

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "open", classmethod(opens))
        points.arm(_reached)
        yield
        points.disarm()
