"""Rows of what of this centre's own does not go on by itself: deferred, dead or held at a recipient, in pages.

A page begins behind a *place* and costs what it shows: rows are read along an index, the oldest of each peer and lane first, so
ten thousand dead letters make no page slower. What is deferred or dead is so at one recipient; a hold is the message's own, and
its recipients are those that have not ended it.

Errors are the caller's: the functions say what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, select, text, tuple_

from relay.store.common import bit, unsigned
from relay.store.history import DEAD, NEVER_SENT
from relay.store.tables import OUTBOX_DEAD, OUTBOX_DELIVERY, OUTBOX_ENVELOPE, OUTBOX_MESSAGE, OUTBOX_STEP

State = Literal["deferred", "dead", "held"]
Place = tuple[str | int, ...]
"""Where a page ends: of deferred and dead ones (recipient, lane, first, epoch, id), of held ones (envelope, id)."""

_D, _M, _E, _S = OUTBOX_DELIVERY.c, OUTBOX_MESSAGE.c, OUTBOX_ENVELOPE.c, OUTBOX_STEP.c
# The conditions stand as they do in the indexes: SQLite would not see that a bound value fits them.
_IS_BEHIND = text("outbox_delivery.behind <> 0")
_IS_DEAD = text(f"outbox_delivery.{OUTBOX_DEAD}")
_IS_HELD = text("outbox_message.held_at IS NOT NULL")
_IS_OPEN = text("outbox_delivery.open <> 0")
_OPEN_HERE: ColumnElement[bool] = _D.open.op(">>")(_M.position).op("&")(1) == 1
_ALONG = (_D.recipient, _D.lane, _D.first, _D.epoch, _M.id)
_WHERE_FROM: dict[str, tuple[Any, ...]] = {
    "deferred": (_IS_BEHIND, _D.behind.op("&")(DEAD) == 0, _M.held_at.is_(None)),
    "dead": (_IS_DEAD,),
}


@dataclass(frozen=True, slots=True)
class Stuck:
    """A message of this centre that waits at recipients, since when (milliseconds) and under which code, if one is known.

    ``never_sent`` says that it was left out of the fan-out; else it was sent and is to go again.
    """

    id: str
    state: State | Literal["open", "over"]
    peers: tuple[str, ...]
    lane: str
    since: int
    submitted_at: int
    code: str | None
    never_sent: bool
    place: Place


def listed(connection: Connection, state: State, limit: int, after: Place = (), peer: str = "", code: str = "") -> list[Stuck]:
    """Return what is in a state, behind a place; only what waits at a peer, or is dead under a code, when these are given."""
    if state == "held":
        return [] if code else _held(connection, limit, after, peer)
    if code and state == "deferred":  # a refusal of the broker is not kept
        return []
    query = _at_recipients(state).order_by(*_ALONG).limit(limit)
    if after:
        query = query.where(tuple_(*_ALONG) > tuple_(*after))
    if peer:
        query = query.where(_D.recipient == peer)
    if code:
        died = (_S.envelope == _D.envelope, _S.recipient == _D.recipient, _S.state == "dead", _S.code == code)
        query = query.where(select(_S.n).where(*died).exists())
    return _complete(connection, state, connection.execute(query).all())


def of_message(connection: Connection, message: str) -> list[Stuck]:
    """Return where one message is stuck, by recipient; where it is held, that alone; of one that is not, that it is open or over.

    Nothing of a message that this centre did not submit.
    """
    row = connection.execute(_messages().where(_M.id == message)).one_or_none()
    if row is None:
        return []
    if row.held_at is not None and (held := _with_peers(connection, [row])):
        return held
    both: tuple[State, ...] = ("dead", "deferred")
    rows = {state: connection.execute(_at_recipients(state).where(_M.id == message).order_by(*_ALONG)).all() for state in both}
    found = [one for state in both for one in _complete(connection, state, rows[state])]
    return found or [_on_its_way(connection, row)]


def _on_its_way(connection: Connection, row: Any) -> Stuck:
    about = (_D.envelope == row.envelope, _IS_OPEN)
    rows = connection.execute(select(_D.recipient, _D.open).where(*about)).all()
    peers = tuple(sorted(one.recipient for one in rows if unsigned(one.open) & bit(row.position)))
    since = row.sent_at or row.created_at
    return Stuck(row.id, "open" if peers else "over", peers, row.lane, since, row.created_at, None, row.sent_at is None, ())


def _at_recipients(state: State) -> Select[Any]:
    columns = (_M.id, _M.position, _D.envelope, _D.recipient, _D.lane, _D.first, _D.epoch, _D.behind, _E.created_at, _E.sent_at)
    joined = select(*columns).join(OUTBOX_MESSAGE, _M.envelope == _D.envelope).join(OUTBOX_ENVELOPE, _E.n == _D.envelope)
    return joined.where(*_WHERE_FROM[state], _OPEN_HERE)


def _complete(connection: Connection, state: State, rows: Sequence[Any]) -> list[Stuck]:
    """Add since when each waits, and why, from the steps of the envelopes on this page."""
    steps: dict[tuple[int, str], list[Any]] = {}
    about = (_S.envelope.in_({row.envelope for row in rows}), _S.recipient.in_({row.recipient for row in rows}))
    for step in connection.execute(select(OUTBOX_STEP).where(*about).order_by(_S.n)) if rows else ():
        steps.setdefault((step.envelope, step.recipient), []).append(step)
    return [_of(state, row, steps.get((row.envelope, row.recipient), [])) for row in rows]


def _of(state: State, row: Any, steps: Sequence[Any]) -> Stuck:
    mine = [step for step in steps if unsigned(step.mask) & bit(row.position)]
    never_sent = bool(row.behind & NEVER_SENT)
    times = [row.created_at, *(step.at for step in mine if step.state != "dead"), *([] if never_sent else [row.sent_at or 0])]
    died = [step for step in mine if step.state == "dead"] if state == "dead" else []
    return Stuck(
        id=row.id,
        state=state,
        peers=(row.recipient,),
        lane=row.lane,
        since=died[-1].at if died else max(times),
        submitted_at=row.created_at,
        code=died[-1].code if died else None,
        never_sent=never_sent,
        place=(row.recipient, row.lane, row.first, row.epoch, row.id),
    )


def _held(connection: Connection, limit: int, after: Place, peer: str) -> list[Stuck]:
    open_at = (_D.envelope == _M.envelope, _IS_OPEN, _OPEN_HERE, *((_D.recipient == peer,) if peer else ()))
    waits = select(_D.first).where(*open_at).exists()
    query = _messages().where(_IS_HELD, waits).order_by(_M.envelope, _M.id).limit(limit)
    if after:
        query = query.where(tuple_(_M.envelope, _M.id) > tuple_(*after))
    return _with_peers(connection, connection.execute(query).all())


def _messages() -> Select[Any]:
    columns = (_M.id, _M.position, _M.envelope, _M.held_at, _E.lane, _E.created_at, _E.sent_at)
    return select(*columns).join(OUTBOX_ENVELOPE, _E.n == _M.envelope)


def _with_peers(connection: Connection, rows: Sequence[Any]) -> list[Stuck]:
    """Return held messages with the recipients that have not ended them; those of none are over."""
    peers: dict[int, list[Any]] = {}
    about = (_D.envelope.in_({row.envelope for row in rows}), _IS_OPEN)
    for one in connection.execute(select(_D.envelope, _D.recipient, _D.open).where(*about)) if rows else ():
        peers.setdefault(one.envelope, []).append(one)
    found = []
    for row in rows:
        waiting = sorted(one.recipient for one in peers.get(row.envelope, []) if unsigned(one.open) & bit(row.position))
        place = (row.envelope, row.id)
        peers_of = tuple(waiting)
        found += [Stuck(row.id, "held", peers_of, row.lane, row.held_at, row.created_at, None, row.sent_at is None, place)]
    return [one for one in found if one.peers]
