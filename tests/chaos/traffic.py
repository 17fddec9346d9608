"""What the centres say in a campaign: the published examples with a number of their own, in every lane, to all or to some.

One in thirty is an exercise, one in eight names its recipients, one in two hundred carries a photograph's worth of bytes. The
same seed gives the same messages.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.journal import spell

EXAMPLES = Path(__file__).resolve().parents[2] / "schemas" / "examples"
PRECEDENCES = ("routine", "priority", "immediate", "flash")
WEIGHTS = (80, 13, 5, 2)
COUNTRIES = (["BE", "EC"], ["SG", "TH"])
EXERCISES, ADDRESSED, LARGE = 0.033, 0.12, 0.005
LARGE_BYTES = (20_000, 150_000)


@dataclass(frozen=True, slots=True)
class Said:
    """A message ready to be submitted under an idempotency key; ``alone``: not in a batch."""

    key: str
    raw: bytes
    alone: bool


def said(centre: str, count: int, seed: int, centres: Sequence[str]) -> list[Said]:
    """Return what a centre will say."""
    dice = random.Random(f"traffic/{seed}/{centre}")  # noqa: S311 - invented traffic
    examples = [json.loads((EXAMPLES / f"{kind}.minimal.json").read_bytes()) for kind in ("seizure", "alert")]
    others = [one for one in centres if one != centre]
    return [_message(dice, f"CHAOS-{centre}-{number:06}", dice.choice(examples), others) for number in range(count)]


def _message(dice: random.Random, key: str, example: dict[str, Any], others: Sequence[str]) -> Said:
    precedence = dice.choices(PRECEDENCES, WEIGHTS)[0]
    message = {**example, "precedence": precedence, "crime_types": [dice.choice(("drugs.cocaine", "drugs.synthetic"))]}
    message["countries"] = dice.choice(COUNTRIES)
    message["case_number" if message["kind"] == "seizure" else "headline"] = key
    if dice.random() < EXERCISES:
        message["status"] = "exercise"
    if dice.random() < ADDRESSED:
        message["countries"] = ["EC", "SG"]  # every centre may be told of these
        message["to"] = sorted(dice.sample(others, dice.randint(1, len(others))))
    if large := dice.random() < LARGE:
        content = dice.randbytes(dice.randint(*LARGE_BYTES))
        message["attachments"] = [
            {
                "media_type": "image/jpeg",
                "digest": hashlib.sha256(content).hexdigest(),
                "content": base64.b64encode(content).decode(),
            }
        ]
    return Said(key, spell(message), large or precedence == "flash")
