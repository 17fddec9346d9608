"""Inbox: from the broker's delivery to the committed fact that this centre has the message.

Whatever was delivered when the last commit ended forms the next group, most urgent lane first. Each envelope is opened and
judged in a worker thread, then one transaction holds everything that follows from the group: inbox rows, verdicts, receipts,
audit leaves. Only then are the deliveries acknowledged and the receipts posted. So a crash at any point means another delivery
of the same bytes, which the store recognises.

What is not authentic is counted, a bounded sample kept, nothing signed about it; what does not name this centre is dropped and
counted; what is authentic and refused is quarantined and answered with a signed rejection. None of it holds up the next
envelope. While the store can't be written the inbox keeps its group and tries again; consumption pauses by itself, as nothing
is acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from relay import envelope as wire
from relay import messages, seal, topology
from relay.audit import AuditStep
from relay.broker import Broker, Delivery
from relay.centre import Centre
from relay.clock import from_ms
from relay.control import Control, statements
from relay.envelope import Core, Envelope
from relay.errors import CannotOpen, EnvelopeError, NotAuthentic, NotForUs, Refused, Rejected, RelayError, StoreTrouble
from relay.keeping import Kept, Recall
from relay.log import Event
from relay.messages import Message
from relay.policy import marks
from relay.receipts import Nack, State, Statement, ranges
from relay.seal import Opened
from relay.store import Connection, incoming, recalled
from relay.store.incoming import Arrival, Taken
from relay.store.recalled import Buried

MAX_GROUP = 64
MAX_GROUP_BYTES = 16 * 1024 * 1024
SAMPLE_BYTES = 64 * 1024
JUDGED_AT_ONCE_BYTES = 4 * 1024  # less work than to hand it to a thread and wait
PAUSE_SECONDS = 1.0
CONTROL_PAUSE_SECONDS = 0.02  # nobody waits for a receipt, and each group costs a transaction


class Handler(Protocol):
    """Takes an opened control envelope inside the group's transaction; may return what to do after the commit."""

    def __call__(self, connection: Connection, sender: str, opened: Opened, now: int) -> Callable[[], None] | None:
        """Take it; raise ``Rejected`` when its body can't be used."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A delivery after it was opened: a batch with a verdict per message, a control envelope, or the error it is.

    A verdict is what is kept of the message, or why it is refused.
    """

    delivery: Delivery
    opened: Opened | None = None
    verdicts: tuple[Kept | Rejected, ...] = ()
    error: EnvelopeError | None = None


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


class _Intake:
    """What was delivered and not yet taken up; ``pause`` seconds let more of it come together into one group."""

    def __init__(self, pause: float = 0) -> None:
        self.idle = asyncio.Event()
        self.idle.set()
        self._waiting: list[Delivery] = []
        self._arrived = asyncio.Event()
        self._pause = pause

    def add(self, delivery: Delivery) -> None:
        """Let a delivery wait. What a lost connection delivered comes again, so it is let go: it would pile up."""
        if self._waiting and self._waiting[0].gone:
            self._waiting = [waiting for waiting in self._waiting if not waiting.gone]
        self._waiting.append(delivery)
        self.idle.clear()
        self._arrived.set()

    async def take(self) -> list[Delivery]:
        """Return what waits, urgent lanes first; within a lane in order of arrival, so acknowledging may be cumulative."""
        await self._arrived.wait()
        if self._pause:
            await asyncio.sleep(self._pause)
        order = {lane: rank for rank, lane in enumerate(topology.LANES)}
        self._waiting.sort(key=lambda delivery: order.get(delivery.lane, len(order)))
        size = count = 0
        for delivery in self._waiting[:MAX_GROUP]:
            size += len(delivery.raw)
            count += 1
            if size >= MAX_GROUP_BYTES:
                break
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    def rest(self) -> None:
        """Note that a group is done with."""
        if not self._waiting:
            self._arrived.clear()
            self.idle.set()


