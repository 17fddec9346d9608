"""Voids of peers: their signed word about sequences under which they send nothing, or nothing more.

A void closes what is not held here, so that it is no gap any more; what is held stays as it is. Nothing is undone by it, and a
copy changes nothing. It is noted in the record; a message that comes later all the same is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from relay import limits, receipts
from relay.audit import AuditStep
from relay.centre import Centre
from relay.errors import Rejected
from relay.log import Event
from relay.receipts import Statement, Void
from relay.seal import Opened
from relay.store import Connection, closing, incoming, voided
from relay.store.closing import Range

STATES = frozenset({"expired", "cancelled"})
MOST_LINES = 64
"""Lines that one void may cause; its messages are counted in any case."""


@dataclass(frozen=True, slots=True)
class _Closed:
    """Consecutive sequences that a void closed."""

    state: str
    epoch: int
    lane: str
    first: int
    last: int

    @property
    def messages(self) -> int:
        """How many messages that is."""
        return self.last - self.first + 1


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
        closed: list[_Closed] = []
        leaves = []
        for statement in said:
            if missing := _missing(connection, sender, statement):
                if not self._close(connection, sender, statement, missing, now):
                    break
                commitments = _commitments(statement, missing)
                for first, last in missing:
                    _add(closed, _Closed(statement.state, statement.epoch, statement.lane, first, last))
                leaf = partial(self._centre.audit.leaf, AuditStep.VOIDED, now, envelope=core.id, peer=sender)
                leaves.append(leaf(commitments=commitments, code=statement.state))
        self._centre.audit.append(connection, leaves)
        return partial(self._say, sender, core.id, closed) if closed else None

    def _close(self, connection: Connection, sender: str, statement: Statement, missing: list[tuple[int, int]], now: int) -> bool:
        """Close what a statement names; return False when its sender's lane has too many gaps for that."""
        whole = Range(statement.epoch, statement.lane, statement.first, statement.last)
        if closing.close(connection, sender, whole) is None:
            self._centre.metrics.faults.labels(sender, limits.TOO_MANY_GAPS).inc()
            return False
        voided.add(connection, sender, statement.epoch, statement.lane, missing, statement.state, now)
        self._added[sender] += len(missing)
        if self._added[sender] >= limits.VOIDS_TRIMMED_EVERY:
            self._added[sender] = 0
            voided.trim(connection, sender, limits.MOST_VOID_RANGES)
        return True

    def _say(self, sender: str, envelope: str, closed: list[_Closed]) -> None:
        """Count what was closed, and log each run of it; of a void with very many the rest is one line for each state."""
        log, rest = self._centre.log, Counter[str]()
        for one in closed:
            self._centre.metrics.voided.labels(sender, one.state).inc(one.messages)
        for one in closed[:MOST_LINES]:
            where = {"lane": one.lane, "epoch": one.epoch, "first": one.first, "last": one.last}
            log.warning(Event.INBOX_VOIDED, peer=sender, envelope=envelope, state=one.state, messages=one.messages, **where)
        for one in closed[MOST_LINES:]:
            rest[one.state] += one.messages
        for state, messages in rest.items():
            log.warning(Event.INBOX_VOIDED, peer=sender, envelope=envelope, state=state, messages=messages)


def _add(closed: list[_Closed], new: _Closed) -> None:
    """Add a run of sequences, to the last one where it goes on."""
    if closed and replace(closed[-1], first=new.first, last=new.last) == new and closed[-1].last + 1 == new.first:
        new = replace(new, first=closed.pop().first)
    closed.append(new)


def _missing(connection: Connection, sender: str, statement: Statement) -> list[tuple[int, int]]:
    """Return the sequences of a statement that are not closed here, as ranges."""
    held = voided.closed(connection, sender, statement.epoch, statement.lane, statement.first, statement.last)
    return [(first, last) for first, last in receipts.missing([(1, statement.first - 1), *held], statement.last)]


def _commitments(statement: Statement, ranges: list[tuple[int, int]]) -> list[str]:
    """Return what a statement names under these of its sequences."""
    return [one for first, last in ranges for one in statement.commitments[first - statement.first : last - statement.first + 1]]
