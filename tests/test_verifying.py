"""The audit record verified on the store itself: the first damaged entry is found and named, whatever was done to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, delete, update

from relay import cli, exporting, witnessed
from relay.audit import Audit, AuditStep
from relay.clock import now_ms
from relay.exporting import Span
from relay.keys import SigningKey
from relay.merkle import hash_leaf
from relay.network import Network, write_network
from relay.store import Connection, Store, checkpoints, directories, traces, trees
from relay.store.offline import reading
from relay.store.tables import AUDIT, AUDIT_TILE, CHECKPOINT, COUNTERSIGNATURE
from relay.verifying import Verification, Verified, registers, words
from relay.witnessed import Checkpoint, Countersignature

A, B = CENTRES = ("VERA", "VERB")
ENTRIES = 700
EVERY = 90
LAST = 690
"""Entries under the last checkpoint; the tiles end at 512."""


@dataclass(frozen=True)
class Kept:
    """A store with a record, and the network whose keys signed it."""

    file: Path
    network: Network

    @property
    def root(self) -> bytes:
        """The network's root file."""
        return (self.network.folder / "root.json").read_bytes()

    def verify(self, *, signed: bool = True) -> Verified:
        """Verify the store's record."""
        with reading(self.file) as connection:
            known = registers(self.root, self.network.id, traces.directories(connection)) if signed else []
            return Verification(self.network.id, known).at_once(connection)

    def harm(self, job: Callable[[Connection], None], folder: Path) -> Kept:
        """Return a copy that somebody changed without the relay."""
        copy = folder / "relay.db"
        copy.write_bytes(self.file.read_bytes())
        engine = create_engine(f"sqlite:///{copy}")
        with engine.begin() as connection:
            job(connection)
        engine.dispose()
        return Kept(copy, self.network)


