"""A node's metrics: their names and labels, and that they say what the node does, under traffic and in trouble."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay import heartbeats, messages, observing, topology
from relay.desk import Order
from relay.errors import BrokerTrouble
from relay.lag import Lag
from relay.metrics import ACTS, LABELS, STAGES, Metrics, Stage
from relay.rabbit import PrivateBroker
from relay.received import Act
from relay.settings import load
from relay.submissions import Stored, Submission
from tests.live import PATIENCE, Live, eventually, message, private_network, redirect

A, B, C = CENTRES = ("MTRA", "MTRB", "MTRC")
UNITS = ("_seconds", "_bytes", "_messages", "_envelopes", "_entries", "_info", "_version", "_members", "_epoch")
UNITLESS = frozenset(  # counts of what the name says, and what is 0 or 1
    {
        "relay_alarms",
        "relay_audit_damaged",
        "relay_broker_connected",
        "relay_clock_doubted",
        "relay_deadlines_at_risk",
        "relay_peer_silent",
        "relay_ready",
        "relay_recalls_open",
        "relay_requests_open",
        "relay_requests_overdue",
        "relay_stage_in_progress",
        "relay_store_trouble",
    }
)
PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "metrics.md"


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run two of three centres that observe and beat often; the third is a member whose node does not run."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "REPAIR__MARK_FIRST": "0.2",
            "REPAIR__HEARTBEAT_SECONDS": "0.5",
            "BROKER__RECONNECT_SECONDS": "1",
        }.items():
            patch.setenv(f"RELAY_{name}", value)
        patch.setattr(observing, "EVERY_SECONDS", 0.1)
        nodes = Live(private_network(tmp_path_factory.mktemp("metrics") / "network", broker, "metrics", CENTRES), broker)
        await nodes.start(A, B)
        yield nodes
        await nodes.close()


def value(live: Live, centre: str, name: str, /, **labels: str) -> float:
    """Return a sample of a node as Prometheus would read it; -1 when there is none."""
    found = live[centre].centre.metrics.registry.get_sample_value(name, labels)
    return -1 if found is None else found


def families() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Return name, type and labels of each metric."""
    for metric in Metrics().table():
        family = next(iter(metric.describe()))
        yield family.name, family.type, tuple(metric._labelnames)


def test_names_follow_the_conventions() -> None:
    """A name begins with the relay, says its unit or is a count; promtool, which lints them, has nothing to say."""
    for name, kind, _ in families():
        assert name.startswith("relay_"), name
        assert not name.endswith(("_total", "_count", "_sum", "_bucket")), name
        assert kind == "counter" or name.endswith(UNITS) or name in UNITLESS, name
        assert kind != "counter" or not name.endswith(("_seconds", "_info")), name
    linted = subprocess.run(["promtool", "check", "metrics"], input=Metrics().text(), capture_output=True, check=False)
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, b"", b"")


def test_labels_come_from_a_closed_list_and_none_is_an_id() -> None:
    """Every label has its values described, every described label is used, and nothing is labelled by what is without bound."""
    used = {label for _, _, labels in families() for label in labels}
    assert used == LABELS.keys()
    assert not used & {"id", "message", "envelope", "thread", "request", "person", "address", "client"}


def test_every_metric_is_on_the_page_with_type_labels_and_unit() -> None:
    """The page names each metric as Prometheus will know it, those of the process too."""
    page = PAGE.read_text()
    for name, kind, labels in families():
        shown = f"| `{name}{'_total' if kind == 'counter' else ''}` | {kind} | {', '.join(f'`{one}`' for one in labels)} |"
        assert shown in page, shown
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "python_info"):
        assert f"| `{name}` |" in page


def test_each_stage_says_the_same_four_things() -> None:
    """In, out, in progress and when, for each stage of the list; nothing out leaves the time as it was."""
    metrics = Metrics()
    for name in STAGES:
        stage = metrics.stages[name]
        assert isinstance(stage, Stage)
        stage.enter(3)
        stage.leave(0)
        read = metrics.registry.get_sample_value
        assert read("relay_stage_processed_timestamp_seconds", {"stage": name}) == 0
        stage.leave(2)
        stage.set(1)
        assert read("relay_stage_items_in_total", {"stage": name}) == 3
        assert read("relay_stage_items_out_total", {"stage": name}) == 2
        assert read("relay_stage_in_progress", {"stage": name}) == 1
        assert (read("relay_stage_processed_timestamp_seconds", {"stage": name}) or 0) > 0


