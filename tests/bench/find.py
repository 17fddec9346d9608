"""How long a search takes with a million messages in the index: ``python -m tests.bench.find --messages 1000000 [--write]``.

The index of a real node's store is filled through ``found.add``, in commits of 256, with tokens that the node's own keeper makes
of the published examples, their countries, crime types, status and identifiers varied. The newest messages are real: sealed,
stored and indexed by the node (sent), or sealed by a peer and taken in (received). Then each query is asked many times: of the
index alone, and over HTTP, where an audit leaf is committed, every hit of the page is opened, and marks and states are shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx2

from relay import codes, messages
from relay.api import Api
from relay.clock import iso
from relay.envelope import parse
from relay.messages import Message, Seizure
from relay.messages.parts import Conveyance
from relay.network import Network, write_network
from relay.node import Node, open_node
from relay.seal import unseal
from relay.settings import load
from relay.store import Connection, found, incoming, outgoing
from relay.store.found import Entry, Query
from relay.store.incoming import Arrival
from relay.submissions import Submission
from tests.bench import sections
from tests.bench.workers import MACHINE, cpu

EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples"
ME, PEER = "WEST", "EAST"
GROUP = 256
REAL = 2_000  # sent, and as many received
YEARS_MS = 5 * 365 * 86_400_000
ROUNDS = 40

TARGET_MS = 100

_SECTION = """\
## Finding messages

Written by `python -m tests.bench.find --messages {count} --write`. {date}, SQLite {sqlite}; a store with {count:,} index
entries of five years, made by the node's own keeper from the published examples with countries, crime types and identifiers
varied, added in commits of {group}: **{micros:.0f} µs of CPU and {bytes:.0f} bytes a message**. The newest {real:,} sent and
{real:,} received are real messages. Each query is asked {rounds} times, the first included. *Index*: the search alone.
*Request*: the whole `GET /v1/messages` over HTTP, with its audit leaf committed, every hit on the page opened and its marks and
states shown. Of entries that are not real messages only the index's time counts, since there is nothing to show. While the
queries were asked other programs used {others:.0%} of the machine, in bursts, so p99 and max stray; CPU does not.

{table}

Target: every query under {target} ms with a page of 100 (the default). {verdicts}
A page of 1,000 opens a thousand messages, at about 0.1 ms of CPU each, and passes it.
"""

KINDS = (
    *(("seizure.full", 30), ("seizure.minimal", 25), ("alert.full", 12), ("notice.full", 8), ("diffusion.full", 7)),
    *(("request.full", 6), ("reply.full", 5), ("operation.full", 2), ("identification.full", 2), ("controlled-delivery.full", 1)),
    *(("update.full", 1), ("cancel.full", 1)),
)
CRIMES = {"drugs.cocaine": 40, "drugs.synthetic": 15, "medicines": 10, "environment.timber": 10, "tobacco": 10, "weapons": 5}
COUNTRIES = tuple(dict.fromkeys(("BE", "EC", "PA", "SG", "FR", "MX", *codes.COUNTRIES[::9])))  # the first ones most


@dataclass(frozen=True, slots=True)
class Shape:
    """A query, in words, as the index takes it and as the API does."""

    about: str
    terms: tuple[str, ...]
    params: dict[str, Any]
    since: int | None = None
    until: int | None = None
    received: bool = False


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of one query: CPU and time of the index alone, and time of the whole request."""

    shape: Shape
    hits: int
    cpu: list[float]
    index: list[float]
    whole: list[float]


