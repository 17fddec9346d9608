"""Inbox: from the broker's delivery to the committed fact that this centre has the message.

Whatever was delivered when the last commit ended forms the next group, most urgent lane first (:mod:`relay.intake`). Each
envelope is opened and judged in a worker thread (:mod:`relay.judging`), then one transaction holds everything that follows from
the group: inbox rows, verdicts, receipts, audit leaves. Only then are the deliveries acknowledged and the receipts posted. So a
crash at any point means another delivery of the same bytes, which the store recognises.

What is not authentic is counted, a bounded sample kept, nothing signed about it; what does not name this centre is dropped and
counted; what is authentic and refused is quarantined and answered with a signed rejection; what ends the process each time it is
opened is opened no more (:mod:`relay.poison`); what only a newer directory can judge waits for it (:mod:`relay.waiting`); what a
sender sends beyond :mod:`relay.limits` is counted. None of it holds up the next envelope. While the store can't be written the
inbox keeps its group and tries again; consumption pauses by itself, as nothing is acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from relay import points, topology
from relay.arrivals import Arrivals, Handler, Outcome, Serve
from relay.broker import Broker, Delivery
from relay.centre import Centre
from relay.control import Control
from relay.errors import CannotOpen, NotForUs, StoreTrouble
from relay.intake import MAX_GROUP, Intake, is_alone
from relay.judging import Judged, Judging, failed
from relay.limits import Gate
from relay.log import Event
from relay.metrics import Stage
from relay.points import Point
from relay.poison import Poison
from relay.store import Connection
from relay.waiting import Waiting

JUDGED_AT_ONCE_BYTES = 4 * 1024  # less work than to hand it to a thread and wait
PAUSE_SECONDS = 1.0
WAITING_LOOK_SECONDS = 1.0
CONTROL_PAUSE_SECONDS = 0.02  # nobody waits for a receipt, and each group costs a transaction

T = TypeVar("T")


class Inbox:
    """Takes envelopes in; ``handlers`` take the control envelopes by type, ``serve`` gives messages to who waits for some.

    ``ask`` is told the origin of an envelope that waits for a newer directory.
    """

    def __init__(
        self,
        centre: Centre,
        broker: Broker,
        control: Control,
        handlers: Mapping[str, Handler],
        gate: Gate,
        serve: Serve,
        ask: Callable[[str], None],
    ) -> None:
        self._centre = centre
        self._broker = broker
        self._control = control
        self._arrivals = Arrivals(centre, control, handlers, gate, serve)
        self._gate = gate
        self._judging, self._poison = Judging(centre, gate), Poison()
        self._one_attempt = asyncio.Lock()  # so that no other attempt is counted for what one of them does to the process
        self._waiting, self._ask_for_directory = Waiting(centre.settings.directory.waiting), ask
        self._messages, self._answers = Intake(), Intake(CONTROL_PAUSE_SECONDS)
        stages = centre.metrics.stages
        self._stages = ((self._messages, stages["take"]), (self._answers, stages["receipt-in"]))
        for intake, stage in self._stages:
            stage.measure(intake.__len__)

    def deliver(self, delivery: Delivery) -> None:
        """Take a delivery from the broker; returns at once."""
        intake, stage = self._stages[delivery.lane == topology.CONTROL]
        stage.enter()
        intake.add(delivery)

    async def run(self) -> None:
        """Take in what was delivered, group by group, until cancelled; receipts and nacks apart from messages."""
        self._poison.know(await self._write(self._poison.load))
        async with asyncio.TaskGroup() as group:
            for intake, stage in self._stages:
                group.create_task(self._run(intake, stage), name="inbox intake")
            group.create_task(self._judge_again(), name="inbox waiting")

    async def drain(self) -> None:
        """Return once everything that was delivered is committed and acknowledged."""
        if self._centre.sound.is_set():
            await self._messages.idle.wait()
            await self._answers.idle.wait()

    async def _run(self, intake: Intake, stage: Stage) -> None:
        while True:
            group = await intake.take()
            await self._centre.sound.wait()  # else it stays with the broker: what it leads to could not be put on record
            async with self._one_attempt if is_alone(group[0]) else contextlib.nullcontext():
                judged = await self._judge(group)
                await self._take_in([one for one in judged if not self._waits(one)])
            points.reach(Point.ACK_BEFORE)
            await self._broker.ack(group)
            points.reach(Point.ACK_AFTER)
            intake.rest()
            stage.leave(len(group))

    def _waits(self, one: Judged, until: float | None = None) -> bool:
        """Let an envelope wait for a newer directory, if there is room; its origin is asked for it."""
        if one.waits is None or not self._waiting.add(one.delivery, one.by, until):
            return False
        self._centre.metrics.waiting.set(len(self._waiting))
        self._ask_for_directory(one.waits)
        return True

    async def _judge_again(self) -> None:
        """Judge what waited by the directory that came, or, when none did in time, by the one in force."""
        while True:
            await self._waiting.came()
            ticket = self._centre.directory_changed.ticket()
            await self._centre.sound.wait()
            group = self._waiting.take(self._centre.directory.version, MAX_GROUP)
            if not group:
                await self._centre.directory_changed.changed(ticket, WAITING_LOOK_SECONDS)
                continue
            judged = await self._open([one.delivery for one in group])
            pairs = zip(judged, group, strict=True)
            await self._take_in([one for one, waiter in pairs if not self._waits(one, waiter.until)])
            self._centre.metrics.waiting.set(len(self._waiting))

    async def _judge(self, group: list[Delivery]) -> list[Judged]:
        """Judge a group; of what must not be opened look at the header alone."""
        if is_alone(group[0]) and not self._poison.is_shut(group[0]):
            points.reach(Point.ATTEMPT_COMMIT_BEFORE)
            may_open = await self._write(partial(self._poison.begin, delivery=group[0], now=self._centre.now()))
            points.reach(Point.ATTEMPT_COMMIT_AFTER)
            if not may_open:
                self._poison.shut(group[0])
        return await self._open(group)

    async def _open(self, group: list[Delivery]) -> list[Judged]:
        shut = [self._poison.is_shut(delivery) for delivery in group]

        def judge() -> list[Judged]:
            how = (self._judging.look if one else self._judging.judge for one in shut)
            return [one(delivery) for one, delivery in zip(how, group, strict=True)]

        few = sum(len(delivery.raw) for delivery in group) <= JUDGED_AT_ONCE_BYTES
        return judge() if few else await self._centre.work(judge)

    async def _take_in(self, judged: list[Judged]) -> None:
        """Commit a group and act on it; should one envelope make that fail, it is set aside and harms no other."""
        try:
            outcome = await self._commit(judged)
        except Exception as error:
            if len(judged) > 1:
                for one in judged:
                    await self._take_in([one])
                return
            judged, outcome = await self._set_aside(judged[0], error)
        self._finish(judged, outcome)
        if outcome.purged:
            with contextlib.suppress(StoreTrouble):  # what is left in the log goes with the next purge
                await self._centre.store.scrub()
                points.reach(Point.INBOX_SCRUBBED)

    async def _set_aside(self, one: Judged, error: Exception) -> tuple[list[Judged], Outcome]:
        """Commit what can be of an envelope that can't be taken in: its header, else a sample of it."""
        if one.opened is not None and not one.shut and not isinstance(error, MemoryError):
            try:
                header, failure = replace(one.opened, content_key=b"", contents=()), type(error).__name__
                shut = [Judged(one.delivery, header, shut=True, failure=failure)]
                return shut, await self._commit(shut)
            except Exception as another:
                error = another
        left = [Judged(one.delivery, error=failed(error))]
        return left, await self._commit(left)

    async def _commit(self, judged: list[Judged]) -> Outcome:
        if all(isinstance(one.error, NotForUs) and not is_alone(one.delivery) for one in judged):
            return Outcome()
        points.reach(Point.INBOX_COMMIT_BEFORE)
        outcome = await self._write(partial(self._arrivals.store, judged))
        points.reach(Point.INBOX_COMMIT_AFTER)
        return outcome

    async def _write(self, job: Callable[[Connection], T]) -> T:
        """Run a job in the store, however often it must be asked; say once that it can't be written, and once that it can."""
        troubled = False
        while True:
            try:
                done = await self._centre.store.write(job)
            except StoreTrouble as trouble:
                if not troubled:
                    self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
                troubled = True
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                if troubled:
                    self._centre.log.info(Event.STORE_RECOVERED)
                return done

    def _finish(self, judged: list[Judged], outcome: Outcome) -> None:
        """After the commit: count, log, post the receipts, wake who waits."""
        for one in judged:
            self._centre.metrics.received.labels(one.delivery.lane).inc()
            if one.error is not None:
                self._arrivals.drop(one.error, one.opened.envelope.core.origin if one.opened is not None else None)
            if isinstance(one.error, CannotOpen) and one.opened is not None:
                self._arrivals.ask_again(one.opened.envelope)
        for recipient, raw in outcome.receipts:
            self._control.post(recipient, raw)
        points.reach(Point.INBOX_POSTED)
        for later in outcome.later:
            later()
        if outcome.stored:
            self._centre.store.inbox_changed.fire()
