"""How long messages took from centre to centre, from the journals alone.

A link is ``origin -> recipient``; the time of a message on it goes from the answer to its submission to the answer to the
recipient system's acknowledgement. All systems run in one process, so both are read from one clock. Only what was both promised
and taken counts; of a message that was taken twice, the first time. What was lost shows in the reconciliation, not here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from relay.demo.journal import Submitted, Took, read


@dataclass(frozen=True, slots=True)
class Delay:
    """What messages on one link took, in seconds: half of them at most ``p50``, 99 in a hundred at most ``p99``."""

    p50: float
    p99: float
    messages: int


def delays(journals: Mapping[str, Path]) -> dict[tuple[str, str], Delay]:
    """Return the delay of every link on which a message was taken, by origin and recipient, from the journals by centre."""
    submitted: dict[tuple[str, str, str], float] = {}
    taken: dict[tuple[str, str, str], float] = {}
    for centre, path in journals.items():
        for entry in read(path):
            if isinstance(entry, Submitted):
                submitted |= {(centre, recipient, entry.digest): entry.at for recipient in entry.recipients}
            elif isinstance(entry, Took):
                taken.setdefault((entry.origin, centre, entry.digest), entry.at)
    seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for origin, recipient, digest in submitted.keys() & taken.keys():
        key = (origin, recipient, digest)
        # On a fast link a message may be taken before its origin has read the answer.
        seconds[origin, recipient].append(max(taken[key] - submitted[key], 0.0))
    return {link: Delay(percentile(took, 50), percentile(took, 99), len(took)) for link, took in sorted(seconds.items())}


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest of some values that at least so many in a hundred do not exceed (the nearest rank)."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]
