"""Rows of this centre's checkpoints, and of what witnesses said of them; and of a damage of its own log.

:func:`covering` is what a proof needs: the checkpoints that cover a leaf, with their countersignatures. Checkpoints that are
older than a week are thinned to the last of each hour: a later one covers a leaf as well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from relay.store.common import upsert
from relay.store.tables import CHECKPOINT, COUNTERSIGNATURE, META
from relay.witnessed import Checkpoint, Countersignature, Note

KEPT_WHOLE_MS = 7 * 86_400_000
HOUR_MS = 3_600_000
_DAMAGE = "audit-damage"


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint of this centre, as it was signed, with the countersignatures by witness."""

    epoch: int
    size: int
    time: int
    note: Note
    countersignatures: dict[str, Note]

    @property
    def root(self) -> bytes:
        """The root that it states."""
        return bytes.fromhex(Checkpoint.model_validate_json(self.note.statement).root)


@dataclass(frozen=True, slots=True)
class Damage:
    """Why the log of an epoch can't be trusted any more, since when (milliseconds), and a checkpoint that showed it, if any."""

    epoch: int
    at: int
    detail: str
    shown: Note | None = None


def add(connection: Connection, said: Checkpoint, note: Note) -> None:
    """Keep a checkpoint that this centre just signed."""
    row = {"epoch": said.epoch, "size": said.size, "time": said.time, **note.model_dump()}
    connection.execute(insert(CHECKPOINT), [row])


def latest(connection: Connection, epoch: int) -> Kept | None:
    """Return the last checkpoint of an epoch, or None."""
    of = CHECKPOINT.c
    row = connection.execute(select(CHECKPOINT).where(of.epoch == epoch).order_by(of.size.desc()).limit(1)).one_or_none()
    return _kept(connection, [row])[0] if row is not None else None


def of_size(connection: Connection, epoch: int, size: int) -> Kept | None:
    """Return the checkpoint of this size, or None."""
    of = CHECKPOINT.c
    row = connection.execute(select(CHECKPOINT).where(of.epoch == epoch, of.size == size)).one_or_none()
    return _kept(connection, [row])[0] if row is not None else None


def covering(connection: Connection, epoch: int, position: int, limit: int = 3) -> list[Kept]:
    """Return checkpoints that cover the leaf at a position: first the earliest that was countersigned, then the latest ones.

    Empty when the leaf is younger than the last checkpoint.
    """
    of, by = CHECKPOINT.c, COUNTERSIGNATURE.c
    covers = (of.epoch == epoch, of.size > position)
    signed = select(by.size).where(by.epoch == epoch, by.size == of.size).exists()
    first = connection.execute(select(CHECKPOINT).where(*covers, signed).order_by(of.size).limit(1)).all()
    last = connection.execute(select(CHECKPOINT).where(*covers).order_by(of.size.desc()).limit(limit)).all()
    return _kept(connection, list({row.size: row for row in (*first, *last)}.values())[:limit])


def between(connection: Connection, epoch: int, above: int, upto: int) -> list[Kept]:
    """Return the checkpoints of an epoch with more than ``above`` and at most ``upto`` leaves, in order."""
    of = CHECKPOINT.c
    rows = connection.execute(select(CHECKPOINT).where(of.epoch == epoch, of.size > above, of.size <= upto).order_by(of.size))
    return _kept(connection, rows.all())


def countersign(connection: Connection, kept: Kept, said: Countersignature, note: Note, now: int) -> bool:
    """Keep a witness's word about a checkpoint; return whether it is new."""
    of = COUNTERSIGNATURE.c
    where = (of.epoch == kept.epoch, of.size == kept.size, of.witness == said.witness)
    if connection.execute(select(of.size).where(*where)).one_or_none() is not None:
        return False
    row = {"epoch": kept.epoch, "size": kept.size, "witness": said.witness, "at": now, **note.model_dump()}
    connection.execute(insert(COUNTERSIGNATURE), [row])
    return True


def countersigned(connection: Connection, epoch: int) -> dict[str, int]:
    """Return the largest size that each witness countersigned in an epoch."""
    of = COUNTERSIGNATURE.c
    query = select(of.witness, func.max(of.size).label("size")).where(of.epoch == epoch).group_by(of.witness)
    return {row.witness: row.size for row in connection.execute(query)}


def waiting_since(connection: Connection, epoch: int, countersigned: int) -> int | None:
    """Return when the oldest checkpoint was made that says more than was countersigned, in milliseconds; None: there is none."""
    of = CHECKPOINT.c
    return connection.execute(select(func.min(of.time)).where(of.epoch == epoch, of.size > countersigned)).scalar()


