"""Settling: what peers' receipts say about messages of this centre, taken in the inbox's transaction.

A receipt is kept as evidence; each of its statements moves the deliveries that it names, once. After the commit whoever counts
what is under way learns of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from relay import receipts
from relay.audit import AuditStep
from relay.centre import Centre
from relay.errors import RelayError
from relay.log import Event
from relay.receipts import Receipt
from relay.seal import Opened
from relay.store import Connection, said
from relay.store.said import Settled


class Settling:
    """Takes receipts; ``settled`` is told after the commit which deliveries they moved."""

    def __init__(self, centre: Centre, settled: Callable[[Sequence[Settled]], None]) -> None:
        self._centre = centre
        self._settled = settled

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
        leaves, settled = [], []
        for statement in body.statements:
            applied = said.apply(connection, sender, statement, number)
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
        return partial(self._taken, sender, opened.envelope.core.id, states, settled)

    def _taken(self, sender: str, envelope: str, states: Counter[str], settled: Sequence[Settled]) -> None:
        """After the commit of a receipt: tell who counts what is under way."""
        self._settled(settled)
        self._centre.log.info(Event.RECEIPT_TAKEN, peer=sender, envelope=envelope, **states)
