"""Marks and repair: how an origin finds out what never arrived, and how it is sent again.

While something sent to a peer has no terminal receipt, the origin sends a *mark* through that lane's own queue, so it arrives
behind what it speaks of. The recipient answers with the receipts it has stored for the open sequences and, for what it never
got, a *nack* once the gap stayed open for ten seconds. Only a nack makes the origin send again: to that peer alone, paced, the
same bytes.

The pause between marks is decorrelated jitter (tenacity's ``wait_random_exponential``, from one second to fifteen minutes) and
starts anew when something changed in the lane and the peer has answered the last mark or accepted something: a peer that is away
finds a few marks when it returns, not one a second. A peer that can't be reached holds up no other. This is the first form of
repair: epochs, echoes, voids and re-sealing follow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tenacity import wait_random_exponential

from relay import receipts, topology
from relay.audit import AuditStep
from relay.broker import Broker
from relay.centre import Centre
from relay.control import Control
from relay.envelope import read_core
from relay.errors import BrokerTrouble, Refused, Rejected, StoreTrouble
from relay.log import Event
from relay.receipts import MAX_RANGES, Mark, Nack
from relay.seal import Opened
from relay.store import Connection, incoming, outgoing
from relay.store.outgoing import Due, OpenLane

TICK_SECONDS = 0.5
RESEND_PAUSE_SECONDS = 0.01
RESEND_AGAIN_MS = 5_000
RESEND_AT_ONCE = 100
MAX_RECEIPTS = 64


@dataclass(slots=True)
class _Asked:
    """How often a lane of a peer was marked since it last moved (what tenacity's wait looks at); the mark not yet answered."""

    attempt_number: int
    due: int
    seen: tuple[int, int, int]
    unanswered: int = 0


@dataclass(slots=True)
class _Gap:
    """Something a peer says it sent and that is not here."""

    due: int
    highest: int
    number: int


class Marks:
    """Sends marks, answers them, and sends again what a peer lacks."""

    def __init__(self, centre: Centre, broker: Broker, control: Control) -> None:
        repair = centre.settings.repair
        self._centre = centre
        self._broker = broker
        self._control = control
        self._first = int(repair.mark_first * 1000)
        self._wait = wait_random_exponential(multiplier=repair.mark_first, max=repair.mark_longest)
        self._asked: dict[tuple[str, str], _Asked] = {}
        self._gaps: dict[tuple[str, int, str], _Gap] = {}
        self._resend: dict[tuple[str, int], None] = {}
        self._resent: dict[tuple[str, int], int] = {}

    async def run(self) -> None:
        """Look after everything open, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self._broker.connected.wait()
            for step in (self._mark_open, self._ask_for_gaps, self._send_again):
                try:
                    await step()
                except (BrokerTrouble, StoreTrouble) as trouble:
                    self._centre.metrics.publish_failures.labels(trouble.code).inc()

    def take_mark(self, connection: Connection, sender: str, opened: Opened, now: int) -> Callable[[], None] | None:
        """Answer a peer's mark: the receipts that it lacks now, what is missing here after a while."""
        mark = receipts.read(Mark, _content(opened))
        core = opened.envelope.core
        if (mark.epoch, mark.lane) != (core.epoch, core.lane):
            raise Rejected("bad-control", "A mark speaks of another lane or epoch than its envelope.")
        if not incoming.is_news(connection, sender, core.epoch, f"mark/{mark.lane}", core.to[0].first):
            return None
        held = incoming.held(connection, sender, mark.epoch, mark.lane)
        number = core.to[0].first
        said = incoming.receipts(connection, sender, mark.epoch, mark.lane, mark.open, MAX_RECEIPTS, number)
        missing = receipts.missing(held, mark.highest)
        return partial(self._answer, sender, mark, number, said, bool(missing), now)

    def take_nack(self, connection: Connection, sender: str, opened: Opened, now: int) -> Callable[[], None] | None:
        """Line up again what a peer says it never got."""
        nack = receipts.read(Nack, _content(opened))
        core = opened.envelope.core
        if not incoming.is_news(connection, sender, core.epoch, "nack", core.to[0].first):
            return None
        found = outgoing.find(connection, sender, nack.epoch, nack.lane, nack.missing)
        leaf = self._centre.audit.leaf(AuditStep.RETRIED, now, peer=sender, code=nack.reason)
        self._centre.audit.append(connection, [leaf] if found else [])
        return partial(self._line_up, sender, nack, found, now)

    async def _mark_open(self) -> None:
        now = self._centre.now()
        lanes = await self._centre.store.read(lambda connection: outgoing.open_lanes(connection, MAX_RANGES))
        for lane in lanes:
            if self._is_due(lane, now):
                await self._mark(lane)
        current = {(lane.recipient, lane.lane) for lane in lanes}
        self._asked = {key: asked for key, asked in self._asked.items() if key in current}

    def _is_due(self, lane: OpenLane, now: int) -> bool:
        """Return whether a lane is to be marked now; anything new in it starts the pauses anew."""
        key, seen = (lane.recipient, lane.lane), (lane.highest, lane.open, lane.unaccepted)
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = _Asked(1, max(lane.oldest + self._first, now), seen)
        elif asked.seen != seen:
            if not (asked.unanswered and lane.silent):
                asked.attempt_number, asked.due = 1, min(asked.due, now + self._first)
            asked.seen = seen
        return asked.due <= now

    async def _mark(self, lane: OpenLane) -> None:
        body = Mark(epoch=self._centre.store.epoch, lane=lane.lane, highest=lane.highest, open=lane.ranges)
        asked = self._asked[lane.recipient, lane.lane]
        try:
            asked.unanswered = await self._control.mark(lane.recipient, body)
        except (BrokerTrouble, Refused) as trouble:  # no queue of this peer takes it, or no key of it is valid now
            self._centre.metrics.publish_failures.labels(trouble.code).inc()
        pause = max(self._wait(asked), self._first / 1000)  # type: ignore[arg-type]  # it reads attempt_number alone
        asked.attempt_number += 1
        asked.due = self._centre.now() + int(pause * 1000)

    def _answer(self, sender: str, mark: Mark, number: int, said: list[bytes], gap: bool, now: int) -> None:
        for raw in said:
            self._control.post(sender, raw)
        key = (sender, mark.epoch, mark.lane)
        if not gap:
            self._gaps.pop(key, None)
            self._control.post(sender, Nack(epoch=mark.epoch, lane=mark.lane, missing=(), mark=number))
            return
        known = self._gaps.get(key)
        due = known.due if known else now + int(self._centre.settings.repair.gap * 1000)
        self._gaps[key] = _Gap(due, mark.highest, number)

    async def _ask_for_gaps(self) -> None:
        now = self._centre.now()
        for key in [key for key, gap in self._gaps.items() if gap.due <= now]:
            gap = self._gaps.pop(key)
            sender, epoch, lane = key
            held = await self._centre.store.read(partial(incoming.held, origin=sender, epoch=epoch, lane=lane))
            missing = tuple(receipts.missing(held, gap.highest)[:MAX_RANGES])
            self._control.post(sender, Nack(epoch=epoch, lane=lane, missing=missing, mark=gap.number))

    def _line_up(self, sender: str, nack: Nack, found: list[int], now: int) -> None:
        self._centre.metrics.nacks.labels(sender, "taken").inc()
        asked = self._asked.get((sender, nack.lane))
        if asked is not None and nack.mark >= asked.unanswered:
            asked.unanswered = 0
        if not nack.missing:
            return
        self._centre.log.warning(Event.NACK_TAKEN, peer=sender, lane=nack.lane, envelopes=len(found), reason=nack.reason)
        for n in found:
            if now - self._resent.get((sender, n), 0) >= RESEND_AGAIN_MS:
                self._resend[sender, n] = None

    async def _send_again(self) -> None:
        """Send some of what is lined up; what fails is dropped, since the peer asks again for what it still lacks."""
        for recipient, n in list(self._resend)[:RESEND_AT_ONCE]:
            del self._resend[recipient, n]
            self._resent[recipient, n] = self._centre.now()
            due = await self._centre.store.read(partial(outgoing.load, n=n))
            if due is not None:
                await self._send(recipient, due)
            await asyncio.sleep(RESEND_PAUSE_SECONDS)
        horizon = self._centre.now() - RESEND_AGAIN_MS
        self._resent = {key: at for key, at in self._resent.items() if at > horizon}

    async def _send(self, recipient: str, due: Due) -> None:
        try:
            await self._broker.publish([self._direct(recipient, due)], due.raw)
        except BrokerTrouble as trouble:
            self._centre.metrics.publish_failures.labels(trouble.code).inc()
        else:
            self._centre.metrics.resent.labels(recipient).inc()
            self._centre.log.info(Event.OUTBOX_RESENT, peer=recipient, envelope=due.id)

    def _direct(self, recipient: str, due: Due) -> str:
        """Return the key that brings an envelope to one peer alone, in its own lane."""
        return topology.lane_key(self._centre.id, recipient, read_core(due.raw).lane)


def _content(opened: Opened) -> bytes:
    content = opened.contents[0]
    if isinstance(content, Rejected):
        raise content
    return content
