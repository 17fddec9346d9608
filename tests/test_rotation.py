"""Keys that change while a network works: a rotation loses and refuses nothing, a revocation lets nothing pass, delays no other.

``ROTATION_MESSAGES`` in the environment is how many messages are in flight when keys change; without it, two thousand.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from relay import messages
from relay.audit import AuditStep
from relay.clock import to_ms
from relay.envelope import new_id
from relay.errors import Misconfigured, NotReady
from relay.keys import SigningKey
from relay.node import open_node
from relay.rabbit import PrivateBroker
from relay.seal import Addressee, Draft, Sealer
from relay.settings import load
from relay.store import peers, record, samples, suspects
from relay.submissions import Submission
from tests.live import LANE, Live, eventually, message, private_network
from tests.rotation import (
    HOUR,
    PATIENCE,
    add,
    age_keys,
    alter,
    change_keys,
    counted,
    first_key,
    new_key,
    now,
    sent,
    submit_many,
    take_exactly,
)

MANY = int(os.environ.get("ROTATION_MESSAGES", "2000"))
SOME = 200


@pytest.fixture
async def live(request: pytest.FixtureRequest, broker: PrivateBroker, tmp_path: Path) -> AsyncIterator[Live]:
    """Write a network of the centres that the test names, none of them running, that ask soon for what they miss."""
    centres: tuple[str, ...] = request.param
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"MARK_FIRST": "0.2", "MARK_LONGEST": "1", "GAP": "0.3"}.items():
            patch.setenv(f"RELAY_REPAIR__{name}", value)
        nodes = Live(private_network(tmp_path / "network", broker, f"rotation-{centres[0].lower()}", centres), broker)
        age_keys(nodes)
        yield nodes
        await nodes.close()


def of(*centres: str) -> pytest.MarkDecorator:
    """Return the mark of a test that needs a network of these centres."""
    return pytest.mark.parametrize("live", [centres], indirect=True, ids=["+".join(centres)])


@of("ROTA", "ROTB")
async def test_thousands_of_messages_in_flight_survive_a_rotation(live: Live) -> None:
    """Half of them signed and sealed with the old keys, half with the new; nothing is refused, asked for again or sent twice."""
    signing, sealing = new_key(live, "ROTA", "signing"), new_key(live, "ROTB", "sealing")
    await live.start("ROTA", "ROTB")
    await live.stop("ROTB")
    before = await submit_many(live, "ROTA", "ROTB", MANY // 2, name="OLD")
    change_keys(live, "ROTA", add(signing))
    change_keys(live, "ROTB", add(sealing))
    after = await submit_many(live, "ROTA", "ROTB", MANY // 2, name="NEW")
    await sent(live, "ROTA", seconds=max(PATIENCE, MANY / 20))
    assert live["ROTA"].centre.keyring.signing(live["ROTA"].centre.now()).id == signing.key.id
    assert live["ROTA"].centre.sealing_key("ROTB").id == sealing.key.id
    await live.start("ROTB")
    await take_exactly(live, "ROTB", [*before, *after], seconds=max(PATIENCE, MANY / 20))
    assert counted(live, "ROTB", "dropped") == 0
    assert counted(live, "ROTA", "resent") == 0


@of("ROTC", "ROTD")
async def test_what_is_in_flight_when_its_keys_run_out_is_sealed_anew(live: Live) -> None:
    """The peer refuses what the old key signed, whatever time it names, asks again, and gets it under the new one: once."""
    signing, sealing = new_key(live, "ROTC", "signing"), new_key(live, "ROTD", "sealing")
    await live.start("ROTC", "ROTD")
    await live.stop("ROTD")
    ids = await submit_many(live, "ROTC", "ROTD", SOME, name="LATE")
    await sent(live, "ROTC")
    change_keys(live, "ROTC", add(signing))
    change_keys(live, "ROTD", add(sealing))
    change_keys(live, "ROTC", alter(first_key(live, "ROTC", "signing"), valid_until=now()))
    change_keys(live, "ROTD", alter(first_key(live, "ROTD", "sealing"), valid_until=now()))
    await live.start("ROTD")
    await take_exactly(live, "ROTD", ids)
    refused = {code for code, _ in await live["ROTD"].centre.store.read(samples.listed)}
    assert refused == {"unknown-key"}


@of("ROTE", "ROTF")
async def test_what_waits_for_the_broker_when_its_key_is_revoked_leaves_under_another(live: Live) -> None:
    """It is sealed anew before it goes, so that its recipient has nothing to ask for again."""
    signing = new_key(live, "ROTE", "signing")
    await live.start("ROTE", "ROTF")
    live["ROTE"].broker.connected.clear()
    ids = await submit_many(live, "ROTE", "ROTF", SOME, name="WAITING")
    change_keys(live, "ROTE", add(signing))
    change_keys(live, "ROTE", alter(first_key(live, "ROTE", "signing"), revoked_from=now() - HOUR))
    live["ROTE"].broker.connected.set()
    await take_exactly(live, "ROTF", ids)
    assert counted(live, "ROTE", "resent") == 0


@of("REVA", "REVB", "REVC")
async def test_a_revocation_during_load(live: Live) -> None:
    """Nothing of the revoked key is accepted afterwards; its centre goes on under another key; nothing of others is delayed."""
    signing = new_key(live, "REVA", "signing")
    await live.start("REVA", "REVB", "REVC")
    old = first_key(live, "REVA", "signing")
    earlier = await submit_many(live, "REVA", "REVC", SOME, name="EARLIER")
    await take_exactly(live, "REVC", earlier)
    stolen = now() + timedelta(seconds=1)
    await eventually(lambda: now() >= stolen)
    later = await submit_many(live, "REVA", "REVC", SOME, name="LATER")
    await take_exactly(live, "REVC", later)

    load_ = asyncio.create_task(submit_many(live, "REVB", "REVC", 4 * SOME, name="OTHERS"))
    change_keys(live, "REVA", add(signing))
    change_keys(live, "REVA", alter(old, revoked_from=stolen))
    forged = [inject_old(live, number) for number in range(20)]
    await asyncio.gather(*forged)
    after = await submit_many(live, "REVA", "REVC", SOME, name="AFTER")
    others = await load_
    await take_exactly(live, "REVC", [*after, *others])  # and nothing of what the thief signed

    store = live["REVC"].centre.store
    await eventually(lambda: counted(live, "REVC", "dropped") >= len(forged))
    assert {code for code, _ in await store.read(samples.listed)} == {"unknown-key"}
    assert counted(live, "REVB", "resent") == 0

    async def listed() -> bool:
        return len(await store.read(lambda connection: suspects.listed(connection, old))) >= SOME

    await eventually(listed)
    found = await store.read(lambda connection: suspects.listed(connection, old))
    assert {one.id for one in found} == set(later)
    assert all(one.received_at >= to_ms(stolen) for one in found)
    leaves = [json.loads(leaf) for leaf in await store.read(lambda connection: record.leaves(connection, store.epoch, 0, 10_000))]
    assert [leaf["why"].split()[0] for leaf in leaves if leaf["step"] == AuditStep.KEY_REVOKED] == [old]
    assert sum(leaf["count"] for leaf in leaves if leaf["step"] == AuditStep.SUSPECTED) == SOME
    assert (await store.read(peers.alarms))["REVA"].code == "key-revoked"


async def inject_old(live: Live, number: int) -> None:
    """Send what somebody signs with REVA's first key, claiming a time long before it was revoked."""
    centre = live["REVA"].centre
    sealed = Sealer("REVA", live.network.id, live.signing_key("REVA")).seal(
        "batch",
        LANE,
        [Draft(new_id("REVA"), message(case_number=f"FORGED-{number}", to=["REVC"]), 2**42)],
        [Addressee("REVC", centre.sealing_key("REVC"), 100_000 + number)],
        epoch=1,
        directory=centre.directory.version,
        now=centre.now() - 86_400_000,
    )
    await live.inject("REVA", "REVC", sealed.raw)


