"""Alert rules against real nodes and a real Prometheus: silent while all is well, and the right ones when a node ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from relay.clients import Register
from relay.rabbit import PrivateBroker
from tests.live import eventually, message, private_network
from tests.test_prometheus import Served
from tests.watched import RULES, Prometheus, configuration, prometheus

A, B = CENTRES = ("ALRTA", "ALRTB")
HURRIED = {
    "RELAY_REPAIR__MARK_FIRST": "0.2",
    "RELAY_REPAIR__HEARTBEAT_SECONDS": "0.5",
    "RELAY_BROKER__RECONNECT_SECONDS": "1",
    "RELAY_AUDIT__CHECKPOINT_SECONDS": "1",
    "RELAY_ALARMS__FLASH": "1",
}
OF_THE_MACHINE = {"RelayCommitSlow", "RelayDiskFillsUp", "RelayDiskLow", "RelayEventLoopLag"}
"""What may hold for a while on a machine that is busy with other tests."""
EXPRESSIONS = {
    file.stem: rule["expr"]
    for file in RULES
    if file.stem not in OF_THE_MACHINE
    for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}


@pytest.fixture
async def live(broker: PrivateBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """Run two centres, each with a client that may watch."""
    for name, value in HURRIED.items():
        monkeypatch.setenv(name, value)
    network = private_network(tmp_path / "network", broker, "alerts", CENTRES)
    for centre in CENTRES:
        _, token = Register(network.centre(centre) / "clients.json").add("prometheus", ("watch",), why="test")
        (network.folder / centre).write_text(token, encoding="utf-8")
    nodes = Served(network, broker)
    try:
        await nodes.start(*CENTRES)
        yield nodes
    finally:
        await nodes.close()


@pytest.fixture
async def watching(live: Served, broker: PrivateBroker, tmp_path: Path) -> AsyncIterator[Prometheus]:
    """Run a Prometheus that looks at both every two seconds, with the rules that are deployed."""
    async with prometheus(tmp_path, configuration(live.network, CENTRES, live.network.folder), broker.bond) as running:
        yield running


async def exchange(live: Served) -> None:
    """Submit one message each way, and take what waits, as the centres' own systems do."""
    for origin, recipient in ((A, B), (B, A)):
        stored = await live.submit(origin, message(to=[recipient]))
        await live.reaches(origin, stored.id, recipient, "accepted")
        await live.take(recipient)
        await live.reaches(origin, stored.id, recipient, "delivered")


async def true_now(watching: Prometheus) -> set[tuple[str, str]]:
    """Return each alert whose condition holds now, however long it has to last, with the centre that it names."""
    answers = {name: await watching.get("query", query=expression) for name, expression in EXPRESSIONS.items()}
    return {(name, one["metric"]["centre"]) for name, answer in answers.items() for one in answer["result"]}


async def both_up(watching: Prometheus) -> bool:
    """Return whether both nodes are looked at, so that silence means something."""
    found = await watching.get("query", query="sum(up) == 2 and min(relay_observed_timestamp_seconds) > 0")
    return bool(found["result"])


@pytest.mark.timeout(300)  # it waits three times for up to a minute
async def test_alerts_are_silent_until_a_node_ends_and_again_when_it_is_back(live: Served, watching: Prometheus) -> None:
    """Nothing holds while two centres exchange messages; one ends, and what is true then is what a watch officer must know."""

    async def all_is_well() -> bool:
        await exchange(live)
        return await both_up(watching) and await true_now(watching) == set()

    async def told() -> bool:
        return await true_now(watching) == {("RelayDown", B), ("RelayPeerSilent", A), ("RelayUrgentUnaccepted", A)}

    await eventually(all_is_well)
    await live.stop(B)
    await live.submit(A, message(to=[B], precedence="flash"))
    await eventually(told)
    await live.start(B)
    await live.take(B)
    await eventually(all_is_well)