@pytest.fixture(scope="module")
async def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Make a store with a record of some tiles, checkpoints signed by A and countersigned by B."""
    folder = tmp_path_factory.mktemp("verifying")
    network = write_network(folder / "network", CENTRES)
    store = await Store.open(folder / "work.db", A, network.id, now_ms())
    await store.write(partial(_write, network=network, epoch=store.epoch))
    await store.close()
    file = folder / "relay.db"
    engine = create_engine(f"sqlite:///{folder / 'work.db'}")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"VACUUM INTO '{file}'")
    engine.dispose()
    return Kept(file, network)


def _write(connection: Connection, network: Network, epoch: int) -> None:
    from relay.directory import read_bundle

    audit, at = Audit(epoch), now_ms()
    keys = {centre: SigningKey.load(network.centre(centre) / "keys" / "signing.pem") for centre in CENTRES}
    bundle, register = read_bundle(network.folder), network.directory
    directories.take(connection, directories.Kept(register.version, register.digest, bundle.pack(), "files", at))
    for first in range(0, ENTRIES, EVERY):
        some = range(first, min(first + EVERY, ENTRIES))
        audit.append(connection, [audit.leaf(AuditStep.SEARCHED, at + one, actor="tester", why=f"entry {one}") for one in some])
        while trees.complete(connection, epoch):
            pass
        size = min(some[-1] + 1, LAST)
        root = trees.root(connection, epoch, size).hex()
        said = Checkpoint(
            network=network.id, centre=A, epoch=epoch, size=size, root=root, time=at + size, directory=register.version
        )
        note = witnessed.sign_checkpoint(keys[A], said)
        checkpoints.add(connection, said, note)
        word = Countersignature(network=network.id, witness=B, checkpoint=note.digest, time=at + size)
        one = checkpoints.of_size(connection, epoch, size)
        assert one is not None
        checkpoints.countersign(connection, one, word, witnessed.countersign(keys[B], word), at)


def test_a_sound_record_fits(kept: Kept) -> None:
    """Every entry, checkpoint and countersignature; without a directory it says that signatures were not looked at."""
    found = kept.verify()
    assert found.fault is None, found.fault
    [epoch] = found.epochs
    assert (epoch.entries, epoch.signed, epoch.countersigned) == (ENTRIES, LAST, LAST)
    assert epoch.checkpoints == -(-ENTRIES // EVERY)
    assert "700 entries fit" in words(found)[0]
    assert "Signatures were not looked at" in words(kept.verify(signed=False))[-1]


def leaf(connection: Connection, position: int) -> bytes:
    """Return the bytes of an entry."""
    return bytes(connection.execute(AUDIT.select().where(AUDIT.c.position == position)).one().leaf)


def put(connection: Connection, position: int, raw: bytes) -> None:
    """Write an entry anew."""
    connection.execute(update(AUDIT).where(AUDIT.c.position == position).values(leaf=raw))


def change(connection: Connection) -> None:
    """Let an entry say something else."""
    put(connection, 100, leaf(connection, 100).replace(b"entry", b"ENTRY"))


def change_with_tile(connection: Connection) -> None:
    """Let an entry say something else, and its tile agree."""
    change(connection)
    hashes = bytearray(connection.execute(AUDIT_TILE.select().where(AUDIT_TILE.c.number == 0)).one().hashes)
    hashes[3200:3232] = hash_leaf(leaf(connection, 100))
    connection.execute(update(AUDIT_TILE).where(AUDIT_TILE.c.number == 0).values(hashes=bytes(hashes)))


def change_late(connection: Connection) -> None:
    """Change an entry behind the last tile."""
    put(connection, 600, leaf(connection, 600).replace(b"entry", b"ENTRY"))


def lose(connection: Connection) -> None:
    """Drop an entry."""
    connection.execute(delete(AUDIT).where(AUDIT.c.position == 101))


def swap(connection: Connection) -> None:
    """Let two entries change places."""
    one, other = leaf(connection, 120), leaf(connection, 121)
    put(connection, 120, other)
    put(connection, 121, one)


def cut(connection: Connection) -> None:
    """Drop the end of the record."""
    connection.execute(delete(AUDIT).where(AUDIT.c.position >= 550))


def cut_with_checkpoints(connection: Connection) -> None:
    """Drop the end of the record, and every checkpoint over it."""
    connection.execute(delete(AUDIT).where(AUDIT.c.position >= 400))
    connection.execute(delete(CHECKPOINT).where(CHECKPOINT.c.size > 400))


def retile(connection: Connection) -> None:
    """Change a kept hash."""
    hashes = bytearray(connection.execute(AUDIT_TILE.select().where(AUDIT_TILE.c.number == 1)).one().hashes)
    hashes[32 * 44] ^= 1
    connection.execute(update(AUDIT_TILE).where(AUDIT_TILE.c.number == 1).values(hashes=bytes(hashes)))


def resign(connection: Connection) -> None:
    """Let a checkpoint name another time than the one that was signed."""
    row = connection.execute(CHECKPOINT.select().where(CHECKPOINT.c.size == 180)).one()
    statement = row.statement.replace(f'"time":{row.time}', f'"time":{row.time + 1}')
    connection.execute(update(CHECKPOINT).where(CHECKPOINT.c.size == 180).values(statement=statement))


def uncountersign(connection: Connection) -> None:
    """Change a witness's signature."""
    row = connection.execute(COUNTERSIGNATURE.select().where(COUNTERSIGNATURE.c.size == 180)).one()
    signature = ("0" if row.signature[0] != "0" else "1") + row.signature[1:]
    connection.execute(update(COUNTERSIGNATURE).where(COUNTERSIGNATURE.c.size == 180).values(signature=signature))


HARM: list[tuple[Callable[[Connection], None], tuple[int, int], str]] = [
    (change, (100, 100), "not what it was"),
    (change_with_tile, (90, 179), "do not have the root"),
    (change_late, (540, 629), "do not have the root"),
    (lose, (101, 101), "missing"),
    (swap, (120, 120), "not what it was"),
    (cut, (550, 550), "missing"),
    (cut_with_checkpoints, (400, 400), "missing"),
    (retile, (300, 300), "not what it was"),
    (resign, (90, 179), "does not count"),
    (uncountersign, (90, 179), "countersignature of VERB does not count"),
]


