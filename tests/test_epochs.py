"""Heartbeats, and stores that are not what they were: restored from an older copy, lost altogether, on either side."""

from __future__ import annotations

import asyncio
import base64
import getpass
import itertools
import json
import shutil
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay import cli, messages, recovery
from relay.clock import from_ms, now_ms
from relay.envelope import EnvelopeType, new_id
from relay.errors import Misconfigured, Refused, StoreTrouble
from relay.rabbit import PrivateBroker
from relay.receipts import Echo
from relay.seal import Addressee, Draft, Sealer
from relay.settings import load
from relay.store import Connection, closing, epochs, outgoing, peers, record
from relay.store.peers import Alarm, Peer
from relay.submissions import Stored, Submission
from tests.live import LANE, PATIENCE, Live, eventually, message, private_network

A, B = CENTRES = ("EPOA", "EPOB")
BEAT = 0.3
ECHO = 40.0  # seconds for which no start waits here: a peer that runs speaks within a beat or two


@pytest.fixture
async def live(broker: PrivateBroker, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Live]:
    """Run two centres with new stores, which send heartbeats more often than usual."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_REPAIR__GAP", "0.3")
        patch.setenv("RELAY_REPAIR__HEARTBEAT_SECONDS", str(BEAT))
        patch.setenv("RELAY_REPAIR__ECHO_SECONDS", str(ECHO))
        patch.setenv("RELAY_BROKER__RECONNECT_SECONDS", "1")
        network = private_network(tmp_path / "network", broker, f"epochs-{abs(hash(request.node.name))}", CENTRES)
        nodes = Live(network, broker)
        await nodes.start(*CENTRES)
        yield nodes
        await nodes.close()


def store(live: Live, centre: str) -> Path:
    """Return the file of a centre's store."""
    return load(live.network.node_file(centre)).store.file


def copy(source: Path, target: Path) -> None:
    """Copy a store with its write-ahead log, as a backup tool would, in place of whatever is there."""
    for ending in ("", "-wal", "-shm"):
        file = target.with_name(target.name + ending)
        file.unlink(missing_ok=True)
        if (one := source.with_name(source.name + ending)).exists():
            shutil.copy2(one, file)


async def back_up(live: Live, centre: str, folder: Path) -> Path:
    """Stop a node, copy its store and start it again; return the copy."""
    await live.stop(centre)
    kept = folder / f"{centre}.db"
    copy(store(live, centre), kept)
    await live.start(centre)
    return kept


async def restore(live: Live, centre: str, kept: Path) -> None:
    """Stop a node, put the older copy in the place of its store, and start it again."""
    await live.stop(centre)
    copy(kept, store(live, centre))
    await live.start(centre)


async def alarms(live: Live, centre: str) -> dict[str, Alarm]:
    """Return the alarms that a centre raised about its peers."""
    return await live[centre].centre.store.read(peers.alarms)


async def heard(live: Live, centre: str, peer: str) -> Peer | None:
    """Return what a centre knows of a peer."""
    return (await live[centre].centre.store.read(peers.known)).get(peer)


def forks(live: Live, centre: str, origin: str) -> float:
    """Return how many messages of an origin a centre found to contradict it."""
    return float(live[centre].centre.metrics.forks.labels(origin)._value.get())


async def hold(live: Live, epoch: int, count: int) -> None:
    """Let B take messages that A signed in an epoch which its store does not know."""
    centre = live[A].centre
    drafts = [Draft(new_id(A), message(case_number=f"UNKNOWN-{number}"), 2**42) for number in range(count)]
    to = [Addressee(B, centre.sealing_key(B), 1)]
    version = centre.directory.version
    sealed = centre.sealer.seal("batch", LANE, drafts, to, epoch=epoch, directory=version, now=centre.now())
    await live.inject(A, B, sealed.raw)


async def all_taken(live: Live, centre: str, ids: set[str]) -> list[str]:
    """Take what comes to a centre until all of these came; return every id in order, copies included."""
    taken: list[str] = []
    while not ids <= set(taken):
        given = await live.take(centre, wait=PATIENCE)
        assert given, f"{ids - set(taken)} did not come"
        taken += [one.id for one in given]
    return taken


