"""Checkpoints and witnesses: logs get countersigned, and no centre rewrites its history unseen, by itself or by its peers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay import merkle, receipts, recovery, topology, witnessed
from relay.errors import NotReady, Refused, Rejected
from relay.network import Network
from relay.rabbit import PrivateBroker
from relay.settings import AuditSettings, load
from relay.store import Connection, checkpoints, peers, record, trees
from relay.store import witnessed as held
from relay.store.peers import Alarm
from relay.witnessed import Checkpoint, Countersignature, Exchange, Note, Proof
from tests.live import PATIENCE, Live, eventually, message, private_network
from tests.test_crash_points import again

A, B, C = CENTRES = ("CHKA", "CHKB", "CHKC")
EVERY = 0.3


@contextlib.asynccontextmanager
async def running(network: Network, broker: PrivateBroker) -> AsyncIterator[Live]:
    """Run three centres with new stores, which sign checkpoints more often than usual."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_AUDIT__CHECKPOINT_SECONDS", str(EVERY))
        patch.setenv("RELAY_REPAIR__HEARTBEAT_SECONDS", "0.5")
        patch.setenv("RELAY_BROKER__RECONNECT_SECONDS", "1")
        nodes = Live(network, broker)
        try:
            await nodes.start(*CENTRES)
            yield nodes
        finally:
            await nodes.close()


