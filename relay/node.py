"""The node: builds the parts of a centre, runs them in one task group, and stops them gracefully.

How a message leaves: :mod:`relay.api` validates it (:mod:`relay.messages`) and asks :mod:`relay.policy` who may get it;
:mod:`relay.outbox` seals it and commits it, and only then is the submitter told; :mod:`relay.pump` publishes it.

How a message arrives: :mod:`relay.inbox` opens it (:mod:`relay.seal`), judges it again, commits it, and only then acknowledges
it to the broker; :mod:`relay.handover` gives it to the centre's system. :mod:`relay.control` takes receipts back to the origin,
where :mod:`relay.settling` notes what they say.

Behind the scenes: :mod:`relay.marks` finds what never arrived and sends it again; :mod:`relay.heartbeats` knows which peers live
and whose store is not what it was, and :mod:`relay.recovery` keeps a node from harm whose own is not; :mod:`relay.retention`
purges what is due; :mod:`relay.broker` keeps the connection.

Who is trusted: :mod:`relay.registers` takes new versions of the directory, :mod:`relay.custody` watches the keys. What happened:
:mod:`relay.checkpoints` signs the record, :mod:`relay.witnesses` countersigns the peers', :mod:`relay.soundness` reads it
anew, :mod:`relay.comparison` counts with each peer what was sent and received.

What is seen of it: :mod:`relay.observing` looks every few seconds at all that is open, set aside or late, :mod:`relay.gauges` at
what the parts say of themselves; :mod:`relay.metrics` has the figures.

Every loop is a named task of one ``asyncio.TaskGroup``; one that dies stops the node with its error, a supervisor restarts it,
and nothing is lost, since nothing was promised that is not in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from relay import directory, topology
from relay.broker import Broker, BrokerPlan
from relay.centre import Centre
from relay.checkpoints import Checkpoints
from relay.clock import from_ms, now_ms
from relay.comparison import Comparison
from relay.control import Control
from relay.custody import Custody
from relay.deadlines import Deadlines
from relay.desk import Desk
from relay.directory import Trusted
from relay.errors import Busy, Misconfigured, NotReady, RelayError, StoreTrouble
from relay.gauges import Gauges
from relay.handover import Handover
from relay.heartbeats import Heartbeats
from relay.inbox import Inbox
from relay.keeping import Keeper
from relay.keyring import Keyring, check_usable
from relay.lag import Lag
from relay.limits import Gate
from relay.log import Event, Log
from relay.marks import Marks
from relay.metrics import Metrics
from relay.observing import Observer
from relay.outbox import Outbox
from relay.policy import Judge
from relay.pump import Pump
from relay.received import ReceivedMessages
from relay.recovery import Recovery, open_epoch
from relay.registers import Register, open_register
from relay.requests import Requests
from relay.retention import Retention
from relay.seal import Sealer
from relay.settings import Settings, read_secret
from relay.settling import Settling
from relay.soundness import Soundness
from relay.sources import paths
from relay.store import Store, peers
from relay.versions import Versions
from relay.voids import Voids
from relay.witnesses import Witnesses

STOP_SECONDS = 8.0
WATCH_SECONDS = 1.0
UNCOMMITTED_BATCHES = 4  # of the largest size, in memory while the store is slow


class Surface(Protocol):
    """Something that listens while the node runs: the API."""

    async def run(self, node: Node) -> None:
        """Serve until cancelled."""

    async def stop(self) -> None:
        """Take no further requests and finish those under way."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the node can do its work: ``troubles`` say what is wrong, each once; there are none when it can."""

    troubles: tuple[RelayError, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, as sentences."""
        return tuple(one.detail for one in self.troubles)

    @property
    def ready(self) -> bool:
        """Whether nothing is wrong."""
        return not self.troubles


class Node:
    """The running process of a centre; :func:`open_node` makes one."""

    def __init__(self, centre: Centre, trusted: Trusted) -> None:
        settings = centre.settings
        self.centre = centre
        self.broker = Broker(_broker_plan(settings), centre.log)
        self.control = Control(centre, self.broker)
        self.pump = Pump(centre, self.broker)
        self.outbox = Outbox(centre, Versions(centre), self.full, self.pump.offer)
        self.handover = Handover(centre, self.broker, self.control)
        self.marks = Marks(centre, self.broker, self.control, self.pump.settled)
        self.deadlines = Deadlines(centre, self.control, self.pump.settled)
        self.desk = Desk(centre, self.control, self.pump)
        self.retention = Retention(centre, self.control)
        self.received = ReceivedMessages(centre, self.control)
        self.requests = Requests(centre)
        self.recovery = Recovery(centre, self.control)
        self.register = Register(centre, self.control, trusted)
        self.heartbeats = Heartbeats(centre, self.broker, self.control, self.marks, self.recovery, self.register)
        self.comparison = Comparison(centre, self.control, self.recovery)
        self.custody = Custody(centre, self.recovery)
        self.soundness = Soundness(centre)
        self.checkpoints = Checkpoints(centre, self.control, self.soundness)
        self.soundness.tell = self.checkpoints.tell
        self.witnesses = Witnesses(centre, self.control, self.checkpoints, self.recovery)
        handlers = {
            "receipt": Settling(centre, self.pump.settled).take,
            "mark": self.marks.take_mark,
            "nack": self.marks.take_nack,
            "void": Voids(centre).take,
            "heartbeat": self.heartbeats.take,
            "epoch": self.recovery.take_epoch,
            "directory": self.register.take,
            "comparison": self.comparison.take,
            "checkpoint": self.witnesses.take,
        }
        self.inbox = Inbox(centre, self.broker, self.control, handlers, Gate(), self.handover.serve, self.heartbeats.ask)
        self.observer = Observer(centre)
        self._lag = Lag()
        self._gauges = Gauges(centre, self.broker, self.heartbeats, self._lag)
        self._disk_free = _free(settings.store.file.parent)
        self._stopping = asyncio.Event()

    async def run(self, *surfaces: Surface) -> None:
        """Run every loop until :meth:`stop` is called, then stop gracefully; a loop that fails stops all and raises."""
        log = self.centre.log
        _collect_less()
        await self._begin_clock()
        await self.recovery.begin()
        await self.soundness.begin()
        await self.register.begin()
        log.info(Event.NODE_STARTED, epoch=self.centre.store.epoch, directory=self.centre.directory.version)
        loops: dict[str, Awaitable[None]] = {
            "outbox": self.outbox.run(),
            "pump": self.pump.run(),
            "inbox": self.inbox.run(),
            "control": self.control.run(),
            "marks": self.marks.run(),
            "deadlines": self.deadlines.run(),
            "heartbeats": self.heartbeats.run(),
            "register": self.register.run(),
            "custody": self.custody.run(),
            "retention": self.retention.run(),
            "comparison": self.comparison.run(),
            "checkpoints": self.checkpoints.run(),
            "soundness": self.soundness.run(),
            "requests": self.requests.run(),
            "observer": self.observer.run(),
            "lag": self._lag.run(),
            "watch": self._watch(),
            "broker": self.broker.run(self.inbox.deliver, self.centre.store.inbox_changed.fire),
            **{f"surface {index}": surface.run(self) for index, surface in enumerate(surfaces)},
        }
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_forever(loop), name=name) for name, loop in loops.items()]
                await self._stopping.wait()
                log.info(Event.NODE_STOPPING)
                await self._drain(surfaces)
                for task in tasks:
                    task.cancel()
        finally:
            await self.centre.store.close()
            self.centre.workers.shutdown()
            log.info(Event.NODE_STOPPED)

    def stop(self) -> None:
        """Ask the node to stop: it drains, commits, acknowledges, and :meth:`run` returns."""
        self._stopping.set()

    def full(self) -> Busy | NotReady | StoreTrouble | None:
        """Return why no message can be taken now, or None."""
        settings = self.centre.settings
        for trouble in (self.recovery.trouble, self.soundness.trouble, self.register.trouble, self.custody.trouble):
            if trouble is not None:
                return trouble
        if self._disk_free < settings.store.disk_floor_bytes:
            sentence = f"Only {self._disk_free} bytes of disk are free, below the floor; nothing is taken until there are more."
            return StoreTrouble("disk-full", sentence)
        if self.pump.waiting > settings.limits.queued_envelopes:
            sentence = f"{self.pump.waiting} envelopes wait for the broker; ask again when fewer do."
            return Busy("outbox-full", sentence)
        if self.outbox.waiting_bytes > UNCOMMITTED_BATCHES * settings.limits.batch_bytes:
            sentence = f"{self.outbox.waiting_bytes} bytes of messages wait for the store; ask again when fewer do."
            return Busy("outbox-full", sentence)
        return None

    async def health(self) -> Health:
        """Return whether the node can sign, write its store and reach its broker, by doing the first two."""
        troubles: list[RelayError] = []
        try:
            self.centre.sealer.probe(self.centre.now())
            await self.centre.store.probe(self.centre.now())
        except RelayError as error:
            troubles.append(error)
        return Health(tuple({one.detail: one for one in (*troubles, *self._known())}.values()))

    def _known(self) -> list[RelayError]:
        """Return what is known to be wrong, without trying anything."""
        full = self.full()
        known = (full if isinstance(full, NotReady | StoreTrouble) else None, self.centre.store.trouble, self.broker.trouble)
        return [trouble for trouble in known if trouble is not None]

    async def _begin_clock(self) -> None:
        """Begin to compare this machine's clock with those of the peers."""
        last, centre = await self.centre.store.read(peers.last_heard), self.centre
        centre.timekeeper.begin(centre.now(), centre.elapsed(), last)

    def _look_at_clock(self, doubted: str | None) -> str | None:
        """Say what changed of whether this machine's clock is trusted; return the doubt that there is now."""
        doubt = self.centre.doubt()
        self.centre.metrics.clock_doubted.set(doubt is not None)
        if doubt is not None and doubted is None:
            self.centre.log.error(Event.CLOCK_DOUBTED, code="clock-doubted", detail=doubt)
        elif doubt is None and doubted is not None:
            self.centre.log.info(Event.CLOCK_TRUSTED)
        return doubt

    async def _watch(self) -> None:
        """Look at the disk and the store, and say once when the node is first ready; a damaged store ends the node."""
        said, doubted = False, None
        while True:
            if (damage := self.centre.store.damage) is not None:
                raise damage
            self._disk_free = _free(self.centre.settings.store.file.parent)
            self._gauges.look(self._disk_free, self._known())
            doubted = self._look_at_clock(doubted)
            if self.broker.connected.is_set() and not said:
                said = True
                self.centre.log.info(Event.NODE_READY)
            await asyncio.sleep(WATCH_SECONDS)

    async def _drain(self, surfaces: tuple[Surface, ...]) -> None:
        """Finish what is under way, from the outside in, within the time a supervisor allows."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                for surface in surfaces:
                    await surface.stop()
                await self.outbox.drain()
                await self.broker.stop_consuming()
                await self.inbox.drain()
                await self.pump.drain()
                await self.control.drain()


async def open_node(settings: Settings) -> Node:
    """Build a node from its settings: load the keys, open the store, verify the newest directory of the files and the store.

    Raises ``Misconfigured`` with what to mend.
    """
    log = Log(settings.centre)
    keys = open_keyring(settings)
    store = await Store.open(settings.store.file, settings.centre, settings.network, now_ms())
    try:
        trusted = await open_register(settings, store, now_ms(), log)
        register = trusted.directory
        _check_member(settings.centre, register)
        keys.follow(lambda: register)
        check_usable(keys, now_ms())
        audit = await open_epoch(store, now_ms())
        sealer = Sealer(settings.centre, settings.network, keys)
        judge = Judge(register, settings.centre)
        keeper = Keeper(register.policy.retention, keys.storage.index_key())
        return Node(Centre(settings, sealer, keys, judge, keeper, store, audit, Metrics(), log), trusted)
    except BaseException:
        await store.close()
        raise


def _check_member(centre: str, register: directory.Directory) -> None:
    if register.member(centre) is None:
        raise Misconfigured("not-a-member", f"{centre} is no active member of directory version {register.version}.")


def read_register(settings: Settings) -> directory.Directory:
    """Read and verify the directory that the settings name."""
    files = paths(settings.directory)
    bundle = directory.read_bundle(files)
    return directory.begin(settings.network, files.first_root(), bundle, from_ms(now_ms())).directory


def open_keyring(settings: Settings) -> Keyring:
    """Read the private keys that the settings name."""
    files = settings.keys
    return Keyring.load(settings.centre, files.signing, files.sealing, files.storage, files.checkpoint)


def _broker_plan(settings: Settings) -> BrokerPlan:
    centre, broker = settings.centre, settings.broker
    lanes = (*topology.LANES, topology.CONTROL, topology.POISON)
    broker.check(centre)  # a node that lacks a password or certificate says so and ends; later they are read at each attempt
    return BrokerPlan(
        url=broker.url,
        password=partial(read_secret, broker.password_file),
        exchange=topology.exchange(centre),
        queues=tuple((lane, topology.queue(centre, lane)) for lane in lanes),
        prefetch=broker.prefetch,
        confirm_seconds=broker.confirm_seconds,
        reconnect_seconds=broker.reconnect_seconds,
        heartbeat_seconds=broker.heartbeat_seconds,
        ping_key=topology.control_key(centre, centre),
        ping_seconds=broker.ping_seconds,
        ping_limit_seconds=broker.ping_limit_seconds,
        tls=partial(broker.context, centre),
        external=broker.by_certificate,
    )


def _free(folder: Path) -> int:
    """Return how many bytes of disk are free where the store lies; none when that can't be told."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _collect_less() -> None:
    """Let the collector of cycles come by less often, and leave alone what is there for good.

    Thousands of models wait for one commit, none of them in a cycle; looking through them all the time cost a quarter of all CPU.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def _forever(loop: Awaitable[None]) -> None:
    """Run a loop that must not end by itself; a task group takes no notice of a cancellation that it did not ask for."""
    try:
        await loop
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError("a loop of the node was cancelled by something in it") from error
    raise RuntimeError("a loop of the node ended by itself")
