"""Handover: from the inbox to the centre's own system, and the system's word that it has it.

:meth:`Handover.take` gives out the oldest unacknowledged messages of the highest precedence, byte for byte as their origin's
system submitted them; what was given and not acknowledged is given again. A message's deadline is judged when it is first given
out and never after. :meth:`Handover.acknowledge` commits ``delivered`` and the receipt for the origins in one transaction, and
is idempotent: the message's id is the delivery id by which a system recognises a copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from relay import messages, seal, topology
from relay.audit import AuditStep
from relay.broker import Broker
from relay.centre import Centre
from relay.control import Control, statements
from relay.envelope import Envelope, parse
from relay.errors import NotAuthentic, Problem, Rejected, RelayError
from relay.log import Event
from relay.receipts import State
from relay.store import Connection, flags, incoming, recalled
from relay.store.common import Resting
from relay.store.incoming import Handed, Place

MAX_HANDED = 1000
CONNECT_SECONDS = 10.0  # how long after its start a node waits for the broker before it gives out what it has
_CLOSED_BY = {"expired": AuditStep.EXPIRED_ON_HANDOUT, "recalled": AuditStep.RECALLED}
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


class Handover:
    """Gives messages to the centre's system."""

    def __init__(self, centre: Centre, broker: Broker, control: Control) -> None:
        self._centre = centre
        self._broker = broker
        self._control = control
        self._patient_until = asyncio.get_running_loop().time() + CONNECT_SECONDS

    async def take(self, limit: int, wait: float) -> list[Given]:
        """Return up to ``limit`` messages, waiting up to ``wait`` seconds for the first."""
        deadline = asyncio.get_running_loop().time() + wait
        while True:
            ticket = self._centre.store.inbox_changed.ticket()
            if (lanes := self._lanes()) and (given := await self._give(min(limit, MAX_HANDED), lanes)):
                return given
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or not await self._centre.store.inbox_changed.changed(ticket, left):
                return []

    async def acknowledge(self, ids: Sequence[str], confirmed: Collection[str] = ()) -> Acknowledged:
        """Note that the centre's system took these messages, and that it saw the restriction of those it ``confirmed``."""
        now = self._centre.now()

        def note(connection: Connection) -> tuple[incoming.Acknowledged, list[tuple[str, bytes]]]:
            done = incoming.acknowledge(connection, ids, confirmed, now)
            posted = self._record(connection, done.delivered, "delivered", now)
            return done, posted + self._record(connection, done.recalled, "rejected", now, "recalled")

        done, posted = await self._centre.store.write(note)
        self._post(posted)
        if done.delivered:
            self._centre.metrics.delivered.inc(len(done.delivered))
            self._centre.log.info(Event.HANDOVER_DELIVERED, messages=len(done.delivered))
        unknown = set(ids) - done.settled - done.unconfirmed
        return Acknowledged(len(done.delivered), tuple(sorted(unknown)), tuple(sorted(done.unconfirmed)))

    def _lanes(self) -> list[int]:
        """Return the ranks of the lanes whose messages may be given out now.

        A recall may wait at the broker behind a connection that was just made: recalls travel in the most urgent lane (exercise
        and test traffic has but one), so until that is taken nothing is given out. Without a broker nobody can know of a recall.
        """
        if not self._broker.connected.is_set() and asyncio.get_running_loop().time() < self._patient_until:
            return []
        behind = self._broker.behind
        last = topology.LANES.index(topology.EXERCISE)
        actual = [] if topology.LANES[0] in behind else list(range(last))
        return actual if topology.EXERCISE in behind else [*actual, last]

    async def _give(self, limit: int, lanes: list[int]) -> list[Given]:
        now = self._centre.now()

        def give(connection: Connection) -> tuple[list[Handed], dict[int, Resting], list[tuple[str, bytes]]]:
            handed, late = incoming.hand_out(connection, lanes, limit, MAX_HANDED_BYTES, now)
            resting = incoming.envelopes(connection, {one.envelope for one in handed})
            return handed, resting, self._record(connection, late, "rejected", now, "expired")

        handed, resting, posted = await self._centre.store.write(give)
        self._post(posted)
        few = sum(len(rest.body) for rest in resting.values()) <= OPENED_AT_ONCE_BYTES
        given = self._open(handed, resting) if few else await self._centre.work(partial(self._open, handed, resting))
        if given:
            self._centre.log.info(Event.HANDOVER_GIVEN, messages=len(given))
        return given

    def _open(self, handed: list[Handed], resting: dict[int, Resting]) -> list[Given]:
        """Decrypt what is given out, up to a bounded size; the rest is given next time.

        What is damaged at rest stays as it is, for an operator, and holds up no other.
        """
        opened = {n: self._unwrap(rest) for n, rest in resting.items()}
        given: list[Given] = []
        size = 0
        for one in handed:
            if (known := opened[one.envelope]) is None:
                continue
            content = seal.content(*known, one.position)
            if isinstance(content, Rejected):
                self._say_damaged(content)
                continue
            size += len(content)
            if given and size > MAX_HANDED_BYTES:
                break
            given.append(
                Given(one.id, one.origin, one.received_at, content, flags.handling(one.flags), self._doubts(one, content))
            )
        return given

    def _doubts(self, one: Handed, content: bytes) -> tuple[Problem, ...]:
        if not one.flags & flags.DOUBTFUL:
            return ()
        return messages.warnings(messages.read(content))

    def _unwrap(self, rest: Resting) -> tuple[Envelope, bytes] | None:
        try:
            return parse(rest.header + rest.body), self._centre.storage_key.unwrap(rest.content_key)
        except NotAuthentic as error:
            self._say_damaged(error)
            return None

    def _say_damaged(self, error: RelayError) -> None:
        detail = f"A received message is damaged in the store and can't be given out: {error.detail}"
        self._centre.log.error(Event.STORE_TROUBLE, code=error.code, detail=detail)

    def _record(
        self, connection: Connection, places: Sequence[Place], state: State, now: int, code: str | None = None
    ) -> list[tuple[str, bytes]]:
        """Write receipts and audit leaves for messages that reached a state here; return what is to be posted."""
        step = AuditStep.TAKEN_BY_SYSTEM if state == "delivered" else _CLOSED_BY[code or "expired"]
        posted, leaves = [], []
        purged = statements(self._confirmed(connection, places), "purged", now)
        for origin, said in statements(places, state, now, code).items():
            posted.append((origin, self._control.receipt(connection, origin, said + purged.get(origin, []), now)))
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
