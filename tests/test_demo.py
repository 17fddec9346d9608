"""The demonstration's judge sees what it must see, and a small demonstration of the real thing ends clean."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from relay import messages
from relay.demo import traffic
from relay.demo.journal import Journal, Submitted, Took
from relay.demo.reconcile import Reconciliation, reconcile
from relay.network import Network

MARKS = {"kind": "seizure", "crime_types": ["drugs.cocaine"], "countries": ["BE"], "nominal": False}
EVERYTHING = [{"crime_types": ["*"], "regions": ["001"], "nominal": True}]
PERSONS = {**MARKS, "nominal": True}


def judged(folder: Path, network: Network, *entries: tuple[str, Submitted | Took]) -> Reconciliation:
    """Write journals and reconcile them."""
    journals = {centre: folder / f"{centre}.jsonl" for centre in network.directory.active}
    for centre, path in journals.items():
        journal = Journal(path)
        journal.write(*(entry for at, entry in entries if at == centre))
        journal.close()
    register: dict[str, Any] = json.loads((network.folder / "directory.json").read_bytes())
    return reconcile(journals, register)


SAID = ("BRU", Submitted("1", "CASE-1", ("LYO", "BE-CUS")))
LYO = ("LYO", Took("1", "CASE-1", "BRU", MARKS))
CUS = ("BE-CUS", Took("1", "CASE-1", "BRU", MARKS))


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([SAID, LYO, CUS], Reconciliation(1, 2, 2, 0, 0, 0)),
        ([SAID, LYO], Reconciliation(1, 2, 1, 1, 0, 0)),
        ([SAID, LYO, LYO, CUS], Reconciliation(1, 2, 2, 0, 1, 0)),
        ([SAID, LYO, CUS, ("SIN", LYO[1])], Reconciliation(1, 2, 3, 0, 0, 1)),
        ([SAID, LYO, ("BE-CUS", Took("1", "CASE-1", "BRU", PERSONS))], Reconciliation(1, 2, 2, 0, 0, 1)),
        ([LYO], Reconciliation(0, 0, 1, 0, 0, 1)),
    ],
    ids=["clean", "lost", "duplicated", "to the wrong centre", "promised against the entitlement", "never submitted"],
)
def test_the_reconciliation_sees_what_went_wrong(
    tmp_path: Path, network: Network, entries: list[tuple[str, Submitted | Took]], expected: Reconciliation
) -> None:
    """Loss, duplication and a message to someone not entitled each show in their own number."""
    outcome = judged(tmp_path, network, *entries)
    assert outcome == expected
    assert outcome.clean == (expected.lost == expected.duplicated == expected.unentitled == 0)


def test_the_stories_are_valid_messages_in_all_four_families() -> None:
    """Every story that the demonstration tells parses, and each family of the mission is among them."""
    told = traffic.tell("LYO", 200, 1, EVERYTHING)
    kinds = {messages.parse(one.raw).kind for one in told}
    assert kinds == {"alert", "seizure"}
    assert {story["family"] for story in traffic.stories()} == {"drugs", "medicines", "timber", "cultural-goods"}
    assert len({one.case for one in told}) == len(told)


def test_the_same_seed_tells_the_same() -> None:
    """A run can be repeated: the messages depend on the seed and the centre alone."""
    assert traffic.tell("SIN", 50, 3, EVERYTHING) == traffic.tell("SIN", 50, 3, EVERYTHING)
    assert traffic.tell("SIN", 50, 3, EVERYTHING) != traffic.tell("SIN", 50, 4, EVERYTHING)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_demonstration_that_is_ended_leaves_nothing_running(tmp_path: Path, ending: signal.Signals) -> None:
    """Asked to end, or killed, the demonstration takes its nodes and its broker with it."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen(
        [sys.executable, "-m", "relay", "demo", "--serve", "--json"], env=environment, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: len(processes(tmp_path)) >= 8)  # six nodes, RabbitMQ and its port mapper
    demo.send_signal(ending)
    demo.wait(30)
    wait_until(lambda: not processes(tmp_path))


def processes(folder: Path) -> list[int]:
    """Return the processes whose command line or environment names a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(folder) in " ".join(process.cmdline()):
                found.append(process.pid)
    return found


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until a condition holds; fail when it does not in time."""
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.1)


@pytest.mark.timeout(180)
def test_a_network_of_processes_survives_a_kill(tmp_path: Path) -> None:
    """Six node processes, one killed with -9 in the middle: everything promised is delivered once, to the entitled alone."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "relay", "demo", "--messages", "600", "--json"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout)
    assert figures["submitted"] == 600
    assert figures["delivered"] == figures["expected"] > 600
    assert (figures["lost"], figures["duplicated"], figures["unentitled"]) == (0, 0, 0)
    assert figures["seconds"] > 0
    assert list(tmp_path.iterdir()) == []
