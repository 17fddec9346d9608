"""Rows for the comparison with peers: what was sent and received in a time, what is still to be compared, what differs.

A message belongs to the time in which its id was given (a UUIDv7 begins with it): the one fact about it that its origin and its
recipient never see differently. What an origin counts is what the recipient signed something about; what a recipient counts is
what it holds, refused or not. A time is ripe once nothing that was sent in it is open any more without a word of the recipient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from relay.envelope import commitments
from relay.limits import MOST_DIFFERENCES
from relay.store.common import bit, unsigned, upsert
from relay.store.tables import (
    COMPARISON_DIFFERENCE,
    COMPARISON_DUE,
    INBOX_ENVELOPE,
    INBOX_MESSAGE,
    META,
    OUTBOX_DELIVERY,
    OUTBOX_ENVELOPE,
    OUTBOX_MESSAGE,
    OUTBOX_SEALED,
    OUTBOX_STEP,
)

Side = Literal["sent", "received"]

_MARKER = "compared-until"
_AT_ONCE = 200
_WORDS = ("accepted", "delivered", "rejected")
_DUE, _DIFFERS = COMPARISON_DUE.c, COMPARISON_DIFFERENCE.c


@dataclass(slots=True)
class SentThen:
    """What was sent to one peer in a time: per lane the commitments it signed for, and those that ended without its word.

    ``open`` counts messages that may still get its word.
    """

    said: dict[str, list[str]] = field(default_factory=dict)
    apart: dict[str, list[str]] = field(default_factory=dict)
    open: int = 0


@dataclass(frozen=True, slots=True)
class Due:
    """A time (milliseconds, ``until`` not included) that is to be compared with a peer; ``asked`` says how often it was asked."""

    peer: str
    first: int
    until: int
    asked: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Where both sides differ: how many messages of a lane and time are counted here and there, and how often that was seen."""

    peer: str
    side: Side
    first: int
    until: int
    lane: str
    ours: int
    theirs: int
    since: int
    times: int


def compared_until(connection: Connection) -> int | None:
    """Return the end of the last time that was looked at, or None."""
    value = connection.execute(select(META.c.value).where(META.c.name == _MARKER)).scalar()
    return None if value is None else int(value)


def set_compared_until(connection: Connection, until: int) -> None:
    """Note the end of the last time that was looked at."""
    upsert(connection, META, [{"name": _MARKER, "value": str(until)}], ["value"])


def sent_then(connection: Connection, first: int, until: int) -> dict[str, SentThen]:
    """Return what was sent in a time, by peer."""
    found: dict[str, SentThen] = {}
    of = OUTBOX_MESSAGE.c
    rows = connection.execute(select(of.envelope, of.position).where(of.id >= _id(first), of.id < _id(until)))
    masks: dict[int, int] = {}
    for row in rows:
        masks[row.envelope] = masks.get(row.envelope, 0) | bit(row.position)
    for some in _portions(masks):
        _count_sent(connection, some, masks, found)
    return found


def received_then(connection: Connection, origin: str, first: int, until: int) -> dict[str, list[str]]:
    """Return the commitments, by lane, of the messages that are held of an origin from a time, refused ones included."""
    of = INBOX_MESSAGE.c
    rows = connection.execute(
        select(of.envelope, of.position).where(of.id >= _id(first), of.id < _id(until), of.origin == origin)
    )
    masks: dict[int, int] = {}
    for row in rows:
        masks[row.envelope] = masks.get(row.envelope, 0) | bit(row.position)
    found: dict[str, list[str]] = {}
    for some in _portions(masks):
        envelope = INBOX_ENVELOPE.c
        sealed = connection.execute(select(envelope.n, envelope.lane, envelope.header).where(envelope.n.in_(some)))
        for one in sealed:
            found.setdefault(one.lane, []).extend(_chosen(one.header, masks[one.n]))
    return found


def add_due(connection: Connection, peers: Iterable[str], first: int, until: int) -> None:
    """Note that a time is to be compared with these peers."""
    rows = [{"peer": peer, "first": first, "until": until, "asked": 0} for peer in peers]
    if rows:
        connection.execute(insert(COMPARISON_DUE), rows)


def due(connection: Connection, limit: int) -> list[Due]:
    """Return what is to be compared, what was asked for least first."""
    rows = connection.execute(select(COMPARISON_DUE).order_by(_DUE.asked, _DUE.first, _DUE.peer).limit(limit))
    return [Due(row.peer, row.first, row.until, row.asked) for row in rows]


def is_due(connection: Connection, peer: str, first: int, until: int) -> bool:
    """Return whether this time is to be compared with a peer."""
    where = (_DUE.peer == peer) & (_DUE.first == first) & (_DUE.until == until)
    return connection.execute(select(_DUE.asked).where(where)).scalar() is not None


