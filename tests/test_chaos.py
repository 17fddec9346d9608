"""Nothing is lost whatever fails, in a short campaign of faults; and what the campaigns are made of does what it says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from relay.broker.bounded import best_effort, within
from relay.demo.proxy import Line, Link
from relay.node import open_node
from relay.rabbit import PrivateBroker
from relay.receipts import Nack
from relay.settings import load
from tests.chaos import checker, faults, report, traffic
from tests.chaos.campaign import Options, Outcome
from tests.chaos.journal import digest
from tests.live import private_network

ROOT = Path(__file__).resolve().parents[1]
CENTRES = A, B = ("CHAC", "CHAD")


EVENTS = {
    "asked": ("BRU", {"event": "asked", "at": 1.0, "digest": "d"}),
    "accepted": ("BRU", {"event": "accepted", "at": 1.1, "digest": "d", "id": "i", "recipients": ["LYO", "SIN"]}),
    "LYO": ("LYO", {"event": "seen", "at": 2.0, "digest": "d", "id": "i", "origin": "BRU"}),
    "SIN": ("SIN", {"event": "seen", "at": 3.0, "digest": "d", "id": "i", "origin": "BRU"}),
    "BUE": ("BUE", {"event": "seen", "at": 3.0, "digest": "d", "id": "i", "origin": "BRU"}),
    "changed": ("SIN", {"event": "seen", "at": 3.0, "digest": "x", "id": "i", "origin": "BRU"}),
    "rejected": ("BRU.states", {"id": "i", "recipients": [{"centre": "SIN", "state": "rejected"}]}),
    "false": ("BRU.states", {"id": "i", "recipients": [{"centre": "SIN", "state": "delivered"}]}),
}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("asked accepted LYO SIN", (0, 0, 0, 0)),
        ("asked accepted LYO", (1, 0, 0, 0)),
        ("asked accepted LYO rejected", (0, 0, 0, 0)),
        ("asked accepted LYO false", (1, 1, 0, 0)),
        ("asked accepted LYO LYO SIN", (0, 0, 1, 0)),
        ("asked accepted LYO SIN BUE", (0, 0, 0, 1)),
        ("asked accepted LYO changed", (1, 0, 0, 1)),
        ("asked LYO", (0, 0, 0, 0)),
        ("LYO", (0, 0, 0, 1)),
    ],
)
def test_the_judge_counts_each_failure_as_what_it_is(tmp_path: Path, events: str, expected: tuple[int, ...]) -> None:
    """Lost, falsely said to be delivered, duplicated, unexpected: each shows in its own number."""
    for name in events.split():
        centre, event = EVENTS[name]
        with (tmp_path / f"{centre}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
    verdict = checker.judge(checker.read(tmp_path))
    assert (verdict.lost, verdict.false, verdict.duplicated, verdict.unexpected) == expected


ENDED = {
    "nothing at all": (None, "open"),
    "no terminal state": ("accepted", "open"),
    "rejected": ("rejected", "rejected"),
    "expired": ("expired", "expired"),
    "cancelled": ("cancelled", "cancelled"),
}


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("name", ENDED)
def test_an_end_that_nobody_asked_for_fails_a_campaign(tmp_path: Path, name: str, seen: bool) -> None:
    """What is not said to be delivered in the end counts by its state, and the exit status is 1, whether it was seen or not."""
    state, counted = ENDED[name]
    lines = [EVENTS["asked"], ("BRU", {**EVENTS["accepted"][1], "recipients": ["LYO"]})]
    lines += [EVENTS["LYO"]] if seen else []
    lines += [("BRU.states", {"id": "i", "recipients": [{"centre": "LYO", "state": state}]})] if state else []
    for centre, event in lines:
        with (tmp_path / f"{centre}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
    verdict = checker.judge(checker.read(tmp_path))
    assert (getattr(verdict, counted), verdict.complete) == (1, False)
    assert not outcome(verdict).clean
    assert checker.main(tmp_path) == 1


def test_a_campaign_in_which_all_is_delivered_succeeds(tmp_path: Path) -> None:
    """Delivered by its origin's word and seen once: the exit status is 0."""
    states = {"id": "i", "recipients": [{"centre": centre, "state": "delivered"} for centre in ("LYO", "SIN")]}
    for centre, event in (*(EVENTS[name] for name in ("asked", "accepted", "LYO", "SIN")), ("BRU.states", states)):
        with (tmp_path / f"{centre}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
    verdict = checker.judge(checker.read(tmp_path))
    assert (verdict.complete, outcome(verdict).clean, checker.main(tmp_path)) == (True, True, 0)


def test_a_row_is_added_behind_the_others_with_what_ended_otherwise(tmp_path: Path) -> None:
    """The page keeps its rows and gets the new one; a campaign that its command would not repeat adds none."""
    page = tmp_path / "page.md"
    page.write_text(f"| one |\n{report.END}rest\n", encoding="utf-8")
    report.write(Options(seed=77), outcome(checker.Verdict(9, 9, 7, 0, 0, 0, 0, {}, 1, expired=2)), page)
    kept, row, end, rest = page.read_text(encoding="utf-8").splitlines()
    assert (kept, end, rest) == ("| one |", report.END.strip(), "rest")
    assert row.startswith("| `make chaos MESSAGES=20000 FAULTS=30 SEED=77` | 9 | 9 | 7 |")
    assert "| 1, 2 expired |" in row
    assert report.repeatable(Options())
    assert not report.repeatable(Options(short=True))
    assert not report.repeatable(Options(kinds=("kill-node",)))


def outcome(verdict: checker.Verdict) -> Outcome:
    """Return what came out of a campaign with this verdict."""
    return Outcome(verdict, 0, {}, (), {}, [], [], 1.0)


def test_the_judge_imports_nothing_of_the_relay() -> None:
    """It is a program of its own: the standard library is all that it loads."""
    code = "import sys, tests.chaos.checker; print([name for name in sys.modules if name.split('.')[0] == 'relay'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_same_seed_gives_the_same_faults_and_the_same_traffic() -> None:
    """A campaign can be repeated alone, by its seed."""
    centres, disks = ("BRU", "LYO"), ("LYO",)
    assert faults.schedule(7, 40, centres, disks) == faults.schedule(7, 40, centres, disks)
    assert faults.schedule(7, 40, centres, disks) != faults.schedule(8, 40, centres, disks)
    drawn = faults.schedule(7, len(faults.KINDS), centres, disks)
    assert {fault.kind for fault in drawn} == set(faults.KINDS)
    assert [fault.when for fault in drawn] == sorted(fault.when for fault in drawn)
    assert "disk-full" not in {fault.kind for fault in faults.schedule(7, 40, centres)}
    assert traffic.said("BRU", 50, 7, centres) == traffic.said("BRU", 50, 7, centres)
    assert len({digest(one.raw) for one in traffic.said("BRU", 50, 7, centres)}) == 50


async def test_a_receipt_that_waits_to_be_posted_is_not_posted_twice(broker: PrivateBroker, tmp_path: Path) -> None:
    """However often marks and copies ask for it while a link is slow, it takes one place among what waits."""
    network = private_network(tmp_path / "network", broker, "chaos-twice", CENTRES)
    node = await open_node(load(network.node_file(A)))
    try:
        for _ in range(3):
            for raw in (b"one receipt", b"another"):
                node.control.post(B, raw)
            node.control.post(B, Nack(epoch=1, lane="routine", missing=((1, 2),), mark=1))
        assert len(node.control._waiting) == 3
        assert node.control._first() == (B, b"one receipt")
    finally:
        await node.centre.store.close()
        node.centre.workers.shutdown()


async def test_what_the_library_ends_without_a_name_ends_no_node() -> None:
    """What waits on a closed channel ends with a bare `Exception`, or stumbles over the broker's words: it counts as lost."""

    async def ends() -> None:
        raise Exception  # noqa: TRY002 - as aiormq does

    with best_effort():
        await ends()
    with pytest.raises(ConnectionError):
        await within(ends(), 1)

    async def stumbles() -> None:
        raise KeyError("consumer_tag")

    with best_effort():
        await stumbles()
    with pytest.raises(ConnectionError, match="KeyError"):
        await within(stumbles(), 1)


async def test_a_link_is_late_cut_and_half_open_as_told() -> None:
    """A round trip takes its time; a cut link resets and refuses; a half-open one swallows and says nothing, new ones work."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    link = Link(server.sockets[0].getsockname()[1], Line(round_trip=0.2), "test")
    await link.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    began = asyncio.get_running_loop().time()
    writer.write(b"hello")
    assert await reader.read(10) == b"hello"
    assert asyncio.get_running_loop().time() - began >= 0.2
    link.half_open()
    writer.write(b"into the void")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(10), 0.5)
    fresh, other = await asyncio.open_connection("127.0.0.1", link.port)
    other.write(b"again")
    assert await fresh.read(10) == b"again"
    link.cut()
    with pytest.raises(ConnectionResetError):
        await fresh.read(10)
    refused, third = await asyncio.open_connection("127.0.0.1", link.port)
    with contextlib.suppress(ConnectionResetError):
        assert await refused.read(10) == b""
    for end in (writer, other, third):
        end.close()
    await link.close()
    server.close()


@pytest.mark.timeout(400)
def test_a_short_campaign_of_faults_loses_nothing(tmp_path: Path) -> None:
    """Four nodes, six faults drawn from a seed: nothing lost, duplicated or unexpected, every end signed."""
    command = [sys.executable, "-m", "tests.chaos", "--short", "--messages", "240", "--faults", "6", "--seed", "2016"]
    done = subprocess.run(
        [*command, "--keep", str(tmp_path / "kept")], capture_output=True, text=True, check=False, cwd=ROOT, timeout=390
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "messages accepted                        240" in done.stdout
