"""Rows of what is known of the peers: what their heartbeats said, what is held of each, and the alarms raised about them.

An *echo* says, per lane, the highest sequence that one centre holds of another, in the highest epoch that it knows of it. What a
peer signed a receipt for and echoes no more is *lost* there: its store was restored or made anew. All of it runs once per
heartbeat and peer, never per envelope.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, false, func, not_, or_, select

from relay.receipts import TERMINAL, Echo
from relay.store.common import upsert
from relay.store.tables import (
    INBOX_CLOSED,
    INBOX_ENVELOPE,
    META,
    OUTBOX_DELIVERY,
    OUTBOX_ENVELOPE,
    OUTBOX_STEP,
    PEER,
    SEQUENCE,
)

_ALARM = "alarm/"
_SIGNED = frozenset({"accepted", *TERMINAL})
MOST_HOLES = 256
MOST_LOST = 1_000
SEARCHED = 10_000


@dataclass(frozen=True, slots=True)
class Peer:
    """What a peer's last heartbeat said; ``heard_at`` and ``offset`` (its clock less ours) in milliseconds."""

    centre: str
    heard_at: int
    offset: int
    epoch: int
    directory: int
    digest: str
    release: str
    echo: tuple[Echo, ...]


@dataclass(frozen=True, slots=True)
class Alarm:
    """The last thing that was wrong with a peer's store, and when it was noticed here, in milliseconds."""

    code: str
    at: int


def hear(connection: Connection, peer: Peer) -> None:
    """Keep what a peer's heartbeat said, in place of the one before."""
    echo = json.dumps([[one.epoch, one.lane, one.highest] for one in peer.echo], separators=(",", ":"))
    row = {
        "centre": peer.centre,
        "heard_at": peer.heard_at,
        "offset": peer.offset,
        "epoch": peer.epoch,
        "directory": peer.directory,
        "digest": peer.digest,
        "release": peer.release,
        "echo": echo,
    }
    upsert(connection, PEER, [row], [name for name in row if name != "centre"])


def known(connection: Connection) -> dict[str, Peer]:
    """Return what is known of every peer that was ever heard, by its id."""
    return {
        row.centre: Peer(
            row.centre,
            row.heard_at,
            row.offset,
            row.epoch,
            row.directory,
            row.digest,
            row.release,
            tuple(Echo(epoch=epoch, lane=lane, highest=highest) for epoch, lane, highest in json.loads(row.echo)),
        )
        for row in connection.execute(select(PEER))
    }


def epoch_of(connection: Connection, peer: str) -> int:
    """Return the epoch that a peer's last heartbeat named; 0 when it was never heard."""
    return connection.execute(select(PEER.c.epoch).where(PEER.c.centre == peer)).scalar() or 0


def last_time(connection: Connection, peer: str) -> int:
    """Return the time that a peer's last heartbeat named, by its own clock; 0 when it was never heard."""
    row = connection.execute(select(PEER.c.heard_at, PEER.c.offset).where(PEER.c.centre == peer)).first()
    return 0 if row is None else row.heard_at + row.offset


def last_heard(connection: Connection) -> int:
    """Return when any peer was last heard, by the clock of this machine as it was then; 0 when none ever was."""
    return connection.execute(select(func.max(PEER.c.heard_at))).scalar() or 0


def offset(connection: Connection, peer: str) -> int:
    """Return by how many milliseconds a peer's clock was ahead at its last heartbeat, the way through the broker taken off."""
    return connection.execute(select(PEER.c.offset).where(PEER.c.centre == peer)).scalar() or 0


def set_epoch(connection: Connection, peer: str, epoch: int) -> None:
    """Keep the epoch that a peer said it begins, whether or not it was heard before."""
    row = {"centre": peer, "heard_at": 0, "offset": 0, "epoch": epoch, "directory": 0, "digest": "", "release": "", "echo": "[]"}
    upsert(connection, PEER, [row], ["epoch"])


def echo(connection: Connection, origin: str) -> tuple[Echo, ...]:
    """Return what is held of an origin: the highest sequence of each lane, in the highest epoch."""
    epoch = connection.execute(select(func.max(INBOX_CLOSED.c.epoch)).where(INBOX_CLOSED.c.origin == origin)).scalar()
    if epoch is None:
        return ()
    rows = connection.execute(
        select(INBOX_CLOSED.c.lane, func.max(INBOX_CLOSED.c.last).label("highest"))
        .where(INBOX_CLOSED.c.origin == origin, INBOX_CLOSED.c.epoch == epoch)
        .group_by(INBOX_CLOSED.c.lane)
        .order_by(INBOX_CLOSED.c.lane)
    )
    return tuple(Echo(epoch=epoch, lane=row.lane, highest=row.highest) for row in rows)


