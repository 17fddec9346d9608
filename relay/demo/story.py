"""The story: a case told in every kind of message by the centres' systems, over the network that is running.

``story.json`` says who tells what and which centres must get it; it is judged by what their systems took. A step is over when
all of them have it and nobody else, and, if it takes something back, when everyone who held that has confirmed the purge. Only
then the next is told: so nothing is recalled before it was delivered.

Errors raised: ``DemoFailed``, with a sentence that says who got what he must not, or did not get what he must.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from relay.demo.journal import digest, spell
from relay.demo.system import DemoFailed, System
from relay.demo.traffic import Told
from relay.messages.rules import SHARED

STEP_SECONDS = 90.0
LOOK_SECONDS = 0.05
INDENT = 22


@dataclass(frozen=True, slots=True)
class Step:
    """One message: ``to`` are the centres that must get it, ``told`` is what a person reads of it.

    ``refers`` names earlier steps and how this one relates to them. An update says in ``changes`` which fields of the message
    that it updates are new, and in ``withdrawn_from`` which centres it leaves out.
    """

    name: str
    origin: str
    to: tuple[str, ...]
    told: str
    message: dict[str, Any]
    refers: dict[str, str] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    withdrawn_from: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The kind of its message."""
        return str(self.message["kind"])

    @property
    def takes_back(self) -> str | None:
        """The step whose message it updates or cancels."""
        return next((name for name, relation in self.refers.items() if relation in ("updates", "cancels")), None)


@dataclass(frozen=True, slots=True)
class Said:
    """A step that was told: its message as it was submitted, under the id that its node gave it."""

    step: Step
    message: dict[str, Any]
    id: str


@dataclass(frozen=True, slots=True)
class Recall:
    """How many centres confirmed that nothing is left with them, of how many that held it."""

    confirmed: int = 0
    of: int = 0


@dataclass(frozen=True, slots=True)
class Played:
    """What was told: the kinds in order, each once, the number of messages, and what came of the last cancel."""

    kinds: tuple[str, ...]
    steps: int
    recalled: Recall


@cache
def title() -> str:
    """Return the name of the story."""
    return str(_file()["title"])


@cache
def steps() -> tuple[Step, ...]:
    """Return the steps of the story, in order."""
    return tuple(
        Step(**{**step, "to": tuple(step["to"]), "withdrawn_from": tuple(step.get("withdrawn_from", ()))})
        for step in _file()["steps"]
    )


def compose(step: Step, said: Mapping[str, Said]) -> dict[str, Any]:
    """Return the message of a step, which refers to what was said before by id and digest.

    An update carries the whole new version, and says outside which marks that has.
    """
    message = dict(step.message)
    if step.refers:
        message["references"] = [
            {"id": said[name].id, "digest": digest(spell(said[name].message)), "relation": relation}
            for name, relation in step.refers.items()
        ]
    if step.kind == "update" and step.takes_back:
        version = {**said[step.takes_back].message, **step.changes}
        message |= {mark: version[mark] for mark in SHARED if mark in version}
        message["message"] = version
    return message


async def play(systems: Mapping[str, System], say: Callable[[str], None], told: Sequence[Step] | None = None) -> Played:
    """Tell the story, or the steps ``told``; the systems must be taking what comes."""
    told = steps() if told is None else told
    said: dict[str, Said] = {}
    recalled = Recall()
    say(f"The story: {title()} (invented), told by the same systems over the same network.")
    for step in told:
        said[step.name] = await _tell(step, said, systems)
        await until_taken(said[step.name], systems)
        if step.takes_back is None:
            say(_line(step))
            continue
        first = said[step.takes_back]
        recall = await _until_confirmed(step, first, systems)
        recalled = recall if step.kind == "cancel" else recalled
        say(f"{_line(step)}\n{' ' * INDENT}{_recall_line(step, recall)}")
    return Played(tuple(dict.fromkeys(step.kind for step in told)), len(said), recalled)


async def _tell(step: Step, said: Mapping[str, Said], systems: Mapping[str, System]) -> Said:
    """Submit a step's message; fail unless the node promises it to those who must get it, and to nobody else."""
    message = compose(step, said)
    updates = digest(spell(said[step.takes_back].message)) if step.kind == "update" and step.takes_back else ""
    answer = await systems[step.origin].tell(Told(f"story/{step.name}", spell(message), urgent=True, updates=updates))
    _compare(step, answer["recipients"], step.to, "was promised to")
    _compare(step, answer.get("withdrawn_from", ()), step.withdrawn_from, "was withdrawn from")
    return Said(step, message, answer["id"])


async def until_taken(said: Said, systems: Mapping[str, System], seconds: float = STEP_SECONDS) -> None:
    """Wait until the systems of those who must get a message have it; fail when another has it, or after ``seconds``."""
    limit = time.monotonic() + seconds
    while (took := {centre for centre, system in systems.items() if said.id in system.tally.ids}) != set(said.step.to):
        if took - set(said.step.to) or time.monotonic() > limit:
            _compare(said.step, took, said.step.to, "was taken by")
        await asyncio.sleep(LOOK_SECONDS)


async def _until_confirmed(step: Step, first: Said, systems: Mapping[str, System]) -> Recall:
    """Wait until everyone who held the first version confirms its purge; fail unless those left out were told to."""
    limit, origin = time.monotonic() + STEP_SECONDS, systems[step.origin]
    told = {*step.withdrawn_from, *(step.to if step.kind == "cancel" else ())}
    while True:
        recall = (await origin.state(first.id)).get("recall", {"confirmed": 0, "of": 0, "centres": []})
        tellers = {centre for centre, system in systems.items() if first.id in system.tally.recalled}
        if recall["confirmed"] == recall["of"] and tellers == told:
            break
        if time.monotonic() > limit:
            open_ = [one["centre"] for one in recall["centres"] if one["purged_at"] is None]
            _compare(step, tellers, told, "told to purge what came before it")
            raise DemoFailed(f"{_named(step)} is not confirmed by {_listed(open_)} after {STEP_SECONDS:.0f} s.")
        await asyncio.sleep(LOOK_SECONDS)
    _compare(step, [one["centre"] for one in recall["centres"]], {*step.to, *step.withdrawn_from}, "recalled something at")
    return Recall(recall["confirmed"], recall["of"])


def _compare(step: Step, found: Collection[str], wanted: Collection[str], what: str) -> None:
    """Raise ``DemoFailed`` unless the centres found are those wanted."""
    if set(found) != set(wanted):
        raise DemoFailed(f"{_named(step)} {what} {_listed(found)}; it should be {_listed(wanted)}.")


def _named(step: Step) -> str:
    return f"The story's step {step.name} ({step.kind} of {step.origin})"


def _listed(centres: Collection[str]) -> str:
    return ", ".join(sorted(centres)) or "nobody"


def _line(step: Step) -> str:
    return f"  {step.kind:{INDENT - 2}}{step.origin} -> {', '.join(step.to)}: {step.told}"


def _recall_line(step: Step, recall: Recall) -> str:
    """Return what became of the message that a step takes back, in words."""
    confirmed = f"{recall.confirmed} of {recall.of} confirmed"
    if step.kind == "cancel":
        return f"recalled: {confirmed}"
    left_out = f"left out now, and told to purge it: {', '.join(step.withdrawn_from)}; " if step.withdrawn_from else ""
    return f"{left_out}earlier version purged: {confirmed}"


def _file() -> dict[str, Any]:
    text = resources.files("relay.demo").joinpath("story.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded
