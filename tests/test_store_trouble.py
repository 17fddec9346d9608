"""A store in trouble: full, locked, not writable, slow, damaged, killed midway. Nothing that was promised is lost by it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, exc, inspect

from relay import messages
from relay.errors import Busy, Misconfigured, StoreTrouble
from relay.rabbit import PrivateBroker
from relay.settings import load
from relay.store import Store, record, wal
from relay.store.engine import migrate, open_engine
from relay.store.tables import METADATA
from relay.submissions import Stored, Submission
from tests.live import PATIENCE, Live, eventually, message, private_network

A, B = CENTRES = ("STOA", "STOB")
NOW = 1_790_000_000_000
BIG = "x" * 200


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run two centres whose stores are troubled as a test likes; B's lies on a small disk of its own where one can be mounted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_REPAIR__GAP", "0.3")
        patch.setenv("RELAY_BROKER__RECONNECT_SECONDS", "1")
        patch.setenv("RELAY_STORE__DISK_FLOOR_BYTES", "0")
        nodes = Live(private_network(tmp_path_factory.mktemp("trouble") / "network", broker, "trouble", CENTRES), broker)
        with small_disk(nodes.network.centre(B) / "store") as small:
            nodes.network.centre(B).joinpath("small").write_text("yes" if small else "")
            await nodes.start(*CENTRES)
            yield nodes
            await nodes.close()


class small_disk:  # noqa: N801 - reads as what it is: with small_disk(...)
    """A disk of a few megabytes at a folder, where the system lets us mount one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mounted = False

    def __enter__(self) -> bool:
        """Mount it; return whether that could be done."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(self._folder)]
        try:
            self._mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            self._mounted = False
        return self._mounted

    def __exit__(self, *_: object) -> None:
        """Unmount it."""
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self._folder)], capture_output=True, check=False)


def file(live: Live, centre: str) -> Path:
    """Return the file of a centre's store."""
    return load(live.network.node_file(centre)).store.file


async def outcome(live: Live, origin: str, case: str, to: str, **fields: Any) -> object:
    """Submit a message; return its promise, or why there is none."""
    raw = message(case_number=case, to=[to], **fields)
    try:
        return (await live[origin].outbox.submit([Submission(raw, messages.parse(raw))]))[0]
    except StoreTrouble as trouble:
        return trouble


async def arrive(live: Live, centre: str, ids: set[str]) -> None:
    """Take what comes to a centre until all of these came."""
    taken: set[str] = set()
    while not ids <= taken:
        given = await live.take(centre, wait=PATIENCE)
        assert given, f"{len(ids - taken)} of {len(ids)} did not come"
        taken |= {one.id for one in given}


def running(live: Live) -> bool:
    """Return whether no node ended."""
    return not any(task.done() for task in live._tasks.values())


async def test_a_full_disk_stops_accepting_and_taking_in_and_loses_nothing(live: Live) -> None:
    """On a disk without room nothing is promised and nothing acknowledged to the broker; with room again all of it arrives."""
    if not live.network.centre(B).joinpath("small").read_text():
        pytest.skip("no disk can be mounted here: that takes the rights of an administrator")
    filler = file(live, B).parent / "filler"
    filler.write_bytes(bytes(max(shutil.disk_usage(filler.parent).free - 64 * 1024, 0)))
    promised = [await live.submit(A, message(case_number=f"FULL-{n}", to=[B], office=BIG)) for n in range(60)]
    refused: list[object] = []
    kept: list[Stored] = []
    try:
        while not refused and len(kept) < 400:
            found = await outcome(live, B, "NO-ROOM", A, office=BIG)
            (kept if isinstance(found, Stored) else refused).append(found)  # type: ignore[arg-type]
        await asyncio.sleep(1.5)
        assert running(live)
    finally:
        filler.unlink()
    assert isinstance(refused[0], StoreTrouble)
    assert refused[0].code in ("store-full", "store-unavailable"), refused[0].detail
    await arrive(live, B, {one.id for one in promised})
    if kept:
        await arrive(live, A, {one.id for one in kept})
    await live.reaches(A, promised[-1].id, B, "delivered")
    assert running(live)


