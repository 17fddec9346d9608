"""Marks and repair: how an origin finds out what never arrived, and how it is sent again.

While something sent to a peer has no terminal receipt, the origin sends a *mark* through that lane's own queue, so it arrives
behind what it speaks of. The recipient answers with the receipts it has stored for the open sequences and, for what it never
got, a *nack* once the gap stayed open for ten seconds. Only a nack makes the origin send again: to that peer alone, paced, as
it is or sealed anew (:mod:`relay.copies`), and for what does not come any more a *void*.

The pause between marks is decorrelated jitter (tenacity's ``wait_random_exponential``, from one second to fifteen minutes) and
starts anew when something changed in the lane and the peer has answered the last mark or accepted something, and with each new
connection to the broker, which may have lost everything: a peer that is away finds a few marks when it returns, not one a
second. The pauses live in memory; a node that starts begins with the shortest. A peer that can't be reached holds up no other.

What a peer may ask for is bounded, or one that asks for everything a thousand times would cost more than it is worth: nacks
beyond an allowance are passed over, as its next mark brings them again; of one envelope the copies come in growing pauses; and
peers take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from relay import copies, points, receipts, retry
from relay.audit import AuditStep
from relay.broker import Broker
from relay.centre import Centre
from relay.control import Control, Ended, Why
from relay.copies import EVERYTHING, PURGED, Copies, Reason
from relay.errors import BrokerTrouble, Refused, Rejected, RelayError, StoreTrouble
from relay.log import Event
from relay.points import Point
from relay.receipts import MAX_RANGES, Mark, Nack, Statement, Void
from relay.retry import RESEND_LONGEST_MS, Allowance, Attempt, Resent
from relay.seal import Opened
from relay.store import Connection, behind, closing, ended, incoming, outgoing
from relay.store.behind import Again
from relay.store.outgoing import OpenLane
from relay.store.said import Settled

TICK_SECONDS = 0.5
RESEND_PAUSE_SECONDS = 0.01
RESEND_AT_ONCE = 100
LINED_UP = 1_000
"""Envelopes that are lined up for one peer at most; it asks again for the others."""
NACKS_AT_ONCE, NACKS_A_SECOND = 30.0, 2.0
MAX_RECEIPTS = 64
REASONS = ("split", "cannot-unwrap")


@dataclass(slots=True)
class _Asked(Attempt):
    """How often a lane of a peer was marked since it last moved, when it is marked next; the last mark, and one not answered yet.

    All moments of this module are elapsed milliseconds: a clock that is set must not stop repair.
    """

    due: int
    seen: tuple[int, int, int]
    last: int = 0
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An envelope that a peer asked for: why, and which messages of it, by position."""

    n: int
    reason: Reason | None
    asked: int


@dataclass(slots=True)
class _Gap:
    """Something a peer says it sent and that is not here."""

    due: int
    highest: int
    number: int