def holes(connection: Connection, origin: str, held: Iterable[Echo]) -> dict[tuple[int, str], tuple[tuple[int, int], ...]]:
    """Return, per epoch and lane that holds something of an origin, what is missing below its highest sequence."""
    found: dict[tuple[int, str], tuple[tuple[int, int], ...]] = {}
    for one in held:
        rows = connection.execute(
            select(INBOX_CLOSED.c.first, INBOX_CLOSED.c.last)
            .where(INBOX_CLOSED.c.origin == origin, INBOX_CLOSED.c.epoch == one.epoch, INBOX_CLOSED.c.lane == one.lane)
            .order_by(INBOX_CLOSED.c.first)
            .limit(MOST_HOLES)
        ).all()
        before = [0, *(row.last for row in rows)]
        missing = [(last + 1, row.first - 1) for last, row in zip(before, rows, strict=False) if row.first > last + 1]
        if missing:
            found[one.epoch, one.lane] = tuple(missing)
    return found


def ahead(connection: Connection, peer: str, epoch: int, said: Iterable[Echo]) -> tuple[Echo, int] | None:
    """Return what a peer holds of this centre beyond all that this store knows to have sent, and the highest known; or None."""
    rows = connection.execute(select(SEQUENCE.c.lane, SEQUENCE.c.last).where(SEQUENCE.c.recipient == peer))
    sent = {row.lane: row.last for row in rows}
    for one in said:
        if one.epoch > epoch:
            return one, 0
        if one.epoch == epoch and one.highest > sent.get(one.lane, 0):
            return one, sent.get(one.lane, 0)
    return None


def evidence(connection: Connection, origin: str, asked: Echo) -> bytes | None:
    """Return the header of the envelope of an origin that holds the highest sequence of a lane, or None.

    It is looked for among the newest: what an older copy of a store does not know is new.
    """
    of = INBOX_ENVELOPE.c
    newest = (
        select(of.n, of.epoch, of.lane, of.first).where(of.origin == origin).order_by(of.id.desc()).limit(SEARCHED).subquery()
    )
    number = (
        select(newest.c.n)
        .where(newest.c.epoch == asked.epoch, newest.c.lane == asked.lane)
        .order_by(newest.c.first.desc())
        .limit(1)
    )
    header: bytes | None = connection.execute(select(of.header).where(of.n == number.scalar_subquery())).scalar()
    return header


def lost(connection: Connection, peer: str, said: Sequence[Echo], before: int, epoch: int, since: int) -> list[int]:
    """Return, most urgent first, envelopes of which a peer signed receipts and that its echo holds no more: a bounded number.

    Receipts count that the peer dated ``before`` this moment, by its own clock; in the present ``epoch`` of this centre only
    those that came after step ``since``: what was said of an envelope under its old sequences is no word about its new ones.
    """
    of = OUTBOX_DELIVERY.c
    signed = (
        select(OUTBOX_STEP.c.n)
        .where(
            OUTBOX_STEP.c.envelope == of.envelope,
            OUTBOX_STEP.c.recipient == peer,
            OUTBOX_STEP.c.state.in_(_SIGNED),
            OUTBOX_STEP.c.at < before,
            or_(OUTBOX_STEP.c.n > since, of.epoch < epoch),
            _speaks_beyond(said),
        )
        .exists()
    )
    rows = connection.execute(
        select(of.envelope)
        .join(OUTBOX_ENVELOPE, OUTBOX_ENVELOPE.c.n == of.envelope)
        .where(of.recipient == peer, *_beyond(said), signed)
        .order_by(OUTBOX_ENVELOPE.c.rank, of.envelope)
        .limit(MOST_LOST)
    )
    return list(dict.fromkeys(rows.scalars()))


def _beyond(said: Sequence[Echo]) -> list[ColumnElement[bool]]:
    """Return what is true of the deliveries that no part of an echo covers."""
    if not said:
        return []
    of, epoch = OUTBOX_DELIVERY.c, said[0].epoch
    lanes = [and_(of.lane == one.lane, of.last > one.highest) for one in said]
    return [or_(of.epoch > epoch, and_(of.epoch == epoch, or_(of.lane.not_in([one.lane for one in said]), *lanes)))]


def _speaks_beyond(said: Sequence[Echo]) -> ColumnElement[bool]:
    """Return what is true of the steps that speak of a sequence above the echo's: an envelope may have arrived in parts."""
    of, step = OUTBOX_DELIVERY.c, OUTBOX_STEP.c
    within = [
        and_(
            of.epoch == one.epoch,
            of.lane == one.lane,
            of.first <= one.highest,
            step.mask.op(">>")(one.highest - of.first + 1) == 0,
        )
        for one in said
    ]
    return not_(or_(false(), *within))


def raise_alarm(connection: Connection, peer: str, alarm: Alarm) -> None:
    """Keep what is wrong with a peer's store, for its operators here to see."""
    row = {"name": _ALARM + peer, "value": json.dumps([alarm.code, alarm.at])}
    upsert(connection, META, [row], ["value"])


def alarms(connection: Connection) -> dict[str, Alarm]:
    """Return the last alarm raised about each peer, by its id."""
    rows = connection.execute(select(META).where(META.c.name.startswith(_ALARM)))
    return {row.name.removeprefix(_ALARM): Alarm(*json.loads(row.value)) for row in rows}