class Maker:
    """Makes messages that differ as real ones do, always the same ones."""

    def __init__(self) -> None:
        self._random = random.Random(17)  # noqa: S311 - no secret
        self._examples = [messages.parse((EXAMPLES / f"{name}.json").read_bytes()) for name, _ in KINDS]
        self._weights = [weight for _, weight in KINDS]

    def message(self, number: int) -> Message:
        """Return a message with identifiers of its own; a hundredth is of an exercise."""
        drawn = self._random
        example = drawn.choices(self._examples, self._weights)[0]
        given: dict[str, Any] = {
            "crime_types": tuple(drawn.choices(list(CRIMES), list(CRIMES.values()))),
            "countries": tuple(dict.fromkeys(drawn.choices(COUNTRIES, range(len(COUNTRIES), 0, -1), k=drawn.randint(1, 3)))),
            "status": "exercise" if drawn.random() < 0.01 else "actual",
        }
        if "case_number" in example.__dict__:
            given["case_number"] = f"BE-2026-{number:09d}"
        if isinstance(example, Seizure) and example.conveyances:
            ship = {"imo": f"{drawn.randrange(20_000) + 9_000_000}", "containers": (f"XQRU{number % 10**7:07d}",)}
            given["conveyances"] = (Conveyance.model_construct(**{**example.conveyances[0].__dict__, **ship}),)
        return example.model_copy(update=given)

    def origin(self, *, received: bool) -> str:
        """Return who sent a message."""
        return self._random.choice((PEER, "LYO", "SIN", "BUE", "BE-CUS", "FR-CUS")) if received else ME


@asynccontextmanager
async def nodes(network: Network) -> Any:
    """Run the parts of two nodes that store messages, and the API of one; nothing here needs a broker."""
    opened = {centre: await open_node(load(network.node_file(centre))) for centre in (ME, PEER)}
    loops = [asyncio.create_task(node.outbox.run()) for node in opened.values()]
    api = Api()
    serving = asyncio.create_task(api.run(opened[ME]))
    yield opened
    await api.stop()
    for task in (*loops, serving):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    for node in opened.values():
        await node.centre.store.close()
        node.centre.workers.shutdown()


async def fill(node: Node, count: int) -> tuple[float, float]:
    """Put messages of the last five years into the index; return microseconds of CPU and bytes of the store a message."""
    centre, maker, file = node.centre, Maker(), node.centre.settings.store.file
    now = centre.now()
    begun, empty, spent = now - YEARS_MS, file.stat().st_size, 0.0
    for start in range(0, count, GROUP):
        entries = []
        for number in range(start, min(start + GROUP, count)):
            at, received = begun + number * YEARS_MS // (count + 1), number % 2 == 1
            kept = centre.keeper.keep(maker.message(number), maker.origin(received=received), at)
            entries.append(
                Entry(found.number(at, number, received=received), f"{number:08x}-0000-7000-8000-{0:012x}", kept.tokens)
            )
        began = time.process_time()
        await centre.store.write(partial(_add, entries=entries))
        spent += time.process_time() - began
        if start % (GROUP * 400) == 0:
            print(f"{start:,} of {count:,}", flush=True)
    await centre.store.scrub()
    return spent / count * 1e6, (file.stat().st_size - empty) / count


def _add(connection: Connection, entries: list[Entry]) -> None:
    found.add(connection, entries)


async def send(node: Node, to: str, count: int) -> None:
    """Submit real seizures to a centre, each with a case number of its own."""
    document = json.loads((EXAMPLES / "seizure.full.json").read_bytes())
    document |= {"to": [to], "origin": node.centre.id, "exclude": [], "classification": "unclassified"}
    for start in range(0, count, GROUP):
        raw = [
            json.dumps({**document, "case_number": f"REAL-{number}"}).encode()
            for number in range(start, min(start + GROUP, count))
        ]
        outcomes = await node.outbox.submit([Submission(one, messages.parse(one)) for one in raw])
        assert not any(isinstance(outcome, Exception) for outcome in outcomes), outcomes[:1]