class Marks:
    """Sends marks, answers them, and sends again what a peer lacks; ``settled`` takes what is ended by that."""

    def __init__(self, centre: Centre, broker: Broker, control: Control, settled: Callable[[Sequence[Settled]], None]) -> None:
        repair = centre.settings.repair
        self._centre = centre
        self._broker = broker
        self._control = control
        self._settled = settled
        self._first = int(repair.mark_first * 1000)
        self._wait = retry.backoff(repair.mark_first, repair.mark_longest)
        self._asked: dict[tuple[str, str], _Asked] = {}
        self._gaps: dict[tuple[str, int, str], _Gap] = {}
        self._resend: dict[str, dict[_Wanted, None]] = {}
        self._resent: dict[tuple[str, int, Reason | None], Resent] = {}
        self._allowances: dict[str, Allowance] = {}

    async def run(self) -> None:
        """Look after everything open, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self._centre.may_publish.wait()
            await self._centre.is_member.wait()
            if not self._broker.connected.is_set():
                await self._broker.connected.wait()
                self.returned()
            for step in (self._mark_open, self._ask_for_gaps, self._send_again):
                try:
                    await step()
                except (BrokerTrouble, StoreTrouble) as trouble:
                    self._centre.metrics.publish_failures.labels(trouble.code).inc()

    def returned(self, peer: str | None = None) -> None:
        """Mark soon what is open towards a peer that returned from silence, or towards all: the broker itself was away."""
        soon = self._centre.elapsed() + self._first
        for (recipient, _), asked in self._asked.items():
            if peer in (None, recipient):
                asked.attempt_number, asked.due = 1, min(asked.due, soon)

    def resend(self, peer: str, numbers: Sequence[int]) -> None:
        """Line up envelopes that a peer held and lost with its store, as many as it may be sent now; its echo brings the rest."""
        self._add(peer, [_Wanted(n, None, EVERYTHING) for n in numbers])

    def take_mark(self, connection: Connection, sender: str, opened: Opened, now: int) -> Callable[[], None] | None:
        """Answer a peer's mark: the receipts that it lacks now, what is missing here after a while."""
        del now  # pauses are counted by what goes on whatever the clock does
        mark = receipts.read(Mark, _content(opened))
        core = opened.envelope.core
        if (mark.epoch, mark.lane) != (core.epoch, core.lane):
            raise Rejected("bad-control", "A mark speaks of another lane or epoch than its envelope.")
        if not incoming.is_news(connection, sender, core.epoch, f"mark/{mark.lane}", core.to[0].first):
            return None
        held = closing.held(connection, sender, mark.epoch, mark.lane)
        number = core.to[0].first
        said = self._control.said(connection, sender, mark.epoch, mark.lane, mark.open, MAX_RECEIPTS, number)
        missing = receipts.missing(held, mark.highest)
        return partial(self._answer, sender, mark, number, said, bool(missing))

    def take_nack(self, connection: Connection, sender: str, opened: Opened, now: int) -> Callable[[], None] | None:
        """Line up again what a peer says it never got."""
        nack = receipts.read(Nack, _content(opened))
        core = opened.envelope.core
        if not incoming.is_news(connection, sender, core.epoch, "nack", core.to[0].first):
            return None
        wanted = self._wanted(connection, sender, nack, self._centre.elapsed())
        leaf = self._centre.audit.leaf(AuditStep.RETRIED, now, peer=sender, code=nack.reason)
        self._centre.audit.append(connection, [leaf] if wanted else [])
        return partial(self._line_up, sender, nack, wanted)

    def _wanted(self, connection: Connection, sender: str, nack: Nack, now: int) -> list[_Wanted]:
        """Return the envelopes that a peer asks for, as many as it may be sent now."""
        if not nack.missing or not self._allowance(sender, now).take(now):
            return []
        found = outgoing.find(connection, sender, nack.epoch, nack.lane, nack.missing, LINED_UP)
        reason = cast("Reason", nack.reason) if nack.reason in REASONS else None
        return [_Wanted(n, reason, _asked(nack, first, last) if reason == "split" else EVERYTHING) for n, first, last in found]

    def _allowance(self, peer: str, now: int) -> Allowance:
        return self._allowances.setdefault(peer, Allowance(NACKS_A_SECOND, NACKS_AT_ONCE, NACKS_AT_ONCE, now))

    async def _mark_open(self) -> None:
        lanes = await self._centre.store.read(lambda connection: outgoing.open_lanes(connection, MAX_RANGES))
        for lane in lanes:
            if self._is_due(lane):
                await self._mark(lane)
        current = {(lane.recipient, lane.lane) for lane in lanes}
        self._asked = {key: asked for key, asked in self._asked.items() if key in current}

    def _is_due(self, lane: OpenLane) -> bool:
        """Return whether a lane is to be marked now; anything new in it starts the pauses anew."""
        now = self._centre.elapsed()
        key, seen = (lane.recipient, lane.lane), (lane.highest, lane.open, lane.unaccepted)
        asked = self._asked.get(key)
        if asked is None:
            age = max(self._centre.now() - lane.oldest, 0)
            asked = self._asked[key] = _Asked(1, now + max(self._first - age, 0), seen)
        elif asked.seen != seen:
            if not (asked.unanswered and lane.silent):
                asked.attempt_number, asked.due = 1, min(asked.due, now + self._first)
            asked.seen = seen
        return asked.due <= now

    async def _mark(self, lane: OpenLane) -> None:
        body = Mark(epoch=self._centre.store.epoch, lane=lane.lane, highest=lane.highest, open=lane.ranges)
        asked = self._asked[lane.recipient, lane.lane]
        try:
            asked.last = asked.unanswered = await self._control.mark(lane.recipient, body)
        except (BrokerTrouble, Refused) as trouble:  # no queue of this peer takes it, or no key of it is valid now
            self._centre.metrics.publish_failures.labels(trouble.code).inc()
        pause = max(self._wait(asked), self._first / 1000)
        asked.attempt_number += 1
        asked.due = self._centre.elapsed() + int(pause * 1000)

    def _answer(self, sender: str, mark: Mark, number: int, said: list[bytes], gap: bool) -> None:
        for raw in said:
            self._control.post(sender, raw)
        points.reach(Point.MARK_ANSWERED)
        key = (sender, mark.epoch, mark.lane)
        if not gap:
            self._gaps.pop(key, None)
            self._control.post(sender, Nack(epoch=mark.epoch, lane=mark.lane, missing=(), mark=number))
            return
        known = self._gaps.get(key)
        due = known.due if known else self._centre.elapsed() + int(self._centre.settings.repair.gap * 1000)
        self._gaps[key] = _Gap(due, mark.highest, number)

    async def _ask_for_gaps(self) -> None:
        now = self._centre.elapsed()
        for key in [key for key, gap in self._gaps.items() if gap.due <= now]:
            gap = self._gaps.pop(key)
            sender, epoch, lane = key
            held = await self._centre.store.read(partial(closing.held, origin=sender, epoch=epoch, lane=lane))
            missing = tuple(receipts.missing(held, gap.highest)[:MAX_RANGES])
            self._control.post(sender, Nack(epoch=epoch, lane=lane, missing=missing, mark=gap.number))

    def _line_up(self, sender: str, nack: Nack, wanted: Sequence[_Wanted]) -> None:
        self._centre.metrics.nacks.labels(sender, "taken").inc()
        asked = self._asked.get((sender, nack.lane))
        if asked is not None and nack.mark >= asked.unanswered:
            asked.unanswered = 0
        if not wanted:
            return
        self._centre.log.warning(Event.NACK_TAKEN, peer=sender, lane=nack.lane, envelopes=len(wanted), reason=nack.reason)
        self._add(sender, wanted, nack.mark)

    def _add(self, peer: str, wanted: Sequence[_Wanted], answered: int = 0) -> None:
        lined_up, now = self._resend.setdefault(peer, {}), self._centre.elapsed()
        for one in wanted:
            known = self._resent.get((peer, one.n, one.reason))
            if len(lined_up) < LINED_UP and (known is None or known.again(now, answered)):
                lined_up[one] = None

    async def _send_again(self) -> None:
        """Send some of what is lined up, peers in turn; what fails is dropped, since the peer asks again for what it lacks."""
        for _ in range(RESEND_AT_ONCE):
            peer = next(iter(self._resend), None)
            if peer is None:
                break
            lined_up = self._resend.pop(peer)
            if (wanted := next(iter(lined_up), None)) is None:
                continue
            del lined_up[wanted]
            if lined_up:
                self._resend[peer] = lined_up  # behind the others
            self._note_resent(peer, wanted)
            await self._send(peer, wanted)
            await asyncio.sleep(RESEND_PAUSE_SECONDS)
        horizon = self._centre.elapsed() - RESEND_LONGEST_MS
        self._resent = {key: resent for key, resent in self._resent.items() if resent.due > horizon}

    def _note_resent(self, peer: str, wanted: _Wanted) -> None:
        self._resent.setdefault((peer, wanted.n, wanted.reason), Resent()).sent(self._centre.elapsed())

    async def _send(self, peer: str, wanted: _Wanted) -> None:
        again = await self._centre.store.read(partial(behind.load, recipient=peer, n=wanted.n))
        if again is None:
            return
        try:
            made = await self._centre.work(partial(copies.make, self._centre, again, wanted.asked, wanted.reason))
            for raw in made.raws:
                points.reach(Point.RESEND_BEFORE)
                await self._broker.publish([made.key], raw)
                points.reach(Point.RESEND_CONFIRMED)
        except StoreTrouble:
            raise
        except RelayError as trouble:  # no queue or no key of this peer, or the envelope is damaged
            self._centre.metrics.publish_failures.labels(trouble.code).inc()
            return
        self._mark_behind(peer, again.lane, wanted)
        await self._say_void(peer, again, made)
        if made.raws:
            self._centre.metrics.resent.labels(peer).inc()
            self._centre.log.info(Event.OUTBOX_RESENT, peer=peer, lane=again.lane, envelopes=len(made.raws))
            own = ({"message": message} for message in again.messages(made.sent))
            self._centre.log.messages(Event.MESSAGE_RESENT, own, envelope=again.id, peer=peer, lane=again.lane)

    def _mark_behind(self, peer: str, lane: str, wanted: _Wanted) -> None:
        """Let a mark follow what was sent again soon: should that be lost, too, the answer says so."""
        asked = self._asked.get((peer, lane))
        if asked is None:
            return
        self._resent[peer, wanted.n, wanted.reason].mark = asked.last
        asked.attempt_number, asked.due = 1, min(asked.due, self._centre.elapsed() + self._first)

    async def _say_void(self, peer: str, again: Again, made: Copies) -> None:
        """Say what will not come any more; what has no content here and no terminal state there ends with it."""
        if made.voids:
            self._control.post(peer, Void(statements=made.voids))
            points.reach(Point.VOID_POSTED)
            log, own = self._centre.log, (_voided(again, one) for one in made.voids)
            log.messages(Event.MESSAGE_VOIDED, own, envelope=again.id, peer=peer, lane=again.lane, epoch=again.epoch)
        if not made.gone:
            return
        now = self._centre.now()
        why = Why("cancelled", AuditStep.VOIDED, PURGED)

        def end(connection: Connection) -> Ended:
            return self._control.end(connection, ended.of_delivery(connection, peer, again.n, made.gone), why, now)

        points.reach(Point.GONE_COMMIT_BEFORE)
        done = await self._centre.store.write(end)
        points.reach(Point.GONE_COMMIT_AFTER)
        self._settled(done.settled)
        done.tell(self._centre.log)


def _voided(again: Again, one: Statement) -> dict[str, object]:
    """Return what a line says of a message that a void names; each statement names one."""
    (message,) = again.messages(1 << (one.first - again.first))
    return {"message": message, "first": one.first, "state": one.state, **({"code": one.code} if one.code else {})}


def _asked(nack: Nack, first: int, last: int) -> int:
    """Return the mask of the messages of an envelope, with these sequences, that a nack names."""
    mask = 0
    for low, high in nack.missing:
        for sequence in range(max(low, first), min(high, last) + 1):
            mask |= 1 << (sequence - first)
    return mask


def _content(opened: Opened) -> bytes:
    content = opened.contents[0]
    if isinstance(content, Rejected):
        raise content
    return content
