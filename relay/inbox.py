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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

from relay import limits, points, recalls, topology
from relay.audit import AuditStep
from relay.broker import Broker, Delivery
from relay.centre import Centre
from relay.control import Control
from relay.envelope import Core, Envelope
from relay.errors import CannotOpen, NotAuthentic, NotForUs, OverLimit, Rejected, RelayError, StoreTrouble
from relay.intake import MAX_GROUP, Intake, is_alone
from relay.judging import POISON, Judged, Judging, Verdict, failed
from relay.keeping import Recall
from relay.limits import Gate
from relay.log import Event
from relay.points import Point
from relay.poison import Asking, Poison, digest
from relay.receipts import Nack, State, Statement, ranges
from relay.seal import Opened
from relay.store import Connection, attempts, heard, incoming, samples
from relay.store.incoming import Arrival, Place, Taken
from relay.waiting import Waiting

SAMPLE_BYTES = 64 * 1024
JUDGED_AT_ONCE_BYTES = 4 * 1024  # less work than to hand it to a thread and wait
PAUSE_SECONDS = 1.0
WAITING_LOOK_SECONDS = 1.0
CONTROL_PAUSE_SECONDS = 0.02  # nobody waits for a receipt, and each group costs a transaction

T = TypeVar("T")


class Handler(Protocol):
    """Takes an opened control envelope inside the group's transaction; may return what to do after the commit."""

    def __call__(self, connection: Connection, sender: str, opened: Opened, now: int) -> Callable[[], None] | None:
        """Take it; raise ``Rejected`` when its body can't be used."""


@dataclass(slots=True)
class _Outcome:
    """What a transaction did, to be acted on after its commit."""

    receipts: list[tuple[str, bytes]] = field(default_factory=list)
    later: list[Callable[[], None]] = field(default_factory=list)
    said: dict[str, list[Statement]] = field(default_factory=dict)
    leaves: list[bytes] = field(default_factory=list)
    stored: int = 0
    purged: bool = False

    def say(self, origin: str, statements: list[Statement]) -> None:
        """Add statements to the receipt that an origin gets."""
        if statements:
            self.said.setdefault(origin, []).extend(statements)