async def submit(live: Live, origin: str, recipient: str, case: str, **fields: Any) -> Stored:
    """Submit a message to one centre."""
    return await live.submit(origin, message(case_number=case, to=[recipient], **fields))


async def test_centres_hear_each_other(live: Live) -> None:
    """Each knows of the other when it was heard, its clock, its epoch and directory, and what it holds of this centre."""
    one = await submit(live, A, B, "HEARD-1")
    await live.reaches(A, one.id, B, "accepted")

    async def echoed() -> bool:
        peer = await heard(live, A, B)
        return peer is not None and [(echo.lane, echo.highest) for echo in peer.echo] == [(LANE, 1)]

    async def of_this_moment() -> bool:
        peer = await heard(live, A, B)
        return peer is not None and abs(peer.offset) < 2000 and round(metric._value.get() * 1000) == peer.heard_at

    metric = live[A].centre.metrics.peer_heard.labels(B)
    await eventually(echoed)
    await eventually(of_this_moment)
    peer = await heard(live, A, B)
    assert peer is not None
    assert peer.epoch == live[B].centre.store.epoch
    assert (peer.directory, peer.digest) == (live[A].centre.directory.version, live[A].centre.directory.digest)
    assert await alarms(live, A) == {}


async def test_a_peer_that_falls_silent_is_noticed_once_and_when_it_returns(live: Live) -> None:
    """After three missed heartbeats a peer counts as silent and is sent fewer; when it is heard again it does not any more."""
    beats = live[A].heartbeats
    await eventually(lambda: beats._seen(B).heard is not None)
    await live.stop(B)
    await eventually(lambda: beats._seen(B).silent)
    await eventually(lambda: beats._seen(B).pause > BEAT)
    await live.start(B)
    await eventually(lambda: not beats._seen(B).silent)
    assert beats._seen(B).pause == BEAT


async def test_a_peer_that_is_first_heard_while_silence_is_looked_for_ends_nothing(live: Live) -> None:
    """Heartbeats are taken in the thread that writes the store; the loop goes through its peers meanwhile."""
    heartbeats, done = live[A].heartbeats, threading.Event()

    def hear() -> None:
        for number in itertools.count():
            heartbeats._seen(f"P{number % 2_000}")
            if number % 2_000 == 1_999:
                heartbeats._peers = {}
            if done.is_set():
                return

    before, interval, hearing = heartbeats._peers, sys.getswitchinterval(), threading.Thread(target=hear)
    sys.setswitchinterval(1e-6)
    hearing.start()
    try:
        for _ in range(5_000):
            heartbeats._notice_silence()
    finally:
        done.set()
        hearing.join()
        sys.setswitchinterval(interval)
        heartbeats._peers = before


async def test_a_hole_is_asked_for_when_its_origin_says_nothing_of_it(live: Live) -> None:
    """What is missing below the highest sequence held is asked for by the recipient itself, though nothing is open there."""
    first = [await submit(live, A, B, f"HOLE-{number}") for number in range(3)]
    await all_taken(live, B, {one.id for one in first})
    for one in first:
        await live.reaches(A, one.id, B, "delivered")

    def forget(connection: Connection) -> None:
        connection.exec_driver_sql(
            "DELETE FROM inbox_envelope WHERE n = (SELECT envelope FROM inbox_message WHERE id = ?)", (first[1].id,)
        )
        connection.exec_driver_sql("DELETE FROM inbox_message WHERE id = ?", (first[1].id,))
        connection.exec_driver_sql("DELETE FROM inbox_closed")
        epoch = live[A].centre.store.epoch
        for sequence in (1, 3):
            closing.close(connection, A, closing.Range(epoch, LANE, sequence, sequence))

    await live[B].centre.store.write(forget)
    assert first[1].id in await all_taken(live, B, {first[1].id})