@of("NOKA", "NOKB")
async def test_a_node_whose_keys_all_ended_takes_nothing_and_recovers(live: Live) -> None:
    """It says so, goes on receiving, and with the first key that is listed again what was said meanwhile is said anew."""
    signing = new_key(live, "NOKA", "signing")
    await live.start("NOKA", "NOKB")
    node, old = live["NOKA"], first_key(live, "NOKA", "signing")
    change_keys(live, "NOKA", alter(old, revoked_from=now() - HOUR))
    refused = (await node.outbox.submit([Submission(raw := message(to=["NOKB"]), messages.parse(raw))]))[0]
    assert isinstance(refused, NotReady)
    assert refused.code == "no-usable-key"
    assert any("no signing key" in problem for problem in (await node.health()).problems)
    ids = await submit_many(live, "NOKB", "NOKA", 20, name="MEANWHILE")
    await take_exactly(live, "NOKA", ids)
    assert "delivered" not in await live.states("NOKB", ids[0], "NOKA")
    change_keys(live, "NOKA", add(signing))
    await eventually(lambda: is_ready(live, "NOKA"))
    for one in (ids[0], ids[-1]):
        assert "delivered" in await live.reaches("NOKB", one, "NOKA", "delivered", 60)
    assert await submit_many(live, "NOKA", "NOKB", 1, name="AGAIN")


