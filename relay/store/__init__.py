"""The store of one centre: everything that must survive a crash, written in groups by one thread.

The port is three verbs: :meth:`Store.write` runs a job in the next transaction and returns after the commit, :meth:`Store.read`
runs one on a snapshot, :meth:`Store.close` ends both. A job is a function of a connection; the SQL it needs stands in
:mod:`outgoing`, :mod:`said`, :mod:`incoming` and :mod:`record`, and nowhere outside this package. The loops of a node never
call each other: they meet here, and wake each other by the store's signals (``outbox_changed``, ``inbox_changed``,
``recalls_changed``).

An *epoch* is made with the store (Unix seconds at its creation, so it only increases) and stays with it until a recovery begins
the next (:mod:`epochs`). One process works on a store at a time. Errors raised: ``StoreTrouble`` (``store-full``,
``store-locked``, ``store-unavailable``), ``Misconfigured`` (``store-damaged``, ``store-newer``, ``store-of-another``,
``store-in-use``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, exc, insert, select

from relay.errors import Misconfigured, RelayError
from relay.store import (
    approvals,
    aside,
    attempts,
    checkpoints,
    clocks,
    closing,
    compared,
    directories,
    epochs,
    flags,
    found,
    handing,
    incoming,
    observed,
    outgoing,
    peers,
    purged,
    recalled,
    record,
    retained,
    roster,
    said,
    threads,
    traces,
    trees,
    voided,
)
from relay.store.common import upsert
from relay.store.engine import Writer, apart, open_engine
from relay.store.lock import Lock
from relay.store.signal import Signal
from relay.store.tables import META

__all__ = [
    "Connection",
    "Store",
    "apart",
    "approvals",
    "aside",
    "attempts",
    "checkpoints",
    "clocks",
    "closing",
    "compared",
    "directories",
    "epochs",
    "flags",
    "found",
    "handing",
    "incoming",
    "observed",
    "outgoing",
    "peers",
    "purged",
    "recalled",
    "record",
    "retained",
    "roster",
    "said",
    "threads",
    "traces",
    "trees",
    "voided",
]

T = TypeVar("T")
READERS = 2


class Store:
    """One centre's store; :meth:`open` makes or opens it.

    ``fresh`` says that it was made just now, ``turned`` that its epoch was begun just now in place of an earlier one.
    """

    def __init__(self, engine: Engine, lock: Lock, epoch: int, *, fresh: bool) -> None:
        self.epoch = epoch
        self.fresh = fresh
        self.turned = False
        self.outbox_changed = Signal()
        self.inbox_changed = Signal()
        self.recalls_changed = Signal()
        self._engine = engine
        self._lock = lock
        self._writer = Writer(engine)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")

    @classmethod
    async def open(cls, path: Path, centre: str, network: str, now: int) -> Store:
        """Open the store of a centre, making it when it is not there; ``now`` in milliseconds."""
        lock = Lock(path)
        try:
            engine = await asyncio.to_thread(open_engine, path)
            epoch, fresh = await asyncio.to_thread(_identify, engine, path, centre, network, now // 1000)
        except BaseException:
            lock.release()
            raise
        return cls(engine, lock, epoch, fresh=fresh)

    async def write(self, job: Callable[[Connection], T]) -> T:
        """Run a job in the next transaction and return its result once it is on disk."""
        return await self._writer.run(job)

    async def read(self, job: Callable[[Connection], T]) -> T:
        """Run a job on a snapshot of what is committed."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, job)

    @property
    def damage(self) -> RelayError | None:
        """Why nothing is read or written any more: what was found damaged, or the writer's own end; None while all is well."""
        return self._writer.damage

    @property
    def trouble(self) -> RelayError | None:
        """Why the last transaction failed, or None when it was committed."""
        return self._writer.trouble

    def time(self, timed: Callable[[float], object]) -> None:
        """Let ``timed`` be told how many seconds each transaction takes, until it is on disk; it is called on another thread."""
        self._writer.timed = timed

    async def probe(self, now: int) -> None:
        """Write something and wait until it is on disk; raise ``StoreTrouble`` when that can't be done."""
        row = {"name": "probed_at", "value": str(now)}
        await self.write(lambda connection: upsert(connection, META, [row], ["value"]))

    async def scrub(self) -> None:
        """Empty the write-ahead log, so that nothing purged is left in it."""
        await self._writer.scrub()

    async def close(self) -> None:
        """Finish what waits, then close every connection."""
        await self._writer.close()
        await asyncio.to_thread(self._readers.shutdown)
        self._engine.dispose()
        self._lock.release()

    def _read(self, job: Callable[[Connection], T]) -> T:
        if self.damage is not None:
            raise self.damage
        try:
            with self._engine.connect() as connection:
                return job(connection)
        except exc.DatabaseError as error:
            raise self._writer.judge(error, "read") from error


def _identify(engine: Engine, path: Path, centre: str, network: str, epoch: int) -> tuple[int, bool]:
    """Return the store's epoch, writing whose it is into a new one."""
    mine = {"centre": centre, "network": network}
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        meta = {row.name: row.value for row in connection.execute(select(META))}
        if not meta:
            rows = [{"name": name, "value": value} for name, value in {**mine, "epoch": str(epoch)}.items()]
            connection.execute(insert(META), rows)
            return epoch, True
    if {name: meta.get(name) for name in mine} != mine:
        raise Misconfigured("store-of-another", f"The store {path} belongs to {meta.get('centre')}, not to {centre}.")
    return int(meta["epoch"]), False
