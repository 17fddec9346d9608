"""What a node says to its peers about messages: receipts, marks and nacks, sealed to one peer and posted.

A receipt is sealed inside the transaction that makes it true, stored, and posted after the commit; a lost one is asked for by
the origin's next mark, so posting is tried once and never holds anything up. Marks and nacks carry a number that increases per
peer and kind of control, and are neither stored nor repeated here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import groupby

from relay import receipts, topology
from relay.broker import Broker
from relay.centre import Centre
from relay.envelope import EnvelopeType, new_id
from relay.errors import BrokerTrouble, Refused, StoreTrouble
from relay.log import Event
from relay.receipts import Mark, Nack, Receipt, State, Statement
from relay.seal import Addressee, Draft, Sealed
from relay.store import Connection, incoming, outgoing
from relay.store.incoming import Place, Range

POSTED_AHEAD = 10_000


class Control:
    """Seals and posts control envelopes."""

    def __init__(self, centre: Centre, broker: Broker) -> None:
        self._centre = centre
        self._broker = broker
        self._waiting: deque[tuple[str, bytes | Nack]] = deque(maxlen=POSTED_AHEAD)
        self._posted = asyncio.Event()

    async def run(self) -> None:
        """Post what waits, in order, until cancelled."""
        while True:
            await self._posted.wait()
            await self._broker.connected.wait()
            if self._waiting:
                await self._send(*self._waiting.popleft())
            else:
                self._posted.clear()

    async def drain(self) -> None:
        """Post what waits now, if the broker takes it."""
        while self._waiting and self._broker.connected.is_set():
            await self._send(*self._waiting.popleft())

    def post(self, recipient: str, what: bytes | Nack) -> None:
        """Post a sealed receipt, or a nack, to a peer when the broker takes it."""
        self._waiting.append((recipient, what))
        self._posted.set()

    def receipt(self, connection: Connection, recipient: str, statements: Sequence[Statement], now: int) -> bytes:
        """Seal and store, in this transaction, a receipt; return it as it is to be posted after the commit."""
        body = Receipt(statements=tuple(statements))
        sealed = self._seal("receipt", "control", recipient, receipts.write(body), 0, now)
        ranges = [Range(one.epoch, one.lane, one.first, one.last) for one in statements]
        incoming.add_receipt(connection, recipient, sealed.envelope.core.id, sealed.raw, ranges, now)
        return sealed.raw

    async def mark(self, recipient: str, body: Mark) -> int:
        """Send a mark through the lane it speaks of; return its number."""
        number = await self._number(recipient, f"mark/{body.lane}")
        sealed = self._seal("mark", body.lane, recipient, receipts.write(body), number, self._centre.now())
        await self._broker.publish([topology.lane_key(self._centre.id, recipient, body.lane)], sealed.raw)
        self._centre.metrics.marks.labels(recipient).inc()
        self._centre.log.debug(Event.MARK_SENT, peer=recipient, lane=body.lane, highest=body.highest, number=number)
        return number

    async def _send(self, recipient: str, what: bytes | Nack) -> None:
        try:
            raw = await self._nack(recipient, what) if isinstance(what, Nack) else what
            await self._broker.publish([topology.control_key(self._centre.id, recipient)], raw)
        except (BrokerTrouble, StoreTrouble, Refused) as error:
            # The origin's next mark asks again, whatever was lost here.
            self._centre.metrics.publish_failures.labels(error.code).inc()

    async def _nack(self, recipient: str, body: Nack) -> bytes:
        number = await self._number(recipient, "nack")
        sealed = self._seal("nack", "control", recipient, receipts.write(body), number, self._centre.now())
        self._centre.metrics.nacks.labels(recipient, "sent").inc()
        if body.missing:
            self._centre.log.warning(
                Event.NACK_SENT, peer=recipient, lane=body.lane, missing=len(body.missing), reason=body.reason
            )
        return sealed.raw

    async def _number(self, recipient: str, kind: str) -> int:
        return await self._centre.store.write(lambda connection: outgoing.next_number(connection, recipient, kind))

    def _seal(self, kind: EnvelopeType, lane: str, recipient: str, content: bytes, number: int, now: int) -> Sealed:
        centre = self._centre
        return centre.sealer.seal(
            kind,
            lane,
            [Draft(new_id(centre.id), content)],
            [Addressee(recipient, centre.sealing_key(recipient), number)],
            epoch=centre.store.epoch,
            directory=centre.directory.version,
            now=now,
        )


def statements(places: Iterable[Place], state: State, now: int, code: str | None = None) -> dict[str, list[Statement]]:
    """Return, per origin, what to say about received messages: one statement per run of consecutive sequences."""
    ordered = sorted(places, key=lambda place: (place.origin, place.epoch, place.lane, place.sequence))
    said: dict[str, list[Statement]] = {}
    for (origin, epoch, lane), group in groupby(ordered, key=lambda place: (place.origin, place.epoch, place.lane)):
        commitments = {place.sequence: place.commitment for place in group}
        for first, last in receipts.ranges(commitments):
            run = tuple(commitments[sequence] for sequence in range(first, last + 1))
            for start in range(0, len(run), receipts.MAX_COMMITMENTS):
                part = run[start : start + receipts.MAX_COMMITMENTS]
                said.setdefault(origin, []).append(
                    Statement(epoch=epoch, lane=lane, first=first + start, commitments=part, state=state, time=now, code=code)
                )
    return said
