"""Arrivals: everything that follows from a group of judged deliveries, in one transaction.

Messages, their verdicts and receipts, what control envelopes say (their handlers do that), what is kept of the rest, and the
leaves of the record. What can only be done after the commit is returned as an :class:`Outcome`. Whatever a sender sends beyond
:mod:`relay.limits` is counted and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from relay import limits, recalls, topology
from relay.audit import AuditStep
from relay.centre import Centre
from relay.control import Control
from relay.envelope import Core, Envelope
from relay.errors import NotAuthentic, NotForUs, OverLimit, Rejected, RelayError
from relay.intake import MAX_GROUP, is_alone
from relay.judging import POISON, Judged, Verdict
from relay.keeping import Kept, Recall, tally, told
from relay.limits import Gate
from relay.log import Event
from relay.poison import Asking, digest
from relay.receipts import Nack, State, Statement, ranges
from relay.seal import Opened
from relay.store import Connection, attempts, heard, incoming, samples
from relay.store.incoming import Arrival, Place, Taken

SAMPLE_BYTES = 64 * 1024


class Handler(Protocol):
    """Takes an opened control envelope inside the group's transaction; may return what to do after the commit."""

    def __call__(self, connection: Connection, sender: str, opened: Opened, now: int) -> Callable[[], None] | None:
        """Take it; raise ``Rejected`` when its body can't be used."""


Serve = Callable[[Connection], Callable[[], None] | None]
"""Gives out what was stored to who waits, in the same transaction; returns what to do after the commit."""


@dataclass(slots=True)
class Outcome:
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


