"""Settling: what peers' receipts say about messages of this centre, taken in the inbox's transaction.

A receipt is kept as evidence; each of its statements moves the deliveries that it names, once. After the commit whoever counts
what is under way learns of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from prometheus_client import Histogram

from relay import receipts
from relay.audit import AuditStep
from relay.centre import Centre
from relay.envelope import given_at
from relay.errors import RelayError
from relay.log import Event
from relay.receipts import Receipt, Statement
from relay.seal import Opened
from relay.store import Connection, said
from relay.store.said import Settled

TIMED = ("accepted", "delivered")
_EVENTS = {
    "accepted": Event.MESSAGE_ACCEPTED,
    "delivered": Event.MESSAGE_DELIVERED,
    "rejected": Event.MESSAGE_REJECTED,
    "purged": Event.MESSAGE_PURGED,
}


class Settling:
    """Takes receipts; ``settled`` is told after the commit which deliveries they moved."""

    def __init__(self, centre: Centre, settled: Callable[[Sequence[Settled]], None]) -> None:
        self._centre = centre
        self._settled = settled
        self._end_to_end: dict[tuple[str, str, str], Histogram] = {}

    def take(self, connection: Connection, sender: str, opened: Opened, now: int) -> Callable[[], None] | None:
        """Apply a peer's receipt; raise ``Rejected`` when its body is not one. A copy changes nothing."""
        content = opened.contents[0]
        if isinstance(content, RelayError):
            raise content
        body = receipts.read(Receipt, content)
        centre = self._centre
        key = centre.storage_key.wrap(opened.content_key)
        number = said.add_receipt(connection, sender, opened.envelope, key, now)
        if number is None:
            return None
        leaves, settled, told = [], [], list[tuple[Statement, said.Applied]]()
        for statement in body.statements:
            applied = said.apply(connection, sender, statement, number)
            told.append((statement, applied))
            changed = applied.changed
            settled += applied.settled
            centre.metrics.receipts.labels(sender, statement.state).inc(len(changed))
            if changed:
                step = AuditStep(statement.state)
                leaves.append(
                    centre.audit.leaf(
                        step,
                        now,
                        envelope=opened.envelope.core.id,
                        peer=sender,
                        commitments=changed,
                        code=statement.code,
                    )
                )
        if not leaves:  # evidence of nothing: a member could fill the disk with it
            said.forget_receipt(connection, number)
        centre.audit.append(connection, leaves)
        states = Counter(statement.state for statement in body.statements)
        return partial(self._taken, sender, opened.envelope.core.id, states, settled, told)

    def _taken(
        self,
        sender: str,
        envelope: str,
        states: Counter[str],
        settled: Sequence[Settled],
        told: Sequence[tuple[Statement, said.Applied]],
    ) -> None:
        """After the commit of a receipt: tell who counts what is under way, and the log."""
        self._settled(settled)
        log = self._centre.log
        log.debug(Event.RECEIPT_TAKEN, peer=sender, envelope=envelope, **states)
        for statement, applied in told:
            self._time(sender, statement, applied)
            code = {} if statement.code is None else {"code": statement.code}
            for carrier, ids in applied.messages.items():
                own = ({"message": message} for message in ids)
                log.messages(_EVENTS[statement.state], own, envelope=carrier, peer=sender, lane=statement.lane, **code)

    def _time(self, sender: str, statement: Statement, applied: said.Applied) -> None:
        """Observe how long messages took to be accepted or delivered, by the peer's clock; those of an envelope together."""
        if statement.state not in TIMED:
            return
        key = (sender, statement.lane, statement.state)
        timed = self._end_to_end.get(key)
        if timed is None:
            timed = self._end_to_end[key] = self._centre.metrics.end_to_end.labels(*key)
        for ids in applied.messages.values():
            seconds = max(statement.time - given_at(ids[0]), 0) / 1000
            for _ in ids:
                timed.observe(seconds)
