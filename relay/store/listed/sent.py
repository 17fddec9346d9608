"""The side of what this centre sent; a key is the number of a message's envelope times 64, and its place there.

States at a recipient: ``queued``, ``sent``, ``accepted``, ``deferred``, ``held``, ``dead``, ``delivered``, ``rejected``,
``expired``, ``cancelled``, as :mod:`relay.store.history` has them; ``open`` is every one without a final word. A message is
listed by a state when it is in it at one recipient, or at the one that is asked for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, and_, func, select, text

from relay.envelope import MAX_MESSAGES
from relay.store.common import bit, unsigned
from relay.store.history import DEAD, FINAL
from relay.store.listed import LOOKED, MOST, Asked, Listed, Page, first_at
from relay.store.tables import OUTBOX_DELIVERY, OUTBOX_ENVELOPE, OUTBOX_MESSAGE, OUTBOX_STEP, STEP_ENDED

STATES = ("open", "queued", "sent", "accepted", "deferred", "held", "dead", "delivered", "rejected", "expired", "cancelled")

_E, _M, _D, _S = OUTBOX_ENVELOPE.c, OUTBOX_MESSAGE.c, OUTBOX_DELIVERY.c, OUTBOX_STEP.c
_COLUMNS = (_M.id, _M.position, _M.envelope, _M.purged_at, _M.held_at, _M.found, _E.lane, _E.created_at, _E.sent_at)
_KEY: ColumnElement[int] = _M.envelope * MAX_MESSAGES + _M.position
_AT = OUTBOX_DELIVERY.alias("at_recipient")
_WORD = OUTBOX_STEP.alias("word_of_recipient")
_IS_OPEN: ColumnElement[bool] = _AT.c.open.op(">>")(_M.position).op("&")(1) == 1
_NOT_ACCEPTED: ColumnElement[bool] = _AT.c.unaccepted.op(">>")(_M.position).op("&")(1) == 1
_WAITS = and_(_IS_OPEN, _NOT_ACCEPTED)
_FREE = _M.held_at.is_(None)
_DEAD_BIT: ColumnElement[int] = _AT.c.behind.op("&")(DEAD)
_STANDS: dict[str, ColumnElement[bool]] = {
    "open": _IS_OPEN,
    "queued": and_(_WAITS, _FREE, _AT.c.behind == 0, _E.sent_at.is_(None)),
    "sent": and_(_WAITS, _FREE, _AT.c.behind == 0, _E.sent_at.is_not(None)),
    "accepted": and_(_IS_OPEN, ~_NOT_ACCEPTED),
    "deferred": and_(_WAITS, _FREE, _AT.c.behind != 0, _DEAD_BIT == 0),
    "held": and_(_WAITS, _M.held_at.is_not(None)),
    "dead": and_(_WAITS, _FREE, _DEAD_BIT != 0),
}
# Where an index names few: the conditions stand as they do in the indexes, SQLite would not see that a bound value fits them.
_OPEN_ROWS = (OUTBOX_DELIVERY, _D.envelope, text("outbox_delivery.open <> 0"))
_BEHIND_ROWS = (OUTBOX_DELIVERY, _D.envelope, text("outbox_delivery.behind <> 0"))
_FEW: dict[str, tuple[FromClause, ColumnElement[int], Any]] = {
    **dict.fromkeys(("open", "queued", "sent", "accepted"), _OPEN_ROWS),
    **dict.fromkeys(("deferred", "dead"), _BEHIND_ROWS),
    "held": (OUTBOX_MESSAGE, _M.envelope, text("outbox_message.held_at IS NOT NULL")),
    **{
        one: (OUTBOX_STEP, _S.envelope, text(f"outbox_step.{STEP_ENDED} AND outbox_step.state = '{one}'"))
        for one in ("expired", "cancelled")
    },
}


def page(connection: Connection, asked: Asked, below: int | None, limit: int) -> Page:
    """Return a page of what was sent: below a key, or the newest."""
    low, high = _bounds(connection, asked, below)
    if high < low:
        return Page()
    some = _named(connection, asked, low, high, limit)
    floor = low if some is not None else _floor(connection, asked, low, high)
    where = [below > _KEY] if below is not None else []
    where += [_M.envelope.in_(some)] if some is not None else [_number(asked) >= floor, _number(asked) <= high]
    found = connection.execute(_query(asked).where(*where).limit(limit + 1)).all()
    rows = _listed(connection, found[:limit])
    if len(found) > limit:
        return Page(rows, _key(found[limit - 1]))
    if some is not None:
        return Page(rows, some[-1] * MAX_MESSAGES if len(some) > limit else None)
    return Page(rows, floor * MAX_MESSAGES, _time_of(connection, floor)) if floor > low else Page(rows)


def _bounds(connection: Connection, asked: Asked, below: int | None) -> tuple[int, int]:
    """Return the lowest and the highest envelope of the time that is asked for, below a key."""
    last = connection.execute(select(func.max(_E.n))).scalar() or 0
    high = last if below is None else min(last, (below - 1) // MAX_MESSAGES)
    low = 1 if asked.since is None else first_at(lambda n: _time_of(connection, n), 1, last, asked.since)
    if asked.until is not None:
        high = min(high, first_at(lambda n: _time_of(connection, n), 1, last, asked.until) - 1)
    return low, high


def _time_of(connection: Connection, number: int) -> int | None:
    query = select(_E.created_at).where(_E.n >= number).order_by(_E.n).limit(1)
    return connection.execute(query).scalar()


def _named(connection: Connection, asked: Asked, low: int, high: int, limit: int) -> list[int] | None:
    """Return the newest envelopes that an index names for what is asked, one more than fit; None when none names few."""
    if asked.prefix is not None:
        given: tuple[FromClause, ColumnElement[int], Any] | None = (OUTBOX_MESSAGE, _M.envelope, _of_prefix(asked.prefix))
    else:
        given = _FEW.get(asked.state or "")
    if given is None:
        return None
    table, number, condition = given
    few = select(number).select_from(table).where(condition)
    if asked.peer is not None and "recipient" in table.c:
        few = few.where(table.c.recipient == asked.peer)
    if asked.prefix is None:
        few = few.limit(MOST + 1)
    numbers = connection.execute(few).scalars().all()  # in no order: SQLite would leave the index for one that has it
    if asked.prefix is None and len(numbers) > MOST:
        return None
    return sorted({int(one) for one in numbers if low <= one <= high}, reverse=True)[: limit + 1]


def _floor(connection: Connection, asked: Asked, low: int, high: int) -> int:
    """Return the lowest envelope that is looked at."""
    if asked.peer is None:
        return max(low, high - LOOKED)
    query = select(_D.envelope).where(_D.recipient == asked.peer, _D.envelope <= high, _D.envelope >= low)
    last = connection.execute(query.order_by(_D.envelope.desc()).offset(LOOKED).limit(1)).scalar()
    return low if last is None else int(last)


def _number(asked: Asked) -> ColumnElement[int]:
    return _M.envelope if asked.peer is None else _D.envelope


def _query(asked: Asked) -> Any:
    """Return what finds messages, newest first; a peer's by the index of its deliveries."""
    query = select(*_COLUMNS).select_from(OUTBOX_ENVELOPE).join(OUTBOX_MESSAGE, _M.envelope == _E.n)
    if asked.peer is not None:
        query = select(*_COLUMNS).select_from(OUTBOX_DELIVERY).join(OUTBOX_ENVELOPE, _E.n == _D.envelope)
        query = query.join(OUTBOX_MESSAGE, _M.envelope == _D.envelope).where(_D.recipient == asked.peer)
    if asked.lane is not None:
        query = query.where(_E.lane == asked.lane)
    if asked.prefix is not None:
        query = query.where(_of_prefix(asked.prefix))
    if asked.state is not None:
        query = query.where(_stands(asked.state, asked.peer))
    return query.order_by(_number(asked).desc(), _M.position.desc())


