"""Latency at 100 messages a second, from submit to the receiving side's consumer, and of ``flash`` beside a backlog.

Run as ``python -m tests.bench.latency [--rounds N] [--backlog N]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from tests.bench.material import RECEIVER, SENDER
from tests.bench.stage import Pair, Stage, stage

ROUNDS = 5
RATE = 100
COUNT = 500
WARM_UP = 100
BACKLOG = 20_000
FLASHES = 200
FLASH_RATE = 50
_APART = 10_000_000  # numbers of the flashes, so that they are told from the backlog


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds."""

    p50: float
    p99: float


def plain(at: Stage) -> Latency:
    """Through plain FastStream, until the handler runs."""
    with at.faststream() as pair:
        _plain(pair, WARM_UP, 0)
        return _plain(pair, COUNT, WARM_UP)


def _plain(pair: Pair, count: int, start: int) -> Latency:
    pair.sender.tell("send", count=count, start=start, rate=RATE)
    received = pair.receiver.ask("receive", count=count)
    return _latency(pair.sender.hear()["times"], start, received["times"])


def relay(at: Stage) -> Latency:
    """Through the relay, until the receiving centre's system is given the message; it acknowledges too."""
    with at.relay() as pair:
        _relay(pair, WARM_UP, 0)
        return _relay(pair, COUNT, WARM_UP)


def _relay(pair: Pair, count: int, start: int, rate: int = RATE, **given: Any) -> Latency:
    pair.receiver.tell("take", count=count)
    pair.sender.tell("send", count=count, start=start, rate=rate, **given)
    received = pair.receiver.hear()
    return _latency(pair.sender.hear()["times"], start, received["times"])


def flash_alone(at: Stage) -> Latency:
    """Send ``flash`` through an idle relay."""
    with at.relay() as pair:
        _relay(pair, WARM_UP, 0)
        return _relay(pair, FLASHES, _APART, FLASH_RATE, precedence="flash")


def flash_beside(at: Stage, backlog: int = BACKLOG) -> Latency:
    """Send ``flash`` while the receiver, down until now, works off a backlog of ``routine``."""
    with ExitStack() as stack:
        sender = stack.enter_context(at.node("relay_sender", SENDER))
        sender.ask("send", count=backlog, start=0, waiting=1024, receipts=False)
        receiver = stack.enter_context(at.node("relay_receiver", RECEIVER))
        receiver.tell("take", count=backlog + FLASHES)
        sender.tell("send", count=FLASHES, start=_APART, rate=FLASH_RATE, precedence="flash")
        times = receiver.hear()["times"]
        return _latency(sender.hear()["times"], _APART, [(number, at_) for number, at_ in times if number >= _APART])


def _latency(started: list[float], start: int, arrived: list[tuple[int, float]]) -> Latency:
    assert sorted(number for number, _ in arrived) == list(range(start, start + len(started)))
    took = [1000 * (at - started[number - start]) for number, at in arrived]
    hundredths = quantiles(took, n=100)
    return Latency(hundredths[49], hundredths[98])


PATHS: dict[str, Callable[[Stage], Latency]] = {
    "plain": plain,
    "relay": relay,
    "flash alone": flash_alone,
    "flash beside a backlog": flash_beside,
}


def run(at: Stage, rounds: int = ROUNDS) -> dict[str, list[Latency]]:
    """Run every path in turn, so many times, and return every round."""
    results: dict[str, list[Latency]] = {path: [] for path in PATHS}
    for _ in range(rounds):
        for path, measure in PATHS.items():
            results[path].append(measure(at))
    return results


_AGAINST = {"relay": "plain", "flash beside a backlog": "flash alone"}


def ratios(results: dict[str, list[Latency]], path: str) -> tuple[list[float], list[float]]:
    """Return, per round, a path's p50 and p99 over those of what it is compared with."""
    pairs = list(zip(results[path], results[_AGAINST[path]], strict=True))
    return [one.p50 / other.p50 for one, other in pairs], [one.p99 / other.p99 for one, other in pairs]


def table(results: dict[str, list[Latency]]) -> list[str]:
    """Return the medians as lines of a Markdown table, each path against the one it is to be compared with."""
    lines = ["| path | p50 ms | p99 ms | p50 ratio | p99 ratio | against |", "|---|---|---|---|---|---|"]
    for path, rounds in results.items():
        cells = [path, f"{median(one.p50 for one in rounds):.1f}", f"{median(one.p99 for one in rounds):.1f}"]
        compared = (
            [f"{median(r):.2f} ({min(r):.2f} to {max(r):.2f})" for r in ratios(results, path)] if path in _AGAINST else ["", ""]
        )
        lines.append("| " + " | ".join([*cells, *compared, _AGAINST.get(path, "")]) + " |")
    return lines


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    with stage() as at:
        print("\n".join(table(run(at, given.rounds))))


if __name__ == "__main__":
    main()