class Inbox:
    """Takes envelopes in; ``handlers`` take the control envelopes by type."""

    def __init__(self, centre: Centre, broker: Broker, control: Control, handlers: Mapping[str, Handler]) -> None:
        self._centre = centre
        self._broker = broker
        self._control = control
        self._handlers = handlers
        self._messages, self._answers = _Intake(), _Intake(CONTROL_PAUSE_SECONDS)

    def deliver(self, delivery: Delivery) -> None:
        """Take a delivery from the broker; returns at once."""
        intake = self._answers if delivery.lane == topology.CONTROL else self._messages
        intake.add(delivery)

    async def run(self) -> None:
        """Take in what was delivered, group by group, until cancelled; receipts and nacks apart from messages."""
        async with asyncio.TaskGroup() as group:
            for intake in (self._messages, self._answers):
                group.create_task(self._run(intake), name="inbox intake")

    async def drain(self) -> None:
        """Return once everything that was delivered is committed and acknowledged."""
        await self._messages.idle.wait()
        await self._answers.idle.wait()

    async def _run(self, intake: _Intake) -> None:
        while True:
            group = await intake.take()
            judge = partial(self._judge_all, group)
            few = sum(len(delivery.raw) for delivery in group) <= JUDGED_AT_ONCE_BYTES
            judged = judge() if few else await self._centre.work(judge)
            await self._take_in(judged)
            await self._broker.ack(group)
            intake.rest()

    def _judge_all(self, group: list[Delivery]) -> list[Judged]:
        return [self._judge(delivery) for delivery in group]

    def _judge(self, delivery: Delivery) -> Judged:
        """Open one delivery and judge its messages; whatever is wrong with it stays its own."""
        centre = self._centre
        opened: Opened | None = None
        try:
            envelope = self._parse(delivery)
            now = from_ms(centre.now())
            seal.verify(envelope, centre.id, centre.settings.network, centre.directory, now)
            opened = Opened(envelope, b"", ())
            opened = seal.unseal(envelope, centre.id, centre.sealing_keys)
            contents = opened.contents if envelope.core.type == "batch" else ()
            return Judged(delivery, opened, tuple(self._verdict(envelope, content, centre.now()) for content in contents))
        except EnvelopeError as error:
            return Judged(delivery, opened, error=error)
        except Exception as error:  # a fault of ours must not end the node, or it would end it again after each restart
            return Judged(delivery, error=_poison(error))

    def _parse(self, delivery: Delivery) -> Envelope:
        if delivery.routing_key.startswith(f"{self._centre.id}."):
            raise NotForUs("own-echo", "The envelope is this centre's own.")
        return wire.parse(delivery.raw)

    def _verdict(self, envelope: Envelope, content: bytes | Rejected, now: int) -> Kept | Rejected:
        """Return what is kept of a message of an authentic envelope, or why it is refused."""
        if isinstance(content, Rejected):
            return content
        try:
            message = messages.read(content)
        except Refused as refusal:
            return Rejected(refusal.code, refusal.detail, refusal.problems)
        kept = self._centre.keeper.keep(message, envelope.core.origin, now)
        return self._fault(envelope.core, message, kept.recall) or kept

    def _fault(self, core: Core, message: Message, recall: Recall | None) -> Rejected | None:
        """Return what is wrong between a message and the envelope that brought it, or why policy refuses it."""
        if topology.lane(message.status, topology.urgency(message.kind, message.precedence)) != core.lane:
            return Rejected("lane-mismatch", "The message travels in a lane that is not its own.")
        if message.origin not in (None, core.origin):
            return Rejected("other-origin", "The message names another origin than its envelope.")
        if recall is not None and not wire.is_of(recall.target, core.origin):
            return Rejected("not-the-origin", f"{core.origin} takes back a message that is not its own.")
        return self._centre.judge.verdict(core.origin, marks(message))

    async def _take_in(self, judged: list[Judged]) -> None:
        """Commit a group and act on it; should one envelope make that fail, it is set aside and harms no other."""
        try:
            outcome = await self._commit(judged)
        except Exception as error:
            if len(judged) > 1:
                for one in judged:
                    await self._take_in([one])
                return
            judged = [Judged(judged[0].delivery, error=_poison(error))]
            outcome = await self._commit(judged)
        self._finish(judged, outcome)
        if outcome.purged:
            with contextlib.suppress(StoreTrouble):  # what is left in the log goes with the next purge
                await self._centre.store.scrub()

    async def _commit(self, judged: list[Judged]) -> _Outcome:
        """Commit a group, however often the store must be asked."""
        if all(isinstance(one.error, NotForUs) for one in judged):
            return _Outcome()
        troubled = False
        while True:
            try:
                outcome = await self._centre.store.write(partial(self._store, judged))
            except StoreTrouble as trouble:
                if not troubled:
                    self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
                troubled = True
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                if troubled:
                    self._centre.log.info(Event.STORE_RECOVERED)
                return outcome

    def _store(self, judged: list[Judged], connection: Connection) -> _Outcome:
        """Write everything that follows from a group into one transaction."""
        outcome, now = _Outcome(), self._centre.now()
        for one in judged:
            if isinstance(one.error, NotAuthentic):
                incoming.add_sample(connection, one.error.code, one.error.detail, one.delivery.raw[:SAMPLE_BYTES], now)
            elif one.error is None and one.opened is not None:
                if one.opened.envelope.core.type == "batch":
                    self._take_batch(connection, one, outcome, now)
                else:
                    self._take_control(connection, one, outcome, now)
        for origin, said in outcome.said.items():
            outcome.receipts.append((origin, self._control.receipt(connection, origin, said, now)))
        self._centre.audit.append(connection, outcome.leaves)
        return outcome

    def _take_batch(self, connection: Connection, one: Judged, outcome: _Outcome, now: int) -> None:
        centre, opened = self._centre, one.opened
        assert opened is not None  # noqa: S101 - a judged batch without error is opened
        core = opened.envelope.core
        codes = tuple(verdict.code if isinstance(verdict, Rejected) else None for verdict in one.verdicts)
        kept = tuple(None if isinstance(verdict, Rejected) else verdict for verdict in one.verdicts)
        rank = topology.LANES.index(core.lane) if core.lane in topology.LANES else len(topology.LANES)
        recipient = core.recipient(centre.id)
        key = centre.storage_key.wrap(opened.content_key)
        taken = incoming.take(connection, Arrival(opened.envelope, recipient.first, key, rank, codes, kept), now)
        self._say(opened.envelope, taken, outcome, now)
        for position in taken.accepted:
            if (found := kept[position]) is not None and found.recall is not None:
                self._recall(connection, opened.envelope, position, found.recall, outcome, now)
        if taken.duplicate:
            sequences = [(recipient.first, recipient.last)]
            again = incoming.receipts(connection, core.origin, core.epoch, core.lane, sequences, MAX_GROUP)
            outcome.receipts += [(core.origin, raw) for raw in again]
        if taken.forked:
            detail = f"Envelope {core.id} of {core.origin} contradicts what this centre holds."
            incoming.add_sample(connection, "fork", detail, one.delivery.raw[:SAMPLE_BYTES], now)
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

    def _recall(
        self, connection: Connection, envelope: Envelope, position: int, recall: Recall, outcome: _Outcome, now: int
    ) -> None:
        """Carry out an update or cancel that was just taken: bury what came before it, and say so to its origin."""
        core, audit = envelope.core, self._centre.audit
        first, item = core.recipient(self._centre.id).first, core.messages[position]
        buried = recalled.bury(connection, core.origin, recall, item.id, now)
        rejected = incoming.places(connection, buried.rejected)
        outcome.say(core.origin, statements(rejected, "rejected", now, buried.code).get(core.origin, []))
        if buried.complete:
            outcome.say(core.origin, _runs(core, first, [position], "purged", now, None))
        common = {"envelope": core.id, "peer": core.origin, "code": buried.code}
        commitments = [place.commitment for place in rejected]
        outcome.leaves += [
            audit.leaf(AuditStep.RECALLED, now, commitments=commitments, **common),
            audit.leaf(AuditStep.PURGED, now, commitments=list(buried.purged), **common),
        ]
        outcome.purged = outcome.purged or bool(buried.purged)
        outcome.later.append(partial(self._count_recall, core, buried))

    def _count_recall(self, core: Core, buried: Buried) -> None:
        self._centre.metrics.purged.labels(buried.code).inc(len(buried.purged))
        self._centre.log.warning(
            Event.INBOX_RECALLED, peer=core.origin, envelope=core.id, purged=len(buried.purged), code=buried.code
        )
        self._centre.store.recalls_changed.fire()

    def _take_control(self, connection: Connection, one: Judged, outcome: _Outcome, now: int) -> None:
        assert one.opened is not None  # noqa: S101 - a judged control envelope without error is opened
        core = one.opened.envelope.core
        try:
            later = self._handlers[core.type](connection, core.origin, one.opened, now)
        except RelayError as error:
            incoming.add_sample(connection, error.code, error.detail, one.delivery.raw[:SAMPLE_BYTES], now)
            outcome.later.append(partial(self._drop, error))
        else:
            if later is not None:
                outcome.later.append(later)

    def _finish(self, judged: list[Judged], outcome: _Outcome) -> None:
        """After the commit: count, log, post the receipts, wake who waits."""
        for one in judged:
            self._centre.metrics.received.labels(one.delivery.lane).inc()
            if one.error is not None:
                self._drop(one.error)
            if isinstance(one.error, CannotOpen) and one.opened is not None:
                self._ask_again(one.opened.envelope, one.error)
        for recipient, raw in outcome.receipts:
            self._control.post(recipient, raw)
        for later in outcome.later:
            later()
        if outcome.stored:
            self._centre.store.inbox_changed.fire()

    def _ask_again(self, envelope: Envelope, error: CannotOpen) -> None:
        core = envelope.core
        if core.type == "batch":
            recipient = core.recipient(self._centre.id)
            missing = ((recipient.first, recipient.last),)
            nack = Nack(epoch=core.epoch, lane=core.lane, missing=missing, reason=error.code)
            self._control.post(core.origin, nack)

    def _drop(self, error: RelayError) -> None:
        self._centre.metrics.dropped.labels(error.code).inc()
        if isinstance(error, NotForUs):
            self._centre.log.debug(Event.INBOX_DROPPED, code=error.code, detail=error.detail)
        else:
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


def _poison(error: Exception) -> NotAuthentic:
    """Return what stands for an envelope that this node fails on: a sample is kept, and its origin's marks bring it again."""
    return NotAuthentic("poison", f"An envelope made this node fail: {type(error).__name__}.")
