"""Operations that must work on the worst day: back up a running node, restore an older store, upgrade an old one."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import httpx2
import pytest
from sqlalchemy import create_engine

from relay import cli
from relay.errors import Misconfigured, RelayError
from relay.network import Network, write_network
from relay.rabbit import PrivateBroker
from relay.settings import load
from relay.store import Store, record
from relay.store.backup import back_up
from relay.store.engine import migrate
from tests.live import PATIENCE, Live, eventually, message, private_network

ROOT = Path(__file__).resolve().parent.parent
BACKUP = ROOT / "docs" / "howto" / "back-up-and-restore.md"
UPGRADE = ROOT / "docs" / "howto" / "upgrade.md"
A, B = CENTRES = ("OPSA", "OPSB")
OF_THE_RELEASE_BEFORE = "0003"
HURRIED = {
    "RELAY_REPAIR__MARK_FIRST": "0.2",
    "RELAY_REPAIR__GAP": "0.3",
    "RELAY_REPAIR__HEARTBEAT_SECONDS": "0.5",
    "RELAY_REPAIR__ECHO_SECONDS": "5",
    "RELAY_BROKER__RECONNECT_SECONDS": "1",
}
NOW = 1_790_000_000_000


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nodes do in seconds what they usually do in minutes."""
    for name, value in HURRIED.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
async def live(broker: PrivateBroker, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Live]:
    """Write a network of two centres whose nodes are started by the tests."""
    nodes = Live(private_network(tmp_path / "net", broker, f"operations-{request.node.name[:40]}", CENTRES), broker)
    yield nodes
    await nodes.close()


def commands(page: Path) -> list[str]:
    """Return the commands of a page's consoles for centre A, in order."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line[2:].replace("AAA", A) for block in blocks for line in block.splitlines()]


class Machine:
    """The machine of centre A: its commands, run in a folder, and its node, a process of its own."""

    def __init__(self, network: Network, log: BinaryIO, bond: Mapping[str, str]) -> None:
        self._network = network
        self._bond = bond
        self._log = log
        self._node: asyncio.subprocess.Process | None = None

    async def do(self, command: str) -> str:
        """Run a command of a page to its end, or start the node; what needs the node to be stopped stops it first."""
        words = shlex.split(command)
        if command.startswith("relay node run"):
            environment = {**os.environ, **self._bond}
            self._node = await asyncio.create_subprocess_exec(sys.executable, "-m", *words, stderr=self._log, env=environment)
            return ""
        if words[0] == "mv" or (words[:2] == ["relay", "recover"] and "--status" not in words):
            await self.end(signal.SIGTERM)
        status, out = await asyncio.to_thread(self._run, words)
        assert status == 0, f"{command}: {out}"
        return out

    def _run(self, words: list[str]) -> tuple[int, str]:
        """Run a command of the relay in this process, as that saves a second each, or another one; return what it printed."""
        if words[0] != "relay":
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout + done.stderr
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            return cli.run(words[1:]), out.getvalue()

    async def until(self, command: str, said: str) -> str:
        """Repeat a command until it works and says something."""
        out = ""

        async def says() -> bool:
            nonlocal out
            with contextlib.suppress(AssertionError):
                out = await self.do(command)
            return said in out

        await eventually(says)
        return out

    async def ask(self, method: str, path: str, role: Literal["system", "operator"] = "system", **given: Any) -> httpx2.Response:
        """Ask the node's API, waiting for it to listen."""
        token = {"Authorization": f"Bearer {self._network.token(A, role)}"}
        answer: httpx2.Response | None = None

        async def answered() -> bool:
            nonlocal answer
            with contextlib.suppress(httpx2.TransportError):
                url = f"http://{self._network.listen(A)}"
                async with httpx2.AsyncClient(base_url=url, headers=token, timeout=PATIENCE, trust_env=False) as client:
                    answer = await client.request(method, path, **given)
            return answer is not None and answer.status_code < 500

        await eventually(answered)
        assert answer is not None
        return answer

    async def end(self, how: signal.Signals) -> None:
        """End the node, if it runs."""
        node, self._node = self._node, None
        if node is not None and node.returncode is None:
            node.send_signal(how)
            await asyncio.wait_for(node.wait(), 60)


@pytest.fixture
async def machine(live: Live, broker: PrivateBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    """Be at the machine of centre A, in the folder that the pages start from; its node is ended by its process id."""
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "node.log").open("ab") as log:
        made = Machine(live.network, log, broker.bond)
        yield made
        await made.end(signal.SIGKILL)