class Arrivals:
    """Writes what arrived; ``handlers`` take the control envelopes by type, ``serve`` gives messages to who waits for some."""

    def __init__(self, centre: Centre, control: Control, handlers: Mapping[str, Handler], gate: Gate, serve: Serve) -> None:
        self._centre = centre
        self._serve = serve
        self._control = control
        self._handlers = handlers
        self._gate = gate
        self._asking = Asking()

    def store(self, judged: list[Judged], connection: Connection) -> Outcome:
        """Write everything that follows from a group into one transaction."""
        outcome, now = Outcome(), self._centre.now()
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
            if is_alone(one.delivery) and not (one.shut and one.why == POISON):
                attempts.end(connection, digest(one.delivery))
        if outcome.stored and (given := self._serve(connection)) is not None:
            outcome.later.append(given)
        for origin, said in outcome.said.items():
            outcome.receipts += self._control.tell(connection, origin, said, now)
        self._centre.audit.append(connection, outcome.leaves)
        return outcome

    def _take_batch(self, connection: Connection, one: Judged, outcome: Outcome, now: int) -> None:
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
        outcome.later.append(partial(self._count, opened.envelope, kept, taken))

    def _say(self, envelope: Envelope, taken: Taken, outcome: Outcome, now: int) -> None:
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

    def _say_again(self, core: Core, taken: Taken, outcome: Outcome, now: int) -> None:
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
        self, connection: Connection, envelope: Envelope, position: int, recall: Recall, outcome: Outcome, now: int
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

    def _take_shut(self, connection: Connection, one: Judged, outcome: Outcome, now: int) -> None:
        """Deal with an envelope that is not opened: reject its only message, or ask for those it alone has one by one."""
        assert one.opened is not None  # noqa: S101 - a shut envelope without error was verified
        core = one.opened.envelope.core
        if one.why == POISON:
            how = f"failed this node ({one.failure})" if one.failure else "ended this node again and again"
            detail = f"Envelope {core.id} of {core.origin} {how} when it was taken in; it is not opened any more."
            outcome.later.append(partial(self._say_poison, core))
        else:
            detail = f"Envelope {core.id} of {core.origin} is larger than the directory allows; it is not opened."
            outcome.later.append(partial(self.drop, Rejected(one.why, detail), core.origin))
        self._sample(connection, one, one.why, detail, now)
        if core.type != "batch":
            return
        if len(core.messages) > 1 and (unknown := incoming.unknown(connection, core)):
            outcome.later.append(partial(self._ask, core, unknown, "split"))
        else:
            verdicts = tuple(Verdict(refusal=Rejected(one.why, detail)) for _ in core.messages)
            self._take_batch(connection, replace(one, verdicts=verdicts), outcome, now)

    def _say_poison(self, core: Core) -> None:
        self._centre.metrics.poison.labels(core.origin).inc()
        self._centre.log.error(
            Event.INBOX_POISON, peer=core.origin, envelope=core.id, type=core.type, messages=len(core.messages)
        )

    def _take_control(self, connection: Connection, one: Judged, outcome: Outcome, now: int) -> None:
        assert one.opened is not None  # noqa: S101 - a judged control envelope without error is opened
        core = one.opened.envelope.core
        try:
            handler = self._handlers.get(core.type)
            if handler is None:
                raise Rejected("bad-control", f"This node does not deal with envelopes of type {core.type}.")
            later = handler(connection, core.origin, one.opened, now)
        except RelayError as error:
            self._sample(connection, one, error.code, error.detail, now)
            outcome.later.append(partial(self.drop, error, core.origin))
        else:
            if later is not None:
                outcome.later.append(later)

    def ask_again(self, envelope: Envelope) -> None:
        """Ask the origin of a batch that does not open for another one, sealed anew."""
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

    def _is_epoch_too_many(self, connection: Connection, opened: Opened, outcome: Outcome, now: int) -> bool:
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

    def _leave_out(self, core: Core, code: str, outcome: Outcome) -> None:
        """Count an envelope that is not taken, since its sender would cost too much."""
        outcome.later.append(
            partial(self.drop, OverLimit(code, f"Envelope {core.id} of {core.origin} is beyond a limit."), core.origin)
        )

    def drop(self, error: RelayError, sender: str | None) -> None:
        """Count what is not taken, under its verified sender if there is one, and say so as often as the log should hear it."""
        self._centre.metrics.dropped.labels(error.code).inc()
        if sender is not None:
            self._centre.metrics.faults.labels(sender, error.code).inc()
        if isinstance(error, NotForUs):
            self._centre.log.debug(Event.INBOX_DROPPED, code=error.code, detail=error.detail)
        elif self._gate.may(sender or "", "log", limits.SAMPLES, self._centre.elapsed()):
            self._centre.log.warning(Event.INBOX_SAMPLED, code=error.code, detail=error.detail)

    def _count(self, envelope: Envelope, kept: Sequence[Kept | None], taken: Taken) -> None:
        core, metrics = envelope.core, self._centre.metrics
        metrics.accepted.labels(core.origin).inc(len(taken.accepted))
        metrics.count("received", tally(one for at in taken.accepted if (one := kept[at]) is not None))
        metrics.stages["handover"].enter(len(taken.accepted))
        metrics.duplicates.labels(core.origin).inc(len(taken.duplicate))
        metrics.forks.labels(core.origin).inc(len(taken.forked))
        for code in taken.rejected.values():
            metrics.rejected.labels(core.origin, code).inc()
        self._tell(envelope, kept, taken)

    def _tell(self, envelope: Envelope, kept: Sequence[Kept | None], taken: Taken) -> None:
        """Write what became of an envelope, and of each of its messages."""
        core, log = envelope.core, self._centre.log
        known = {"envelope": core.id, "peer": core.origin, "lane": core.lane}
        for position, code in taken.rejected.items():
            log.messages(Event.INBOX_REJECTED, told(envelope, kept, [position]), **known, code=code)
        if taken.forked:
            log.messages(Event.INBOX_FORKED, told(envelope, (), taken.forked), **known)
        if taken.accepted:
            log.messages(Event.MESSAGE_TAKEN, told(envelope, kept, taken.accepted), **known)
        if taken.duplicate:
            log.messages(Event.MESSAGE_REPEATED, told(envelope, (), taken.duplicate), **known)
        counts = {"accepted": len(taken.accepted), "duplicate": len(taken.duplicate)}
        log.debug(Event.INBOX_TAKEN, peer=core.origin, envelope=core.id, **counts)


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
