"""The store: groups that commit together, failures that harm no neighbour, files that are not what they should be."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text

from relay.errors import Misconfigured, StoreTrouble
from relay.store import Store, closing, incoming, record, samples
from relay.store.closing import Range
from relay.store.common import mask_of, signed, unsigned
from relay.store.engine import migrate
from relay.store.tables import METADATA

NOW = 1_790_000_000_000


async def opened(folder: Path, centre: str = "BRU") -> Store:
    """Open a store in a folder."""
    return await Store.open(folder / "store" / "relay.db", centre, "network", NOW)


async def test_an_epoch_is_made_with_the_store_and_stays_with_it(tmp_path: Path) -> None:
    """A new store is fresh and takes its epoch from the clock; opened again it is the same epoch and not fresh."""
    store = await opened(tmp_path)
    assert (store.fresh, store.epoch) == (True, NOW // 1000)
    await store.close()
    again = await Store.open(tmp_path / "store" / "relay.db", "BRU", "network", NOW + 10**9)
    assert (again.fresh, again.epoch) == (False, NOW // 1000)
    await again.close()


async def test_only_its_owner_can_read_the_file(tmp_path: Path) -> None:
    """The database is made with mode 0600."""
    store = await opened(tmp_path)
    assert stat.S_IMODE((tmp_path / "store" / "relay.db").stat().st_mode) == 0o600
    await store.close()


async def test_a_commit_is_durable_and_forced_to_disk(tmp_path: Path) -> None:
    """The writing connection runs in WAL mode with synchronous=FULL and overwrites what it deletes."""
    store = await opened(tmp_path)

    def pragmas(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "secure_delete")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await store.write(pragmas) == ["wal", 2, 1]
    await store.close()


async def test_a_failing_job_harms_no_neighbour(tmp_path: Path) -> None:
    """Of jobs that share a transaction, the one that fails is undone and says why; all others are committed."""
    store = await opened(tmp_path)

    def fails(connection: Connection) -> None:
        record.append(connection, 1, [b"never"])
        raise ValueError("no")

    jobs = [store.write(lambda c, n=n: record.append(c, 1, [b"%d" % n])) for n in range(50)]  # type: ignore[misc]
    outcomes = await asyncio.gather(*jobs[:25], store.write(fails), *jobs[25:], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [ValueError]
    leaves = await store.read(lambda connection: record.leaves(connection, 1))
    assert sorted(leaves) == sorted(b"%d" % number for number in range(50))
    await store.close()


async def test_audit_leaves_are_numbered_without_holes(tmp_path: Path) -> None:
    """Whatever shares a transaction, an epoch's leaves stand at 0, 1, 2 and so on."""
    store = await opened(tmp_path)
    await asyncio.gather(*(store.write(lambda c: record.append(c, 7, [b"a", b"b"])) for _ in range(40)))
    positions = await store.read(
        lambda c: list(c.execute(text("SELECT position FROM audit WHERE epoch = 7 ORDER BY 1")).scalars())
    )
    assert positions == list(range(80))
    await store.close()