async def test_the_page_about_backup_brings_a_lost_centre_back(live: Live, machine: Machine) -> None:
    """Every command of the page, in order: copy a running node's store, lose the machine, restore, recover; nothing is lost."""
    await live.start(B)
    steps = iter(commands(BACKUP))
    await machine.do(f"relay node run --config net/centres/{A}/node.toml")
    before = await submit(machine, "BEFORE")
    for command in steps:
        await machine.do(command)
        if command.startswith("relay audit verify"):
            break
    after = await submit(machine, "AFTER")
    await eventually(lambda: known(live, B, {before, after}))
    came = await live.submit(B, message(to=[A], case_number="CAME"))
    assert await taken(machine) == [came.id]
    await machine.end(signal.SIGKILL)

    status = f"relay recover --status --config net/centres/{A}/node.toml"
    said = [await (machine.until(one, "epoch") if "--status" in one else machine.do(one)) for one in before_recovery(steps)]
    assert "needed: " in await machine.until(status, "needed: "), said
    for command in steps:
        await machine.do(command) if "--status" not in command else await machine.until(command, "since ")
    assert "1 messages of epoch" in (listed := await machine.until(status, "sent to"))
    assert f"sent to {B} are not known here" in listed
    assert await taken(machine) == [came.id], "what was received after the copy comes again"
    new = await submit(machine, "NEW")
    await eventually(lambda: known(live, B, {before, after, new}))
    given: list[str] = []
    while not {before, after, new} <= set(given):
        more = [one.id for one in await live.take(B)]
        assert more, "what was sent did not come"
        given += more
    assert sorted(given) == sorted({before, after, new}), "each once"


def before_recovery(steps: Iterator[str]) -> Iterator[str]:
    """Return the steps up to the first look at where the recovery stands."""
    for step in steps:
        yield step
        if "--status" in step:
            return


async def submit(machine: Machine, case: str) -> str:
    """Submit a message of A to B; return its id."""
    content, once = message(to=[B], case_number=case), {"Idempotency-Key": case}  # it may have to be asked again
    answer = await machine.ask("POST", "/v1/messages", content=content, headers=once)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def taken(machine: Machine) -> list[str]:
    """Take what waits for A's own system, and acknowledge it; return the ids."""
    ids: list[str] = []

    async def some() -> bool:
        nonlocal ids
        ids = [one["id"] for one in (await machine.ask("GET", "/v1/inbox")).json()["messages"]]
        return bool(ids)

    await eventually(some)
    await machine.ask("POST", "/v1/inbox/ack", json={"ids": ids})
    return ids


async def known(live: Live, centre: str, ids: set[str]) -> bool:
    """Return whether a centre has received all of these messages."""

    def held(connection: Any) -> set[str]:
        return set(connection.exec_driver_sql("SELECT id FROM inbox_message").scalars())

    return ids <= await live[centre].centre.store.read(held)


async def test_the_page_about_upgrades_is_followed_on_a_store_of_the_release_before(live: Live, machine: Machine) -> None:
    """Its commands work; a store with rows in the form of the release before is brought forward and everything in it goes on."""
    await live.start(*CENTRES)
    done = await live.submit(A, message(to=[B], case_number="DONE"))
    await live.reaches(A, done.id, B, "accepted")
    assert [one.id for one in await live.take(B)] == [done.id]
    await live.reaches(A, done.id, B, "delivered")
    here = await live.submit(B, message(to=[A], case_number="HERE"))
    await live.reaches(B, here.id, A, "accepted")
    await live.stop(B)
    under_way = await live.submit(A, message(to=[B], case_number="UNDER-WAY"))
    await live.reaches(A, under_way.id, B, "sent")
    epoch = live[A].centre.store.epoch
    entries = await live[A].centre.store.read(lambda connection: record.size(connection, epoch))
    await live.stop(A)
    file = load(live.network.node_file(A)).store.file
    kept = as_of(OF_THE_RELEASE_BEFORE, file)
    assert kept["outbox_message"] == 2
    assert kept["inbox_message"] == 1
    assert kept["audit"] == entries

    steps = commands(UPGRADE)
    assert [" ".join(step.split()[:3]) for step in steps] == [
        "relay store backup",
        "relay node run",
        "relay check --config",
        "relay audit verify",
    ]
    await machine.do(steps[0])
    await machine.do(steps[1])
    await live.start(B)
    states = (await machine.ask("GET", f"/v1/messages/{done.id}")).json()["recipients"]
    assert [(one["centre"], one["state"]) for one in states] == [(B, "delivered")]
    assert await taken(machine) == [here.id]
    await live.reaches(B, here.id, A, "delivered")
    await eventually(lambda: known(live, B, {under_way.id}))
    assert [one.id for one in await live.take(B)] == [under_way.id]
    await machine.until(steps[2], "ok")
    assert f"epoch {epoch}" in await machine.do(steps[3])
    assert tables(kept_file(file)) == tables(as_new(file.with_name("new.db")))