def asked(connection: Connection, one: Due) -> None:
    """Note that a peer was asked."""
    where = (_DUE.peer == one.peer) & (_DUE.first == one.first)
    connection.execute(update(COMPARISON_DUE).where(where).values(asked=_DUE.asked + 1))


def end(connection: Connection, peer: str, first: int) -> None:
    """Compare a time no more."""
    connection.execute(delete(COMPARISON_DUE).where(_DUE.peer == peer, _DUE.first == first))


def differ(connection: Connection, seen: Sequence[Difference], peer: str, side: Side, first: int) -> list[Difference]:
    """Keep where a peer's word on a time differs from this centre's; return each with how often that was seen.

    It counts as seen again only where both counts are what they were: what still changes is not settled.
    """
    where = (_DIFFERS.peer == peer) & (_DIFFERS.side == side) & (_DIFFERS.first == first)
    known = {row.lane: row for row in connection.execute(select(COMPARISON_DIFFERENCE).where(where))}
    kept = [_again(one, known.get(one.lane)) for one in seen]
    connection.execute(delete(COMPARISON_DIFFERENCE).where(where))
    if kept:
        rows = [{name: getattr(one, name) for name in Difference.__slots__} for one in kept]
        connection.execute(insert(COMPARISON_DIFFERENCE), rows)
        _let_go(connection, peer)
    return kept


def differences(connection: Connection, limit: int = 1000) -> list[Difference]:
    """Return where this centre and its peers differ, the newest time first."""
    rows = connection.execute(select(COMPARISON_DIFFERENCE).order_by(_DIFFERS.first.desc(), _DIFFERS.peer).limit(limit))
    return [Difference(**{name: getattr(row, name) for name in Difference.__slots__}) for row in rows]


def _let_go(connection: Connection, peer: str) -> None:
    """Let go what was noticed first of a peer when too much is kept of it."""
    mine = select(COMPARISON_DIFFERENCE).where(_DIFFERS.peer == peer)
    if connection.execute(select(func.count()).select_from(mine.subquery())).scalar_one() <= MOST_DIFFERENCES:
        return
    for row in connection.execute(mine.order_by(_DIFFERS.since.desc(), _DIFFERS.first.desc()).offset(MOST_DIFFERENCES)).all():
        one = (_DIFFERS.side == row.side) & (_DIFFERS.first == row.first) & (_DIFFERS.lane == row.lane)
        connection.execute(delete(COMPARISON_DIFFERENCE).where(_DIFFERS.peer == peer, one))


def _count_sent(connection: Connection, some: list[int], masks: dict[int, int], found: dict[str, SentThen]) -> None:
    """Add what some envelopes carried."""
    step, delivery, envelope = OUTBOX_STEP.c, OUTBOX_DELIVERY.c, OUTBOX_ENVELOPE.c
    words: dict[tuple[int, str], int] = {}
    rows = connection.execute(
        select(step.envelope, step.recipient, step.mask).where(step.envelope.in_(some), step.state.in_(_WORDS))
    )
    for row in rows:
        words[row.envelope, row.recipient] = words.get((row.envelope, row.recipient), 0) | unsigned(row.mask)
    sealed = connection.execute(
        select(envelope.n, envelope.lane, OUTBOX_SEALED.c.header)
        .join(OUTBOX_SEALED, OUTBOX_SEALED.c.n == envelope.n)
        .where(envelope.n.in_(some))
    )
    headers = {row.n: row for row in sealed}
    for row in connection.execute(
        select(delivery.envelope, delivery.recipient, delivery.open).where(delivery.envelope.in_(some))
    ):
        lane, header = headers[row.envelope].lane, headers[row.envelope].header
        of, said = masks[row.envelope], words.get((row.envelope, row.recipient), 0)
        peer = found.setdefault(row.recipient, SentThen())
        peer.said.setdefault(lane, []).extend(_chosen(header, of & said))
        left = of & ~said & unsigned(row.open)
        peer.open += left.bit_count()
        peer.apart.setdefault(lane, []).extend(_chosen(header, of & ~said & ~left))


def _again(one: Difference, before: Any) -> Difference:
    if before is None:
        return one
    same = (before.ours, before.theirs) == (one.ours, one.theirs)
    fields = {name: getattr(one, name) for name in Difference.__slots__}
    return Difference(**{**fields, "since": before.since, "times": before.times + 1 if same else 1})


def _chosen(header: bytes, mask: int) -> list[str]:
    """Return those commitments of an envelope that a mask names."""
    return [commitment for position, commitment in enumerate(commitments(header)) if mask & bit(position)]


def _portions(numbers: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(numbers)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def _id(at: int) -> str:
    """Return what every id that was given at a time or later is greater than, as text."""
    digits = f"{at:012x}"
    return f"{digits[:8]}-{digits[8:]}"
