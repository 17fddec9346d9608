"""The database underneath: how it is opened, brought to the current form, and written by one thread in groups.

:class:`Writer` owns the only writing connection. Whatever jobs wait when the last commit ends go into the next transaction, each
behind a savepoint, so one failing job harms no other; a future resolves only after the commit is on disk. When the commit itself
fails nothing of the group is done and every future raises ``StoreTrouble``: the caller still has its work and tries again.

A database that is damaged is never half used: what is wrong with it at the start is refused, and what is found later (``damage``)
ends every further use, so that the node stops and says so.

SQLite runs in WAL mode with ``synchronous=FULL`` (a commit survives power loss) and ``secure_delete`` (a purge leaves nothing);
what it needs besides stays in memory, as a node that is killed would leave temporary files of the store behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, exc

from relay.errors import Misconfigured, RelayError, StoreTrouble
from relay.store import wal

T = TypeVar("T")
Job = Callable[[Connection], Any]

MAX_GROUP = 256
_DAMAGE = ("malformed", "not a database")
BUSY_SECONDS = 5


def open_engine(path: Path) -> Engine:
    """Return an engine on the SQLite file, migrated to the current form.

    A damaged file, or one written by a newer release, raises ``Misconfigured``; one that can't be reached ``StoreTrouble``.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if wal.is_damaged(path.with_name(f"{path.name}-wal")):
        raise _damaged(path, "its write-ahead log lost something that was committed")
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    try:
        with engine.connect() as connection:
            _check_intact(connection, path)
            migrate(connection)
    except exc.DatabaseError as error:
        raise _trouble(error, path) from error
    path.chmod(0o600)
    return engine


