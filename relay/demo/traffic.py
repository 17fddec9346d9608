"""Realistic traffic from invented stories in the four crime families of the mission.

Each message is one of the stories with a case number of its own, so that no two are the same. The same seed gives the same
messages.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import count, islice
from typing import Any

from relay.demo.journal import spell
from relay.demo.reconcile import covered

_PRECEDENCES = ("routine", "priority", "immediate", "flash")
_WEIGHTS = (80, 13, 5, 2)
_EXERCISE_SHARE = 0.03


@dataclass(frozen=True, slots=True)
class Told:
    """A message ready to be submitted; ``case`` is its case number or another name, unique in the run.

    ``updates`` is the digest of the first version of the message that it updates.
    """

    case: str
    raw: bytes
    urgent: bool
    updates: str = ""


@cache
def stories() -> list[dict[str, Any]]:
    """Return the stories."""
    text = resources.files("relay.demo").joinpath("stories.json").read_text(encoding="utf-8")
    loaded: list[dict[str, Any]] = json.loads(text)
    return loaded


def tell(centre: str, how_many: int, seed: int, publish: Sequence[Mapping[str, Any]]) -> list[Told]:
    """Return what a centre has to say, among the stories that its entitlements to ``publish`` cover."""
    return list(islice(endless(centre, seed, publish), how_many))


def endless(centre: str, seed: int, publish: Sequence[Mapping[str, Any]]) -> Iterator[Told]:
    """Return the same without an end."""
    dice = random.Random(f"{seed}/{centre}")  # noqa: S311 - a story is no secret
    told = [story["message"] for story in stories() if covered(publish, story["message"])]
    return (_message(centre, number, dice.choice(told), dice) for number in count(1))


def _message(centre: str, number: int, story: dict[str, Any], dice: random.Random) -> Told:
    case = f"DEMO-{centre}-{number:06}"
    precedence = dice.choices(_PRECEDENCES, _WEIGHTS)[0]
    status = "exercise" if dice.random() < _EXERCISE_SHARE else "actual"
    message = {**story, "case_number": case, "precedence": precedence, "status": status}
    return Told(case, spell(message), precedence in ("flash", "immediate"))
