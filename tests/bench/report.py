"""The reference page on performance, written from what was measured."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median

from relay.rabbit import PrivateBroker
from tests.bench import latency, throughput
from tests.bench.latency import Latency
from tests.bench.material import messages
from tests.bench.throughput import Round

_PAGE = """\
# Performance

Written by `python -m tests.bench --write` (`make bench WRITE=--write`); do not edit. Ratios and CPU per message of interleaved
rounds count; a rate alone says more about the machine than about the program.

Measured {date} on {machine}, Python {python}, RabbitMQ {rabbit} on the same machine, FastStream {faststream}, {rounds} rounds,
medians, the range of the ratios in brackets. During the throughput rounds other programs used {others:.0%} of the
machine on average, in bursts, so single rounds stray; latency, its p99 above all, suffers more from that than throughput.

## Throughput, saturated

`python -m tests.bench.throughput`: one process each side, a nested seizure message of {size} bytes, a real broker with quorum
queues.

{throughput}

- **plain**: FastStream with a handler that takes only the model: persistent, publisher confirms, prefetch 1000, {waiting}
  publications at once. In its favour: the sender publishes ready bytes without validating them, the decoder validates straight
  from the bytes (the model is strict, FastStream's own decoder would have to be told otherwise), and its log is off.
- **batched**: the relay's full path: validate, seal for one recipient, sign, outbox and audit on disk (SQLite,
  `synchronous=FULL`), publish, confirm, consume, verify, open, validate, dedupe, inbox and audit on disk, acknowledge, signed
  receipt back at the origin and on disk. {relay_waiting} messages wait at once. After each round both stores are compared: every
  message arrived exactly once and is receipted. The sender is not entitled to what it sends; one that is would also be handed a
  copy of each envelope and drop it unopened.
- **single**: the same with one message an envelope.
- **http**: NDJSON batches of 100 in, pull of 500 and acknowledgement out, which adds a second receipt. The client is a process of
  its own on the same cores; its CPU is part of the sum.

**What gain there is comes from batching, not from a faster library.** Both use aio-pika, which costs hundreds of microseconds
per AMQP message; up to 64 messages share one, together with one signature, one wrapped key and one transaction. With one message
an envelope the relay reaches {single:.2f} of FastStream's throughput: that is what store, signature and receipts cost. Batches
form only where messages wait; at low load each travels alone.

## Latency

`python -m tests.bench.latency`: {rate} messages a second from submit to the receiving side's consumer; the relay's is on disk at
both ends by then. For `flash`: {flashes} messages, alone, and while a receiver that was down works off {backlog:,} waiting
`routine` messages.

{latency}

## Targets

| target | must | measured | met |
|---|---|---|---|
{targets}

## Not verified

Sealing for four recipients, a million waiting, memory under load, growth from 4 to 64 centres, the bytes-only ceiling,
RabbitMQ 4, a broker on another machine, disks with a real write cache, a backlog above {backlog:,}.
"""


def rabbit_version(broker: PrivateBroker) -> str:
    """Return the broker's version."""
    with broker.management() as management:
        return management.version()


def page(rates: dict[str, list[Round]], waits: dict[str, list[Latency]], rabbit: str, rounds: int) -> str:
    """Return the page."""
    return _PAGE.format(
        date=datetime.now(UTC).date(),
        machine=_machine(),
        python=platform.python_version(),
        rabbit=rabbit,
        faststream=version("faststream"),
        rounds=rounds,
        others=mean(one.others for path in rates.values() for one in path),
        size=len(messages(1)[0]),
        throughput="\n".join(throughput.table(rates)),
        waiting=throughput.PLAIN_WAITING,
        relay_waiting=throughput.WAITING,
        single=throughput.ratio(rates, "single"),
        rate=latency.RATE,
        flashes=latency.FLASHES,
        backlog=latency.BACKLOG,
        latency="\n".join(latency.table(waits)),
        targets="\n".join(_targets(rates, waits)),
    )


def _targets(rates: dict[str, list[Round]], waits: dict[str, list[Latency]]) -> list[str]:
    p50, p99 = map(median, latency.ratios(waits, "relay"))
    flash = median(latency.ratios(waits, "flash beside a backlog")[1])
    rate = throughput.ratio(rates, "batched")
    rows = [
        ("full path / plain FastStream, saturated", "at least 4", rate, rate >= 4),
        (f"p50 at {latency.RATE} msg/s / FastStream's", "at most 2.0", p50, p50 <= 2.0),
        (f"p99 at {latency.RATE} msg/s / FastStream's", "at most 2.5", p99, p99 <= 2.5),
        (f"p99 of `flash` beside {latency.BACKLOG:,} `routine` / alone", "at most 3", flash, flash <= 3),
    ]
    return [f"| {what} | {must} | {found:.2f} | {'yes' if met else '**no**'} |" for what, must, found, met in rows]


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores ({model.strip()}, virtual)"
