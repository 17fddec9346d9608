"""The judge of a campaign: an independent program that reads what the systems wrote down and what their nodes say in the end.

``python -m tests.chaos.checker FOLDER`` reads ``FOLDER/CENTRE.jsonl``, the journals of :mod:`tests.chaos.journal`, and
``FOLDER/CENTRE.states.jsonl``, one ``GET /v1/messages/{id}`` a line. It imports nothing of the relay, nor of the campaign. A
message is its origin and the digest of its bytes, so one that was changed on its way is lost and unexpected at once.

- *lost*: promised to a recipient, not seen by its system, and its origin shows no other end (rejected, expired, cancelled).
  Of these, *false* are those of which the origin says ``delivered``.
- *duplicated*: effects beyond the first of one message at one recipient.
- *unexpected*: seen by a system to which nobody promised it, or changed.
- *open*: no terminal state at the origin, seen or not.
- *rejected*, *expired*, *cancelled*: so they ended at the origin, seen or not, though nobody in a campaign asks for it.

The exit status is 1 when anything was lost, duplicated or unexpected, or is anything but delivered in the end.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ENDS = frozenset({"delivered", "rejected", "expired", "cancelled"})

Effect = tuple[str, str, str]  # origin, digest, recipient


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out; ``accepted`` counts messages, and so does ``refused`` by code; the rest messages times recipients."""

    accepted: int
    promised: int
    delivered: int
    lost: int
    false: int
    duplicated: int
    unexpected: int
    refused: dict[str, int]
    open: int
    rejected: int = 0
    expired: int = 0
    cancelled: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, duplicated or unexpected."""
        return self.lost == self.duplicated == self.unexpected == 0

    @property
    def complete(self) -> bool:
        """Whether it is clean and all that was promised ended as delivered, by its origin's own word."""
        return self.clean and self.open == self.rejected == self.expired == self.cancelled == 0


@dataclass(slots=True)
class Told:
    """Everything that the journals and the nodes say."""

    asked: dict[tuple[str, str], float] = field(default_factory=dict)
    accepted: dict[tuple[str, str], str] = field(default_factory=dict)
    promised: dict[Effect, str] = field(default_factory=dict)
    seen: Counter[Effect] = field(default_factory=Counter)
    seen_at: dict[Effect, float] = field(default_factory=dict)
    states: dict[tuple[str, str, str], str] = field(default_factory=dict)  # origin, id, recipient
    refused: Counter[str] = field(default_factory=Counter)


def read(folder: Path) -> Told:
    """Read a campaign's folder."""
    told = Told()
    for path in sorted(folder.glob("*.jsonl")):
        centre, *kind = path.name.removesuffix(".jsonl").split(".")
        for line in _lines(path):
            if kind == ["states"]:
                for recipient in line["recipients"]:
                    told.states[centre, line["id"], recipient["centre"]] = recipient["state"]
            else:
                _take(told, centre, line)
    return told


def judge(told: Told) -> Verdict:
    """Compare what was promised with what was seen."""
    missing = [effect for effect in told.promised if effect not in told.seen]
    said = Counter(_state(told, effect) for effect in missing)
    ends = Counter(_state(told, effect) for effect in told.promised)
    return Verdict(
        accepted=len(told.accepted),
        promised=len(told.promised),
        delivered=sum(effect in told.promised for effect in told.seen),
        lost=sum(count for state, count in said.items() if state == "delivered" or state not in ENDS),
        false=said["delivered"],
        duplicated=sum(count - 1 for count in told.seen.values()),
        unexpected=sum(not _expected(told, effect) for effect in told.seen),
        refused=dict(told.refused),
        open=sum(count for state, count in ends.items() if state not in ENDS),
        rejected=ends["rejected"],
        expired=ends["expired"],
        cancelled=ends["cancelled"],
    )


def latencies(told: Told) -> dict[tuple[str, str], tuple[int, float, float]]:
    """Return per origin and recipient: effects, and the 50th and 99th percentile in seconds from asking to effect."""
    links: dict[tuple[str, str], list[float]] = defaultdict(list)
    for effect, at in told.seen_at.items():
        origin, message, recipient = effect
        if effect in told.promised and (origin, message) in told.asked:
            links[origin, recipient].append(at - told.asked[origin, message])
    return {link: (len(taken), *_percentiles(taken)) for link, taken in sorted(links.items())}


def missing(told: Told) -> list[tuple[str, str, str]]:
    """Return what was promised and not seen: origin, message id, recipient, with the state that its origin shows."""
    found = []
    for effect, message in told.promised.items():
        if effect not in told.seen:
            found.append((f"{effect[0]} to {effect[2]}", message, _state(told, effect)))
    return found


def _take(told: Told, centre: str, line: dict[str, Any]) -> None:
    match line["event"]:
        case "asked":
            told.asked.setdefault((centre, line["digest"]), line["at"])
        case "accepted":
            told.accepted[centre, line["digest"]] = line["id"]
            for recipient in line["recipients"]:
                told.promised[centre, line["digest"], recipient] = line["id"]
        case "refused":
            told.refused[str(line["answer"].get("code"))] += 1
        case "seen":
            effect = (line["origin"], line["digest"], centre)
            told.seen[effect] += 1
            told.seen_at.setdefault(effect, line["at"])


def _expected(told: Told, effect: Effect) -> bool:
    """Return whether someone promised this; of a message whose answer is not known nobody can say to whom."""
    said = effect[:2]
    return effect in told.promised or (said in told.asked and said not in told.accepted)


def _state(told: Told, effect: Effect) -> str:
    return told.states.get((effect[0], told.promised[effect], effect[2]), "unknown")


def _percentiles(taken: list[float]) -> tuple[float, float]:
    ordered = sorted(taken)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Return a journal's lines; one that a crash of its writer cut short was not yet said."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def main(folder: Path) -> int:
    """Judge a folder, print the verdict as JSON, and what is missing."""
    told = read(folder)
    verdict = judge(told)
    print(json.dumps(asdict(verdict)))
    for link, message, state in missing(told)[:50]:
        print(f"not seen: {link} {message} ({state})", file=sys.stderr)
    return 0 if verdict.complete else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