def as_of(revision: str, file: Path) -> dict[str, int]:
    """Bring a store to the form of an earlier revision, with all of its rows that have a place there; count them by table."""
    old = file.with_name("old.db")
    engine = create_engine(f"sqlite:///{old}")
    with engine.connect() as connection:
        migrate(connection, revision)
    engine.dispose()
    with contextlib.closing(sqlite3.connect(old)) as connection:
        connection.execute("ATTACH ? AS now", (str(file),))
        for table in tables(connection) - {"alembic_version"}:
            there, here = columns(connection, "now", table), columns(connection, "main", table)
            listed = ", ".join(f'"{one}"' for one in here if one in there)
            connection.execute(f"INSERT INTO main.{table} ({listed}) SELECT {listed} FROM now.{table}")  # noqa: S608
        connection.commit()
        counted = {one: connection.execute(f"SELECT count(*) FROM main.{one}").fetchone()[0] for one in tables(connection)}  # noqa: S608
    for ending in ("-wal", "-shm"):
        file.with_name(file.name + ending).unlink(missing_ok=True)
    old.replace(file)
    return counted


def as_new(file: Path) -> sqlite3.Connection:
    """Return a new store in the form of this release."""
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        migrate(connection)
    engine.dispose()
    return sqlite3.connect(file)


def kept_file(file: Path) -> sqlite3.Connection:
    """Return a store that was upgraded."""
    return sqlite3.connect(f"file:{file}?mode=ro", uri=True)


def tables(connection: sqlite3.Connection) -> set[str]:
    """Return the names of a store's tables, without those that SQLite keeps for its own purposes."""
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name for (name,) in found if not name.startswith(("sqlite_", "found_"))}


def columns(connection: sqlite3.Connection, schema: str, table: str) -> list[str]:
    """Return the columns of a table; of the full-text index its number, too."""
    found = [row[1] for row in connection.execute(f"PRAGMA {schema}.table_info({table})")]
    return ["rowid", *found] if table == "found" else found


def names(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return sorted(one.name for one in folder.iterdir())


async def test_a_copy_of_a_store_that_is_being_written_is_one_moment_of_it(tmp_path: Path) -> None:
    """However the writer goes on meanwhile, the copy has all of each transaction or nothing, and needs no file beside it."""
    store = await Store.open(tmp_path / "store" / "relay.db", A, "network", NOW)

    async def write() -> None:
        while True:
            await store.write(lambda connection: record.append(connection, store.epoch, [b"one", b"two"]))

    writing = asyncio.create_task(write())
    for number in range(5):
        copied = await asyncio.to_thread(back_up, tmp_path / "store" / "relay.db", tmp_path / f"{number}.db")
        assert (copied.centre, copied.epoch) == (A, NOW // 1000)
        assert copied.entries % 2 == 0
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await store.close()
    copy = tmp_path / "4.db"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert copied.size == copy.stat().st_size
    assert names(tmp_path) == ["0.db", "1.db", "2.db", "3.db", "4.db", "store"]
    again = await Store.open(copy, A, "network", NOW)
    assert len(await again.read(lambda connection: record.leaves(connection, again.epoch))) == copied.entries > 0
    await again.close()


async def test_a_backup_replaces_nothing_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    """A file that is there is left alone; no store, a damaged store and a folder that is not there leave no file."""
    file = tmp_path / "store" / "relay.db"
    store = await Store.open(file, A, "network", NOW)
    await store.write(lambda connection: record.append(connection, store.epoch, [os.urandom(300) for _ in range(2000)]))
    await store.close()
    (tmp_path / "there.db").write_text("something", encoding="utf-8")

    def refused(store_: Path, target: str) -> str:
        with pytest.raises(RelayError) as found:
            back_up(store_, tmp_path / target)
        assert isinstance(found.value, Misconfigured) == (found.value.code != "cannot-write")
        return found.value.code

    settings = write_network(tmp_path / "net", (A,)).node_file(A)
    assert cli.run(["store", "backup", str(tmp_path / "copy.db"), "--config", str(settings), "--json"]) == 78, "no store yet"
    shutil.rmtree(tmp_path / "net")
    assert refused(file, "there.db") == "cannot-write"
    assert (tmp_path / "there.db").read_text(encoding="utf-8") == "something"
    assert refused(file, "nowhere/copy.db") == "cannot-write"
    assert refused(tmp_path / "none.db", "copy.db") == "no-store"
    whole = file.read_bytes()
    file.write_bytes(whole[:50_000] + os.urandom(20_000) + whole[70_000:])
    assert refused(file, "copy.db") == "store-damaged"
    assert names(tmp_path) == ["store", "there.db"]
