"""`relay check`: what monitoring systems ask of a node, in their words, forms and exit statuses."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import pytest

from relay import cli
from relay.api import Api
from relay.cli import check
from relay.cli.check import Finding
from relay.errors import NotReady, StoreTrouble
from relay.network import write_network
from relay.observation import Answers, Observation, Peer, SetAside
from relay.rabbit import PrivateBroker
from relay.views import checks
from relay.views.checks import Check
from relay.views.network import LateAlarm, Network, network
from relay.web.served import Readiness
from tests.live import Live, eventually, message, private_network
from tests.watched import DEPLOY

A, B, C = CENTRES = ("CKA", "CKB", "CKC")
OF_A_NODE = [
    "ready", "broker", "store", "disk", "backlog", "directory", "keys", "peers", "unreceipted", "dead", "held", "quarantine",
    "requests", "audit", "clocks", "comparison",
]  # fmt: skip


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run three centres with quick heartbeats and alarms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__HEARTBEAT_SECONDS", "0.5")
        patch.setenv("RELAY_REPAIR__ECHO_SECONDS", "1")
        patch.setenv("RELAY_ALARMS__FLASH", "1")
        patch.setenv("RELAY_AUDIT__CHECKPOINT_SECONDS", "0.3")
        live = Live(private_network(tmp_path_factory.mktemp("check") / "net", broker, "check", CENTRES), broker)
        try:
            await live.start(*CENTRES)
            await eventually(lambda: all(live[A].heartbeats.state(one) == "heard" for one in (B, C)))
            await eventually(partial(well, live))
            yield live
        finally:
            await live.close()


async def found(live: Live) -> dict[str, Check]:
    """Return what a node finds of itself, by check."""
    node = live[A]
    return {one.check: one for one in (await checks.checks(node, Readiness(node))).checks}


async def well(live: Live) -> bool:
    """Return whether nothing is wrong with a node."""
    return {one.state for one in (await found(live)).values()} == {"ok"}


async def test_a_node_that_is_well_says_so_of_each_thing(live: Live, capfd: Any) -> None:
    """Every check is there, in a fixed order, and ok; so says the command, in three forms, and ends with 0."""
    assert list(await found(live)) == OF_A_NODE
    api, config = Api(), ["--config", str(live.network.node_file(A))]

    async def run(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        done = await asyncio.to_thread(cli.run, ["check", *words, *config])
        lines = [line for line in capfd.readouterr().out.splitlines() if not re.match(r"20\d\d-", line)]  # the nodes' own log
        return done, "\n".join(lines)

    async def fit(*words: str) -> str:
        """Return what the command says when it ends with 0: a peer is silent for a moment when the machine stalls."""
        said = ""

        async def well_now() -> bool:
            nonlocal said
            status, said = await run(*words)
            return status == 0

        await eventually(well_now)
        return said

    task = asyncio.create_task(api.run(live[A]))
    try:
        text = await fit("--format", "text")
        assert [line.split()[:2] for line in text.splitlines()] == [["ok", one] for one in ("settings", "node", *OF_A_NODE)]
        text = await fit("--format", "json")
        assert [(one["check"], one["state"], one["action"]) for one in json.loads(text)] == [
            (one, "ok", "") for one in ("settings", "node", *OF_A_NODE)
        ]
        text = await fit("--format", "prometheus")
        assert f'relay_check_status{{check="ready",centre="{A}"}} 0' in text.splitlines()
        words, given = ["promtool", "check", "metrics"], f"{text}\n".encode()
        promtool = await asyncio.to_thread(subprocess.run, words, input=given, capture_output=True, check=False)
        assert promtool.returncode == 0, promtool.stdout + promtool.stderr
    finally:
        await api.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_silent_peer_and_a_late_flash_message_are_found(live: Live) -> None:
    """A peer that is heard no more is a warning, what it owes in flash is critical; both say whom to call."""
    await live.abort(C)
    late: dict[str, Check] = {}

    async def noticed() -> bool:
        late.update(await found(live))
        return f"Silent: {C} since 2" in late["peers"].detail and late["unreceipted"].state != "ok"

    try:
        stored = await live.submit(A, message(to=[C], precedence="flash"))
        await eventually(noticed)
        assert late["peers"].state == "warning"
        assert late["unreceipted"].state == "critical"
        assert f"{C}: 1 flash (accepted) since 2" in late["unreceipted"].detail
        member = live[A].centre.directory.member(C)
        assert member is not None
        assert all(member.contact.telephone in late[one].action for one in ("peers", "unreceipted"))
    finally:
        await live.start(C)
    await live.reaches(A, stored.id, C, "accepted")
    await live.take(C)
    await eventually(partial(well, live))


async def test_a_record_that_no_witness_countersigns_is_a_warning(live: Live) -> None:
    """After ten pauses between checkpoints without a witness's word; its witnesses are named."""
    await live.stop(B, C)

    async def noticed() -> bool:
        return (await found(live))["audit"].state == "warning"

    try:
        stored = await live.submit(A, message(to=[B]))
        await eventually(noticed)
        said = (await found(live))["audit"]
        assert f"No witness ({B}, {C}) has countersigned the record since 2" in said.detail
    finally:
        await live.start(B, C)
    await live.reaches(A, stored.id, B, "accepted")
    await live.take(B)
    await eventually(partial(well, live))