@pytest.mark.parametrize(("job", "places", "said"), HARM, ids=[job.__name__ for job, _, _ in HARM])
def test_the_first_damaged_entry_is_named(
    kept: Kept, tmp_path: Path, job: Callable[[Connection], None], places: tuple[int, int], said: str
) -> None:
    """Changed, missing or moved, a tile, a checkpoint, a countersignature: named with its position and what it says now."""
    found = kept.harm(job, tmp_path).verify()
    assert found.fault is not None
    assert said in found.fault.detail
    assert (found.fault.first, found.fault.last) == places
    assert found.entries <= places[1] + 1
    if job in (change, swap, retile):
        assert found.says is not None
        assert '"step":"searched"' in found.says


@given(position=st.integers(0, LAST - 1), data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_flipped_bit_anywhere_in_the_signed_record_is_found(
    kept: Kept, tmp_path: Path, position: int, data: st.DataObject
) -> None:
    """In any entry that a checkpoint covers; in one that a tile covers, the very entry is named."""

    def flip(connection: Connection) -> None:
        raw = bytearray(leaf(connection, position))
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        put(connection, position, bytes(raw))

    found = kept.harm(flip, tmp_path).verify()
    assert found.fault is not None
    assert found.fault.first <= position <= found.fault.last
    assert (found.fault.first == found.fault.last) or position >= 512


def test_the_command_names_it_and_ends_with_65(kept: Kept, tmp_path: Path, capfd: Any) -> None:
    """Without the node, on a store's file alone; --json for programs."""
    (tmp_path / "root.json").write_bytes(kept.root)
    root = ["--root", str(tmp_path / "root.json")]
    assert cli.run(["audit", "verify", "--store", str(kept.file), *root]) == 0
    harmed = str(kept.harm(change, tmp_path).file)
    capfd.readouterr()
    assert cli.run(["audit", "verify", "--store", harmed, *root]) == 65
    said = capfd.readouterr()
    assert "Entry 100 of epoch" in said.out
    assert "ENTRY 100" in said.out
    assert "audit-fault" in said.err
    assert cli.run(["audit", "verify", "--store", harmed, "--json"]) == 65
    assert json.loads(capfd.readouterr().out)["fault"]["first"] == 100
    assert cli.run(["audit", "verify", "--store", str(tmp_path / "none.db")]) == 78
    assert cli.run(["audit", "verify", "--store", str(tmp_path / "root.json")]) == 78


def test_the_export_has_every_byte_of_every_entry(kept: Kept, tmp_path: Path) -> None:
    """Lines from which everything can be hashed anew; checkpoints behind what they cover; damage is shown, not passed over."""
    with reading(kept.file) as connection:
        lines = b"".join(exporting.lines(connection, Span())).splitlines()
        leaves = [leaf(connection, position) for position in range(ENTRIES)]
    entries = [line for line in lines if b'"position":' in line]
    assert [line.partition(b'"leaf":')[2][:-1] for line in entries] == leaves
    assert sum(b'"checkpoint":' in line for line in lines) == -(-ENTRIES // EVERY)
    assert b'"checkpoint":' in lines[EVERY]
    with reading(kept.harm(lambda connection: put(connection, 5, b"\xff\n"), tmp_path).file) as connection:
        at = json.loads(leaves[10])["time"]
        some = b"".join(exporting.lines(connection, Span(at, at + 3))).splitlines()
    assert [json.loads(line)["position"] for line in some] == [5, 10, 11, 12]
    assert json.loads(some[0])["damaged"] == "/wo="


async def test_a_running_node_s_record_is_verified_in_small_pieces(kept: Kept) -> None:
    """The same, as the API does it: many short reads of the store."""
    found = Verification(kept.network.id, [kept.network.directory])
    with reading(kept.file) as connection:
        epoch = kept.verify().epochs[0].epoch
        assert (await found.bit_by_bit(lambda job: _direct(connection, job), [epoch])).fault is None
    assert found.found.entries == ENTRIES


async def _direct(connection: Connection, job: Callable[[Connection], bool]) -> bool:
    return job(connection)
