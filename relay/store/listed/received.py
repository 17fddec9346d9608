"""The side of what this centre received; a key is the number of a message's row.

States are those of :mod:`relay.store.incoming`; ``open`` is every one that the centre's system has not ended: waiting, handed,
deferred, held, dead, quarantined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, func, select

from relay.store.incoming import OPEN, SET_ASIDE
from relay.store.listed import LOOKED, MOST, Asked, Listed, Page, first_at, stored_at
from relay.store.tables import INBOX_MESSAGE
from relay.topology import CONTROL, LANES

STATES = ("open", "waiting", "handed", "deferred", "held", "dead", "quarantined", "delivered", "rejected", "withdrawn")

_R = INBOX_MESSAGE.c
_COLUMNS = (_R.n, _R.id, _R.origin, _R.rank, _R.state, _R.code, _R.purged_at, _R.found)
_ASIDE = ("deferred", "held", "dead", "quarantined")
_OPEN = ("waiting", "handed", *_ASIDE)


@dataclass(frozen=True, slots=True)
class Ages:
    """How many messages of a lane wait by age, and since when the oldest does, in milliseconds."""

    counts: tuple[int, ...]
    since: int | None


def page(connection: Connection, asked: Asked, below: int | None, limit: int) -> Page:
    """Return a page of what was received: below a key, or the newest."""
    low, high = _bounds(connection, asked, below)
    if high < low:
        return Page()
    some = _named(connection, asked, low, high, limit)
    floor = low if some is not None else _floor(connection, asked, low, high)
    where = [_R.n.in_(some)] if some is not None else [*_conditions(asked), _R.n >= floor, _R.n <= high]
    found = connection.execute(select(*_COLUMNS).where(*where).order_by(_R.n.desc()).limit(limit + 1)).all()
    rows = list(map(_listed, found[:limit]))
    if len(found) > limit:
        return Page(rows, rows[-1].key)
    return Page(rows, floor, _time_of(connection, floor)) if floor > low else Page(rows)


def ages(connection: Connection, now: int, ages: Sequence[int]) -> dict[str, Ages]:
    """Return per lane, the most urgent first, what the centre's system has not acknowledged: how much of it how old.

    ``ages`` are where the buckets end, in seconds; of each lane there is one bucket more, of what is older. Only the index of
    what waits is read.
    """
    last = connection.execute(select(func.max(_R.n))).scalar() or 0
    ends = [first_at(lambda n: _time_of(connection, n), 1, last, now - age * 1000) for age in ages]
    younger = [func.sum(case((_R.n >= end, 1), else_=0)) for end in ends]
    query = select(_R.rank, func.min(_R.n), *younger, func.count()).where(OPEN).group_by(_R.rank).order_by(_R.rank)
    found: dict[str, Ages] = {}
    for rank, oldest, *counts in connection.execute(query):
        buckets = tuple(count - before for before, count in zip((0, *counts), counts, strict=False))
        found[_lane(rank)] = Ages(buckets, _time_of(connection, oldest))
    return found


def _bounds(connection: Connection, asked: Asked, below: int | None) -> tuple[int, int]:
    """Return the lowest and the highest row of the time that is asked for, below a key."""
    last = connection.execute(select(func.max(_R.n))).scalar() or 0
    high = last if below is None else min(last, below - 1)
    low = 1 if asked.since is None else first_at(lambda n: _time_of(connection, n), 1, last, asked.since)
    if asked.until is not None:
        high = min(high, first_at(lambda n: _time_of(connection, n), 1, last, asked.until) - 1)
    return low, high


def _time_of(connection: Connection, number: int) -> int | None:
    found = connection.execute(select(_R.found).where(_R.n >= number).order_by(_R.n).limit(1)).scalar()
    return None if found is None else stored_at(found)


def _named(connection: Connection, asked: Asked, low: int, high: int, limit: int) -> list[int] | None:
    """Return the newest rows of what is asked when an index names few for it, one more than fit; None when none does."""
    found: list[Any] = []
    for condition in _few(asked):
        # Nothing else is asked of SQLite, which would take another index; what is left is a look at few rows.
        query = select(_R.n, _R.id, _R.origin, _R.rank, _R.state).where(condition)
        found += connection.execute(query if asked.prefix else query.limit(MOST + 1)).all()
    if not _few(asked) or (asked.prefix is None and len(found) > MOST):
        return None
    return sorted((row.n for row in found if low <= row.n <= high and _is(asked, row)), reverse=True)[: limit + 1]


def _few(asked: Asked) -> list[Any]:
    """Return the conditions of indexes that name few for what is asked; none when there is no such index."""
    if asked.prefix is not None:
        return [and_(_R.id >= asked.prefix, _R.id < asked.prefix + "g")]  # behind every hexadecimal digit and hyphen
    if asked.state in _ASIDE:
        return [and_(SET_ASIDE, _R.state == asked.state)]
    return {"waiting": [OPEN], "handed": [OPEN], "open": [OPEN, SET_ASIDE]}.get(asked.state or "", [])


def _is(asked: Asked, row: Any) -> bool:
    stands = row.state in _OPEN if asked.state == "open" else asked.state in (None, row.state)
    return stands and asked.peer in (None, row.origin) and (asked.lane is None or row.rank == _rank(asked.lane))


def _floor(connection: Connection, asked: Asked, low: int, high: int) -> int:
    """Return the lowest row that is looked at: so many of the newest in a state that has an index, of a peer, or of all."""
    if asked.state in _ASIDE:
        query = select(_R.n).where(SET_ASIDE, _R.state == asked.state, _R.n <= high, _R.n >= low)
    elif asked.peer is not None:
        query = select(_R.n).where(_R.origin == asked.peer, _R.n <= high, _R.n >= low)
    else:
        return max(low, high - LOOKED)
    last = connection.execute(query.order_by(_R.n.desc()).offset(LOOKED).limit(1)).scalar()
    return low if last is None else int(last)


def _conditions(asked: Asked) -> list[Any]:
    found: list[Any] = []
    if asked.peer is not None:
        found.append(_R.origin == asked.peer)
    if asked.lane is not None:
        found.append(_R.rank == _rank(asked.lane))
    if asked.state == "open":
        found.append(_R.state.in_(_OPEN))
    elif asked.state is not None:
        found += [*([SET_ASIDE] if asked.state in _ASIDE else []), _R.state == asked.state]
    return found


def _lane(rank: int) -> str:
    return LANES[rank] if rank < len(LANES) else CONTROL


def _rank(lane: str) -> int:
    return LANES.index(lane) if lane in LANES else -1


def _listed(row: Any) -> Listed:
    return Listed(
        id=row.id,
        key=row.n,
        at=stored_at(row.found),
        lane=_lane(row.rank),
        peers=(row.origin,),
        states={row.state: 1},
        code=row.code,
        purged=row.purged_at is not None,
        found=row.found,
    )