async def test_a_log_that_finds_no_room_is_emptied_when_there_is_some(tmp_path: Path) -> None:
    """A disk that fills while the write-ahead log is emptied stops nothing: what was purged leaves the log with a later write."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder) as mounted:
        if not mounted:
            pytest.skip("no disk can be mounted here: that takes the rights of an administrator")
        store = await Store.open(folder / "relay.db", "AAA", "0" * 64, 0)
        try:
            await store.write(lambda connection: connection.exec_driver_sql("PRAGMA wal_autocheckpoint=0"))
            await store.write(lambda connection: connection.exec_driver_sql("CREATE TABLE heavy (data BLOB)"))
            await store.write(lambda connection: connection.exec_driver_sql("INSERT INTO heavy VALUES (randomblob(4000000))"))
            log, filler = folder / "relay.db-wal", folder / "filler"
            filler.write_bytes(bytes(shutil.disk_usage(folder).free))
            await store.scrub()
            assert log.stat().st_size > 4_000_000
            filler.unlink()
            await store.write(lambda _: None)
            assert log.stat().st_size == 0
            assert store.damage is None
        finally:
            await store.close()


async def test_a_log_that_is_still_read_is_emptied_when_nobody_reads_it(tmp_path: Path) -> None:
    """Somebody who reads the store for long keeps what was purged in the log, and no longer: the next write empties it."""
    file = tmp_path / "relay.db"
    store = await Store.open(file, "AAA", "0" * 64, 0)
    reader = sqlite3.connect(file, isolation_level=None)
    try:
        await store.write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=50").all())
        await store.write(lambda connection: connection.exec_driver_sql("CREATE TABLE told (what TEXT)"))
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM told").fetchall()
        await store.write(lambda connection: connection.exec_driver_sql("INSERT INTO told VALUES ('purged')"))
        await store.scrub()
        log = tmp_path / "relay.db-wal"
        assert log.stat().st_size > 0
        assert await store.write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout").scalar()) == 50
        reader.execute("ROLLBACK")
        await store.write(lambda _: None)
        assert log.stat().st_size == 0
    finally:
        reader.close()
        await store.close()


async def test_a_writer_that_ends_takes_the_node_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends the thread that writes, nobody waits for it in vain: the store says so, and the node's watch raises it."""
    store = await Store.open(tmp_path / "relay.db", "AAA", "0" * 64, 0)
    monkeypatch.setattr(store._writer, "_commit", lambda _: 1 // 0)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    writing = asyncio.create_task(store.write(lambda _: None))
    await eventually(lambda: store.damage is not None)
    with pytest.raises(StoreTrouble, match="ZeroDivisionError"):
        await store.write(lambda _: None)
    writing.cancel()
    await store.close()


async def test_a_store_locked_by_another_process_is_waited_for(live: Live) -> None:
    """While another process holds the lock, submit says so, what arrives waits at the broker, and afterwards all goes on."""
    patched = "PRAGMA busy_timeout={}"
    for centre in CENTRES:
        await live[centre].centre.store.write(lambda c: c.exec_driver_sql(patched.format(50)).all())
    locks = [sqlite3.connect(file(live, centre), timeout=PATIENCE, isolation_level=None) for centre in CENTRES]
    try:
        for lock in locks:
            lock.execute("BEGIN IMMEDIATE")
        refused = await outcome(live, A, "LOCKED", B)
        assert isinstance(refused, StoreTrouble)
        assert refused.code == "store-locked"
        locks[0].execute("ROLLBACK")
        sent = await live.submit(A, message(case_number="WHILE-LOCKED", to=[B]))
        await live.reaches(A, sent.id, B, "sent")
        await asyncio.sleep(1.5)
        assert running(live)
        assert "accepted" not in await live.states(A, sent.id, B)
    finally:
        for lock in locks:
            lock.close()  # and with it what it holds
    await arrive(live, B, {sent.id})
    for centre in CENTRES:
        await live[centre].centre.store.write(lambda c: c.exec_driver_sql(patched.format(5000)).all())


async def test_a_store_that_can_not_be_written_or_read_is_waited_for(live: Live) -> None:
    """Every write and read of both nodes fails for some seconds: no loop ends, nothing is promised, then all goes on."""
    before = await live.submit(A, message(case_number="BEFORE", to=[B]))
    await live.reaches(A, before.id, B, "accepted")
    fails = threading.Event()
    fails.set()

    def fail(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        del connection, cursor, parameters, context, many
        if fails.is_set():
            raise exc.OperationalError(statement, None, sqlite3.OperationalError("disk I/O error"))

    engines = [live[centre].centre.store._engine for centre in CENTRES]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", fail)
    try:
        refused = await outcome(live, A, "UNWRITABLE", B)
        assert isinstance(refused, StoreTrouble)
        assert refused.code == "store-unavailable"
        for centre in CENTRES:
            assert (await live[centre].health()).problems
            with pytest.raises(StoreTrouble):
                await live[centre].retention.purge()
        await asyncio.sleep(4)
        assert running(live), "a loop ended"
    finally:
        fails.clear()
        for engine in engines:
            event.remove(engine, "before_cursor_execute", fail)
    after = await live.submit(A, message(case_number="AFTER", to=[B]))
    await arrive(live, B, {before.id, after.id})
    await live.reaches(A, after.id, B, "delivered")

    async def well() -> bool:
        return not (await live[A].health()).problems

    await eventually(well)


async def test_a_read_only_store_is_waited_for(live: Live) -> None:
    """A store that turns read-only refuses, and takes again when it is writable."""
    engine = live[A].centre.store._engine

    def protect(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only=ON")

    event.listen(engine, "begin", protect)
    try:
        refused = await outcome(live, A, "READ-ONLY", B)
    finally:
        event.remove(engine, "begin", protect)
    assert isinstance(refused, StoreTrouble)
    assert "readonly" in refused.detail
    sent = await live.submit(A, message(case_number="WRITABLE", to=[B]))
    await arrive(live, B, {sent.id})


async def test_a_slow_disk_slows_and_loses_nothing(live: Live) -> None:
    """With a disk that takes long for a commit what waits is bounded (429), and what was promised arrives."""
    fast = threading.Event()

    def slow(connection: Connection) -> None:
        del connection
        fast.wait(PATIENCE)

    engine, node = live[A].centre.store._engine, live[A]
    event.listen(engine, "commit", slow)
    outcomes: list[object] = []
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("relay.node.UNCOMMITTED_BATCHES", 0)
            first = asyncio.create_task(outcome(live, A, "SLOW-1", B))
            await eventually(lambda: node.outbox._group)
            second = asyncio.create_task(outcome(live, A, "SLOW-2", B))
            await eventually(lambda: isinstance(node.full(), Busy))
            assert isinstance(await outcome(live, A, "SLOW-3", B), Busy)
            fast.set()
            outcomes += [await first, await second, await outcome(live, A, "SLOW-4", B)]
    finally:
        fast.set()
        event.remove(engine, "commit", slow)
    promised = {one.id for one in outcomes if isinstance(one, Stored)}
    assert len(promised) == 3
    await arrive(live, B, promised)


async def test_below_the_floor_nothing_is_taken(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """With less disk free than the floor a message is refused (507); with more it is taken again."""
    monkeypatch.setattr("relay.node._free", lambda _: -1)
    await eventually(lambda: live[A].full() is not None)
    refused = await outcome(live, A, "FLOOR", B)
    assert isinstance(refused, StoreTrouble)
    assert refused.code == "disk-full"
    monkeypatch.undo()
    await eventually(lambda: live[A].full() is None)
    sent = await outcome(live, A, "ABOVE", B)
    assert isinstance(sent, Stored)
    await arrive(live, B, {sent.id})


async def test_damage_found_while_running_ends_the_node(broker: PrivateBroker, tmp_path: Path) -> None:
    """A node that meets a malformed page writes nothing more and ends with a clear error."""
    live = Live(private_network(tmp_path / "network", broker, "damaged", ("STOC", "STOD")), broker)
    await live.start("STOC")
    task, store = live._tasks.pop("STOC"), live.nodes.pop("STOC").centre.store

    def damage(_: Connection) -> None:
        raise exc.DatabaseError("SELECT", None, sqlite3.DatabaseError("database disk image is malformed"))

    with pytest.raises(Misconfigured):
        await store.read(damage)
    with pytest.raises(Misconfigured):
        await store.write(lambda _: None)
    with pytest.raises(BaseExceptionGroup) as ended:
        await asyncio.wait_for(task, PATIENCE)
    assert ended.group_contains(Misconfigured, match="damaged")


async def test_damage_met_by_one_job_of_a_group_reaches_all(tmp_path: Path) -> None:
    """A job that finds the file malformed is no trouble of that job alone."""
    store = await Store.open(tmp_path / "relay.db", "BRU", "network", NOW)

    def damage(_: Connection) -> None:
        raise exc.DatabaseError("SELECT", None, sqlite3.DatabaseError("database disk image is malformed"))

    jobs = [store.write(lambda c: record.append(c, 1, [b"x"])), store.write(damage), store.write(lambda _: None)]
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    assert any(isinstance(one, Misconfigured) for one in outcomes)
    assert store.damage is not None
    await store.close()


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """Make a store with twenty transactions in its log, as a process leaves it that was killed."""
    folder = tmp_path / "living"
    folder.mkdir()
    engine = open_engine(folder / "relay.db")
    with engine.connect().execution_options(writes=True) as connection:
        for number in range(20):
            with connection.begin():
                record.append(connection, 1, [os.urandom(3000) + b"%d" % number])
        kept = tmp_path / "crashed"
        shutil.copytree(folder, kept)
    engine.dispose()
    return kept / "relay.db"


def test_a_log_that_was_being_written_is_taken_up_to_its_last_commit(crashed: Path) -> None:
    """A log cut anywhere, as a crash leaves it, opens; it keeps every commit that stands before the cut."""
    log = crashed.with_name("relay.db-wal")
    whole = log.read_bytes()
    assert not wal.is_damaged(log)
    counts = []
    for cut in (len(whole), len(whole) - 100, len(whole) - 5000, 40, 0):
        target = crashed.parent / f"cut-{cut}" / "relay.db"
        target.parent.mkdir()
        shutil.copy(crashed, target)
        target.with_name("relay.db-wal").write_bytes(whole[:cut])
        if cut < len(whole) - 5000:
            continue
        engine = open_engine(target)
        with engine.connect() as connection:
            counts.append(record.size(connection, 1))
        engine.dispose()
    assert counts[0] == 20
    assert counts == sorted(counts, reverse=True)


def test_a_log_that_lost_a_commit_is_refused(crashed: Path) -> None:
    """A wrong byte in the middle of the log, which SQLite would silently forget the rest for, refuses the store."""
    log = crashed.with_name("relay.db-wal")
    whole = bytearray(log.read_bytes())
    for place in (10, 20, 60, len(whole) // 2, len(whole) // 4):
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        log.write_bytes(broken)
        with pytest.raises(Misconfigured, match="log") as refused:
            open_engine(crashed)
        assert refused.value.code == "store-damaged"
        assert log.read_bytes() == broken
    log.write_bytes(whole)
    open_engine(crashed).dispose()


@pytest.mark.parametrize("damage", ["truncated", "header", "middle"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    """A database that lost its end, its beginning or a part of its middle is refused at the start."""
    path = tmp_path / "relay.db"
    engine = open_engine(path)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        record.append(connection, 1, [os.urandom(300) for _ in range(2000)])
    engine.dispose()
    whole = path.read_bytes()
    broken = {
        "truncated": whole[: len(whole) // 2],
        "header": os.urandom(100) + whole[100:],
        "middle": whole[:50_000] + os.urandom(20_000) + whole[70_000:],
    }[damage]
    path.write_bytes(broken)
    with pytest.raises(Misconfigured) as refused:
        open_engine(path)
    assert refused.value.code == "store-damaged"


KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event, Engine
from relay.store.engine import open_engine
left = int(sys.argv[2])
@event.listens_for(Engine, "before_cursor_execute")
def count(connection, cursor, statement, parameters, context, many):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
open_engine(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("statements", [6, 20])
def test_a_migration_that_is_killed_is_done_at_the_next_start(tmp_path: Path, statements: int) -> None:
    """Killed after any statement of its migrations, a store of the first release opens and has every table and column."""
    path = tmp_path / "relay.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        migrate(connection, "0001")
    engine.dispose()
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(statements)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    engine = open_engine(path)
    found = inspect(engine)
    for table in METADATA.sorted_tables:
        assert {column.name for column in table.columns} == {column["name"] for column in found.get_columns(table.name)}
    engine.dispose()


async def test_a_store_has_one_process(tmp_path: Path) -> None:
    """A second process on the same store is refused while the first works, and let in when it has ended, however it ended."""
    path = tmp_path / "relay.db"
    holds = "import asyncio, sys; from pathlib import Path; from relay.store import Store\nasync def hold():\n"
    holds += "    await Store.open(Path(sys.argv[1]), 'BRU', 'network', 1); print('open', flush=True); await asyncio.sleep(600)\n"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", f"{holds}asyncio.run(hold())", path, stdout=PIPE)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"open\n"
        with pytest.raises(Misconfigured) as refused:
            await Store.open(path, "BRU", "network", NOW)
        assert refused.value.code == "store-in-use"
    finally:
        process.kill()
        await process.communicate()
    await (await Store.open(path, "BRU", "network", NOW)).close()