def last_of(connection: Connection, epoch: int, witness: str) -> tuple[int, int] | None:
    """Return the largest size that a witness countersigned in an epoch and when its word came (milliseconds), or None."""
    of = COUNTERSIGNATURE.c
    query = select(of.size, of.at).where(of.epoch == epoch, of.witness == witness).order_by(of.size.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else (row.size, row.at)


def named(connection: Connection, epoch: int, digest: str, limit: int = 100) -> Kept | None:
    """Return that one of the last checkpoints of an epoch which a countersignature names by its digest, or None."""
    of = CHECKPOINT.c
    for row in connection.execute(select(CHECKPOINT).where(of.epoch == epoch).order_by(of.size.desc()).limit(limit)):
        if _note(row).digest == digest:
            return _kept(connection, [row])[0]
    return None


def epochs(connection: Connection) -> list[int]:
    """Return the epochs that have a checkpoint, in order."""
    return list(connection.execute(select(CHECKPOINT.c.epoch).distinct().order_by(CHECKPOINT.c.epoch)).scalars())


def thin(connection: Connection, epoch: int, now: int) -> int:
    """Drop checkpoints that are more than a week old, except the last of each hour; return how many."""
    of = CHECKPOINT.c
    old = select(func.max(of.size)).where(of.epoch == epoch, of.time < now - KEPT_WHOLE_MS).group_by(of.time // HOUR_MS)
    gone = (of.epoch == epoch, of.time < now - KEPT_WHOLE_MS, of.size.not_in(old.scalar_subquery()))
    by = COUNTERSIGNATURE.c
    connection.execute(delete(COUNTERSIGNATURE).where(by.epoch == epoch, by.size.in_(select(of.size).where(*gone))))
    return connection.execute(delete(CHECKPOINT).where(*gone)).rowcount


def last_words(connection: Connection, epoch: int) -> str:
    """Return what is to be said of an epoch that ends: the last checkpoint that peers hold, and why its log can't be trusted."""
    found, words = damage(connection), list[str]()
    of, by = CHECKPOINT.c, COUNTERSIGNATURE.c
    signed = select(by.size).where(by.epoch == epoch, by.size == of.size).exists()
    rows = connection.execute(select(CHECKPOINT).where(of.epoch == epoch, signed).order_by(of.size.desc()).limit(1)).all()
    held = [(Checkpoint.model_validate_json(one.note.statement), list(one.countersignatures)) for one in _kept(connection, rows)]
    if found is not None and found.epoch == epoch and found.shown is not None:
        held.append((Checkpoint.model_validate_json(found.shown.statement), ["a peer"]))
    if held:
        said, witnesses = max(held, key=lambda one: one[0].size)
        words.append(f"checkpoint of {said.size} entries, root {said.root}, held by {', '.join(witnesses)}")
    if found is not None and found.epoch == epoch:
        words.append(f"audit-damaged: {found.detail}")
    return "; ".join(words)


def damage(connection: Connection) -> Damage | None:
    """Return why the log of an epoch can't be trusted any more, or None."""
    value = connection.execute(select(META.c.value).where(META.c.name == _DAMAGE)).scalar()
    if value is None:
        return None
    epoch, at, detail, shown = json.loads(value)
    return Damage(epoch, at, detail, Note(**shown) if shown else None)


def set_damage(connection: Connection, found: Damage) -> bool:
    """Note that the log of an epoch can't be trusted any more; return False when that was known of this epoch."""
    if (known := damage(connection)) is not None and known.epoch == found.epoch:
        return False
    value = [found.epoch, found.at, found.detail, found.shown.model_dump() if found.shown else None]
    upsert(connection, META, [{"name": _DAMAGE, "value": json.dumps(value, separators=(",", ":"))}], ["value"])
    return True


def _kept(connection: Connection, rows: Sequence[Row[Any]]) -> list[Kept]:
    return [Kept(row.epoch, row.size, row.time, _note(row), _said(connection, row.epoch, row.size)) for row in rows]


def _said(connection: Connection, epoch: int, size: int) -> dict[str, Note]:
    of = COUNTERSIGNATURE.c
    query = select(COUNTERSIGNATURE).where(of.epoch == epoch, of.size == size).order_by(of.witness)
    return {row.witness: _note(row) for row in connection.execute(query)}


def _note(row: Row[Any]) -> Note:
    return Note(statement=row.statement, key=row.key, signature=row.signature)