async def receive(node: Node, peer: Node) -> None:
    """Take what a peer has sealed into a node's store, as its inbox would."""
    centre = node.centre
    last = (await peer.centre.store.read(lambda connection: outgoing.due(connection, 0, 10**6)))[-1][1]
    for n in range(1, last + 1):
        due = await peer.centre.store.read(partial(outgoing.load, n=n))
        assert due is not None
        opened = unseal(parse(due.raw), centre.id, centre.sealing_keys)
        core, key = opened.envelope.core, centre.storage_key.wrap(opened.content_key)
        now = centre.now()
        kept = tuple(
            centre.keeper.keep(messages.read(one), core.origin, now) for one in opened.contents if isinstance(one, bytes)
        )
        arrival = Arrival(opened.envelope, core.recipient(centre.id).first, key, due.rank, (None,) * len(kept), kept)
        await centre.store.write(partial(incoming.take, arrival=arrival, at=now))


def shapes(now: int) -> Iterator[Shape]:
    """Return what is asked: what officers ask every day, and what is hardest for the index."""
    old, year = now - YEARS_MS + 30 * 86_400_000, 365 * 86_400_000
    seizure, cocaine = "kind:seizure", "crime_type:drugs.cocaine"
    yield Shape("a container, newest", ("identifier:XQRU2204176",), {"identifier": "XQRU 220417-6"})
    yield Shape("a case number, 3 years old", ("identifier:BE2026000400000",), {"identifier": "BE-2026-000400000"})
    yield Shape("an identifier that is nowhere", ("identifier:NOWHERE",), {"identifier": "nowhere"})
    yield Shape("kind", (seizure,), {"kind": "seizure"})
    yield Shape("kind, crime type", (seizure, cocaine), {"kind": "seizure", "crime_type": "drugs.cocaine"})
    yield Shape(
        "kind, crime type, country, region, status, origin",
        (seizure, cocaine, "country:BE", "region:150", "status:actual", f"origin:{ME}"),
        {"kind": "seizure", "crime_type": "drugs.cocaine", "country": "BE", "region": "150", "status": "actual", "origin": ME},
    )
    yield Shape("status alone (99 of 100 have it)", ("status:actual",), {"status": "actual"})
    yield Shape("received alone", (), {"direction": "received"}, received=True)
    yield Shape("time alone, the first month", (), {"until": iso(old)}, until=old)
    yield Shape(
        "kind, crime type, the first month",
        (seizure, cocaine),
        {"kind": "seizure", "crime_type": "drugs.cocaine", "until": iso(old)},
        until=old,
    )
    yield Shape(
        "one of 100, in a year long ago",
        ("status:exercise", "country:MX"),
        {"status": "exercise", "country": "MX", "since": iso(old + year), "until": iso(old + 2 * year)},
        since=old + year,
        until=old + 2 * year,
    )
    yield Shape(
        "two halves that never meet (sent, by another origin)",
        (f"origin:{ME}", f"origin:{PEER}"),
        {"direction": "sent", "origin": PEER},
    )
    yield Shape(
        "three frequent that never meet",
        (f"origin:{ME}", f"origin:{PEER}", "status:actual"),
        {"direction": "sent", "origin": PEER, "status": "actual"},
    )
    yield Shape("kind, 1,000 a page", (seizure,), {"kind": "seizure", "limit": 1000})
    yield Shape(
        "all received of those sent by this centre", (f"origin:{ME}",), {"direction": "received", "origin": ME}, received=True
    )


async def measure(node: Node, client: httpx2.AsyncClient, shape: Shape) -> Times:
    """Ask one query again and again; the first round counts, too."""
    centre = node.centre

    def tokens(*terms: str) -> tuple[str, ...]:
        return tuple(centre.keeper.tokens(terms).split())

    query = Query(tokens(*shape.terms))
    if shape.received:
        query = replace(query, without=tokens(f"origin:{ME}"), either=tokens("status:actual", "status:exercise", "status:test"))
    search = partial(found.search, query=query, since=shape.since, until=shape.until, limit=101)
    worked: list[float] = []

    def searched(connection: Connection) -> None:
        began = time.thread_time()
        search(connection)
        worked.append((time.thread_time() - began) * 1e3)

    index = await _timed(lambda: centre.store.read(searched))
    params = {**shape.params, "reason": "bench"}
    whole = await _timed(lambda: client.get("/v1/messages", params=params))
    answer = await client.get("/v1/messages", params=params)
    assert answer.status_code == 200, answer.text
    return Times(shape, len(answer.json()["messages"]), worked, index, whole)