async def is_ready(live: Live, centre: str) -> bool:
    """Return whether a node can do its work, its connection to the broker included."""
    return (await live[centre].health()).ready


@of("EXPA", "EXPB")
async def test_the_end_of_keys_is_said_in_time(live: Live) -> None:
    """In health, as a metric and in the log: once per threshold; a key that nothing needs any more is named, too."""
    await live.start("EXPA")
    custody, old = live["EXPA"].custody, first_key(live, "EXPA", "sealing")
    assert not custody.warnings
    end = now() + timedelta(days=10)
    change_keys(live, "EXPA", alter(old, valid_until=end))
    custody.look()
    assert custody.warnings == (f"The last sealing key is valid for 9 more days, until {end:%Y-%m-%d}.",)
    await eventually(lambda: is_ready(live, "EXPA"))
    assert live["EXPA"].centre.metrics.key_expiry.labels("sealing")._value.get() == end.timestamp()
    change_keys(live, "EXPA", alter(old, valid_until=now() - timedelta(days=90), valid_from=now() - timedelta(days=400)))
    custody.look()
    assert f"The sealing key {old} is needed no more: `relay key destroy {old}`." in custody.warnings
    assert custody.trouble is not None


@of("OLDA", "OLDB")
async def test_a_node_starts_with_a_key_that_waits_and_not_without_one_that_counts(live: Live) -> None:
    """A key file that the directory does not list yet stops nothing; a directory without a usable key of the node's does."""
    new_key(live, "OLDA", "signing")
    await live.start("OLDA")
    await eventually(lambda: any("does not list the signing key" in one for one in live["OLDA"].custody.warnings))
    await live.stop("OLDA")
    change_keys(live, "OLDA", alter(first_key(live, "OLDA", "signing"), revoked_from=now() - HOUR))
    with pytest.raises(Misconfigured, match="no signing key") as caught:
        await open_node(load(live.network.node_file("OLDA")))
    assert caught.value.code == "no-usable-key"


@of("CREA", "CREB")
async def test_every_secret_of_a_node_comes_from_a_credential(
    live: Live, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Signing, sealing, checkpoint and storage keys and the broker's password, as systemd hands them over."""
    config, folder = live.network.node_file("CREA"), tmp_path / "credentials"
    folder.mkdir()
    keys = live.network.centre("CREA") / "keys"
    for name in ("signing.pem", "sealing.pem", "storage.key", "broker.password"):
        (keys / name).rename(folder / name)
    SigningKey.generate().save(folder / "checkpoint.pem")
    for file in folder.iterdir():
        file.chmod(0o440)
    text = config.read_text(encoding="utf-8").replace('"keys/', '"credential:')
    config.write_text(text.replace("[keys]\n", '[keys]\ncheckpoint = "credential:checkpoint.pem"\n'), encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    await live.start("CREA", "CREB")
    ids = await submit_many(live, "CREA", "CREB", 1, name="CREDENTIAL")
    await take_exactly(live, "CREB", ids)
