"""Handover: from the inbox to the centre's own system, and the system's word that it has it.

:meth:`Handover.take` gives out the oldest unacknowledged messages of the highest precedence, byte for byte as their origin's
system submitted them; what was given and not acknowledged is given again. A message's deadline is judged when it is first given
out and never after, nor while this machine's clock is doubted. :meth:`Handover.acknowledge` commits ``delivered`` and the receipt
for the origins in one transaction, and is idempotent: the message's id is the delivery id by which a system recognises a copy.

:meth:`Handover.refuse` is the system's no. With a pause the message is *deferred* and given out again after it; tried too often,
or past its deadline, it is *dead* and an operator decides. Without one it is *rejected*, and its origin is told the system's
code; the system's own words stay here. What is put off holds up no other message.

Who waits for a message is given it by the transaction that brings it (:meth:`Handover.serve`): that is one commit instead of two.

Errors raised: ``NotFound`` (``not-given-out``), ``Conflict`` (``already-delivered``) and ``StoreTrouble``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from relay import messages, points, seal, topology
from relay.audit import AuditStep
from relay.broker import Broker
from relay.centre import Centre
from relay.control import Control, statements
from relay.envelope import Envelope, parse
from relay.errors import Conflict, NotAuthentic, NotFound, Problem, RelayError
from relay.log import Event
from relay.points import Point
from relay.receipts import State
from relay.store import Connection, apart, flags, handing, incoming, recalled
from relay.store.common import Resting
from relay.store.handing import Handed, NotTaken, Refusal
from relay.store.incoming import Place

T = TypeVar("T")

MAX_HANDED = 1000
CONNECT_SECONDS = 10.0  # how long after its start a node waits for the broker before it gives out what it has
_CLOSED_BY = {"expired": AuditStep.EXPIRED_ON_HANDOUT, "recalled": AuditStep.RECALLED}
_EVENTS = {"deferred": Event.HANDOVER_DEFERRED, "rejected": Event.HANDOVER_REJECTED, "dead": Event.HANDOVER_DEAD}
_NEVER = 2**63
LEAST_PAUSE_SECONDS = 0.05
MAX_HANDED_BYTES = 16 * 1024 * 1024
OPENED_AT_ONCE_BYTES = 16 * 1024  # a thread would cost more


@dataclass(frozen=True, slots=True)
class Given:
    """A message as it is given out; ``raw`` are the very bytes that were submitted, ``received_at`` in milliseconds.

    ``handling`` is its handling code, which every export and print shows; ``warnings`` say what of it looks wrong.
    """

    id: str
    origin: str
    received_at: int
    raw: bytes
    handling: str
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What an acknowledgement did: how many messages are delivered by it, and the ids of those that are not.

    ``unknown`` were never given out; ``unconfirmed`` carry a restriction in words (H3) that the system has not confirmed.
    """

    delivered: int
    unknown: tuple[str, ...]
    unconfirmed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class No:
    """The system's no to a message: its code, and its words, which stay here; ``retry_after`` in seconds, None for never."""

    id: str
    code: str
    reason: str | None = None
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class _Gift:
    """What one look at the store gave: messages and their envelopes, what to post, what is dead, when to look again."""

    handed: list[Handed]
    resting: dict[int, Resting]
    posted: list[tuple[str, bytes]]
    dead: list[Place]
    wake_at: int


@dataclass(slots=True)
class _Waiter:
    """Somebody who waits for up to ``limit`` messages; ``gift`` is what was given out to it, committed."""

    limit: int
    gift: _Gift | None = None