@pytest.fixture(scope="module")
def pattern(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Write a network whose copies have the same accounts."""
    return private_network(tmp_path_factory.mktemp("pattern") / "network", broker, "checkpoints-pattern", CENTRES)


@pytest.fixture(scope="module")
async def unbroken(pattern: Network, broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run the network of the tests after which every log is still what it was."""
    network = again(pattern, broker, tmp_path_factory.mktemp("sound") / "network", "checkpoints-sound")
    async with running(network, broker) as nodes:
        yield nodes


@pytest.fixture
async def sound(unbroken: Live) -> Live:
    """Return that network, whole also behind a test that stopped a centre and then failed."""
    await unbroken.start(*(centre for centre in CENTRES if centre not in unbroken.nodes))
    return unbroken


@pytest.fixture
async def live(pattern: Network, broker: PrivateBroker, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Live]:
    """Run a network of its own for a test that breaks a log."""
    network = again(pattern, broker, tmp_path / "network", f"checkpoints-{abs(hash(request.node.name))}")
    async with running(network, broker) as nodes:
        yield nodes


async def send(live: Live, count: int = 3) -> None:
    """Send messages from A to the others, which take them."""
    for number in range(count):
        stored = await live.submit(A, message(case_number=f"CHECK-{number}", to=[B, C]))
        for recipient in (B, C):
            await live.reaches(A, stored.id, recipient, "sent")  # which may be noted behind its recipient's word
            await live.reaches(A, stored.id, recipient, "accepted")


async def countersigned(live: Live, centre: str = A, by: tuple[str, ...] = (B, C)) -> int:
    """Wait until witnesses countersigned all that is in a centre's log; return how many entries that are."""
    store, size = live[centre].centre.store, 0

    def look(connection: Connection) -> tuple[int, dict[str, int]]:
        return trees.size(connection, store.epoch), checkpoints.countersigned(connection, store.epoch)

    async def done() -> bool:
        nonlocal size
        size, signed = await store.read(look)
        return size > 0 and {witness: signed.get(witness) for witness in by} == dict.fromkeys(by, size)

    await eventually(done)
    return size


async def alarms(live: Live, centre: str) -> dict[str, Alarm]:
    """Return the alarms that a centre raised about its peers."""
    return await live[centre].centre.store.read(peers.alarms)


async def caught(live: Live, centre: str, code: str, seconds: float = PATIENCE) -> list[held.Evidence]:
    """Wait until a centre raised an alarm about A, which A's own word may replace at once; return its evidence."""
    evidence: list[held.Evidence] = []

    async def raised() -> bool:
        found = (await alarms(live, centre)).get(A)
        evidence[:] = await live[centre].centre.store.read(lambda connection: held.evidence(connection, A))
        return code in {one.code for one in evidence} or (found is not None and found.code == code)

    await eventually(raised, seconds)
    return evidence


async def count(live: Live) -> int:
    """Return how many checkpoints of its own A has."""
    query = "SELECT count(*) FROM checkpoint"
    return int(await live[A].centre.store.read(lambda connection: connection.exec_driver_sql(query).scalar()))


async def published(live: Live) -> bool:
    """Return whether A signed a checkpoint, and has nothing left to say."""
    return await count(live) > 0 and live[A].centre.may_publish.is_set() and not live[A].control._waiting


async def latest(live: Live, centre: str, origin: str) -> held.Held | None:
    """Return what a centre holds of another's log."""
    return await live[centre].centre.store.read(lambda connection: held.latest(connection, origin))


def rewrite(live: Live, *statements: str) -> None:
    """Change the store of A, which is stopped, as whoever may write the file can."""
    file = load(live.network.node_file(A)).store.file
    with sqlite3.connect(file) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    connection.close()


def last_size(live: Live) -> int:
    """Return how many entries the last checkpoint of A, which is stopped, covers."""
    with contextlib.closing(sqlite3.connect(load(live.network.node_file(A)).store.file)) as connection:
        return int(connection.execute("SELECT max(size) FROM checkpoint").fetchone()[0])


ALTERED = "UPDATE audit SET leaf = CAST(replace(CAST(leaf AS TEXT), '\"v\":1', '\"v\":2') AS BLOB) WHERE position = 1"
BACK = ALTERED.replace("1'", "x'").replace("2'", "1'").replace("x'", "2'")
WITHOUT_TREE = ("DELETE FROM audit_tile", "DELETE FROM audit_subtree")
WITHOUT_CHECKPOINTS = ("DELETE FROM checkpoint", "DELETE FROM countersignature")


async def given(live: Live, origin: str, witness: str, body: Exchange) -> None:
    """Give a witness an envelope about logs, as a node of ``origin`` could."""
    node = live[origin]
    raw = await node.centre.store.write(
        lambda connection: node.control.numbered(connection, "checkpoint", witness, receipts.write(body))
    )
    await node.broker.publish([topology.control_key(origin, witness)], raw)


def signed(live: Live, size: int, root: bytes, *, later: int = 1, signer: str = A, **fields: Any) -> Note:
    """Return a checkpoint of A's log as A's key, or another's, signs it."""
    centre = live[A].centre
    said = {
        "network": centre.settings.network,
        "centre": A,
        "epoch": centre.store.epoch,
        "size": size,
        "root": root.hex(),
        "time": centre.now() + later,
        "directory": centre.directory.version,
    }
    return witnessed.sign_checkpoint(live.signing_key(signer), Checkpoint(**{**said, **fields}))


def refused(live: Live, witness: str, count: int) -> bool:
    """Return whether a witness refused so many bad checkpoints and countersignatures."""
    return float(live[witness].centre.metrics.dropped.labels("bad-checkpoint")._value.get()) >= count


async def test_checkpoints_are_countersigned_and_prove_an_entry(sound: Live) -> None:
    """All witnesses countersign; an entry, its proof, the checkpoint and two signatures are all that a third party needs."""
    live = sound
    await send(live)
    size = await countersigned(live)
    centre = live[A].centre

    def proof(connection: Connection) -> tuple[checkpoints.Kept, bytes, list[bytes]]:
        kept = checkpoints.covering(connection, centre.store.epoch, 1)[0]
        leaf = record.leaves(connection, centre.store.epoch, 1, 1)[0]
        return kept, leaf, trees.inclusion(connection, centre.store.epoch, 1, kept.size)

    kept, leaf, path = await centre.store.read(proof)
    assert kept.size <= size
    read = witnessed.checkpoint(kept.note, centre.settings.network, centre.directory, lambda _: True)
    assert merkle.includes(merkle.hash_leaf(leaf), 1, read.said.size, path, bytes.fromhex(read.said.root))
    for witness, note in kept.countersignatures.items():
        said = witnessed.countersignature(note, centre.settings.network, centre.directory, lambda _: True)
        assert (said.witness, said.checkpoint) == (witness, kept.note.digest)
    await eventually(lambda: centre.metrics.audit_uncountersigned._value.get() == 0)
    assert centre.metrics.countersignatures.labels(B)._value.get() >= 1
    assert live[B].centre.metrics.witnessed.labels(A)._value.get() >= size
    assert await live[A].soundness.verify() is None
    assert (await alarms(live, B), await alarms(live, C)) == ({}, {})


async def test_nothing_is_signed_while_there_is_nothing_new(sound: Live) -> None:
    """A log at rest costs no checkpoint, and countersigning adds nothing to anybody's log."""
    live = sound
    await send(live, 1)
    for centre in CENTRES:
        await countersigned(live, centre, tuple(one for one in CENTRES if one != centre))
    before = [(await latest(live, B, origin), await latest(live, C, origin)) for origin in (A,)]
    await asyncio.sleep(4 * EVERY)
    assert [(await latest(live, B, origin), await latest(live, C, origin)) for origin in (A,)] == before


async def test_a_witness_that_was_away_is_given_what_it_missed(sound: Live) -> None:
    """It countersigns the newest checkpoint, with a proof from the last one that it knew."""
    live = sound
    await send(live, 1)
    before = await countersigned(live)
    await live.stop(C)
    stored = await live.submit(A, message(case_number="AWAY", to=[B]))
    await live.reaches(A, stored.id, B, "accepted")
    assert await countersigned(live, by=(B,)) > before
    await live.start(C)
    await countersigned(live)
    assert await alarms(live, C) == {}


async def test_a_countersignature_that_was_lost_is_given_again(sound: Live) -> None:
    """The witness ended between keeping a checkpoint and answering: it is given the same one again and countersigns it."""
    live = sound
    await live.stop(B)
    await send_to_c(live)
    await countersigned(live, by=(C,))
    epoch = live[A].centre.store.epoch
    known = (await live[A].centre.store.read(lambda connection: checkpoints.countersigned(connection, epoch))).get(B, 0)
    await live.start(B)
    control = live[B].control
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "post", lambda *_: None)  # what was committed is not said: the node ends here
        await eventually(lambda: _has(live, B, known + 1))
    await live.abort(B)
    await live.start(B)
    await countersigned(live)


