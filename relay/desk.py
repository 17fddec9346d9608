"""The desk: what an operator does to a message of this centre that is on its way, each time with a reason, on record.

*Hold*: it is not sent, or not sent again, until *release*; the other messages of its envelope go on. *Replay*: send it again
now to whoever has not ended it, also when nobody would try by itself. *Discard*: the origin signs ``cancelled`` for every
recipient without a terminal state and stops sending; what a recipient already holds stays with it (a cancel takes that back).

Errors raised: ``NotFound`` (``unknown-message``), ``Conflict`` (``message-settled``, ``message-held``, ``not-held``,
``message-purged``) and ``StoreTrouble``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from relay import points
from relay.audit import AuditStep
from relay.centre import Centre
from relay.control import Control, Ended, Why
from relay.errors import Conflict, NotFound
from relay.log import Event
from relay.points import Point
from relay.store import Connection, ended, parked
from relay.store.parked import Parked
from relay.store.said import Settled

_VERBS = {AuditStep.HELD: "hold", AuditStep.UNHELD: "release", AuditStep.REPLAYED: "replay", None: "discard"}


class Steered(Protocol):
    """What sends, and is told what an operator decided: the pump."""

    def settled(self, settled: Sequence[Settled]) -> None:
        """Take what was ended."""

    def steer(self, n: int, *, held: bool) -> None:
        """Take note that a message of an envelope is held, or that something of it goes again."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator asks for: which message, why, and under which role."""

    message: str
    reason: str
    actor: str


class Desk:
    """Carries out what operators decide about messages on their way."""

    def __init__(self, centre: Centre, control: Control, pump: Steered) -> None:
        self._centre = centre
        self._control = control
        self._pump = pump

    async def hold(self, order: Order) -> None:
        """Keep a message back until it is released."""

        def hold(connection: Connection, found: Parked, now: int) -> None:
            if found.held_at is not None:
                raise Conflict("message-held", f"Message {order.message} is held already.")
            parked.hold(connection, order.message, now)

        await self._carry_out(order, AuditStep.HELD, hold)

    async def release(self, order: Order) -> None:
        """Let a held message go on."""

        def release(connection: Connection, found: Parked, _now: int) -> None:
            if found.held_at is None:
                raise Conflict("not-held", f"Message {order.message} is not held.")
            parked.hold(connection, order.message, None)
            parked.send_again(connection, found)

        await self._carry_out(order, AuditStep.UNHELD, release)

    async def replay(self, order: Order) -> None:
        """Send a message again now to everyone who has not ended it."""

        def replay(connection: Connection, found: Parked, _now: int) -> None:
            if found.held_at is not None:
                raise Conflict("message-held", f"Message {order.message} is held: release it, and it is sent.")
            if found.purged_at is not None:
                sentence = f"The content of message {order.message} was purged: there is nothing to send again."
                raise Conflict("message-purged", sentence)
            parked.send_again(connection, found)

        await self._carry_out(order, AuditStep.REPLAYED, replay)

    async def discard(self, order: Order) -> None:
        """End a message at everyone who has not: ``cancelled``, signed, and not sent any more."""
        done: list[Ended] = []
        why = Why("cancelled", AuditStep.DISCARDED, "discarded", order.actor, order.reason)

        def discard(connection: Connection, _found: Parked, now: int) -> None:
            parked.hold(connection, order.message, now)  # also keeps it out of an envelope that was not sent yet
            done.append(self._control.end(connection, ended.of_message(connection, order.message), why, now))

        await self._carry_out(order, None, discard)
        self._pump.settled(done[0].settled)
        for peer, raw in done[0].voids:
            self._control.post(peer, raw)
        points.reach(Point.DESK_POSTED)
        for (peer, _), messages in done[0].counts.items():
            self._centre.metrics.ended.labels(peer, why.state).inc(messages)
        done[0].tell(self._centre.log)

    async def _carry_out(self, order: Order, step: AuditStep | None, act: Callable[[Connection, Parked, int], None]) -> None:
        """Do something to a message in one transaction with its leaf in the record, and tell the pump."""
        now = self._centre.now()

        def carry_out(connection: Connection) -> tuple[int, bool]:
            found = parked.find(connection, order.message)
            if found is None:
                raise NotFound("unknown-message", "This node submitted no message with this id.")
            if not found.open:
                raise Conflict("message-settled", f"Message {order.message} has a terminal state at every recipient.")
            act(connection, found, now)
            if step is not None:
                given = {"commitments": [found.commitment], "actor": order.actor, "why": order.reason}
                self._centre.audit.append(connection, [self._centre.audit.leaf(step, now, **given)])  # type: ignore[arg-type]
            return found.envelope, parked.holds(connection, found.envelope)

        points.reach(Point.DESK_COMMIT_BEFORE)
        envelope, held = await self._centre.store.write(carry_out)
        points.reach(Point.DESK_COMMIT_AFTER)
        self._pump.steer(envelope, held=held)
        self._centre.metrics.acts.labels(_VERBS[step]).inc()
        self._centre.log.warning(Event.OUTBOX_STEERED, message=order.message, what=str(step or AuditStep.DISCARDED))
