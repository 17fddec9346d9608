"""Requests: the reply clocks of what this centre asked and was asked, and the reminders that they bring.

A clock runs from the moment the peer's node has the request (its signed word; the peer counts from the same) for the hours of
its urgency, or to the date of a delay. At 50 % and at 90 % of it, and when it is over, the centre is reminded, each time once, on
both sides: a line of the log, a metric, a leaf of the audit record, and the fields of ``GET /v1/requests``. Nothing is sent to
the peer: it counts for itself.

:func:`due` decides and is data from data; :class:`Requests` looks, about once a second while an answer is awaited, and writes
only when something is to be begun, stopped or reminded of. What came due while the node was down is told on its first look.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from relay import points
from relay.audit import AuditStep
from relay.centre import Centre
from relay.errors import StoreTrouble
from relay.log import Event
from relay.points import Point
from relay.store import Connection, clocks
from relay.store.clocks import Clock, Step, passed

TICK_SECONDS = 1.0
IDLE_SECONDS = 5.0
SIDES = {True: "asked", False: "received"}


@dataclass(frozen=True, slots=True)
class Reminder:
    """What the centre is reminded of: a step of a request's clock at one peer."""

    clock: Clock
    step: Step


def due(clock: Clock, now: int) -> tuple[Step, ...]:
    """Return the steps that a running clock is to be reminded of now, in order; never one that it was reminded of before."""
    if clock.stopped_at is not None:
        return ()
    return tuple(step for step in passed(clock.started_at, clock.due_at, now) if step not in clock.steps)


class Requests:
    """Looks after the reply clocks of one centre."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    async def run(self) -> None:
        """Look after the clocks, until cancelled."""
        troubled = False
        while True:
            try:
                awaited = await self.look()
            except StoreTrouble as trouble:
                if not troubled:
                    self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
                troubled, awaited = True, 1
            else:
                if troubled:
                    self._centre.log.info(Event.STORE_RECOVERED)
                troubled = False
            await asyncio.sleep(TICK_SECONDS if awaited else IDLE_SECONDS)

    async def look(self) -> int:
        """Begin, stop and remind of what is to be; return how many answers are awaited on both sides."""
        now, store = self._centre.now(), self._centre.store
        if await store.read(partial(_anything, now=now)):
            points.reach(Point.REMIND_COMMIT_BEFORE)
            reminders = await store.write(partial(self._advance, now=now))
            points.reach(Point.REMIND_COMMIT_AFTER)
            for reminder in reminders:
                self._tell(reminder)
        counts = await store.read(partial(clocks.counts, now=now))
        for asked, side in SIDES.items():
            awaited, overdue = counts.get(asked, (0, 0))
            self._centre.metrics.requests_open.labels(side).set(awaited)
            self._centre.metrics.requests_overdue.labels(side).set(overdue)
        return sum(awaited for awaited, _ in counts.values())

    def _advance(self, connection: Connection, now: int) -> list[Reminder]:
        """Write in one transaction what became of the clocks, with a leaf for each reminder; return the reminders."""
        clocks.move(connection, clocks.settle(connection, now))
        reminders: list[Reminder] = []
        for clock in clocks.near(connection, now):
            if steps := due(clock, now):
                clocks.remind(connection, clock, steps)
                reminders += [Reminder(clock, step) for step in steps]
        self._centre.audit.append(connection, [self._leaf(connection, one, now) for one in reminders])
        return reminders

    def _leaf(self, connection: Connection, reminder: Reminder, now: int) -> bytes:
        envelope, commitments = clocks.evidence(connection, reminder.clock) or (None, None)
        return self._centre.audit.leaf(
            AuditStep.REQUEST_REMINDED,
            now,
            envelope=envelope,
            peer=reminder.clock.peer,
            commitments=commitments,
            code=reminder.step,
        )

    def _tell(self, reminder: Reminder) -> None:
        clock, log = reminder.clock, self._centre.log
        side = SIDES[clock.asked]
        self._centre.metrics.reminders.labels(side, reminder.step).inc()
        fields = {"request": clock.request, "peer": clock.peer, "side": side}
        if reminder.step == "overdue":
            log.warning(Event.REQUEST_OVERDUE, **fields)
        else:
            log.info(Event.REQUEST_REMINDED, percent=reminder.step, **fields)


def _anything(connection: Connection, now: int) -> bool:
    """Return whether anything is to be written."""
    return bool(clocks.settle(connection, now)) or any(due(clock, now) for clock in clocks.near(connection, now))