async def send_to_c(live: Live) -> None:
    """Let something happen in A's log while B is away."""
    stored = await live.submit(A, message(case_number="TO-C", to=[C]))
    await live.reaches(A, stored.id, C, "accepted")


def _has(live: Live, centre: str, size: int) -> Any:
    async def has() -> bool:
        found = await latest(live, centre, A)
        return found is not None and found.said.size >= size

    return has()


async def test_an_altered_entry_stops_its_node_and_its_peers_are_told(live: Live) -> None:
    """Somebody edits an entry and makes its hashes anew: the node finds it, takes nothing more, says so, and tells its peers."""
    await send(live)
    await countersigned(live)
    await live.stop(A)
    rewrite(live, ALTERED, *WITHOUT_TREE)
    await live.start(A)
    trouble = live[A].full()
    assert isinstance(trouble, NotReady)
    assert trouble.code == "audit-damaged"
    assert trouble.detail in (await live[A].health()).problems
    for peer in (B, C):
        await caught(live, peer, "audit-damaged")
    stored = await live.submit(B, message(case_number="WAITS", to=[A]))
    await live.reaches(B, stored.id, A, "sent")
    await asyncio.sleep(1)
    assert await live.states(B, stored.id, A) == ["queued", "sent"], "what arrives stays with the broker"


async def test_a_damaged_log_stays_so_until_an_operator_ends_its_epoch(live: Live) -> None:
    """A restart changes nothing; `relay recover` begins a new epoch whose first entry says what was before, and all goes on."""
    await send(live)
    await countersigned(live)
    epoch = live[A].centre.store.epoch
    await live.stop(A)
    size = last_size(live)
    rewrite(live, ALTERED, *WITHOUT_TREE)
    await live.start(A)
    await eventually(lambda: live[A].full() is not None)
    await live.stop(A)
    rewrite(live, BACK)
    await live.start(A)
    assert isinstance(live[A].full(), NotReady), "who altered it can alter it back"
    await live.stop(A)
    await recovery.prepare(load(live.network.node_file(A)), anyway=False)
    await live.start(A)
    assert live[A].full() is None
    store = live[A].centre.store
    assert store.epoch > epoch
    first = json.loads((await store.read(lambda connection: record.leaves(connection, store.epoch, 0, 1)))[0])
    assert first["step"] == "epoch-opened"
    assert f"checkpoint of {size} entries" in first["why"]
    assert "audit-damaged" in first["why"]
    stored = await live.submit(A, message(case_number="AGAIN", to=[B, C]))
    await live.reaches(A, stored.id, B, "accepted")
    await countersigned(live)


async def test_an_entry_altered_while_the_node_runs_is_found_by_the_check(live: Live) -> None:
    """The check of the whole record, once an hour, names the entry; from then on nothing is taken."""
    await send(live)
    await countersigned(live)
    await live[A].centre.store.write(lambda connection: connection.exec_driver_sql(ALTERED))
    fault = await live[A].soundness.verify()
    assert fault is not None
    await live[A].soundness.find(fault)
    assert isinstance(live[A].full(), NotReady)


