"""Voids of peers: their signed word about sequences under which they send nothing, or nothing more.

A void closes what is not held here, so that it is no gap any more; what is held stays as it is. Nothing is undone by it, and a
copy changes nothing. It is noted in the record; a message that comes later all the same is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from relay import limits, receipts
from relay.audit import AuditStep
from relay.centre import Centre
from relay.errors import Rejected
from relay.log import Event
from relay.receipts import Statement, Void
from relay.seal import Opened
from relay.store import Connection, incoming, voided
from relay.store.incoming import Range

STATES = frozenset({"expired", "cancelled"})


class Voids:
    """Takes what peers declare void."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre
        self._added = Counter[str]()

    def take(self, connection: Connection, sender: str, opened: Opened, now: int) -> Callable[[], None] | None:
        """Close the sender's own sequences that a void names; a statement of a state unknown here is passed over."""
        content, core = opened.contents[0], opened.envelope.core
        if isinstance(content, Rejected):
            raise content
        if not incoming.is_news(connection, sender, core.epoch, core.type, core.to[0].first):
            return None
        said = [one for one in receipts.read(Void, content).statements if one.state in STATES]
        closed: dict[str, int] = {}
        leaves = []
        for statement in said:
            if missing := _missing(connection, sender, statement):
                if not self._close(connection, sender, statement, missing, now):
                    break
                commitments = _commitments(statement, missing)
                closed[statement.state] = closed.get(statement.state, 0) + len(commitments)
                leaf = partial(self._centre.audit.leaf, AuditStep.VOIDED, now, envelope=core.id, peer=sender)
                leaves.append(leaf(commitments=commitments, code=statement.state))
        self._centre.audit.append(connection, leaves)
        return partial(self._count, sender, closed) if closed else None

    def _close(self, connection: Connection, sender: str, statement: Statement, missing: list[tuple[int, int]], now: int) -> bool:
        """Close what a statement names; return False when its sender's lane has too many gaps for that."""
        whole = Range(statement.epoch, statement.lane, statement.first, statement.last)
        if incoming.close(connection, sender, whole) is None:
            self._centre.metrics.faults.labels(sender, limits.TOO_MANY_GAPS).inc()
            return False
        voided.add(connection, sender, statement.epoch, statement.lane, missing, statement.state, now)
        self._added[sender] += len(missing)
        if self._added[sender] >= limits.VOIDS_TRIMMED_EVERY:
            self._added[sender] = 0
            voided.trim(connection, sender, limits.MOST_VOID_RANGES)
        return True

    def _count(self, sender: str, closed: dict[str, int]) -> None:
        for state, count in closed.items():
            self._centre.metrics.voided.labels(sender, state).inc(count)
            self._centre.log.warning(Event.INBOX_VOIDED, peer=sender, state=state, messages=count)


def _missing(connection: Connection, sender: str, statement: Statement) -> list[tuple[int, int]]:
    """Return the sequences of a statement that are not closed here, as ranges."""
    held = voided.closed(connection, sender, statement.epoch, statement.lane, statement.first, statement.last)
    return [(first, last) for first, last in receipts.missing([(1, statement.first - 1), *held], statement.last)]


def _commitments(statement: Statement, ranges: list[tuple[int, int]]) -> list[str]:
    """Return what a statement names under these of its sequences."""
    return [one for first, last in ranges for one in statement.commitments[first - statement.first : last - statement.first + 1]]
