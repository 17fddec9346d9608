"""How long the console's pages take with a million messages: ``python -m tests.bench.console --messages 1000000 [--write]``.

A store is written by SQL (:mod:`tests.large`): half of the messages sent, half received, an envelope each, delivered but for a
few, with an audit entry of each that was sent. A real node opens it and serves its console; the newest message is a real one,
submitted to it. Then each page is asked for over HTTP many times, as somebody who signed in; nothing of the answer is made up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from relay import messages
from relay.clock import iso
from relay.console import Console
from relay.network import Network, write_network
from relay.node import Node, open_node
from relay.settings import load
from relay.submissions import Stored, Submission
from relay.web.served import make_here
from tests import large
from tests.bench import sections
from tests.bench.workers import MACHINE, cpu
from tests.console import Visitor, hire

PEERS = ("EAST", "NORTH", "QUIET")
EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples"
ROUNDS = 20
TARGET_MS = 300
NAME = "bench"

_SECTION = """\
## The console

Written by `python -m tests.bench.console --messages {count} --write`. {date}, SQLite {sqlite}; a store of {size:,} MiB with
{count:,} messages, half of them sent, and {leaves:,} audit entries. Each page is asked for {rounds} times over HTTP by somebody
who signed in, the first time included; *CPU* is what the whole process used in between: what serves, reads and renders, and the
client. Meanwhile other programs used {others:.0%} of the machine.

{table}

Target: every page under {target} ms of CPU. {verdict}
"""


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of one page: CPU, and from the request to the last byte."""

    about: str
    cpu: list[float]
    whole: list[float]


@asynccontextmanager
async def serving(network: Network) -> AsyncIterator[Node]:
    """Run the parts of a node that pages need; nothing here needs a broker."""
    node = await open_node(load(network.node_file(large.ME)))
    console = Console(make_here(node))
    tasks = [asyncio.create_task(one) for one in (node.outbox.run(), node.observer.run(), console.run(node))]
    yield node
    await console.stop()
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await node.centre.store.close()
    node.centre.workers.shutdown()


async def newest(node: Node) -> str:
    """Submit a real message and return its id."""
    document = json.loads((EXAMPLES / "seizure.full.json").read_bytes())
    document |= {"to": ["EAST"], "origin": large.ME, "exclude": [], "references": [], "classification": "unclassified"}
    raw = json.dumps(document).encode()
    outcome = (await node.outbox.submit([Submission(raw, messages.parse(raw))]))[0]
    assert isinstance(outcome, Stored), outcome
    return outcome.id


def pages(id_: str, begun: int, count: int) -> dict[str, str]:
    """Return the pages that are asked for, by what they are."""
    middle = iso(begun + count // 2 * large.STEP_MS)
    return {
        "queues": "/queues",
        "queues by precedence": "/queues?by=precedence",
        "messages": "/messages",
        "messages of a peer": "/messages?peer=EAST",
        "messages of a quiet peer": "/messages?peer=QUIET",
        "flash alone": "/messages?precedence=flash",
        "a precedence that there is not": "/messages?precedence=immediate",
        "rejected, all states looked through": "/messages?state=rejected",
        "rejected by a peer in a precedence": "/messages?state=rejected&peer=EAST&precedence=priority",
        "open": "/messages?state=open",
        "dead": "/messages?state=dead",
        "half of all messages back": f"/messages?until={middle[:19]}",
        "by the beginning of an id": f"/messages?id={id_[:8]}",
        "one message": f"/messages/{id_}",
        "requests": "/requests",
    }


async def measure(visitor: Visitor, about: str, path: str) -> Times:
    """Ask for a page again and again."""
    times = Times(about, [], [])
    for _ in range(ROUNDS):
        used, began = time.process_time(), time.perf_counter()
        answer = await visitor.get(path)
        times.whole.append((time.perf_counter() - began) * 1e3)
        times.cpu.append((time.process_time() - used) * 1e3)
        assert answer.status_code == 200, answer.text
    return times


def table(measured: list[Times]) -> list[str]:
    """Return the figures as a table."""
    lines = ["| page | CPU p50 ms | max | request p50 ms | max |", "|---|---|---|---|---|"]
    for one in measured:
        figures = (median(one.cpu), max(one.cpu), median(one.whole), max(one.whole))
        lines.append(f"| {one.about} | " + " | ".join(f"{value:.0f}" for value in figures) + " |")
    return lines


async def run(count: int, folder: Path) -> tuple[list[Times], float, int]:
    """Fill a store and measure; return every page's times, the machine's share others had, and the store's size in MiB."""
    network = write_network(folder / "network", (large.ME, *PEERS))
    hire(network, large.ME, NAME, "watch")
    settings = load(network.node_file(large.ME))
    begun = await large.write(settings.store.file, count // 2, settings.network)
    print(f"written: {count:,} messages", flush=True)
    async with serving(network) as node:
        id_ = await newest(node)
        used: dict[str, float] = {}
        began = time.perf_counter()
        async with Visitor(f"http://{network.console(large.ME)}") as visitor:
            await visitor.sign_in(NAME)
            with cpu({"own": os.getpid()}, used):
                measured = [await measure(visitor, *one) for one in pages(id_, begun, count // 2).items()]
        seconds = time.perf_counter() - began
        size = settings.store.file.stat().st_size >> 20
    return measured, max(0.0, (used[MACHINE] - used["own"]) / seconds / (os.cpu_count() or 1)), size


def section(count: int, measured: list[Times], others: float, size: int) -> str:
    """Return the section of the page."""
    worst = max(measured, key=lambda one: max(one.cpu))
    met = "met" if max(worst.cpu) < TARGET_MS else "**not met**"
    return _SECTION.format(
        count=count,
        date=datetime.now(UTC).date(),
        sqlite=sqlite3.sqlite_version,
        size=size,
        leaves=count // 2,
        rounds=ROUNDS,
        others=others,
        table="\n".join(table(measured)),
        target=TARGET_MS,
        verdict=f'Slowest: "{worst.about}", at most {max(worst.cpu):.0f} ms: {met}.',
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.console", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="how many the store holds, sent and received")
    parser.add_argument("--write", action="store_true", help="write the section of the reference page")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured, others, size = asyncio.run(run(given.messages, Path(folder)))
    print("\n".join(table(measured)), flush=True)
    if given.write:
        sections.write("console", section(given.messages, measured, others, size))


if __name__ == "__main__":
    main()
