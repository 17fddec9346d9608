"""What happened to a message of this centre at each recipient, read off the rows of its envelope.

The first terminal state stands, whoever said it. What comes after it and contradicts it is kept and shown as a *note*, never as a
second state: a message that expired here may turn out to have been delivered late. A message that waits says why: ``deferred``
(tried again by itself), ``held`` (by an operator), ``dead`` (nobody tries again by itself).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from relay.receipts import TERMINAL
from relay.store.common import bit, unsigned

NEVER_SENT = 1
DEAD = 2
AGAIN = 4
"""Bits of a delivery's ``behind``: left out of the fan-out and never sent to this recipient; nobody tries again by itself; to be
sent again although it was sent before."""

ENDED: frozenset[str] = frozenset({"expired", "cancelled"})
"""The terminal states that an origin signs."""
FINAL: frozenset[str] = TERMINAL | ENDED
WAITS = ("deferred", "held", "dead")


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened to a message at a recipient; ``at`` in milliseconds.

    A ``note`` came after the terminal state and contradicts it; it changes nothing.
    """

    state: str
    at: int
    code: str | None = None
    note: bool = False


def history(row: Any, deliveries: Iterable[Any], steps: Iterable[Any]) -> dict[str, tuple[Step, ...]]:
    """Return what happened to a message at each recipient: its states oldest first, its notes among them.

    ``row`` is that of the message with its envelope's times, ``deliveries`` and ``steps`` (in order) are those of its envelope.
    """
    ours = [step for step in steps if step.state == "sent" or unsigned(step.mask) & bit(row.position)]
    return {
        delivery.recipient: _at(row, delivery, [step for step in ours if step.recipient == delivery.recipient])
        for delivery in deliveries
    }


def _at(row: Any, delivery: Any, steps: Sequence[Any]) -> tuple[Step, ...]:
    taken = [Step("queued", row.created_at), *_sent(row, delivery, steps)]
    ended: str | None = None
    for step in steps:
        if step.state in ("sent", "dead"):
            continue
        taken.append(Step(step.state, step.at, step.code, _contradicts(step.state, ended)))
        ended = ended or (step.state if step.state in FINAL else None)
    return (*taken, *_waits(row, delivery, steps, taken))


def _sent(row: Any, delivery: Any, steps: Sequence[Any]) -> list[Step]:
    """Return when the broker had it for this recipient: with all others, or later and addressed to it alone."""
    alone = [step for step in steps if step.state == "sent"]
    if alone:
        return [Step("sent", step.at) for step in alone if unsigned(step.mask) & bit(row.position)][:1]
    return [] if row.sent_at is None or delivery.behind & NEVER_SENT else [Step("sent", row.sent_at)]


def _contradicts(state: str, ended: str | None) -> bool:
    """Return whether a step is a note, given the terminal state that stands; a receipt may come late without contradicting."""
    return ended is not None and (state in FINAL or (state == "accepted" and ended in ENDED))


def _waits(row: Any, delivery: Any, steps: Sequence[Any], taken: Sequence[Step]) -> list[Step]:
    """Return why a message waits that its recipient has not accepted, or nothing."""
    if any(step.state == "accepted" or step.state in FINAL for step in taken):
        return []
    since = max(step.at for step in taken)
    if row.held_at is not None:
        return [Step("held", row.held_at)]
    if delivery.behind & DEAD:
        died = [step for step in steps if step.state == "dead"]
        return [Step("dead", died[-1].at, died[-1].code) if died else Step("dead", since)]
    return [Step("deferred", since)] if delivery.behind else []