def observation(**seen: Any) -> Observation:
    """Return an observation of a quiet node, but for what is given."""
    quiet: dict[str, Any] = {
        "at": 0, "seconds": 0.0, "peers": (Peer(B),), "sent_aside": SetAside(), "received_aside": SetAside(),
        "asked": Answers(), "received": Answers(), "waiting": 0, "waiting_since": None,
    }  # fmt: skip
    return Observation(**{**quiet, **seen})


@pytest.mark.parametrize(
    ("check_", "seen", "said"),
    [
        ("dead", {"sent_aside": SetAside(dead=3)}, "3 messages sent"),
        ("dead", {"received_aside": SetAside(dead=2)}, "2 received"),
        ("held", {"sent_aside": SetAside(held=3, held_since=-checks.HELD_ATTENTION_MS)}, "3 (a sent message"),
        ("quarantine", {"received_aside": SetAside(quarantined=4)}, "4 authentic messages"),
        ("requests", {"received": Answers(5, 1)}, "1 of 5 answers owed here"),
        ("requests", {"asked": Answers(7, 2)}, "2 of 7 owed by peers"),
    ],
)
def test_what_is_set_aside_or_overdue_is_a_warning(check_: str, seen: dict[str, Any], said: str) -> None:
    """What an operator should look at, with its number and what to do; what was not looked at yet is unknown."""
    look = getattr(checks, f"_{check_}")
    made = look(observation(**seen))
    assert made.state == "warning"
    assert said in made.detail
    assert made.action
    assert look(observation()).state == "ok"
    assert look(None).state == "unknown"


def test_what_is_held_since_this_watch_is_well() -> None:
    """An operator may park a message; from when on somebody is asked about it is the same as in the alert."""
    look = observation(at=checks.HELD_ATTENTION_MS, sent_aside=SetAside(held=1, held_since=1), received_aside=SetAside(held=2))
    made = checks._held(look)
    assert (made.state, made.action) == ("ok", "")
    assert "Held by operators: 3" in made.detail
    rule = (DEPLOY / "prometheus" / "rules" / "RelayMessageHeldLong.yml").read_text(encoding="utf-8")
    assert f"relay_oldest_held_seconds > {checks.HELD_ATTENTION_MS // 1000}" in rule


async def test_what_the_network_says_is_judged(live: Live) -> None:
    """Clocks, directory, broker and store: from ok to critical as the numbers get worse."""
    seen = await network(live[A])
    clock = [_with_offset(seen, offset) for offset in (4.0, -6.0, 301.0)]
    assert [checks._clocks(one).state for one in clock] == ["ok", "warning", "critical"]
    late = [seen.model_copy(update={"at": at}) for at in (seen.centre.directory_warn_after, seen.centre.directory_expires_at)]
    assert [checks._directory(one).state for one in late] == ["warning", "critical"]
    other = seen.peers[0].model_copy(update={"directory_differs": True})
    assert checks._directory(seen.model_copy(update={"peers": [other]})).state == "warning"
    gone = seen.model_copy(update={"centre": seen.centre.model_copy(update={"broker_connected": False})})
    assert checks._broker(gone).state == "critical"
    assert checks._store(seen.model_copy(update={"trouble": ["It can't be read."]})).state == "critical"
    routine = LateAlarm(precedence="routine", promise="delivered", messages=2, oldest_at=0)
    slow = seen.peers[0].model_copy(update={"late": [routine]})
    assert checks._unreceipted(seen.model_copy(update={"peers": [slow]})).state == "warning"


def _with_offset(seen: Network, seconds: float) -> Network:
    return seen.model_copy(update={"peers": [seen.peers[0].model_copy(update={"clock_offset_seconds": seconds})]})


def test_why_a_node_is_not_ready_is_critical() -> None:
    """Every sentence, and what the catalogue says to do about the first."""
    said = checks._ready([StoreTrouble("disk-full", "No room."), NotReady("directory-expired", "It is over.")])
    assert (said.state, said.detail) == ("critical", "No room. It is over.")
    assert said.action


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (["ok", "ok"], 0),
        (["ok", "warning"], 1),
        (["warning", "critical", "unknown"], 2),
        (["warning", "unknown", "ok"], 3),
    ],
)
def test_the_exit_status_is_that_of_monitoring_systems(states: Sequence[check.State], status: int) -> None:
    """0 ok, 1 warning, 2 critical, 3 unknown; what does not work counts most, then what can't be told."""
    worst = check.Found(None, [Finding(str(at), state, "") for at, state in enumerate(states)]).worst
    assert check.STATUS[worst] == status


def test_of_what_files_and_node_say_the_worse_is_shown() -> None:
    """Once each: an expired file beside a node that goes by a newer directory still shows, and the reverse."""
    here = [Finding("settings", "ok", "s"), Finding("keys", "warning", "here"), Finding("directory", "ok", "here")]
    there = [Finding("keys", "ok", "there"), Finding("directory", "critical", "there"), Finding("disk", "ok", "there")]
    assert [(one.check, one.detail) for one in check.merged(here, there)] == [
        ("settings", "s"), ("keys", "here"), ("directory", "there"), ("disk", "there"),
    ]  # fmt: skip


def test_a_node_that_is_down_is_critical_and_its_files_are_looked_at(tmp_path: Any, capfd: Any) -> None:
    """Status 2, and a metric for each thing that could be checked."""
    made = write_network(tmp_path / "net", ("CKD",))
    assert cli.run(["check", "--format", "prometheus", "--config", str(made.node_file("CKD"))]) == 2
    said = capfd.readouterr().out.splitlines()
    assert 'relay_check_status{check="keys",centre="CKD"} 0' in said
    assert 'relay_check_status{check="node",centre="CKD"} 2' in said


def test_settings_that_cannot_be_read_are_critical(tmp_path: Any, capfd: Any) -> None:
    """The one check that is left says why, with its code."""
    assert cli.run(["check", "--config", str(tmp_path / "none.toml")]) == 2
    assert "[bad-settings]" in capfd.readouterr().out


def test_who_may_not_ask_cannot_tell(tmp_path: Any, capfd: Any) -> None:
    """A token that is not there leaves it unknown how the node does: status 3."""
    made = write_network(tmp_path / "net", ("CKE",))
    (made.centre("CKE") / "tokens" / "operator").unlink()
    assert cli.run(["check", "--config", str(made.node_file("CKE"))]) == 3
    assert "unknown   node" in capfd.readouterr().out