def migrate(connection: Connection, revision: str = "head") -> None:
    """Bring the database to a revision; raise ``Misconfigured`` when it was written by a newer release."""
    config = Config()
    config.set_main_option("script_location", str(resources.files("relay.store") / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise Misconfigured("store-newer", f"The store was written by a newer release of the relay: {error}") from error
    connection.commit()


def _prepare(connection: Any, _record: object) -> None:
    # The driver's own transaction handling begins too late for savepoints; SQLAlchemy begins instead (see _begin).
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "secure_delete=ON",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-32768",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later could not take the lock from another; take it at once when writing.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")


def _check_intact(connection: Connection, path: Path) -> None:
    found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if found != "ok":
        raise _damaged(path, str(found))


def _damaged(path: Path, said: str) -> Misconfigured:
    return Misconfigured("store-damaged", f"The store {path} is damaged: {said}. Nothing was read from it.")


def _trouble(error: exc.DatabaseError, path: Path) -> RelayError:
    return _damaged(path, str(error.orig)) if is_damage(error) else trouble_of(error, "written")


def is_damage(error: Exception) -> bool:
    """Return whether a database error says that the file itself is not sound, which no other try can change."""
    said = str(getattr(error, "orig", error))
    return any(words in said for words in _DAMAGE)


def trouble_of(error: Exception, done: str) -> StoreTrouble:
    """Return what a database error means for who asked; ``done`` is what can't be: written or read."""
    said = str(getattr(error, "orig", error))
    code = "store-full" if "full" in said else "store-locked" if "locked" in said else "store-unavailable"
    return StoreTrouble(code, f"The store can't be {done} now: {said}.")


class Writer:
    """The one thread that writes.

    ``trouble`` is why the last transaction failed, or None; ``timed`` is told, on the thread, how long each took, in seconds.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: queue.SimpleQueue[tuple[Job, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.damage: RelayError | None = None
        self.trouble: RelayError | None = None
        self.timed: Callable[[float], object] = lambda _seconds: None
        self._scrub = self._scrub_waits = False
        self._connection: Connection | None = None
        self._thread.start()

    async def run(self, job: Callable[[Connection], T]) -> T:
        """Run a job in the next transaction; return its result after the commit."""
        if self._closed:
            raise StoreTrouble("store-unavailable", "The store is closed; the node stops.")
        if self.damage is not None:
            raise self.damage
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((job, future))
        return await future

    async def scrub(self) -> None:
        """Empty the write-ahead log behind the next transaction.

        While a reader still needs it, or the disk has no room for that, it is tried behind each transaction until it is empty.
        """
        self._scrub, self._scrub_waits = True, True
        await self.run(lambda _: None)

    async def close(self) -> None:
        """Finish what waits and end the thread."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            said = f"The thread that writes the store ended ({type(error).__name__}: {error}); the node ends with it."
            self.damage = StoreTrouble("store-unavailable", said)  # seen by the node's watch, as nobody joins this thread
            raise

    def _serve(self) -> None:
        while True:
            group, last = self._take()
            if group:
                outcomes = self._commit(group)
                self._empty_log()
                with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
                    self._loop.call_soon_threadsafe(_resolve, outcomes)
            if last:
                self._disconnect()
                return

    def _take(self) -> tuple[list[tuple[Job, asyncio.Future[Any]]], bool]:
        """Wait for one job, then take all that wait behind it."""
        first = self._jobs.get()
        group = [first] if first else []
        while first and len(group) < MAX_GROUP:
            try:
                following = self._jobs.get_nowait()
            except queue.Empty:
                return group, False
            if following is None:
                return group, True
            group.append(following)
        return group, first is None

    def _commit(self, group: list[tuple[Job, asyncio.Future[Any]]]) -> list[tuple[asyncio.Future[Any], Any]]:
        try:
            done = self._transact(group)
            self.trouble = None
        except RelayError as error:
            return [(future, error) for _, future in group]
        except Exception as error:  # whatever went wrong, the callers learn it and the thread lives
            self._disconnect()
            if not _is_trouble(error):
                return [(future, error) for _, future in group]
            trouble = self.trouble = self.judge(error, "written")
            return [(future, trouble) for _, future in group]
        return done

    def _transact(self, group: list[tuple[Job, asyncio.Future[Any]]]) -> list[tuple[asyncio.Future[Any], Any]]:
        begun, connection = time.perf_counter(), self._connect()
        with connection.begin():
            done = [(future, _attempt(connection, job, alone=len(group) == 1)) for job, future in group]
        self.timed(time.perf_counter() - begun)
        return done

    def judge(self, error: Exception, done: str) -> RelayError:
        """Return what an error of the database means; remember when it means that the file is damaged."""
        if not is_damage(error):
            return trouble_of(error, done)
        if self.damage is None:
            said = (
                f"The store was found damaged while the node ran: {getattr(error, 'orig', error)}. Nothing more is written to it."
            )
            self.damage = Misconfigured("store-damaged", said)
        return self.damage

    def _empty_log(self) -> None:
        """Empty the log if that was asked for; only the first try waits for readers, the others come with every commit."""
        if not self._scrub or self._connection is None:
            return
        cursor = self._connection.connection.cursor()
        try:
            (patience,) = cursor.execute("PRAGMA busy_timeout").fetchone()
            cursor.execute(f"PRAGMA busy_timeout={patience if self._scrub_waits else 0}")
            self._scrub_waits = False
            try:
                (busy, _, _) = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                cursor.execute(f"PRAGMA busy_timeout={patience}")
        except self._engine.dialect.loaded_dbapi.Error as error:
            if is_damage(error):
                self.judge(error, "written")
        else:
            self._scrub = bool(busy)

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(writes=True)
        return self._connection

    def _disconnect(self) -> None:
        """Let the connection go, so that the next transaction begins on a sound one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(exc.DatabaseError):
                connection.close()


def _is_trouble(error: Exception) -> bool:
    """Return whether the database itself failed, so that the same job may succeed later; a broken rule of a table never will."""
    return isinstance(error, exc.DatabaseError) and not isinstance(
        error, exc.IntegrityError | exc.ProgrammingError | exc.DataError
    )


def _attempt(connection: Connection, job: Job, *, alone: bool) -> Any:
    """Run one job; alone, its failure rolls the whole transaction back, else only to its savepoint."""
    return job(connection) if alone else apart(connection, job)


def apart(connection: Connection, job: Callable[[Connection], T]) -> T | Exception:
    """Run a part of a transaction that must not harm the rest; when it fails it is undone, and its error returned."""
    try:
        with connection.begin_nested():
            return job(connection)
    except Exception as error:
        if _is_trouble(error):
            raise  # the database itself is in trouble: the whole group must be tried again
        return error  # handed to the one who asked


def _resolve(outcomes: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in outcomes:
        if future.done():
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
