"""The side of what this centre received; a key is the number of a message's row.

States are those of :mod:`relay.store.incoming`; ``open`` is every one that the centre's system has not ended: waiting, handed,
deferred, held, dead, quarantined.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from relay.store.incoming import OPEN, SET_ASIDE
from relay.store.listed import LOOKED, MOST, Asked, Listed, Page, first_at, stored_at
from relay.store.tables import INBOX_MESSAGE
from relay.topology import LANES

STATES = ("open", "waiting", "handed", "deferred", "held", "dead", "quarantined", "delivered", "rejected", "withdrawn")

_R = INBOX_MESSAGE.c
_COLUMNS = (_R.n, _R.id, _R.origin, _R.rank, _R.state, _R.code, _R.purged_at, _R.found)
_FEW: dict[str, Any] = {
    **dict.fromkeys(("waiting", "handed"), OPEN),
    **dict.fromkeys(("deferred", "held", "dead", "quarantined"), SET_ASIDE),
}


def page(connection: Connection, asked: Asked, below: int | None, limit: int) -> Page:
    """Return a page of what was received: below a key, or the newest."""
    low, high = _bounds(connection, asked, below)
    if high < low:
        return Page()
    floor = low if asked.prefix is not None else _floor(connection, asked, low, high)
    where = [*_conditions(asked), _R.n >= floor, _R.n <= high]
    found = connection.execute(select(*_COLUMNS).where(*where).order_by(_R.n.desc()).limit(limit + 1)).all()
    rows = list(map(_listed, found[:limit]))
    if len(found) > limit:
        return Page(rows, rows[-1].key)
    return Page(rows, floor, _time_of(connection, floor)) if floor > low else Page(rows)


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


def _floor(connection: Connection, asked: Asked, low: int, high: int) -> int:
    """Return the lowest row that is looked at: all of them where an index names few, else so many of the newest."""
    few = _FEW.get(asked.state or "")
    if few is not None and len(connection.execute(select(_R.n).where(few).limit(MOST + 1)).all()) <= MOST:
        return low
    if asked.peer is None:
        return max(low, high - LOOKED)
    query = select(_R.n).where(_R.origin == asked.peer, _R.n <= high, _R.n >= low)
    last = connection.execute(query.order_by(_R.n.desc()).offset(LOOKED).limit(1)).scalar()
    return low if last is None else int(last)


def _conditions(asked: Asked) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if asked.peer is not None:
        found.append(_R.origin == asked.peer)
    if asked.lane is not None:
        found.append(_R.rank == (LANES.index(asked.lane) if asked.lane in LANES else -1))
    if asked.prefix is not None:
        found.append(and_(_R.id >= asked.prefix, _R.id < asked.prefix + "g"))  # behind every hexadecimal digit and hyphen
    if asked.state == "open":
        found.append(or_(OPEN, SET_ASIDE))
    elif asked.state is not None:
        found.append(and_(*([_FEW[asked.state]] if asked.state in _FEW else []), _R.state == asked.state))
    return found


def _listed(row: Any) -> Listed:
    return Listed(
        id=row.id,
        key=row.n,
        at=stored_at(row.found),
        lane=LANES[row.rank] if row.rank < len(LANES) else "control",
        peers=(row.origin,),
        states={row.state: 1},
        code=row.code,
        purged=row.purged_at is not None,
        found=row.found,
    )