class Handover:
    """Gives messages to the centre's system."""

    def __init__(self, centre: Centre, broker: Broker, control: Control) -> None:
        self._centre = centre
        self._broker = broker
        self._control = control
        self._stage = centre.metrics.stages["handover"]
        self._wake_at = 0  # when the next deferred message comes back; the store is asked at the start
        self._patient_until = time.monotonic() + CONNECT_SECONDS
        self._waiter: _Waiter | None = None

    async def take(self, limit: int, wait: float) -> list[Given]:
        """Return up to ``limit`` messages, waiting up to ``wait`` seconds for the first."""
        deadline, limit = time.monotonic() + wait, min(limit, MAX_HANDED)
        while True:
            ticket = self._centre.store.inbox_changed.ticket()
            if (lanes := self._lanes()) and (given := await self._give(limit, lanes)):
                return given
            left = deadline - time.monotonic()
            pause = min(left, max((self._wake_at - self._centre.now()) / 1000, LEAST_PAUSE_SECONDS))
            if left <= 0:
                return []
            changed, gift = await self._brought(limit, ticket, pause)
            if gift is not None and (given := await self._opened(gift)):
                return given
            if not changed and pause == left:
                return []

    async def _brought(self, limit: int, ticket: int, pause: float) -> tuple[bool, _Gift | None]:
        """Wait until something arrives; return whether anything did, and what was given out with it."""
        waiter = self._waiter = _Waiter(limit)
        try:
            changed = await self._centre.store.inbox_changed.changed(ticket, pause)
        finally:
            if self._waiter is waiter:
                self._waiter = None
        return changed, waiter.gift

    def serve(self, connection: Connection) -> Callable[[], None] | None:
        """Give out to who waits, in the transaction that brings messages; return what to do after its commit, if anything.

        Whatever is wrong with that must not be held against what arrived. Should the waiter be gone by then, the messages are
        given out again, as all are that were not acknowledged.
        """
        waiter = self._waiter
        if waiter is None or not (lanes := self._lanes()):
            return None
        gift = apart(connection, partial(self._gift, lanes=lanes, limit=waiter.limit, due=False))
        if isinstance(gift, Exception):
            self._centre.log.error(Event.HANDOVER_FAILED, error=type(gift).__name__)
            return None
        return partial(setattr, waiter, "gift", gift)

    async def acknowledge(self, ids: Sequence[str], confirmed: Collection[str] = ()) -> Acknowledged:
        """Note that the centre's system took these messages, and that it saw the restriction of those it ``confirmed``."""
        now = self._centre.now()

        def note(connection: Connection) -> tuple[handing.Acknowledged, list[tuple[str, bytes]]]:
            done = handing.acknowledge(connection, ids, confirmed, now)
            posted = self._record(connection, done.delivered, "delivered", now)
            return done, posted + self._record(connection, done.recalled, "rejected", now, "recalled")

        points.reach(Point.ACKNOWLEDGE_COMMIT_BEFORE)
        done, posted = await self._centre.store.write(note)
        points.reach(Point.ACKNOWLEDGE_COMMIT_AFTER)
        self._post(posted)
        if done.delivered:
            self._centre.metrics.delivered.inc(len(done.delivered))
            self._stage.leave(len(done.delivered))
            self._centre.log.debug(Event.HANDOVER_DELIVERED, messages=len(done.delivered))
            self._centre.log.messages(Event.MESSAGE_HANDED_OVER, map(_place, done.delivered))
        unknown = set(ids) - done.settled - done.unconfirmed
        return Acknowledged(len(done.delivered), tuple(sorted(unknown)), tuple(sorted(done.unconfirmed)))

    async def refuse(self, no: No) -> NotTaken:
        """Note that the centre's system does not take a message, now or ever; doing it again changes nothing.

        The message must have been given out. One that was delivered stays so and raises ``Conflict``.
        """
        centre, now = self._centre, self._centre.now()
        sealed = None if no.reason is None else centre.storage_key.text_key().seal(no.reason, no.id)
        retry_at = None if no.retry_after is None else now + no.retry_after * 1000
        refusal = Refusal(no.id, no.code, sealed, retry_at, centre.settings.handover.attempts)

        def note(connection: Connection) -> tuple[NotTaken | None, list[tuple[str, bytes]]]:
            done = handing.refuse(connection, refusal, now)
            return done, [] if done is None or not done.changed else self._note_refusal(connection, done, now)

        points.reach(Point.REFUSE_COMMIT_BEFORE)
        done, posted = await centre.store.write(note)
        points.reach(Point.REFUSE_COMMIT_AFTER)
        if done is None:
            raise NotFound("not-given-out", f"Message {no.id} was never given out to the centre's system.")
        if done.state == "delivered":
            raise Conflict("already-delivered", f"The centre's system has acknowledged message {no.id}; that stands.")
        self._post(posted)
        if done.changed:
            self._say_refused(done)
        return done

    def _note_refusal(self, connection: Connection, done: NotTaken, now: int) -> list[tuple[str, bytes]]:
        """Write what follows from a refusal: the receipt of a final one, the leaf of any."""
        if done.state == "rejected":
            step = AuditStep.RECALLED if done.withdrawn else AuditStep.REJECTED_BY_SYSTEM
            posted = self._record(connection, [done.place], "rejected", now, done.code, step)
            return posted + self._record(connection, done.closed, "rejected", now, "recalled")
        step = AuditStep.DEAD if done.state == "dead" else AuditStep.DEFERRED
        leaf = self._centre.audit.leaf(step, now, peer=done.place.origin, commitments=[done.place.commitment], code=done.code)
        self._centre.audit.append(connection, [leaf])
        return []

    def _say_refused(self, done: NotTaken) -> None:
        metrics, log = self._centre.metrics, self._centre.log
        metrics.nacked.labels(done.state).inc()
        self._stage.leave(done.state == "rejected")
        if done.retry_at is not None:
            self._wake_at = min(self._wake_at, done.retry_at)
            self._centre.store.inbox_changed.fire()  # who waits for a message waits no longer than until then
        log.messages(_EVENTS[done.state], [_place(done.place)], code=done.code, attempts=done.attempts)

    def _lanes(self) -> list[int]:
        """Return the ranks of the lanes whose messages may be given out now.

        A recall may wait at the broker behind a connection that was just made: recalls travel in the most urgent lane (exercise
        and test traffic has but one), so until that is taken nothing is given out. Without a broker nobody can know of a recall.
        """
        if not self._broker.connected.is_set() and time.monotonic() < self._patient_until:
            return []
        behind = self._broker.behind
        last = topology.LANES.index(topology.EXERCISE)
        actual = [] if topology.LANES[0] in behind else list(range(last))
        return actual if topology.EXERCISE in behind else [*actual, last]

    async def _give(self, limit: int, lanes: list[int]) -> list[Given]:
        due = self._centre.now() >= self._wake_at
        gift = await self._committed(partial(self._gift, lanes=lanes, limit=limit, due=due))
        self._wake_at = gift.wake_at if due else self._wake_at
        for place in gift.dead:
            self._centre.log.messages(Event.HANDOVER_DEAD, [_place(place)], code="expired")
        return await self._opened(gift)

    async def _committed(self, job: Callable[[Connection], T]) -> T:
        """Commit what giving out changes: what is on its way now, or can never be."""
        points.reach(Point.HANDOUT_COMMIT_BEFORE)
        done = await self._centre.store.write(job)
        points.reach(Point.HANDOUT_COMMIT_AFTER)
        return done

    def _gift(self, connection: Connection, lanes: list[int], limit: int, *, due: bool) -> _Gift:
        """Give out in this transaction what is open; ``due`` says that deferred messages are looked at, too."""
        now, expire = self._centre.now(), self._centre.doubt() is None
        dead, wake_at = self._wake(connection, now, expire=expire) if due else ([], self._wake_at)
        handed, late = handing.hand_out(connection, lanes, limit, MAX_HANDED_BYTES, now, expire=expire)
        resting = incoming.envelopes(connection, {one.envelope for one in handed})
        return _Gift(handed, resting, self._record(connection, late, "rejected", now, "expired"), dead, wake_at)

    async def _opened(self, gift: _Gift) -> list[Given]:
        """After the commit: post what follows, and return what was given out, decrypted."""
        handed, resting = gift.handed, gift.resting
        self._post(gift.posted)
        few = sum(len(rest.body) for rest in resting.values()) <= OPENED_AT_ONCE_BYTES
        opened = self._open(handed, resting) if few else await self._centre.work(partial(self._open, handed, resting))
        given, damaged = opened
        if damaged:
            await self._set_aside(damaged)
        if given:
            self._centre.log.debug(Event.HANDOVER_GIVEN, messages=len(given))
            own = ({"message": one.id, "peer": one.origin, "size": len(one.raw)} for one in given)
            self._centre.log.messages(Event.MESSAGE_GIVEN, own)
        return given

    def _wake(self, connection: Connection, now: int, *, expire: bool) -> tuple[list[Place], int]:
        """Let deferred messages be given out again whose time has come; return those that are dead, and when the next comes."""
        dead, following = handing.wake(connection, now, expire=expire)
        leaf = self._centre.audit.leaf
        self._centre.audit.append(
            connection,
            [leaf(AuditStep.DEAD, now, peer=place.origin, commitments=[place.commitment], code="expired") for place in dead],
        )
        return dead, _NEVER if following is None else following

    async def _set_aside(self, damaged: dict[Handed, str]) -> None:
        """Let what is damaged at rest be dead, for an operator: given out again and again it would hold up all behind it."""
        now, centre = self._centre.now(), self._centre

        def note(connection: Connection) -> None:
            for one, code in damaged.items():
                handing.bury(connection, one, code, now)
            centre.audit.append(
                connection, [centre.audit.leaf(AuditStep.DEAD, now, peer=one.origin, code=code) for one, code in damaged.items()]
            )

        await self._committed(note)
        for one, code in damaged.items():
            centre.log.messages(Event.HANDOVER_DEAD, [{"message": one.id, "peer": one.origin}], code=code)
        centre.store.inbox_changed.fire()  # who waits is given what comes after it

    def _open(self, handed: list[Handed], resting: dict[int, Resting]) -> tuple[list[Given], dict[Handed, str]]:
        """Decrypt what is given out, up to a bounded size; the rest is given next time.

        Return beside it what is damaged at rest, each with its code.
        """
        opened = {n: self._unwrap(rest) for n, rest in resting.items()}
        given: list[Given] = []
        damaged: dict[Handed, str] = {}
        size = 0
        for one in handed:
            known = opened[one.envelope]
            content = known if isinstance(known, RelayError) else seal.content(*known, one.position)
            if isinstance(content, RelayError):
                damaged[one] = content.code
                self._say_damaged(content)
                continue
            size += len(content)
            if given and size > MAX_HANDED_BYTES:
                break
            given.append(
                Given(one.id, one.origin, one.received_at, content, flags.handling(one.flags), self._doubts(one, content))
            )
        return given, damaged

    def _doubts(self, one: Handed, content: bytes) -> tuple[Problem, ...]:
        if not one.flags & flags.DOUBTFUL:
            return ()
        return messages.warnings(messages.read(content))

    def _unwrap(self, rest: Resting) -> tuple[Envelope, bytes] | NotAuthentic:
        try:
            return parse(rest.header + rest.body), self._centre.storage_key.unwrap(rest.content_key)
        except NotAuthentic as error:
            return error

    def _say_damaged(self, error: RelayError) -> None:
        detail = f"A received message is damaged in the store and can't be given out: {error.detail}"
        self._centre.log.error(Event.STORE_TROUBLE, code=error.code, detail=detail)

    def _record(
        self,
        connection: Connection,
        places: Sequence[Place],
        state: State,
        now: int,
        code: str | None = None,
        step: AuditStep | None = None,
    ) -> list[tuple[str, bytes]]:
        """Write receipts and audit leaves for messages that reached a state here; return what is to be posted."""
        if step is None:
            step = AuditStep.TAKEN_BY_SYSTEM if state == "delivered" else _CLOSED_BY[code or "expired"]
        posted: list[tuple[str, bytes]] = []
        leaves = []
        purged = statements(self._confirmed(connection, places), "purged", now)
        for origin, said in statements(places, state, now, code).items():
            posted += self._control.tell(connection, origin, said + purged.get(origin, []), now)
            commitments = [commitment for one in said for commitment in one.commitments]
            leaves.append(self._centre.audit.leaf(step, now, peer=origin, commitments=commitments, code=code))
        self._centre.audit.append(connection, leaves)
        return posted

    def _confirmed(self, connection: Connection, places: Sequence[Place]) -> list[Place]:
        """Return the recalls among messages that are carried out here.

        A recall's last receipt says so once more: marks bring again what is open, and that ends with the last receipt.
        """
        return [one for one in places if one.recall and recalled.complete(connection, one.origin, one.id)]

    def _post(self, posted: list[tuple[str, bytes]]) -> None:
        for recipient, raw in posted:
            self._control.post(recipient, raw)
        points.reach(Point.HANDOVER_POSTED)


def _place(place: Place) -> dict[str, object]:
    """Return what the log says of a received message."""
    return {"message": place.id, "peer": place.origin, "lane": place.lane}