async def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A store whose bytes are not a database, or whose pages are damaged, is refused at the start with a clear code."""
    store = await opened(tmp_path)
    await store.write(lambda connection: record.append(connection, 1, [os.urandom(200) for _ in range(2000)]))
    await store.close()
    file = tmp_path / "store" / "relay.db"
    whole = bytearray(file.read_bytes())
    for damaged in (b"not a database at all" * 100, bytes(whole[:40000]) + os.urandom(60000) + bytes(whole[100000:])):
        file.write_bytes(damaged)
        with pytest.raises(Misconfigured, match="damaged") as refused:
            await opened(tmp_path)
        assert refused.value.code == "store-damaged"
        assert file.read_bytes() == damaged


async def test_another_centres_store_is_refused(tmp_path: Path) -> None:
    """A store belongs to one centre of one network."""
    await (await opened(tmp_path)).close()
    with pytest.raises(Misconfigured) as refused:
        await opened(tmp_path, "LYO")
    assert refused.value.code == "store-of-another"


async def test_a_store_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    """A revision that this release does not know is not touched."""
    await (await opened(tmp_path)).close()
    with sqlite3.connect(tmp_path / "store" / "relay.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(Misconfigured) as refused:
        await opened(tmp_path)
    assert refused.value.code == "store-newer"


async def test_a_full_disk_stores_nothing_and_passes(tmp_path: Path) -> None:
    """When the database can't grow, the write raises store-full, nothing of it is stored, and later writes succeed."""
    store = await opened(tmp_path)
    pages = await store.write(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar())
    await store.write(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 4}").scalar())
    with pytest.raises(StoreTrouble) as trouble:
        await store.write(lambda connection: record.append(connection, 1, [os.urandom(100_000)]))
    assert trouble.value.code == "store-full"
    await store.write(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=1000000").scalar())
    await store.write(lambda connection: record.append(connection, 1, [b"later"]))
    assert await store.read(lambda connection: record.leaves(connection, 1)) == [b"later"]
    await store.close()


async def test_a_locked_store_is_trouble_that_passes(tmp_path: Path) -> None:
    """While another process holds the lock, writing raises store-locked; afterwards it works again."""
    store = await opened(tmp_path)
    await store.write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=50").all())
    other = sqlite3.connect(tmp_path / "store" / "relay.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreTrouble) as trouble:
        await store.write(lambda connection: record.append(connection, 1, [b"x"]))
    assert trouble.value.code == "store-locked"
    other.execute("ROLLBACK")
    other.close()
    await store.write(lambda connection: record.append(connection, 1, [b"x"]))
    await store.close()


def test_the_migrations_make_what_the_code_expects() -> None:
    """A store brought up by the migrations alone has exactly the tables, columns and indexes of the code."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        migrate(connection)
        index = {"include_name": lambda name, kind, _: kind != "table" or not name.startswith("found")}  # SQLite's own tables
        context = MigrationContext.configure(connection, opts={"compare_type": True, **index})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


async def test_closed_sequences_merge_whatever_their_order(tmp_path: Path) -> None:
    """Ranges that arrive in any order, overlapping or repeated, become the fewest ranges that cover them."""
    store = await opened(tmp_path)
    for first, last in [(5, 6), (1, 2), (9, 9), (3, 4), (9, 12), (2, 5), (20, 20), (5, 6)]:
        closed = Range(1, "routine", first, last)
        await store.write(lambda connection, closed=closed: closing.close(connection, "LYO", closed))  # type: ignore[misc]
    assert await store.read(lambda c: closing.held(c, "LYO", 1, "routine")) == [(1, 6), (9, 12), (20, 20)]
    assert await store.read(lambda c: closing.held(c, "LYO", 2, "routine")) == []
    await store.close()


async def test_an_old_number_is_no_news(tmp_path: Path) -> None:
    """A control envelope counts only when its number is higher than any heard of its kind from that origin and epoch."""
    store = await opened(tmp_path)
    heard = [
        await store.write(lambda c, n=n, kind=kind: incoming.is_news(c, "LYO", 1, kind, n))  # type: ignore[misc]
        for n, kind in [(1, "nack"), (1, "nack"), (3, "nack"), (2, "nack"), (2, "mark/flash"), (4, "nack")]
    ]
    assert heard == [True, False, True, False, True, True]
    await store.close()


async def test_only_the_newest_samples_are_kept(tmp_path: Path) -> None:
    """However much junk arrives, the store keeps a bounded number of samples."""
    store = await opened(tmp_path)

    def flood(connection: Connection) -> None:
        for number in range(samples.KEPT + 200):
            samples.add(connection, "junk", str(number), b"x", NOW)

    await store.write(flood)
    kept = await store.read(samples.listed)
    assert len(kept) == samples.KEPT
    assert kept[0] == ("junk", "200")
    await store.close()


def test_a_mask_of_64_messages_fits_a_signed_column() -> None:
    """Every mask survives the way into a signed 64-bit column and back."""
    for positions in ([], [0], [63], range(64), [0, 31, 32, 63]):
        mask = mask_of(positions)
        assert -(2**63) <= signed(mask) < 2**63
        assert unsigned(signed(mask)) == mask