def _of_prefix(prefix: str) -> ColumnElement[bool]:
    return and_(_M.id >= prefix, _M.id < prefix + "g")  # behind every hexadecimal digit and hyphen


def _stands(state: str, peer: str | None) -> ColumnElement[bool]:
    """Return the condition that a message is in a state at a recipient; of a final one, that its word was said there."""
    if (condition := _STANDS.get(state)) is not None:
        query = select(_AT.c.first).where(_AT.c.envelope == _M.envelope, condition)
        return (query if peer is None else query.where(_AT.c.recipient == peer)).exists()
    said: ColumnElement[bool] = _WORD.c.mask.op(">>")(_M.position).op("&")(1) == 1
    words = select(_WORD.c.n).where(_WORD.c.envelope == _M.envelope, _WORD.c.state == state, said)
    return (words if peer is None else words.where(_WORD.c.recipient == peer)).exists()


def _listed(connection: Connection, found: Sequence[Any]) -> list[Listed]:
    envelopes = sorted({row.envelope for row in found})
    deliveries: dict[int, list[Any]] = defaultdict(list)
    words: dict[tuple[int, str], list[Any]] = defaultdict(list)
    columns = (_D.envelope, _D.recipient, _D.open, _D.unaccepted, _D.behind)
    for one in connection.execute(select(*columns).where(_D.envelope.in_(envelopes)).order_by(_D.recipient)):
        deliveries[one.envelope].append(one)
    said = select(_S.envelope, _S.recipient, _S.state, _S.mask, _S.code).where(_S.envelope.in_(envelopes), _S.state.in_(FINAL))
    for one in connection.execute(said.order_by(_S.n)):
        words[one.envelope, one.recipient].append(one)
    return [_row(row, deliveries[row.envelope], words) for row in found]


def _row(row: Any, deliveries: Sequence[Any], words: dict[tuple[int, str], list[Any]]) -> Listed:
    standing = [_standing(row, one, words.get((one.envelope, one.recipient), ())) for one in deliveries]
    return Listed(
        id=row.id,
        key=_key(row),
        at=row.created_at,
        lane=row.lane,
        peers=tuple(one.recipient for one in deliveries),
        states=dict(Counter(state for state, _ in standing)),
        code=next((code for _, code in standing if code is not None), None),
        purged=row.purged_at is not None,
        found=row.found,
    )


def _standing(row: Any, delivery: Any, words: Sequence[Any]) -> tuple[str, str | None]:
    """Return where a message stands at a recipient, and why if it was refused or ended: the first final word, else what waits."""
    mine = bit(row.position)
    if not unsigned(delivery.open) & mine:
        final = next((one for one in words if unsigned(one.mask) & mine), None)
        return ("delivered", None) if final is None else (final.state, final.code)
    if not unsigned(delivery.unaccepted) & mine:
        return "accepted", None
    if row.held_at is not None:
        return "held", None
    if delivery.behind:
        return ("dead" if delivery.behind & DEAD else "deferred"), None
    return ("queued" if row.sent_at is None else "sent"), None


def _key(row: Any) -> int:
    return int(row.envelope) * MAX_MESSAGES + int(row.position)
