"""What a node says to its peers about messages: receipts, marks, nacks and voids, sealed to one peer and posted.

A receipt is sealed inside the transaction that makes it true, stored, and posted after the commit; a lost one is asked for by
the origin's next mark, so posting is tried once and never holds anything up. All others carry a number that increases per peer
and kind of control. A void is sealed and stored inside the transaction that ends the messages it names; a peer that asks for
them later gets another one that says the same. Marks and nacks are neither stored nor repeated here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from relay import points, receipts, topology
from relay.audit import AuditStep
from relay.broker import Broker
from relay.centre import Centre
from relay.envelope import EnvelopeType, new_id, outline
from relay.errors import BrokerTrouble, Refused, Rejected, StoreTrouble
from relay.log import Event, Log
from relay.points import Point
from relay.receipts import Mark, Nack, Receipt, State, Statement, Void
from relay.seal import Addressee, Draft, Opened, Sealed
from relay.store import Connection, ended, incoming, outgoing, restated
from relay.store.closing import Range
from relay.store.ended import Ending
from relay.store.incoming import Place
from relay.store.said import Settled

POSTED_AHEAD = 10_000
DRAIN_SECONDS = 0.05
STATEMENTS = 32  # in a receipt that says anew what stood in others
UNDER_WAY = 64
"""Posted and not yet confirmed: behind a link with a long way, one after the other would be a few a second."""


@dataclass(frozen=True, slots=True)
class Why:
    """How and why messages end: the terminal state, the step of the record, a code; who ended them and the reason given."""

    state: str
    step: AuditStep
    code: str | None = None
    actor: str | None = None
    reason: str | None = None


@dataclass(slots=True)
class Ended:
    """What ended messages leave to do after the commit: voids to post, deliveries settled; counts by lane, and why."""

    why: Why
    voids: list[tuple[str, bytes]] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    endings: list[Ending] = field(default_factory=list)

    def tell(self, log: Log) -> None:
        """Write a line for each message that ended at a peer."""
        event = Event.MESSAGE_EXPIRED if self.why.state == "expired" else Event.MESSAGE_CANCELLED
        for one in self.endings:
            own = ({"message": message} for message in one.messages)
            log.messages(event, own, envelope=one.core.id, peer=one.row.recipient, lane=one.row.lane, code=self.why.code)


class Control:
    """Seals and posts control envelopes; to a centre that is no active member nothing is posted."""

    def __init__(self, centre: Centre, broker: Broker) -> None:
        self._centre = centre
        self._broker = broker
        self._waiting: dict[tuple[str, bytes | Nack | Void], None] = {}
        self._posted = asyncio.Event()
        self._room = asyncio.Semaphore(UNDER_WAY)
        self._flying: set[asyncio.Task[None]] = set()
        self._stage = centre.metrics.stages["receipt-out"]
        self._stage.measure(lambda: len(self._waiting) + len(self._flying))

    async def run(self) -> None:
        """Post what waits, in order, until cancelled; a bounded number waits for its confirms."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._posted.wait()
                await self._broker.connected.wait()
                await self._room.acquire()
                if self._waiting:
                    await self._send(group, *self._first())
                else:
                    self._room.release()
                    self._posted.clear()

    async def drain(self) -> None:
        """Return once what waits now is posted, or the broker takes no more."""
        while (self._waiting or self._flying) and self._broker.connected.is_set():
            await asyncio.wait(self._flying, timeout=DRAIN_SECONDS) if self._flying else await asyncio.sleep(DRAIN_SECONDS)

    def post(self, recipient: str, what: bytes | Nack | Void) -> None:
        """Post what is sealed, or a nack or void to seal, to a peer when the broker takes it.

        What waits already is not posted twice: marks and copies ask for the same receipts again and again, and behind a slow link
        these would crowd out the ones that their origin lacks. When too much waits the oldest is let go. A centre that is no
        active member is sent nothing.
        """
        if self._centre.directory.member(recipient) is None:
            return
        self._stage.enter((recipient, what) not in self._waiting)
        self._waiting[recipient, what] = None
        if len(self._waiting) > POSTED_AHEAD:
            self._first()
        self._posted.set()

    def _first(self) -> tuple[str, bytes | Nack | Void]:
        """Take what has waited longest."""
        first = next(iter(self._waiting))
        del self._waiting[first]
        return first

    def receipt(self, connection: Connection, recipient: str, statements: Sequence[Statement], now: int) -> bytes:
        """Seal and store, in this transaction, a receipt; return it as it is to be posted after the commit.

        One for a suspended member is kept until it asks, reinstated, with its marks. Raises ``Refused`` when the directory lists
        no key of the recipient that is valid now.
        """
        body = Receipt(statements=tuple(statements))
        sealed = self._seal("receipt", "control", recipient, receipts.write(body), 0, now)
        ranges = [Range(one.epoch, one.lane, one.first, one.last) for one in statements]
        incoming.add_receipt(connection, recipient, sealed.envelope.core.id, sealed.raw, ranges, now)
        return sealed.raw

    def tell(self, connection: Connection, recipient: str, said: Sequence[Statement], now: int) -> list[tuple[str, bytes]]:
        """Return the receipt to post; an origin that left the network or has no valid key can't be told, and holds up nothing."""
        try:
            return [(recipient, self.receipt(connection, recipient, said, now))]
        except Refused:
            return []

    def said(
        self,
        connection: Connection,
        origin: str,
        epoch: int,
        lane: str,
        ranges: Sequence[tuple[int, int]],
        most: int,
        turn: int = 0,
    ) -> list[bytes]:
        """Return what was said about these sequences, to be posted once more: the stored receipts, at most ``most``.

        What stands in receipts that their origin would not accept any more, since a key in them was revoked or ran out, is said
        anew in this transaction. When there are more receipts, each ``turn`` brings others.
        """
        stored = [(raw, outline(raw)) for raw in incoming.receipts(connection, origin, epoch, lane, ranges, most, turn)]
        outdated = [about.id for _, about in stored if self._centre.outdated(about)]
        kept = [raw for raw, about in stored if about.id not in outdated]
        return [*kept, *self._say_anew(connection, origin, outdated)] if outdated else kept

    def _say_anew(self, connection: Connection, origin: str, ids: Sequence[str]) -> list[bytes]:
        now = self._centre.now()
        stated: dict[tuple[State, str | None], list[Place]] = {}
        for one in restated.standing(connection, origin, restated.take_back(connection, origin, ids)):
            stated.setdefault((one.state, one.code), []).append(one.place)
            if one.purged:
                stated.setdefault(("purged", None), []).append(one.place)
        said = [
            statement
            for (state, code), places in stated.items()
            for statement in statements(places, state, now, code).get(origin, [])
        ]
        parts = [said[at : at + STATEMENTS] for at in range(0, len(said), STATEMENTS)]
        return [raw for part in parts for _, raw in self.tell(connection, origin, part, now)]

    def end(self, connection: Connection, endings: Sequence[Ending], why: Why, now: int) -> Ended:
        """End messages in this transaction: say so in a void per peer, kept as evidence, in their steps and in the record."""
        done = Ended(why, endings=[ending for ending in endings if ending.mask])
        by_peer: dict[str, list[Ending]] = {}
        for ending in endings:
            by_peer.setdefault(ending.row.recipient, []).append(ending)
        for peer, some in by_peer.items():
            self._end_at(connection, peer, some, why, now, done)
        return done

    def _end_at(self, connection: Connection, peer: str, some: Sequence[Ending], why: Why, now: int, done: Ended) -> None:
        said = [statement for ending in some for statement in _ends(ending, why, now)]
        number = self._void(connection, peer, said, now, done) if said else None
        for ending in some:
            done.settled += ended.end(connection, ending, why.state, now, why.code, number)
            lane = (peer, ending.row.lane)
            done.counts[lane] = done.counts.get(lane, 0) + ending.mask.bit_count()
        commitments = [commitment for ending in some for commitment in ending.ended]
        if commitments:
            given = {"peer": peer, "commitments": commitments, "code": why.code, "actor": why.actor, "why": why.reason}
            self._centre.audit.append(connection, [self._centre.audit.leaf(why.step, now, **given)])  # type: ignore[arg-type]

    def _void(self, connection: Connection, peer: str, said: Sequence[Statement], now: int, done: Ended) -> int | None:
        """Seal and store a void; a peer that left the network or has no valid key can't be told, and holds up nothing."""
        centre = self._centre
        try:
            number = outgoing.next_number(connection, peer, "void")
            body = receipts.write(Void(statements=tuple(said)))
            sealed = self._seal("void", "control", peer, body, number, now)
        except Refused:
            return None
        key = centre.storage_key.wrap(sealed.content_key)
        done.voids.append((peer, sealed.raw))
        return ended.add_void(connection, peer, sealed.envelope, key, now)

    def numbered(self, connection: Connection, kind: EnvelopeType, recipient: str, content: bytes) -> bytes:
        """Seal, in this transaction, a control envelope with the next number of its kind; return it for :meth:`post`."""
        number = outgoing.next_number(connection, recipient, kind)
        return self._seal(kind, "control", recipient, content, number, self._centre.now()).raw

    def directory(self, recipient: str, bundle: bytes) -> bytes:
        """Seal a packed bundle of the directory to a peer; return it for :meth:`post`. Raises ``Refused`` as any sealing does."""
        return self._seal("directory", "control", recipient, bundle, 0, self._centre.now()).raw

    async def mark(self, recipient: str, body: Mark) -> int:
        """Send a mark through the lane it speaks of; return its number."""
        number = await self._number(recipient, f"mark/{body.lane}")
        sealed = self._seal("mark", body.lane, recipient, receipts.write(body), number, self._centre.now())
        points.reach(Point.MARK_PUBLISH_BEFORE)
        await self._broker.publish([topology.lane_key(self._centre.id, recipient, body.lane)], sealed.raw)
        points.reach(Point.MARK_PUBLISH_CONFIRMED)
        self._centre.metrics.marks.labels(recipient).inc()
        self._centre.log.debug(Event.MARK_SENT, peer=recipient, lane=body.lane, highest=body.highest, number=number)
        return number

    async def _send(self, group: asyncio.TaskGroup, recipient: str, what: bytes | Nack | Void) -> None:
        """Begin to publish; what needs a number gets it here, so that numbers leave in their order."""
        try:
            raw = what if isinstance(what, bytes) else await self._numbered(recipient, what)
        except (StoreTrouble, Refused) as error:
            self._room.release()
            self._centre.metrics.publish_failures.labels(error.code).inc()
            return
        task = group.create_task(self._publish(recipient, raw), name="control publish")
        self._flying.add(task)
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        self._room.release()

    async def _publish(self, recipient: str, raw: bytes) -> None:
        try:
            points.reach(Point.CONTROL_PUBLISH_BEFORE)
            await self._broker.publish([topology.control_key(self._centre.id, recipient)], raw)
            points.reach(Point.CONTROL_PUBLISH_CONFIRMED)
            self._stage.leave()
        except BrokerTrouble as error:
            # The origin's next mark asks again, whatever was lost here.
            self._centre.metrics.publish_failures.labels(error.code).inc()

    async def _numbered(self, recipient: str, body: Nack | Void) -> bytes:
        kind: EnvelopeType = "nack" if isinstance(body, Nack) else "void"
        number = await self._number(recipient, kind)
        sealed = self._seal(kind, "control", recipient, receipts.write(body), number, self._centre.now())
        if isinstance(body, Nack):
            self._count(recipient, body)
        return sealed.raw

    def _count(self, recipient: str, body: Nack) -> None:
        self._centre.metrics.nacks.labels(recipient, "sent").inc()
        if body.missing:
            self._centre.log.warning(
                Event.NACK_SENT, peer=recipient, lane=body.lane, missing=len(body.missing), reason=body.reason
            )

    async def _number(self, recipient: str, kind: str) -> int:
        points.reach(Point.NUMBER_COMMIT_BEFORE)
        number = await self._centre.store.write(lambda connection: outgoing.next_number(connection, recipient, kind))
        points.reach(Point.NUMBER_COMMIT_AFTER)
        return number

    def _seal(self, kind: EnvelopeType, lane: str, recipient: str, content: bytes, number: int, now: int) -> Sealed:
        centre = self._centre
        key = centre.sealing_key(recipient, suspended=kind == "receipt")
        return centre.sealer.seal(
            kind,
            lane,
            [Draft(new_id(centre.id), content)],
            [Addressee(recipient, key, number)],
            epoch=centre.store.epoch,
            directory=centre.directory.version,
            now=now,
        )


def content(opened: Opened) -> bytes:
    """Return the body of an opened control envelope; raise ``Rejected`` when it can't be had."""
    found = opened.contents[0]
    if isinstance(found, Rejected):
        raise found
    return found


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


def _ends(ending: Ending, why: Why, now: int) -> Iterable[Statement]:
    """Return what to say of messages of one delivery that end: one statement per run."""
    row, chosen = ending.row, [at for at in range(len(ending.commitments)) if ending.mask >> at & 1]
    for first, last in receipts.ranges(chosen):
        yield Statement(
            epoch=row.epoch,
            lane=row.lane,
            first=row.first + first,
            commitments=ending.commitments[first : last + 1],
            state=why.state,
            time=now,
            code=why.code,
        )