def test_a_peer_that_left_has_no_gauge_and_keeps_its_counters() -> None:
    """What is about a peer now ends with its membership; what was counted stays, or rates of the past would change."""
    metrics = Metrics()
    for peer in (B, C):
        metrics.open.labels(peer, "flash").set(1)
        metrics.peer_silent.labels(peer).set(1)
        metrics.accepted.labels(peer).inc()
    metrics.forget(C)
    text = metrics.text().decode()
    assert f'relay_open_messages{{peer="{B}",precedence="flash"}} 1.0' in text
    assert f'relay_peer_silent{{peer="{C}"}}' not in text
    assert f'relay_open_messages{{peer="{C}"' not in text
    assert f'relay_accepted_messages_total{{peer="{C}"}} 1.0' in text
    assert metrics.by_peer(metrics.accepted) == {B: 1, C: 1}


async def test_messages_are_counted_by_kind_and_crime_type(live: Live) -> None:
    """At both ends, once for each of their crime types."""
    about = {"kind": "seizure", "crime_type": "environment.waste"}
    of = [(A, "sent", about), (B, "received", about), (B, "received", {**about, "kind": "alert"})]

    def counted() -> list[float]:
        found = (value(live, centre, "relay_messages_total", side=side, **labels) for centre, side, labels in of)
        return [max(one, 0) for one in found]

    sent, changed, _ = counted()
    types = {"crime_types": ["environment.waste", "drugs.precursors"]}
    one = await live.submit(A, message(case_number="COUNTED", to=[B], **types))
    await live.reaches(A, one.id, B, "accepted")
    await live.take(B)
    await live.reaches(A, one.id, B, "delivered")
    assert counted() == [sent + 1, changed + 1, 0]
    assert value(live, B, "relay_messages_total", side="received", kind="seizure", crime_type="drugs.precursors") == 1


async def test_a_loop_that_is_held_up_is_seen() -> None:
    """The lag is about as long as what held the event loop up, and the worst of some seconds stays in sight."""
    lag = Lag()
    task = asyncio.create_task(lag.run())
    try:
        await asyncio.sleep(0.15)
        hold_up(0.4)
        await eventually(lambda: lag.worst >= 0.3)
    finally:
        task.cancel()


def hold_up(seconds: float) -> None:
    """Keep the event loop from running anything."""
    subprocess.run(["sleep", str(seconds)], check=True)


async def test_under_traffic_every_stage_moves(live: Live) -> None:
    """A message moves each stage at its origin and at its recipient, and leaves nothing in progress."""
    names = ("relay_stage_items_in_total", "relay_stage_items_out_total")
    before = {(c, stage, n): value(live, c, n, stage=stage) for c in (A, B) for stage in STAGES for n in names}
    begun = time.monotonic()
    raws = [message(case_number=f"STAGE-{number}", to=[B], precedence="priority") for number in range(20)]
    outcomes = await live[A].outbox.submit([Submission(raw, messages.parse(raw)) for raw in raws])
    ids = [one.id for one in outcomes if isinstance(one, Stored)]
    for one in ids:
        await live.reaches(A, one, B, "accepted")
    await live.take(B)
    for one in ids:
        await live.reaches(A, one, B, "delivered")
    took = time.monotonic() - begun

    def moved(centre: str, stage: str) -> tuple[float, ...]:
        return tuple(value(live, centre, name, stage=stage) - before[centre, stage, name] for name in names)

    for centre, stage, items in ((A, "submit", 20), (A, "publish", 1), (B, "take", 1), (B, "handover", 20)):
        await eventually(lambda c=centre, s=stage, i=items: i <= moved(c, s)[0] == moved(c, s)[1])
        assert value(live, centre, "relay_stage_processed_timestamp_seconds", stage=stage) > 1.6e9
        await eventually(lambda c=centre, s=stage: value(live, c, "relay_stage_in_progress", stage=s) == 0)
    await eventually(lambda: min(moved(B, "receipt-out")) >= 2)
    await eventually(lambda: min(moved(A, "receipt-in")) >= 2)
    for promise in ("accepted", "delivered"):
        about = {"peer": B, "precedence": "priority", "promise": promise}
        await eventually(lambda about=about: value(live, A, "relay_end_to_end_seconds_count", **about) == 20)
        assert 0 < value(live, A, "relay_end_to_end_seconds_sum", **about) / 20 <= took
    await eventually(lambda: value(live, A, "relay_sent_messages_total", peer=B) >= 20)