class Inbox:
    """Takes envelopes in; ``handlers`` take the control envelopes by type.

    ``ask`` is told the origin of an envelope that waits for a newer directory.
    """

    def __init__(
        self,
        centre: Centre,
        broker: Broker,
        control: Control,
        handlers: Mapping[str, Handler],
        gate: Gate,
        ask: Callable[[str], None],
    ) -> None:
        self._centre = centre
        self._broker = broker
        self._control = control
        self._handlers = handlers
        self._gate = gate
        self._judging, self._poison, self._asking = Judging(centre, gate), Poison(), Asking()
        self._one_attempt = asyncio.Lock()  # so that no other attempt is counted for what one of them does to the process
        self._waiting, self._ask_for_directory = Waiting(centre.settings.directory.waiting), ask
        self._messages, self._answers = Intake(), Intake(CONTROL_PAUSE_SECONDS)

    def deliver(self, delivery: Delivery) -> None:
        """Take a delivery from the broker; returns at once."""
        intake = self._answers if delivery.lane == topology.CONTROL else self._messages
        intake.add(delivery)

    async def run(self) -> None:
        """Take in what was delivered, group by group, until cancelled; receipts and nacks apart from messages."""
        self._poison.know(await self._write(self._poison.load))
        async with asyncio.TaskGroup() as group:
            for intake in (self._messages, self._answers):
                group.create_task(self._run(intake), name="inbox intake")
            group.create_task(self._judge_again(), name="inbox waiting")

    async def drain(self) -> None:
        """Return once everything that was delivered is committed and acknowledged."""
        if self._centre.sound.is_set():
            await self._messages.idle.wait()
            await self._answers.idle.wait()

    async def _run(self, intake: Intake) -> None:
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

    async def _set_aside(self, one: Judged, error: Exception) -> tuple[list[Judged], _Outcome]:
        """Commit what can be of an envelope that can't be taken in: its header, else a sample of it."""
        if one.opened is not None and not one.shut and not isinstance(error, MemoryError):
            try:
                shut = [Judged(one.delivery, replace(one.opened, content_key=b"", contents=()), shut=True)]
                return shut, await self._commit(shut)
            except Exception as another:
                error = another
        failure = [Judged(one.delivery, error=failed(error))]
        return failure, await self._commit(failure)

    async def _commit(self, judged: list[Judged]) -> _Outcome:
        if all(isinstance(one.error, NotForUs) for one in judged):
            return _Outcome()
        points.reach(Point.INBOX_COMMIT_BEFORE)
        outcome = await self._write(partial(self._store, judged))
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

    def _store(self, judged: list[Judged], connection: Connection) -> _Outcome:
        """Write everything that follows from a group into one transaction."""
        outcome, now = _Outcome(), self._centre.now()
        for one in judged:
            if isinstance(one.error, NotAuthentic):
                self._sample(connection, one, one.error.code, one.error.detail, now)
            elif one.error is None and one.opened is not None and self._is_epoch_too_many(connection, one.opened, outcome, now):
                pass
            elif one.shut:
                self._take_shut(connection, one, outcome, now)
            elif one.error is None and one.opened is not None:
                if one.opened.envelope.core.type == "batch":
                    self._take_batch(connection, one, outcome, now)
                else:
                    self._take_control(connection, one, outcome, now)
            if is_alone(one.delivery) and not one.shut:
                attempts.end(connection, digest(one.delivery))
        for origin, said in outcome.said.items():
            outcome.receipts += self._control.tell(connection, origin, said, now)
        self._centre.audit.append(connection, outcome.leaves)
        return outcome

    def _take_batch(self, connection: Connection, one: Judged, outcome: _Outcome, now: int) -> None:
        centre, opened = self._centre, one.opened
        assert opened is not None  # noqa: S101 - a judged batch without error is opened
        core = opened.envelope.core
        codes = tuple(verdict.refusal.code if verdict.refusal else None for verdict in one.verdicts)
        kept = tuple(verdict.kept for verdict in one.verdicts)
        rank = topology.LANES.index(core.lane) if core.lane in topology.LANES else len(topology.LANES)
        recipient = core.recipient(centre.id)
        key = centre.storage_key.wrap(opened.content_key) if opened.content_key else b""
        refused = sum(code is not None for code in codes)
        if refused and not self._gate.may(core.origin, "refused", limits.REFUSED, centre.elapsed(), refused):
            self._leave_out(core, limits.TOO_MANY_REFUSED, outcome)
            return
        crowded = bool(refused) and self._is_crowded(connection, core.origin, refused)
        taken = incoming.take(connection, Arrival(opened.envelope, recipient.first, key, rank, codes, kept, crowded), now)
        if taken.over:
            self._leave_out(core, limits.TOO_MANY_GAPS, outcome)
            return
        self._say(opened.envelope, taken, outcome, now)
        self._say_again(core, taken, outcome, now)
        for position in taken.accepted:
            if (found := kept[position]) is not None and found.recall is not None:
                self._recall(connection, opened.envelope, position, found.recall, outcome, now)
        if taken.duplicate and self._gate.may(core.origin, "copies", limits.COPIES, centre.elapsed()):
            sequences = [(recipient.first, recipient.last)]
            again = self._control.said(connection, core.origin, core.epoch, core.lane, sequences, MAX_GROUP)
            outcome.receipts += [(core.origin, raw) for raw in again]
        if taken.forked:
            detail = f"Envelope {core.id} of {core.origin} contradicts what this centre holds."
            self._sample(connection, one, "fork", detail, now)
        outcome.stored += len(taken.accepted)
        outcome.later.append(partial(self._count, opened.envelope, taken))

    def _say(self, envelope: Envelope, taken: Taken, outcome: _Outcome, now: int) -> None:
        """Add what this centre states about a batch: statements for its receipt, leaves for its record."""
        core = envelope.core
        first = core.recipient(self._centre.id).first
        verdicts: dict[str | None, list[int]] = {None: list(taken.accepted)} if taken.accepted else {}
        for position, rejection in taken.rejected.items():
            verdicts.setdefault(rejection, []).append(position)
        for code, positions in verdicts.items():
            state: State = "accepted" if code is None else "rejected"
            step = AuditStep.TAKEN if code is None else AuditStep.REFUSED_ON_ARRIVAL
            commitments = [core.messages[position].commitment for position in positions]
            outcome.say(core.origin, _runs(core, first, positions, state, now, code))
            leaf = self._centre.audit.leaf(step, now, envelope=core.id, peer=core.origin, commitments=commitments, code=code)
            outcome.leaves.append(leaf)

    def _say_again(self, core: Core, taken: Taken, outcome: _Outcome, now: int) -> None:
        """State how far known messages are that came under new sequences: their origin counts anew."""
        if not taken.again:
            return
        first = core.recipient(self._centre.id).first
        stated: dict[tuple[State, str | None], list[int]] = {}
        for one in taken.again:
            stated.setdefault((one.state, one.code), []).append(one.position)
        if purged := [one.position for one in taken.again if one.purged]:
            stated["purged", None] = purged
        for (state, code), positions in stated.items():
            outcome.say(core.origin, _runs(core, first, positions, state, now, code))
        commitments = [core.messages[one.position].commitment for one in taken.again]
        leaf = self._centre.audit.leaf(AuditStep.STATED_AGAIN, now, envelope=core.id, peer=core.origin, commitments=commitments)
        outcome.leaves.append(leaf)

    def _recall(
        self, connection: Connection, envelope: Envelope, position: int, recall: Recall, outcome: _Outcome, now: int
    ) -> None:
        """Carry out an update or cancel that was just taken."""
        core, item = envelope.core, envelope.core.messages[position]
        sequence = core.recipient(self._centre.id).first + position
        place = Place(item.id, core.origin, core.epoch, core.lane, sequence, item.commitment, recall=True)
        done = recalls.carry_out(connection, self._centre, place, recall, core.id, now)
        outcome.say(core.origin, list(done.said))
        outcome.leaves += done.leaves
        outcome.purged = outcome.purged or bool(done.buried.purged)
        outcome.later.append(partial(recalls.say, self._centre, core.origin, core.id, done.buried))

    def _take_shut(self, connection: Connection, one: Judged, outcome: _Outcome, now: int) -> None:
        """Deal with an envelope that is not opened: reject its only message, or ask for those it alone has one by one."""
        assert one.opened is not None  # noqa: S101 - a shut envelope without error was verified
        core = one.opened.envelope.core
        detail = f"Envelope {core.id} of {core.origin} ended or failed this node when it was taken in; it is not opened any more."
        self._sample(connection, one, POISON, detail, now)
        outcome.later.append(partial(self._say_poison, core))
        if core.type != "batch":
            return
        if len(core.messages) > 1 and (unknown := incoming.unknown(connection, core)):
            outcome.later.append(partial(self._ask, core, unknown, "split"))
        else:
            verdicts = tuple(Verdict(refusal=Rejected(POISON, detail)) for _ in core.messages)
            self._take_batch(connection, replace(one, verdicts=verdicts), outcome, now)

    def _say_poison(self, core: Core) -> None:
        self._centre.metrics.poison.labels(core.origin).inc()
        self._centre.log.error(
            Event.INBOX_POISON, peer=core.origin, envelope=core.id, type=core.type, messages=len(core.messages)
        )

    def _take_control(self, connection: Connection, one: Judged, outcome: _Outcome, now: int) -> None:
        assert one.opened is not None  # noqa: S101 - a judged control envelope without error is opened
        core = one.opened.envelope.core
        try:
            handler = self._handlers.get(core.type)
            if handler is None:
                raise Rejected("bad-control", f"This node does not deal with envelopes of type {core.type}.")
            later = handler(connection, core.origin, one.opened, now)
        except RelayError as error:
            self._sample(connection, one, error.code, error.detail, now)
            outcome.later.append(partial(self._drop, error, core.origin))
        else:
            if later is not None:
                outcome.later.append(later)

    def _finish(self, judged: list[Judged], outcome: _Outcome) -> None:
        """After the commit: count, log, post the receipts, wake who waits."""
        for one in judged:
            self._centre.metrics.received.labels(one.delivery.lane).inc()
            if one.error is not None:
                self._drop(one.error, one.opened.envelope.core.origin if one.opened is not None else None)
            if isinstance(one.error, CannotOpen) and one.opened is not None:
                self._ask_again(one.opened.envelope)
        for recipient, raw in outcome.receipts:
            self._control.post(recipient, raw)
        points.reach(Point.INBOX_POSTED)
        for later in outcome.later:
            later()
        if outcome.stored:
            self._centre.store.inbox_changed.fire()

    def _ask_again(self, envelope: Envelope) -> None:
        if envelope.core.type == "batch":
            self._ask(envelope.core, range(len(envelope.core.messages)), "cannot-unwrap")

    def _ask(self, core: Core, positions: Iterable[int], reason: str) -> None:
        """Ask for messages of an envelope in another form; for the same ones again and again with growing pauses."""
        first = core.recipient(self._centre.id).first
        missing = tuple(ranges(first + position for position in positions))
        if self._asking.may_ask((core.origin, core.epoch, core.lane, missing, reason), self._centre.elapsed()):
            nack = Nack(epoch=core.epoch, lane=core.lane, missing=missing, reason=reason)
            self._control.post(core.origin, nack)

    def _sample(self, connection: Connection, one: Judged, code: str, detail: str, now: int) -> None:
        """Keep a bounded number of samples, per verified sender and of all bytes without one."""
        sender = one.opened.envelope.core.origin if one.opened is not None else ""
        if self._gate.may(sender, "samples", limits.SAMPLES, self._centre.elapsed()):
            samples.add(connection, code, detail, one.delivery.raw[:SAMPLE_BYTES], now, sender)

    def _is_epoch_too_many(self, connection: Connection, opened: Opened, outcome: _Outcome, now: int) -> bool:
        """Return whether a sender began too many epochs to take anything of this one."""
        core = opened.envelope.core
        if self._gate.knows_epoch(core.origin, core.epoch):
            return False
        since, most = now - limits.EPOCHS_WITHIN_MS, limits.MOST_EPOCHS
        if heard.let_in(connection, core.origin, core.epoch, now, since, most):
            outcome.later.append(partial(self._gate.know_epoch, core.origin, core.epoch))
            return False
        self._leave_out(core, limits.TOO_MANY_EPOCHS, outcome)
        return True

    def _is_crowded(self, connection: Connection, origin: str, more: int) -> bool:
        """Return whether so many refused messages of a sender wait here that no more are kept with their content."""
        now = self._centre.elapsed()
        count = self._gate.quarantined(origin, now)
        if count is None:
            count = incoming.quarantined(connection, origin)
            self._gate.note_quarantined(origin, count, now)
        self._gate.note_quarantined(origin, more)
        return count >= limits.MOST_QUARANTINED

    def _leave_out(self, core: Core, code: str, outcome: _Outcome) -> None:
        """Count an envelope that is not taken, since its sender would cost too much."""
        outcome.later.append(
            partial(self._drop, OverLimit(code, f"Envelope {core.id} of {core.origin} is beyond a limit."), core.origin)
        )

    def _drop(self, error: RelayError, sender: str | None) -> None:
        """Count what is not taken, under its verified sender if there is one, and say so as often as the log should hear it."""
        self._centre.metrics.dropped.labels(error.code).inc()
        if sender is not None:
            self._centre.metrics.faults.labels(sender, error.code).inc()
        if isinstance(error, NotForUs):
            self._centre.log.debug(Event.INBOX_DROPPED, code=error.code, detail=error.detail)
        elif self._gate.may(sender or "", "log", limits.SAMPLES, self._centre.elapsed()):
            self._centre.log.warning(Event.INBOX_SAMPLED, code=error.code, detail=error.detail)

    def _count(self, envelope: Envelope, taken: Taken) -> None:
        core, metrics, log = envelope.core, self._centre.metrics, self._centre.log
        metrics.accepted.labels(core.origin).inc(len(taken.accepted))
        metrics.duplicates.labels(core.origin).inc(len(taken.duplicate))
        metrics.forks.labels(core.origin).inc(len(taken.forked))
        for code in taken.rejected.values():
            metrics.rejected.labels(core.origin, code).inc()
            log.warning(Event.INBOX_REJECTED, peer=core.origin, envelope=core.id, code=code)
        if taken.forked:
            log.error(Event.INBOX_FORKED, peer=core.origin, envelope=core.id, messages=len(taken.forked))
        log.info(
            Event.INBOX_TAKEN,
            peer=core.origin,
            envelope=core.id,
            accepted=len(taken.accepted),
            duplicate=len(taken.duplicate),
        )


def _runs(core: Core, first: int, positions: list[int], state: State, now: int, code: str | None) -> list[Statement]:
    """Return what to say about messages of an envelope, whose first has sequence ``first``: one statement per run."""
    return [
        Statement(
            epoch=core.epoch,
            lane=core.lane,
            first=first + start,
            commitments=tuple(item.commitment for item in core.messages[start : last + 1]),
            state=state,
            time=now,
            code=code,
        )
        for start, last in ranges(positions)
    ]