async def test_a_node_publishes_nothing_before_a_peer_spoke(live: Live) -> None:
    """At the start what was taken is stored and waits for a peer's echo; when nobody answers in time it goes out."""
    await live.stop(B, A)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__ECHO_SECONDS", "3")
        begun = now_ms()
        await live.start(A)
    one = await submit(live, A, B, "WAITS")
    await live.reaches(A, one.id, B, "sent")
    known = await live[A].centre.store.read(lambda connection: outgoing.message(connection, one.id))
    assert known is not None
    assert [step.state for step in known.recipients[B]] == ["queued", "sent"]
    assert known.recipients[B][-1].at - begun >= 3000
    await live.start(B)
    await all_taken(live, B, {one.id})


async def test_a_store_that_went_back_stops_its_node_and_recovers_in_a_new_epoch(live: Live, tmp_path: Path) -> None:
    """An older copy is noticed by the peer's echo; after `relay recover` everything open arrives once, and both ways work."""
    early = await submit(live, A, B, "EARLY")
    await all_taken(live, B, {early.id})
    await live.reaches(A, early.id, B, "delivered")
    open_ = [await submit(live, A, B, f"OPEN-{number}") for number in range(3)]
    for one in open_:
        await live.reaches(A, one.id, B, "accepted")
    kept = await back_up(live, A, tmp_path)
    epoch = live[A].centre.store.epoch
    lost = [await submit(live, A, B, f"LOST-{number}") for number in range(2)]
    for one in lost:
        await live.reaches(A, one.id, B, "accepted")
    received = [await submit(live, B, A, f"RECEIVED-{number}") for number in range(2)]
    await all_taken(live, A, {one.id for one in received})
    for one in received:
        await live.reaches(B, one.id, A, "delivered")

    await restore(live, A, kept)
    await eventually(lambda: live[A].full() is not None)
    trouble = live[A].full()
    assert isinstance(trouble, StoreTrouble)
    assert trouble.code == "recover"
    assert trouble.detail in (await live[A].health()).problems
    raw = message(case_number="REFUSED", to=[B])
    assert str(trouble) in [str(one) for one in await live[A].outbox.submit([Submission(raw, messages.parse(raw))])]
    again = await all_taken(live, A, {one.id for one in received})
    assert sorted(again) == sorted(one.id for one in received), "what the lost part of the store had received comes again"
    await eventually(lambda: _alarmed(live, B, A, "peer-went-back"))

    with pytest.raises(Misconfigured) as refused:
        await recovery.prepare(load(live.network.node_file(A)), anyway=False)
    assert refused.value.code == "store-in-use"
    await live.stop(A)
    await live.start(A)
    assert live[A].full() is not None, "a restart does not forget it"
    await live.stop(A)
    prepared = await recovery.prepare(load(live.network.node_file(A)), anyway=False)
    assert prepared.epoch == epoch < prepared.following
    await live.start(A)

    assert live[A].centre.store.epoch == prepared.following
    assert live[A].full() is None
    new = await submit(live, A, B, "NEW")
    taken = await all_taken(live, B, {one.id for one in (*open_, *lost, new)})
    assert len(taken) == len(set(taken)), "nothing is handed over twice"
    for one in (*open_, new):
        await live.reaches(A, one.id, B, "delivered")
    back = await submit(live, B, A, "BACK")
    await all_taken(live, A, {back.id})
    await live.reaches(B, back.id, A, "delivered")
    assert forks(live, A, B) == forks(live, B, A) == 0
    await eventually(lambda: _alarmed(live, B, A, "peer-new-epoch"))
    turn = (await live[A].recovery.view()).turn
    assert turn is not None
    assert [(one.peer, one.epoch, one.lane, one.count) for one in turn.unknown] == [(B, epoch, LANE, 2)]
    leaf = (await live[A].centre.store.read(lambda c: record.leaves(c, prepared.following)))[0]
    assert f"epoch {epoch}, leaf ".encode() in leaf


