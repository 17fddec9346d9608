"""The tree of an audit record at rest: roots and proofs of every size, and any damage found at its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from relay import merkle, witnessed
from relay.keys import SigningKey
from relay.store import checkpoints, record, trees
from relay.store.checkpoints import Damage
from relay.store.engine import open_engine
from relay.store.trees import TILE, Check, Fault
from relay.witnessed import Checkpoint
from tests.spent import spent
from tests.test_merkle import naive_path, naive_root, naive_subproof

EPOCH = 1_780_000_000
KEY = SigningKey.generate()
SIZE = 3 * TILE + 100
LEAVES = [f'{{"v":1,"n":{n}}}'.encode() for n in range(SIZE)]


def signed(connection: Connection, size: int) -> None:
    """Keep a checkpoint of the log as it is now."""
    said = Checkpoint(
        network="0" * 64,
        centre="TREE",
        epoch=EPOCH,
        size=size,
        root=trees.root(connection, EPOCH, size).hex(),
        time=size,
        directory=1,
    )
    checkpoints.add(connection, said, witnessed.sign_checkpoint(KEY, said))


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """Return a transaction on a store with a log of some tiles and two checkpoints; it is rolled back."""
    with open_engine(tmp_path / "store.db").connect().execution_options(writes=True) as opened:
        fill(opened)
        yield opened
        opened.rollback()


def fill(connection: Connection) -> None:
    """Write the log in parts, its tree behind each."""
    for first in range(0, SIZE, 217):
        record.append(connection, EPOCH, LEAVES[first : first + 217])
        assert not trees.complete(connection, EPOCH)
    record.append(connection, EPOCH + 1, [b"of another epoch"])
    signed(connection, 300)
    signed(connection, SIZE - 10)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """Return a store like that of ``connection`` for tests that only read."""
    with open_engine(tmp_path_factory.mktemp("trees") / "store.db").connect().execution_options(writes=True) as opened:
        fill(opened)
        yield opened


def checked(connection: Connection, at_once: int = 1000) -> Fault | None:
    """Check the whole log in steps."""
    state = Check(EPOCH)
    while True:
        before = state.tree.size
        if (fault := trees.check(connection, state, at_once)) is not None:
            return fault
        if state.tree.size == before:
            assert state.tree.root() == trees.root(connection, EPOCH, before)
            return None


@given(st.data())
def test_roots_and_proofs_at_rest_are_those_of_the_leaves(kept: Connection, data: st.DataObject) -> None:
    """Whatever size of the past they are for."""
    size = data.draw(st.integers(1, SIZE), "size")
    old, position = data.draw(st.integers(1, size), "old"), data.draw(st.integers(0, size - 1), "position")
    assert trees.root(kept, EPOCH, size) == naive_root(LEAVES[:size])
    assert trees.inclusion(kept, EPOCH, position, size) == naive_path(position, LEAVES[:size])
    assert trees.consistency(kept, EPOCH, old, size) == naive_subproof(old, LEAVES[:size], whole=True)


def test_a_log_without_kept_hashes_has_the_same_root(connection: Connection) -> None:
    """A store of an earlier release has none yet; they are made from the leaves."""
    before = trees.root(connection, EPOCH, SIZE)
    connection.exec_driver_sql("DELETE FROM audit_tile")
    connection.exec_driver_sql("DELETE FROM audit_subtree")
    assert trees.root(connection, EPOCH, SIZE) == before
    assert checked(connection) is None
    trees.complete(connection, EPOCH)
    assert trees.root(connection, EPOCH, SIZE) == before


def test_hashes_are_made_in_bounded_steps(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of an earlier release may be long: no transaction takes it whole."""
    connection.exec_driver_sql("DELETE FROM audit_tile")
    monkeypatch.setattr(trees, "TILES_AT_ONCE", 2)
    assert trees.complete(connection, EPOCH)
    assert not trees.complete(connection, EPOCH)
    assert connection.exec_driver_sql("SELECT count(*) FROM audit_tile").scalar() == SIZE // TILE


@pytest.mark.parametrize("at_once", [1, 255, 256, 257, 10_000])
def test_a_sound_log_has_no_fault(connection: Connection, at_once: int) -> None:
    """In steps of whatever size."""
    assert checked(connection, at_once) is None


@pytest.mark.parametrize("position", [0, 255, 256, 700, SIZE - 20])
def test_an_altered_entry_is_named(connection: Connection, position: int) -> None:
    """Exactly where its hash was kept, else between the checkpoints around it."""
    changed = LEAVES[position].replace(b"1", b"2", 1)
    connection.exec_driver_sql("UPDATE audit SET leaf = ? WHERE position = ? AND epoch = ?", (changed, position, EPOCH))
    fault = checked(connection)
    assert fault is not None
    assert fault.first <= position <= fault.last
    assert position >= 3 * TILE or fault.first == fault.last


def test_something_else_in_the_place_of_an_entry_is_named(connection: Connection) -> None:
    """SQLite takes text in a column of bytes."""
    connection.exec_driver_sql("UPDATE audit SET leaf = 'text' WHERE position = 3 AND epoch = ?", (EPOCH,))
    assert checked(connection) == Fault(EPOCH, 3, 3, f"Entry 3 of epoch {EPOCH} is no entry.")
    with pytest.raises(LookupError):
        trees.leaf_hashes(connection, EPOCH, 0, 10)


