"""Saturated throughput: the relay's full path against plain FastStream, in interleaved rounds.

Run as ``python -m tests.bench.throughput [--rounds N] [--paths plain,batched,single]``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench import http
from tests.bench.material import messages
from tests.bench.stage import Pair, Stage, stage
from tests.bench.workers import MACHINE, cpu

ROUNDS = 5
WARM_UP = 500
PLAIN_WAITING = 64  # the best of 16, 64, 128, 256 and 512: 1,278, 2,375, 2,025, 2,106 and 1,835 msg/s, medians of three
WAITING = 2048


@dataclass(frozen=True, slots=True)
class Round:
    """One run of one path: messages a second, CPU microseconds a message of each part, and the machine's share others had."""

    rate: float
    cpu: dict[str, float]
    others: float

    @property
    def total(self) -> float:
        """CPU of all parts, microseconds a message."""
        return sum(self.cpu.values())


def plain(at: Stage, count: int = 4000) -> Round:
    """Run plain FastStream: no store, no signature, no audit."""
    with at.faststream() as pair:
        _plain(at, pair, WARM_UP)
        return _plain(at, pair, count, start=WARM_UP)


def _plain(at: Stage, pair: Pair, count: int, start: int = 0) -> Round:
    used: dict[str, float] = {}
    with cpu(_parts(at, pair), used):
        pair.sender.tell("send", count=count, start=start, waiting=PLAIN_WAITING)
        received = pair.receiver.ask("receive", count=count)
        sent = pair.sender.hear()
    assert (received["arrived"], received["distinct"]) == (count, count), received["arrived"]
    return _round(count, received["ended"] - sent["began"], used)


def batched(at: Stage, count: int = 20_000) -> Round:
    """Run the relay's full path as it is."""
    return _relay(at, count)


def single(at: Stage, count: int = 1500) -> Round:
    """Run the relay's full path with one message an envelope."""
    return _relay(at, count, cap=1)


def _relay(at: Stage, count: int, **given: int) -> Round:
    with at.relay(**given) as pair:
        _send(at, pair, WARM_UP, 0)
        time.sleep(0.2)
        result = _send(at, pair, count, WARM_UP)
    at.check_exactly_once(count + WARM_UP)
    return result


def _send(at: Stage, pair: Pair, count: int, start: int) -> Round:
    used: dict[str, float] = {}
    with cpu(_parts(at, pair), used):
        pair.sender.tell("send", count=count, start=start, waiting=WAITING)
        pair.receiver.ask("receive", total=count + start)
        sent = pair.sender.hear()
    return _round(count, sent["ended"] - sent["began"], used)


def over_http(at: Stage, count: int = 10_000) -> Round:
    """Run the relay from NDJSON over HTTP to pull and acknowledgement over HTTP."""
    load, used = messages(count), dict[str, float]()
    with at.relay(http=True) as pair, cpu({**_parts(at, pair), "client": os.getpid()}, used):
        began = time.monotonic()
        assert http.carry(at.network, load) == (count, count)
        took = time.monotonic() - began
        pair.sender.ask("settle", total=count)
    at.check_exactly_once(count)
    return _round(count, took, used)


PATHS: dict[str, Callable[[Stage], Round]] = {
    "plain": plain,
    "batched": batched,
    "single": single,
    "http": over_http,
}


def _parts(at: Stage, pair: Pair) -> dict[str, int | None]:
    return {"sender": pair.sender.pid, "receiver": pair.receiver.pid, "broker": at.broker.pid}


def _round(count: int, seconds: float, used: dict[str, float]) -> Round:
    machine = used.pop(MACHINE)
    others = (machine - sum(used.values())) / seconds / (os.cpu_count() or 1)
    return Round(count / seconds, {part: 1e6 * spent / count for part, spent in used.items()}, max(others, 0.0))


def run(at: Stage, rounds: int = ROUNDS, paths: Sequence[str] = tuple(PATHS)) -> dict[str, list[Round]]:
    """Run the paths in turn, so many times, and return every round."""
    results: dict[str, list[Round]] = {path: [] for path in paths}
    for _ in range(rounds):
        for path in paths:
            results[path].append(PATHS[path](at))
    return results


def ratios(results: dict[str, list[Round]], path: str) -> list[float]:
    """Return, per round, a path's throughput over plain FastStream's in the same round."""
    return [one.rate / other.rate for one, other in zip(results[path], results["plain"], strict=True)]


def ratio(results: dict[str, list[Round]], path: str) -> float:
    """Return a path's throughput over plain FastStream's."""
    return median(ratios(results, path))


def table(results: dict[str, list[Round]]) -> list[str]:
    """Return the medians as lines of a Markdown table."""
    lines = [
        "| path | msg/s | / FastStream | CPU µs a message: sender | receiver | broker | client | all | FastStream's / all |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for path, rounds in results.items():
        all_ = median(one.total for one in rounds)
        times = costs = ""
        if "plain" in results:
            compared = ratios(results, path)
            times = f"{median(compared):.2f} ({min(compared):.2f} to {max(compared):.2f})"
            costs = f"{median(other.total / one.total for one, other in zip(rounds, results['plain'], strict=True)):.2f}"
        parts = [median(one.cpu.get(part, 0.0) for one in rounds) for part in ("sender", "receiver", "broker", "client")]
        cells = [
            path,
            f"{median(one.rate for one in rounds):,.0f}",
            times,
            *(f"{part:.0f}" for part in parts),
            f"{all_:.0f}",
            costs,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--paths", default=",".join(PATHS))
    given = parser.parse_args()
    with stage() as at:
        print("\n".join(table(run(at, given.rounds, given.paths.split(",")))))


if __name__ == "__main__":
    main()