async def test_what_was_never_sent_or_half_delivered_goes_on_in_the_new_epoch(live: Live) -> None:
    """A recovery that an operator asks for without need loses nothing either: queued, accepted and delivered messages go on."""
    with pytest.raises(Misconfigured):
        await recovery.prepare(load(live.network.node_file(A)), anyway=True)
    many = [message(case_number=f"MANY-{number}", to=[B]) for number in range(5)]
    outcomes = await live[A].outbox.submit([Submission(raw, messages.parse(raw)) for raw in many])
    ids = [one.id for one in outcomes if isinstance(one, Stored)]
    for one in ids:
        await live.reaches(A, one, B, "accepted")
    given = await live[B].handover.take(1000, 5)
    await live[B].handover.acknowledge([given[0].id, given[3].id])
    await live.reaches(A, given[3].id, B, "delivered")
    await live.stop(B)
    queued = await submit(live, A, B, "QUEUED", precedence="flash")
    await live.abort(A)
    settings = load(live.network.node_file(A))
    with pytest.raises(Refused):
        await recovery.prepare(settings, anyway=False)
    await recovery.prepare(settings, anyway=True)
    await live.start(B, A)
    taken = await all_taken(live, B, {queued.id, *(one.id for one in given if one not in (given[0], given[3]))})
    assert len(taken) == len(set(taken))
    for one in (*ids, queued.id):
        await live.reaches(A, one, B, "delivered")
    assert forks(live, B, A) == 0


async def test_a_peer_that_lost_its_store_is_sent_again_what_it_held(live: Live) -> None:
    """A store that is deleted begins a new epoch; the peer raises an alarm and sends again what it still keeps, open or not."""
    done = await submit(live, A, B, "DONE")
    await all_taken(live, B, {done.id})
    await live.reaches(A, done.id, B, "delivered")
    open_ = await submit(live, A, B, "STILL-OPEN")
    await live.reaches(A, open_.id, B, "accepted")
    mine = await submit(live, B, A, "MINE")
    await live.reaches(B, mine.id, A, "accepted")
    await live.stop(B)
    for ending in ("", "-wal", "-shm"):
        store(live, B).with_name(store(live, B).name + ending).unlink(missing_ok=True)
    await asyncio.sleep(1.1)  # epochs are seconds
    await live.start(B)
    taken = await all_taken(live, B, {done.id, open_.id})
    assert sorted(taken) == sorted([done.id, open_.id])
    await live.reaches(A, open_.id, B, "delivered")
    await eventually(lambda: _alarmed(live, A, B))
    new = await submit(live, B, A, "AFTER")
    assert set(await all_taken(live, A, {mine.id, new.id})) == {mine.id, new.id}
    await live.reaches(B, new.id, A, "delivered")
    assert forks(live, A, B) == 0

    async def told() -> bool:
        turn = (await live[B].recovery.view()).turn
        return turn is not None and [(one.peer, one.lane, one.count) for one in turn.unknown] == [(A, LANE, 1)]

    await eventually(told)


async def _alarmed(live: Live, centre: str, peer: str, code: str | None = None) -> bool:
    alarm = (await alarms(live, centre)).get(peer)
    return alarm is not None and code in (None, alarm.code)


async def test_a_directory_of_the_same_version_with_other_bytes_is_an_alarm(live: Live) -> None:
    """A peer that goes by another directory under the same version number is noticed."""
    live[B].centre.directory.__dict__["digest"] = "ab" * 32
    await eventually(lambda: _alarmed(live, A, B))
    assert (await alarms(live, A))[B].code == "directory-mismatch"


async def test_an_epoch_is_greater_than_any_that_a_peer_knows(live: Live) -> None:
    """A peer that holds a later epoch of this centre than its store stops it, and the next epoch is greater than that one."""
    later = live[A].centre.store.epoch + 100_000
    await hold(live, later, 7)
    await eventually(lambda: live[A].full() is not None)
    await live.stop(A)
    prepared = await recovery.prepare(load(live.network.node_file(A)), anyway=False)
    assert prepared.following > later
    await live.start(A)
    one = await submit(live, A, B, "LATER")
    await all_taken(live, B, {one.id})
    unknown = (await live[A].recovery.view()).turn
    assert unknown is not None
    assert [(one.epoch, one.first, one.last) for one in unknown.unknown] == [(later, 1, 7)]