async def test_a_rewritten_history_is_caught_by_its_witnesses(live: Live) -> None:
    """A centre that rewrites everything it has, its own checkpoints too, can't prove its new log from what witnesses hold."""
    await send(live)
    await countersigned(live)
    await live.stop(A, B, C)
    await live.purge(A, topology.CONTROL)  # what they still said to A would tell it
    rewrite(live, ALTERED, *WITHOUT_TREE, *WITHOUT_CHECKPOINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_AUDIT__CHECKPOINT_SECONDS", "3600")
        await live.start(A)
    assert live[A].full() is None, "nothing in its store tells"
    for number in range(5):
        await live.submit(A, message(case_number=f"NEW-{number}", to=[B]))
    await eventually(live[A].centre.may_publish.is_set)
    await live[A].checkpoints.round()  # the first, of more entries than they hold
    await eventually(partial(published, live))  # before anybody tells it what he holds
    await live.start(B, C)
    for peer in (B, C):
        (evidence,) = await caught(live, peer, "audit-split-view")
        old, new = (Checkpoint.model_validate_json(one.statement) for one in (evidence.held, evidence.given))
        assert evidence.proof is not None
        assert not merkle.extends(
            old.size,
            new.size,
            [bytes.fromhex(one) for one in evidence.proof.hashes],
            bytes.fromhex(old.root),
            bytes.fromhex(new.root),
        )
    await eventually(lambda: live[A].full() is not None)


async def test_peers_notice_a_rewritten_store_within_two_checkpoints_of_its_start(live: Live) -> None:
    """A checkpoint comes each minute unless set otherwise, so both witnesses know of it within two."""
    assert AuditSettings().checkpoint_seconds == 60
    await send(live)
    await countersigned(live)
    await live.stop(A)
    rewrite(live, ALTERED, *WITHOUT_TREE, *WITHOUT_CHECKPOINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_AUDIT__CHECKPOINT_SECONDS", "4")
        await live.start(A)

    async def noticed(peer: str) -> bool:
        return (found := (await alarms(live, peer)).get(A)) is not None and found.code in ("audit-split-view", "audit-damaged")

    for peer in (B, C):
        await eventually(partial(noticed, peer))
    assert await count(live) <= 2


async def test_a_log_that_became_shorter_is_caught(live: Live) -> None:
    """Entries were cut off, with everything that says so: the first new checkpoint shows it."""
    await send(live)
    size = await countersigned(live)
    await live.stop(A)
    last = last_size(live)
    cut = "DELETE FROM audit WHERE position > (SELECT max(position) - 4 FROM audit)"
    rewrite(live, cut, *WITHOUT_TREE, *WITHOUT_CHECKPOINTS)
    await live.start(A)
    for peer in (B, C):
        (evidence,) = await caught(live, peer, "audit-shrunk")
        assert size <= Checkpoint.model_validate_json(evidence.held.statement).size <= last
    await eventually(lambda: live[A].full() is not None)


async def test_two_roots_of_one_size_are_caught(live: Live) -> None:
    """Signed by the same key; both are kept, and nothing of it is countersigned."""
    await send(live)
    size = await countersigned(live)
    other = signed(live, size, bytes(32))
    await given(live, A, B, Exchange(checkpoint=other))
    (evidence,) = await caught(live, B, "audit-split-view")
    assert evidence.given == other
    assert (await latest(live, B, A)) is not None
    assert evidence.held == (await latest(live, B, A)).note  # type: ignore[union-attr]


async def test_two_witnesses_that_are_shown_different_histories_notice(live: Live) -> None:
    """What B was shown alone comes to C by their exchange, and A can't prove that it is one with what C was shown."""
    await send(live)
    size = await countersigned(live)
    node, extra = live[A], merkle.hash_leaf(b"only for B")

    def fork(connection: Connection) -> tuple[bytes, Proof]:
        epoch = node.centre.store.epoch

        def subtree(level: int, index: int) -> bytes:
            if not index << level <= size < (index + 1) << level:
                return trees.subtrees(connection, epoch)(level, index)
            return merkle.hash_children(subtree(level - 1, 2 * index), subtree(level - 1, 2 * index + 1)) if level else extra

        hashes = merkle.consistency(size, size + 1, subtree)
        return merkle.root(size + 1, subtree), Proof(size=size, hashes=tuple(one.hex() for one in hashes))

    root, proof = await node.centre.store.read(fork)
    await given(live, A, B, Exchange(checkpoint=signed(live, size + 1, root), proofs=(proof,)))
    await eventually(lambda: _has(live, B, size + 1))
    await live.submit(B, message(case_number="GOSSIP", to=[C]))

    async def heard() -> bool:
        found = await live[C].centre.store.read(lambda connection: held.heard(connection, A, node.centre.store.epoch))
        return [one.said.size for one in found] == [size + 1]

    await eventually(heard)
    await live.stop(B)
    await live.submit(A, message(case_number="TO-C", to=[C]))
    (evidence,) = await caught(live, C, "audit-split-view")
    assert Checkpoint.model_validate_json(evidence.held.statement).root == root.hex()
    await eventually(lambda: node.full() is not None)


async def test_an_old_checkpoint_that_comes_again_changes_nothing(sound: Live) -> None:
    """A copy of an earlier one, under a new number, is no evidence against its origin, and is not countersigned."""
    live = sound
    await send(live, 1)
    await countersigned(live)
    old = await latest(live, B, A)
    assert old is not None
    await send(live, 1)
    await countersigned(live)
    before = await latest(live, B, A)
    await given(live, A, B, Exchange(checkpoint=old.note))
    await asyncio.sleep(1)
    assert await latest(live, B, A) == before
    assert A not in await alarms(live, B)


async def test_a_checkpoint_that_is_not_its_senders_is_refused(sound: Live) -> None:
    """By another's key, in another's name, of another network or epoch: counted and sampled, and nothing is held of it."""
    changes: list[dict[str, Any]] = [{"signer": B}, {"centre": C}, {"network": "0" * 64}, {"epoch": 1}]
    for count, change in enumerate(changes, 1):
        await given(sound, A, B, Exchange(checkpoint=signed(sound, 3, bytes(32), **change)))
        await eventually(partial(refused, sound, B, count))
    found = await latest(sound, B, A)
    assert found is None or found.root != bytes(32)


async def test_a_forged_countersignature_does_not_count(sound: Live) -> None:
    """In another's name, by another's key, or of a checkpoint that is not ours: none is kept."""
    live = sound
    await live.stop(C)
    await send_to_b(live)
    await countersigned(live, by=(B,))
    centre = live[A].centre
    kept = await centre.store.read(lambda connection: checkpoints.latest(connection, centre.store.epoch))
    assert kept is not None
    word = {"network": centre.settings.network, "witness": C, "checkpoint": kept.note.digest, "time": centre.now()}
    in_its_name = witnessed.countersign(live.signing_key(C), Countersignature(**word))  # type: ignore[arg-type]
    await given(live, B, A, Exchange(countersignature=in_its_name))
    await eventually(partial(refused, live, A, 1))
    by_another = witnessed.countersign(live.signing_key(B), Countersignature(**word))  # type: ignore[arg-type]
    await given(live, B, A, Exchange(countersignature=by_another))
    unknown = witnessed.countersign(
        live.signing_key(B),
        Countersignature(**{**word, "witness": B, "checkpoint": "0" * 64}),  # type: ignore[arg-type]
    )
    await given(live, B, A, Exchange(countersignature=unknown))
    await asyncio.sleep(1)
    signed_by = await centre.store.read(lambda connection: checkpoints.countersigned(connection, centre.store.epoch))
    assert signed_by.get(C, 0) < kept.size
    await live.start(C)


async def send_to_b(live: Live) -> None:
    """Let something happen in A's log while C is away."""
    stored = await live.submit(A, message(case_number="TO-B", to=[B]))
    await live.reaches(A, stored.id, B, "accepted")


def test_a_statement_has_one_spelling() -> None:
    """White space, another order, a further member: none of it is read, whoever signed it."""
    with pytest.raises(Rejected):
        witnessed._read(Countersignature, Note(statement="{}", key="0" * 32, signature="0" * 128))
    said = Countersignature(network="0" * 64, witness=A, checkpoint="1" * 64, time=1)
    text = said.model_dump_json()
    assert text == ('{"v":1,"network":"' + "0" * 64 + '","witness":"CHKA","checkpoint":"' + "1" * 64 + '","time":1}'), (
        "these bytes are final"
    )
    for other in (text + " ", text.replace(",", ", "), text[:-1] + ',"x":1}', text.replace("1}", "1.0}")):
        with pytest.raises(Rejected):
            witnessed._read(Countersignature, Note(statement=other, key="0" * 32, signature="0" * 128))


async def test_recovery_needs_a_reason(sound: Live) -> None:
    """A sound log is not ended by mistake."""
    live = sound
    await live.stop(A)
    with pytest.raises(Refused):
        await recovery.prepare(load(live.network.node_file(A)), anyway=False)
    await live.start(A)