async def test_the_oldest_unreceipted_grows_while_a_peer_is_down_and_ends_with_it(live: Live) -> None:
    """While a peer is down its oldest message ages and it is silent; when it is back and took all, nothing is left of that."""
    await eventually(lambda: value(live, A, "relay_peer_silent", peer=B) == 0)
    about = {"peer": B, "precedence": "routine"}
    await eventually(lambda: value(live, A, "relay_oldest_unreceipted_seconds", **about) == 0)
    async with live.away(B):
        stored = await live.submit(A, message(case_number="OLD", to=[B]))
        await eventually(lambda: value(live, A, "relay_oldest_unreceipted_seconds", **about) > 0.2)
        first = value(live, A, "relay_oldest_unreceipted_seconds", **about)
        await eventually(lambda: value(live, A, "relay_oldest_unreceipted_seconds", **about) > first + 0.5)
        assert value(live, A, "relay_open_messages", **about) == 1
        assert value(live, A, "relay_deadlines_at_risk", **about) == 0
        await eventually(lambda: value(live, A, "relay_peer_silent", peer=B) == 1)
    await live.reaches(A, stored.id, B, "accepted")
    await live.take(B)
    await eventually(lambda: value(live, A, "relay_oldest_unreceipted_seconds", **about) == 0)
    assert value(live, A, "relay_open_messages", **about) == 0
    await eventually(lambda: value(live, A, "relay_peer_silent", peer=B) == 0)


async def test_a_node_says_what_it_is_and_to_what_it_is_connected(live: Live) -> None:
    """Release, centre, broker and connection are there as data; each series of the exposition is parsed by Prometheus' rules."""
    metrics = live[A].centre.metrics
    config = {"centre": A, "network": live.network.id[:12], "schema": "1.0", "lanes": ",".join(topology.LANES)}
    assert value(live, A, "relay_config_info", **config) == 1
    await eventually(lambda: value(live, A, "relay_ready") == 1)
    brokers = [sample.labels for family in metrics.broker.collect() for sample in family.samples]
    assert [one["product"] for one in brokers] == ["RabbitMQ"]
    assert brokers[0]["version"][0].isdigit()
    assert value(live, A, "relay_broker_connects_total") >= 1
    assert value(live, A, "relay_broker_incarnation_timestamp_seconds") == pytest.approx(live[A].centre.now() / 1000, abs=600)
    assert value(live, A, "relay_directory_members") == len(CENTRES)
    assert value(live, A, "relay_epoch") == live[A].centre.store.epoch
    assert value(live, A, "relay_store_commit_seconds_count") > 0
    assert value(live, A, "relay_store_disk_floor_bytes") == live[A].centre.settings.store.disk_floor_bytes
    assert value(live, A, "relay_event_loop_lag_seconds") >= 0
    assert value(live, A, "process_resident_memory_bytes") > 1e6
    parsed = list(text_string_to_metric_families(metrics.text().decode()))
    assert len(parsed) > 60