async def _timed(ask: Callable[[], Awaitable[Any]]) -> list[float]:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await ask()
        times.append((time.perf_counter() - began) * 1e3)
    return times


def table(measured: list[Times]) -> list[str]:
    """Return the figures as a table."""
    lines = [
        "| query | hits shown | index CPU p50 ms | index p50 ms | p99 | max | request p50 ms | p99 | max |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in measured:
        figures = " | ".join(f"{value:.1f}" for times in (one.index, one.whole) for value in _figures(times))
        lines.append(f"| {one.shape.about} | {one.hits} | {median(one.cpu):.1f} | {figures} |")
    return lines


def _figures(times: list[float]) -> tuple[float, float, float]:
    return median(times), quantiles(times, n=100, method="inclusive")[98], max(times)


def section(count: int, cost: tuple[float, float], measured: list[Times], others: float) -> str:
    """Return the section of the page."""
    return _SECTION.format(
        count=count,
        date=datetime.now(UTC).date(),
        sqlite=sqlite3.sqlite_version,
        group=GROUP,
        micros=cost[0],
        bytes=cost[1],
        real=REAL,
        rounds=ROUNDS,
        others=others,
        table="\n".join(table(measured)),
        target=TARGET_MS,
        verdicts="\n".join(_verdict(measured, place, name) for place, name in enumerate(("p50", "p99"))),
    )


def _verdict(measured: list[Times], place: int, name: str) -> str:
    """Say which query of a page of the default size is the slowest by one figure, and whether it meets the target."""
    default = [one for one in measured if "limit" not in one.shape.params]
    worst = max(default, key=lambda one: _figures(one.whole)[place])
    took = _figures(worst.whole)[place]
    return f'Slowest by {name}: "{worst.shape.about}", {took:.1f} ms: {"met" if took < TARGET_MS else "**not met**"}.'


async def run(count: int) -> tuple[tuple[float, float], list[Times], float]:
    """Fill a store and measure; return what an entry costs, every query's times, and the machine's share others had."""
    with tempfile.TemporaryDirectory() as folder:
        network = write_network(Path(folder) / "network", (ME, PEER))
        async with nodes(network) as opened:
            cost = await fill(opened[ME], count)
            print(f"{cost[0]:.1f} microseconds and {cost[1]:.0f} bytes a message", flush=True)
            await send(opened[PEER], ME, REAL)
            await receive(opened[ME], opened[PEER])
            await send(opened[ME], PEER, REAL)
            url = f"http://{opened[ME].centre.settings.api.listen}"
            headers = {"Authorization": f"Bearer {network.token(ME, 'operator')}"}
            async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
                used: dict[str, float] = {}
                began = time.perf_counter()
                with cpu({"own": os.getpid()}, used):
                    measured = [await measure(opened[ME], client, shape) for shape in shapes(opened[ME].centre.now())]
                seconds = time.perf_counter() - began
    return cost, measured, max(0.0, (used[MACHINE] - used["own"]) / seconds / (os.cpu_count() or 1))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.find", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="how many the index holds")
    parser.add_argument("--write", action="store_true", help="write the section of the reference page")
    given = parser.parse_args()
    cost, measured, others = asyncio.run(run(given.messages))
    print("\n".join(table(measured)), flush=True)
    if given.write:
        sections.write("find", section(given.messages, cost, measured, others))


if __name__ == "__main__":
    main()