async def test_an_echo_that_shows_nothing_changes_nothing(live: Live) -> None:
    """A peer that claims to hold more than was ever sent, and shows no envelope of ours, is alarmed about; the node goes on."""
    await live[B].centre.store.write(lambda c: closing.close(c, A, closing.Range(live[A].centre.store.epoch, LANE, 1, 900)))
    await eventually(lambda: _alarmed(live, A, B))
    assert (await alarms(live, A))[B].code == "peer-echo-unproven"
    assert live[A].full() is None
    one = await submit(live, A, B, "GOES-ON", precedence="flash")
    await all_taken(live, B, {one.id})
    await live.reaches(A, one.id, B, "delivered")
    assert await live[A].centre.store.read(epochs.behind) is None


@pytest.mark.parametrize("claim", ["echo", "foreign", "known", "mark"])
async def test_only_what_this_centre_signed_beyond_its_store_is_proof(live: Live, claim: str) -> None:
    """Neither a header of the peer's own, nor one this store knows, nor a mark proves anything; a batch beyond the store does."""
    centre, peer = live[A].centre, live[B].centre
    known = await submit(live, A, B, "KNOWN")
    await live.reaches(A, known.id, B, "accepted")
    epoch, version = centre.store.epoch, centre.directory.version
    said = Echo(epoch=epoch, lane=LANE, highest=5)

    def sealed(by: Sealer, origin: str, to: str, kind: EnvelopeType = "batch", first: int = 5) -> str:
        draft = Draft(new_id(origin), b"anything", 2**42 if kind == "batch" else 0)
        key = (peer if to == B else centre).directory.member(to)
        assert key is not None
        addressee = Addressee(to, key.sealing_keys(from_ms(centre.now()))[0], first)
        made = by.seal(kind, LANE, [draft], [addressee], epoch=epoch, directory=version, now=centre.now())
        return base64.b64encode(made.envelope.header).decode()

    shown = {
        "echo": "not base64",
        "foreign": sealed(peer.sealer, B, A),
        "known": sealed(centre.sealer, A, B, first=1),
        "mark": sealed(centre.sealer, A, B, "mark"),
    }[claim]
    assert live[A].recovery.proof(B, shown, 1, said) is None
    assert live[A].recovery.proof(B, sealed(centre.sealer, A, B), 1, said) == said


async def test_numbers_of_controls_go_on_after_a_restore(live: Live, tmp_path: Path) -> None:
    """A restored store that needs no recovery is understood at once: its marks and heartbeats have higher numbers than before."""
    await live.stop(A)
    kept = tmp_path / "kept.db"
    copy(store(live, A), kept)
    await live.start(A)
    await eventually(lambda: heard(live, B, A))
    before = (await live[A].centre.store.read(outgoing.sequences))[B, "heartbeat"]
    await restore(live, A, kept)
    await eventually(live[A].centre.may_publish.is_set, ECHO / 2)
    assert (await live[A].centre.store.read(outgoing.sequences))[B, "heartbeat"] > before
    assert await live[A].centre.store.read(epochs.behind) is None


async def test_the_commands_say_what_is_wrong_and_mend_it(live: Live) -> None:
    """`relay recover` refuses without need and while the node runs; with it, the node's next start has a new epoch."""
    config = str(live.network.node_file(A))
    asked = ["recover", "--reason", "the disk was replaced"]
    assert await asyncio.to_thread(cli.run, [*asked, "--config", config]) == 78
    later = live[A].centre.store.epoch + 50
    await hold(live, later, 2)
    await eventually(lambda: live[A].full() is not None)
    await live.stop(A)
    assert await asyncio.to_thread(cli.run, ["recover", "--config", config]) == 64, "no reason, no recovery"
    assert await asyncio.to_thread(cli.run, [*asked, "--config", config]) == 0
    assert await asyncio.to_thread(cli.run, [*asked, "--config", config]) == 0
    await live.start(A)
    assert live[A].centre.store.epoch == later + 1
    leaf = json.loads((await live[A].centre.store.read(lambda c: record.leaves(c, later + 1)))[0])
    assert (leaf["step"], leaf["actor"]) == ("epoch-opened", f"{getpass.getuser()} on the node's machine")
    assert leaf["why"].endswith("; the disk was replaced")
    assert await asyncio.to_thread(cli.run, asked) == 78
    await live.stop(A)
    assert await asyncio.to_thread(cli.run, [*asked, "--config", config]) == 64
    await live.start(A)
