"""The faults of a campaign as data, drawn from a seed: the same seed and number give the same schedule.

A fault happens at a share of the campaign's messages, to a centre or to the broker, for some seconds. Kinds come from a shuffled
deck that is dealt again when it is empty, so that no kind is forgotten.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BROKER = "broker"
NODE_KINDS = ("kill-node", "stop-node", "cut-link", "half-open-link", "slow-link", "delete-queue", "clock-step", "disk-full")
BROKER_KINDS = ("kill-broker", "wipe-broker", "stop-broker", "memory-alarm", "disk-alarm")
KINDS = (*NODE_KINDS, *BROKER_KINDS)
QUEUES = ("flash", "immediate", "priority", "routine", "exercise", "control")
CLOCK_STEPS = (-240, -60, -5, 5, 60, 3600)

FIRST, LAST = 0.03, 0.95
_SECONDS = {
    "kill-node": (0.5, 4.0),
    "stop-node": (1.0, 8.0),
    "cut-link": (0.5, 6.0),
    "half-open-link": (0.0, 0.0),  # for good: the two ends must find out
    "slow-link": (4.0, 10.0),
    "delete-queue": (1.0, 5.0),
    "clock-step": (3.0, 12.0),
    "disk-full": (2.0, 6.0),
    "kill-broker": (0.0, 2.0),
    "wipe-broker": (0.0, 2.0),
    "stop-broker": (1.0, 10.0),
    "memory-alarm": (2.0, 6.0),
    "disk-alarm": (2.0, 6.0),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to ``target`` when the share ``when`` of all messages was submitted, and for how many seconds.

    ``detail`` is the lane of a deleted queue, or the seconds by which a clock is set.
    """

    when: float
    kind: str
    target: str
    seconds: float
    detail: str = ""

    def __str__(self) -> str:
        detail = f" {self.detail}" if self.detail else ""
        return f"{self.when:6.1%}  {self.kind} {self.target}{detail}, {self.seconds:.1f} s"


def schedule(
    seed: int, count: int, centres: Sequence[str], disks: Sequence[str] = (), kinds: Sequence[str] = KINDS
) -> tuple[Fault, ...]:
    """Return ``count`` faults in the order of their moments; ``disks`` are the centres whose disk can be filled."""
    dice = random.Random(f"faults/{seed}")  # noqa: S311 - a fault is no secret
    dealt = _deal(dice, [kind for kind in kinds if kind != "disk-full" or disks])
    width = (LAST - FIRST) / max(count, 1)
    return tuple(
        _fault(dice, FIRST + (number + dice.random() * 0.8) * width, next(dealt), centres, disks) for number in range(count)
    )


def _deal(dice: random.Random, kinds: Sequence[str]) -> Iterator[str]:
    while True:
        yield from dice.sample(kinds, len(kinds))


def _fault(dice: random.Random, when: float, kind: str, centres: Sequence[str], disks: Sequence[str]) -> Fault:
    target = BROKER if kind in BROKER_KINDS else dice.choice(disks if kind == "disk-full" else centres)
    seconds = round(dice.uniform(*_SECONDS[kind]), 1)
    detail = ""
    if kind == "delete-queue":
        detail = dice.choice(QUEUES)
    elif kind == "clock-step":
        detail = f"{dice.choice(CLOCK_STEPS):+d}"
    return Fault(round(when, 4), kind, target, seconds, detail)
