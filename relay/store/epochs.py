"""Rows of the store's own epochs: the mark that it went back, the epoch that is to follow, what is sealed anew in it.

A recovery has three moments. *Behind*: a peer holds more of this centre than the store knows; the store was restored from an
older copy, and nothing may be sent under its sequences any more. *Wanted*: an operator said so (``relay recover``); the next
start begins a new epoch. *Turned*: the epoch is begun, its sequences count from 1, and whatever still lacks the last word of a
recipient has new ones. The record of the last turn stays, with what peers held beyond the store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, text, update

from relay.limits import MOST_UNKNOWN
from relay.receipts import Echo
from relay.store.common import upsert
from relay.store.history import NEVER_SENT
from relay.store.tables import (
    AUDIT,
    META,
    OUTBOX_DELIVERY,
    OUTBOX_ENVELOPE,
    OUTBOX_STEP,
    PEER,
    SEQUENCE,
)

_IS_OPEN = text("outbox_delivery.open <> 0")  # as in the index
_BEHIND, _WANTED, _ORDER, _TURNED = "behind", "wanted-epoch", "recovery-ordered", "recovery"
_NO_TURN: dict[str, Any] = {"before": 0, "at": 0, "step": 0, "sent": {}, "unknown": []}
_CONTROLS = ("nack", "heartbeat", "void", "epoch", "comparison", "checkpoint")
_MESSAGES = ("flash", "immediate", "priority", "routine", "exercise")


@dataclass(frozen=True, slots=True)
class Behind:
    """What showed that the store went back: a peer holds ``theirs`` of an epoch and lane of which this store knows ``ours``."""

    peer: str
    epoch: int
    lane: str
    theirs: int
    ours: int
    at: int


@dataclass(frozen=True, slots=True)
class Ordered:
    """Who asked for a recovery, and why."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Sequences of an earlier epoch that a peer holds and that this store does not know to have sent."""

    peer: str
    epoch: int
    lane: str
    first: int
    last: int

    @property
    def count(self) -> int:
        """How many messages these are."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Turn:
    """The last turn to a new epoch: when, from which epoch, and after which step of the outbox.

    ``unknown`` is what peers said since that they hold of earlier epochs beyond this store.
    """

    epoch: int
    before: int
    at: int
    step: int
    unknown: tuple[Unknown, ...]


def behind(connection: Connection) -> Behind | None:
    """Return what showed that the store went back, or None."""
    value = _get(connection, _BEHIND)
    return Behind(**value) if value else None


def set_behind(connection: Connection, found: Behind) -> bool:
    """Note that the store went back; return False when that was known."""
    if behind(connection) is not None:
        return False
    _put(connection, _BEHIND, {name: getattr(found, name) for name in Behind.__slots__})
    return True


def want(connection: Connection, now: int, order: Ordered | None = None) -> tuple[int, int]:
    """Ask for a new epoch at the next start; return the present one and the new one, which is greater than any known."""
    present = int(connection.execute(select(META.c.value).where(META.c.name == "epoch")).scalar_one())
    marked = behind(connection)
    records = connection.execute(select(func.max(AUDIT.c.epoch))).scalar() or 0
    new = max(now // 1000, present + 1, records + 1, marked.epoch + 1 if marked else 0)
    _put(connection, _WANTED, new)
    if order is not None:
        _put(connection, _ORDER, [order.actor, order.reason])
    return present, new


def wanted(connection: Connection) -> int | None:
    """Return the epoch that is to be begun, or None."""
    value = _get(connection, _WANTED)
    return None if value is None else int(value)


def ordered(connection: Connection) -> Ordered | None:
    """Return who asked for the epoch that is to be begun, and why; None when that was not said."""
    value = _get(connection, _ORDER)
    return None if value is None else Ordered(*value)


def turn(connection: Connection, new: int, now: int) -> str:
    """Begin the epoch that was asked for: every number counts anew; return what names the last leaf of the record before."""
    present = int(connection.execute(select(META.c.value).where(META.c.name == "epoch")).scalar_one())
    step = connection.execute(select(func.max(OUTBOX_STEP.c.n))).scalar() or 0
    sent = dict((_get(connection, _TURNED) or _NO_TURN)["sent"])
    for row in connection.execute(select(SEQUENCE).where(SEQUENCE.c.lane.in_(_MESSAGES))):
        sent.setdefault(str(present), {}).setdefault(row.recipient, {})[row.lane] = row.last
    record: dict[str, Any] = {"epoch": new, "before": present, "at": now, "step": step, "sent": sent, "unknown": []}
    _put(connection, _TURNED, record)
    connection.execute(delete(SEQUENCE))
    _move(connection, new, now)
    connection.execute(delete(META).where(META.c.name.in_((_BEHIND, _WANTED, _ORDER))))
    connection.execute(update(META).where(META.c.name == "epoch").values(value=str(new)))
    for row in connection.execute(select(PEER.c.centre, PEER.c.echo)).all():
        held = [Echo(epoch=epoch, lane=lane, highest=highest) for epoch, lane, highest in json.loads(row.echo)]
        note_unknown(connection, new, row.centre, held)
    return _last_leaf(connection, present)


def raise_numbers(connection: Connection, peers: Iterable[str], now: int) -> None:
    """Let the numbers of control envelopes go on from the time of this start.

    Peers ignore a number that is not higher than the last they heard: a store that was restored would count too low for long.
    """
    kinds = (*_CONTROLS, *(f"mark/{lane}" for lane in _MESSAGES))
    used = {(row.recipient, row.lane): row.last for row in connection.execute(select(SEQUENCE))}
    rows = [{"recipient": peer, "lane": kind, "last": max(now, used.get((peer, kind), 0))} for peer in peers for kind in kinds]
    upsert(connection, SEQUENCE, rows, ["last"])


def turned(connection: Connection) -> Turn | None:
    """Return the last turn to a new epoch, or None when there was none."""
    value = _get(connection, _TURNED)
    if value is None:
        return None
    unknown = tuple(Unknown(*one) for one in value["unknown"])
    return Turn(value["epoch"], value["before"], value["at"], value["step"], unknown)


def note_unknown(connection: Connection, epoch: int, peer: str, held: Sequence[Echo]) -> tuple[Unknown, ...]:
    """Keep what a peer holds of an earlier epoch beyond this store, so that nothing is lost unsaid; return what is new of it.

    A store that was made anew knows nothing of what it sent before.
    """
    earlier = [one for one in held if one.epoch < epoch]
    if not earlier:
        return ()
    value = _get(connection, _TURNED) or {**_NO_TURN, "epoch": epoch, "unknown": []}
    noted = [Unknown(*one) for one in value["unknown"]]
    fresh: list[Unknown] = []
    for one in earlier:
        last = _known_to_be_sent(connection, value, peer, one)
        last = max([last, *(old.last for old in noted if (old.peer, old.epoch, old.lane) == (peer, one.epoch, one.lane))])
        count = sum(old.peer == peer for old in noted) + len(fresh)
        if one.highest > last and count < MOST_UNKNOWN:
            fresh.append(Unknown(peer, one.epoch, one.lane, last + 1, one.highest))
    if fresh:
        value["unknown"] += [[one.peer, one.epoch, one.lane, one.first, one.last] for one in fresh]
        _put(connection, _TURNED, value)
    return tuple(fresh)


def _move(connection: Connection, new: int, now: int) -> int:
    """Give whatever is still open new sequences, in its old order; return how many deliveries that are.

    The sealed bytes keep their old header, as evidence: what a delivery of another epoch sends is sealed anew (see
    :mod:`relay.copies`). An envelope that was never published goes to each of its recipients that way, too.
    """
    of, last = OUTBOX_DELIVERY.c, dict[tuple[str, str], int]()
    rows = connection.execute(select(OUTBOX_DELIVERY).where(_IS_OPEN).order_by(of.recipient, of.lane, of.epoch, of.first)).all()
    for row in rows:
        first = last.get((row.recipient, row.lane), 0) + 1
        last[row.recipient, row.lane] = first + row.last - row.first
        connection.execute(
            update(OUTBOX_DELIVERY)
            .where(of.recipient == row.recipient, of.epoch == row.epoch, of.lane == row.lane, of.first == row.first)
            .values(epoch=new, first=first, last=last[row.recipient, row.lane], behind=of.behind.op("|")(NEVER_SENT))
        )
    connection.execute(update(OUTBOX_ENVELOPE).where(OUTBOX_ENVELOPE.c.sent_at.is_(None)).values(sent_at=now))
    used = [{"recipient": recipient, "lane": lane, "last": number} for (recipient, lane), number in last.items()]
    upsert(connection, SEQUENCE, used, ["last"])
    return len(rows)


def _known_to_be_sent(connection: Connection, value: dict[str, Any], peer: str, held: Echo) -> int:
    """Return the highest sequence of an earlier epoch that this store knows to have sent to a peer in a lane."""
    of = OUTBOX_DELIVERY.c
    query = select(func.max(of.last)).where(of.recipient == peer, of.epoch == held.epoch, of.lane == held.lane)
    counted = value["sent"].get(str(held.epoch), {}).get(peer, {}).get(held.lane, 0)
    return max(connection.execute(query).scalar() or 0, int(counted))


def _last_leaf(connection: Connection, epoch: int) -> str:
    query = select(AUDIT.c.position, AUDIT.c.leaf).where(AUDIT.c.epoch == epoch).order_by(AUDIT.c.position.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    if row is None:
        return f"epoch {epoch}, no leaf"
    return f"epoch {epoch}, leaf {row.position}, SHA-256 {hashlib.sha256(row.leaf).hexdigest()}"


def _get(connection: Connection, name: str) -> Any:
    value = connection.execute(select(META.c.value).where(META.c.name == name)).scalar()
    return None if value is None else json.loads(value)


def _put(connection: Connection, name: str, value: object) -> None:
    upsert(connection, META, [{"name": name, "value": json.dumps(value, separators=(",", ":"))}], ["value"])
