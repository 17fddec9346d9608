"""Open reply clocks: which answers peers owe this centre, which it owes, how much time is left; the most urgent first.

A clock runs from the moment at which who was asked has the request, so of one that no peer confirmed yet no end is known.

Errors raised: ``StoreTrouble``.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field

from relay.requests import SIDES
from relay.store import Connection, clocks
from relay.store.clocks import ANSWERED, Clock
from relay.views.times import Moment, Shown
from relay.web.served import Served

MOST = 200
"""The most clocks that a page shows of a side."""


class OpenClock(Shown):
    """A request's clock at one peer: who was asked, or who asked."""

    request: str
    side: Literal["asked", "received"]
    peer: str
    state: str = Field(description="open, partial, clarification and delay run; full, refusal, cancelled and rejected stopped")
    hours: int = Field(description="hours that the answer may take")
    started_at: Moment | None = Field(description="when who was asked had the request; null: not confirmed yet")
    due_at: Moment | None = Field(description="when the answer is due: after the hours, or at the date of a delay")
    left_seconds: float | None = Field(description="time left; below 0 it is overdue; null: it has not begun, or it stopped")
    overdue: bool
    reminders: list[int] = Field(description="percent of the clock that were reminded of")
    answers: int = Field(description="how many replies there are to the request")
    answered_at: Moment | None = Field(description="when the full answer or the refusal came, or was sent")
    answered_late: bool | None = Field(description="whether that was after its time; null without one")


class Requests(Shown):
    """The open clocks of both sides; what is overdue stands first."""

    asked: list[OpenClock] = Field(description="answers that peers owe this centre")
    received: list[OpenClock] = Field(description="answers that this centre owes")
    counts: dict[str, list[int]] = Field(description="by side: how many run, and how many of these are overdue")


async def requests(node: Served) -> Requests:
    """Return the open clocks."""
    centre, now = node.centre, node.centre.now()
    found, counts = await centre.store.read(partial(_read, me=centre.id, now=now))
    sides = {side: [shown(clock, answers, now) for clock, answers in found[asked]] for asked, side in SIDES.items()}
    return Requests(
        asked=sides["asked"],
        received=sides["received"],
        counts={side: list(counts.get(asked, (0, 0))) for asked, side in SIDES.items()},
    )


def shown(clock: Clock, answers: int, now: int) -> OpenClock:
    """Return a clock as operators see it."""
    left = None if clock.due_at is None or clock.started_at is None or clock.stopped_at else (clock.due_at - now) / 1000
    return OpenClock(
        request=clock.request,
        side="asked" if clock.asked else "received",
        peer=clock.peer,
        state=clock.state,
        hours=clock.hours,
        started_at=clock.started_at,
        due_at=clock.due_at,
        left_seconds=left,
        overdue=clock.overdue(now),
        reminders=[int(step) for step in clock.steps if step != "overdue"],
        answers=answers,
        answered_at=clock.stopped_at if clock.state in ANSWERED else None,
        answered_late=clock.late,
    )


def _read(connection: Connection, me: str, now: int) -> tuple[dict[bool, list[tuple[Clock, int]]], dict[bool, tuple[int, int]]]:
    found = {asked: _with_answers(connection, me, clocks.running(connection, asked=asked, limit=MOST)) for asked in SIDES}
    return found, clocks.counts(connection, now)


def _with_answers(connection: Connection, me: str, running: list[Clock]) -> list[tuple[Clock, int]]:
    """Return clocks, each with how many replies its request has."""
    answers = {
        request: len(clocks.answers(connection, me, [one for one in running if one.request == request]))
        for request in {one.request for one in running}
    }
    return [(one, answers[one.request]) for one in running]