async def test_what_operators_do_is_counted_and_what_is_set_aside_is_seen(live: Live) -> None:
    """Each act counts once, here and at the recipient; what is held is seen at its side while it is."""
    before = {act: max(value(live, A, "relay_operator_acts_total", act=act), 0) for act in ACTS}
    async with live.away(B):
        stored = await live.submit(A, message(case_number="ACTS", to=[B]))
        order = Order(stored.id, "a reason", "operator")
        await live[A].desk.hold(order)
        await eventually(lambda: value(live, A, "relay_held_messages", side="sent") == 1)
        await eventually(lambda: value(live, A, "relay_oldest_held_seconds", side="sent") > 0)
        await live[A].desk.release(order)
        await eventually(lambda: value(live, A, "relay_held_messages", side="sent") == 0)
        assert value(live, A, "relay_oldest_held_seconds", side="sent") == 0
        await live[A].desk.replay(order)
    await live.reaches(A, stored.id, B, "accepted")
    done = {act: value(live, A, "relay_operator_acts_total", act=act) - before[act] for act in ("hold", "release", "replay")}
    assert done == {"hold": 1, "release": 1, "replay": 1}
    await live[B].received.hold(Act(stored.id, "operator", "a reason"))
    await eventually(lambda: value(live, B, "relay_held_messages", side="received") == 1)
    await eventually(lambda: value(live, B, "relay_oldest_held_seconds", side="received") > 0)
    await live[B].received.discard(Act(stored.id, "operator", "a reason"))
    await eventually(lambda: value(live, B, "relay_held_messages", side="received") == 0)
    assert value(live, B, "relay_operator_acts_total", act="discard") == 1


async def test_a_store_that_can_t_be_written_is_told_by_its_code(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process keeps the store locked the node is not ready and says why; then all is well again by itself."""
    monkeypatch.setattr(heartbeats, "TICK_SECONDS", 0.1)
    lock = sqlite3.connect(load(live.network.node_file(A)).store.file, PATIENCE, isolation_level=None)
    try:
        lock.execute("BEGIN IMMEDIATE")
        await eventually(lambda: value(live, A, "relay_store_trouble", code="store-locked") == 1)
        await eventually(lambda: value(live, A, "relay_ready") == 0)
        lock.execute("ROLLBACK")
    finally:
        lock.close()
    await eventually(lambda: value(live, A, "relay_store_trouble", code="store-locked") == 0)
    await eventually(lambda: value(live, A, "relay_ready") == 1)


async def test_a_member_that_is_suspended_has_no_gauges_any_more(live: Live) -> None:
    """What was shown of a member ends when a version of the directory suspends it, also when something is open towards it."""
    await live.submit(A, message(case_number="GONE", to=[C]))
    about = {"peer": C, "precedence": "routine"}
    await eventually(lambda: value(live, A, "relay_open_messages", **about) == 1)
    live.network = redirect(live.network, suspend)
    live[A].centre.adopt(live.network.directory)
    await eventually(lambda: value(live, A, "relay_open_messages", **about) == -1)
    await eventually(lambda: f'peer="{C}"' not in gauges(live))
    assert live[A].observer.latest is not None
    assert live[A].observer.latest.peer(C).open == 1  # and operators still see what is open


def suspend(register: dict[str, Any]) -> None:
    """Suspend C in a directory."""
    next(one for one in register["members"] if one["id"] == C)["status"] = "suspended"


def gauges(live: Live) -> str:
    """Return the gauges of A about peers, as text."""
    metrics = live[A].centre.metrics
    lines = metrics.text().decode().splitlines()
    names = {next(iter(one.describe())).name for one in metrics.table() if next(iter(one.describe())).type == "gauge"}
    return "\n".join(line for line in lines if line.split("{")[0] in names)


async def test_a_connection_that_is_made_anew_is_counted_with_its_time(live: Live) -> None:
    """After a lost connection the next one counts, says since when it lives, and there is one broker in the metrics."""
    node = live[B]
    await eventually(lambda: value(live, B, "relay_broker_connects_total") >= 1)
    before = value(live, B, "relay_broker_connects_total")
    since = value(live, B, "relay_broker_incarnation_timestamp_seconds")
    await eventually(lambda: node.broker._link is not None)
    assert node.broker._link is not None
    node.broker._link.lose(BrokerTrouble("broker-unreachable", "The test cut it."))
    await eventually(lambda: value(live, B, "relay_broker_connects_total") > before)
    assert value(live, B, "relay_broker_incarnation_timestamp_seconds") > since
    assert sum(len(family.samples) for family in node.centre.metrics.broker.collect()) == 1
    await eventually(lambda: value(live, B, "relay_broker_connected") == 1)