def test_a_missing_entry_is_named(connection: Connection) -> None:
    """In the middle, where the next one takes no place of it; and at the end, below the last checkpoint."""
    connection.exec_driver_sql("DELETE FROM audit WHERE position >= ? AND epoch = ?", (SIZE - 30, EPOCH))
    assert checked(connection) == Fault(EPOCH, SIZE - 30, SIZE - 30, f"Entry {SIZE - 30} of epoch {EPOCH} is missing.")
    connection.exec_driver_sql("DELETE FROM audit WHERE position = 300")
    found = checked(connection)
    assert found is not None
    assert (found.first, found.last) == (300, 300)


def test_entries_of_another_order_are_named(connection: Connection) -> None:
    """Two entries changed their places."""
    for position, leaf in ((10, LEAVES[11]), (11, LEAVES[10])):
        connection.exec_driver_sql("UPDATE audit SET leaf = ? WHERE position = ? AND epoch = ?", (leaf, position, EPOCH))
    found = checked(connection)
    assert found is not None
    assert found.first == 10


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_tile SET hashes = zeroblob(length(hashes)) WHERE number = 1",
        "UPDATE audit_subtree SET hash = zeroblob(32) WHERE number = 1",
    ],
)
def test_altered_hashes_are_found(connection: Connection, change: str) -> None:
    """A tile or subtree that is not that of its leaves."""
    connection.exec_driver_sql(change)
    found = checked(connection)
    assert found is not None
    assert found.first in {0, 256, 512}


def test_an_altered_checkpoint_is_found(connection: Connection) -> None:
    """One that states another root than its leaves have."""
    connection.exec_driver_sql(
        'UPDATE checkpoint SET statement = replace(statement, \'"root":"\', \'"root":"0\') WHERE size = 300'
    )
    found = checked(connection)
    assert found is not None
    assert (found.first, found.last) == (0, 299)


def test_a_rewritten_log_with_its_hashes_is_found_by_its_checkpoint(connection: Connection) -> None:
    """Whoever alters an entry and makes all hashes anew still has the signed root against him."""
    connection.exec_driver_sql("UPDATE audit SET leaf = x'7b7d' WHERE position = 5 AND epoch = ?", (EPOCH,))
    connection.exec_driver_sql("DELETE FROM audit_tile")
    connection.exec_driver_sql("DELETE FROM audit_subtree")
    trees.complete(connection, EPOCH)
    found = checked(connection)
    assert found is not None
    assert (found.first, found.last) == (0, 299)


def test_the_checkpoints_that_cover_an_entry_come_with_their_countersignatures(connection: Connection) -> None:
    """First the earliest that a witness countersigned, then the latest; none for an entry behind the last."""
    earliest = checkpoints.of_size(connection, EPOCH, 300)
    assert earliest is not None
    word = witnessed.Countersignature(network="0" * 64, witness="WITN", checkpoint=earliest.note.digest, time=1)
    note = witnessed.countersign(KEY, word)
    assert checkpoints.countersign(connection, earliest, word, note, 1)
    assert not checkpoints.countersign(connection, earliest, word, note, 2)
    covering = checkpoints.covering(connection, EPOCH, 10)
    assert [(one.size, list(one.countersignatures)) for one in covering] == [(300, ["WITN"]), (SIZE - 10, [])]
    assert [one.size for one in checkpoints.covering(connection, EPOCH, 300)] == [SIZE - 10]
    assert checkpoints.covering(connection, EPOCH, SIZE - 5) == []
    assert checkpoints.countersigned(connection, EPOCH) == {"WITN": 300}
    found = checkpoints.named(connection, EPOCH, earliest.note.digest)
    assert found is not None
    assert found.size == 300
    proof = trees.inclusion(connection, EPOCH, 10, 300)
    assert merkle.includes(merkle.hash_leaf(LEAVES[10]), 10, 300, proof, earliest.root)


def test_old_checkpoints_are_thinned(connection: Connection) -> None:
    """To the last of each hour, once they are a week old."""
    assert checkpoints.thin(connection, EPOCH, checkpoints.KEPT_WHOLE_MS) == 0
    assert checkpoints.thin(connection, EPOCH, checkpoints.KEPT_WHOLE_MS + SIZE) == 1
    assert [one.size for one in checkpoints.between(connection, EPOCH, 0, SIZE)] == [SIZE - 10]


def test_a_damage_is_noted_once_for_an_epoch(connection: Connection) -> None:
    """The first stays, with the checkpoint that showed it."""
    latest = checkpoints.latest(connection, EPOCH)
    assert latest is not None
    first = Damage(EPOCH, 1, "An entry is missing.", latest.note)
    assert checkpoints.set_damage(connection, first)
    assert not checkpoints.set_damage(connection, Damage(EPOCH, 2, "Another."))
    assert checkpoints.damage(connection) == first
    assert checkpoints.set_damage(connection, Damage(EPOCH + 1, 3, "Of the next epoch."))


def test_twenty_thousand_entries_are_checked_in_a_second_of_cpu(connection: Connection) -> None:
    """A million within a minute."""
    record.append(connection, EPOCH, [b'{"v":1,"epoch":1780000000,"time":1780000000123,"step":"sent"}' * 3] * 20_000)
    while trees.complete(connection, EPOCH):
        pass
    found, seconds = spent(lambda: checked(connection, 4096))
    assert found is None
    assert seconds < 1.0
