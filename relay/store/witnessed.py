"""Rows of what this centre holds of the logs of peers: checkpoints that it countersigned, ones that it heard of, and evidence.

A checkpoint is *proved* when its origin gave it here and showed that it continues what was held before; one that a third centre
passed on is *heard*, and its origin is asked to prove it. Of proved ones the newest hundred of each log are kept, of heard ones
the newest few. Evidence that a peer has two histories is kept for good: one entry for each of its epochs and each kind of fault.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from relay.store.common import upsert
from relay.store.tables import EVIDENCE, WITNESSED
from relay.witnessed import MOST_PROOFS, MOST_SEEN, Checkpoint, Note, Proof, Read

MOST_PROVED = 100
MOST_HEARD = MOST_PROOFS - 1


@dataclass(frozen=True, slots=True)
class Held:
    """A checkpoint of a peer: as it was signed, whether it is proved, from whom it came, and when, in milliseconds."""

    note: Note
    said: Checkpoint
    proved: bool
    source: str
    at: int

    @property
    def root(self) -> bytes:
        """The root that it states."""
        return bytes.fromhex(self.said.root)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What shows that a peer has two histories: two checkpoints, from whom the second came, and a proof that does not hold."""

    origin: str
    code: str
    at: int
    held: Note
    given: Note
    source: str
    proof: Proof | None


def latest(connection: Connection, origin: str) -> Held | None:
    """Return the last proved checkpoint of a peer, of its highest epoch, or None."""
    of = WITNESSED.c
    query = select(WITNESSED).where(of.origin == origin, of.proved == 1).order_by(of.epoch.desc(), of.size.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return _held(row) if row is not None else None


def of_size(connection: Connection, origin: str, epoch: int, size: int) -> list[Held]:
    """Return what is held of a log at a size: more than one when its origin has two histories."""
    of = WITNESSED.c
    query = select(WITNESSED).where(of.origin == origin, of.epoch == epoch, of.size == size)
    return [_held(row) for row in connection.execute(query)]


def heard(connection: Connection, origin: str, epoch: int) -> list[Held]:
    """Return what a peer has to prove of an epoch: what others passed on, the newest first."""
    of = WITNESSED.c
    query = select(WITNESSED).where(of.origin == origin, of.epoch == epoch, of.proved == 0).order_by(of.size.desc())
    return [_held(row) for row in connection.execute(query.limit(MOST_HEARD))]


def prove(connection: Connection, read: Read, now: int) -> None:
    """Keep a checkpoint that is proved; let the oldest ones of its log go."""
    said, of = read.said, WITNESSED.c
    upsert(connection, WITNESSED, [_row(read, said.centre, now, proved=1)], ["proved"])
    newest = select(of.size).where(of.origin == said.centre, of.epoch == said.epoch, of.proved == 1).order_by(of.size.desc())
    last = connection.execute(newest.offset(MOST_PROVED).limit(1)).scalar()
    if last is not None:
        connection.execute(
            delete(WITNESSED).where(of.origin == said.centre, of.epoch == said.epoch, of.proved == 1, of.size <= last)
        )


def hear(connection: Connection, read: Read, source: str, now: int) -> None:
    """Keep a checkpoint that a third centre passed on; let older ones go that are not proved yet."""
    said, of = read.said, WITNESSED.c
    upsert(connection, WITNESSED, [_row(read, source, now, proved=0)], ["origin"])
    waiting = select(of.epoch, of.size).where(of.origin == said.centre, of.proved == 0)
    for row in connection.execute(waiting.order_by(of.epoch.desc(), of.size.desc()).offset(MOST_HEARD)).all():
        connection.execute(
            delete(WITNESSED).where(of.origin == said.centre, of.proved == 0, of.epoch == row.epoch, of.size == row.size)
        )


def newest(connection: Connection, without: Sequence[str]) -> list[Note]:
    """Return the last proved checkpoint of each peer but these, those that came last first: a bounded number."""
    of = WITNESSED.c
    last = (
        select(of.origin, func.max(of.epoch).label("epoch")).where(of.proved == 1, of.origin.not_in(without)).group_by(of.origin)
    ).subquery()
    sizes = (
        select(of.origin, of.epoch, func.max(of.size).label("size"))
        .join(last, (of.origin == last.c.origin) & (of.epoch == last.c.epoch))
        .where(of.proved == 1)
        .group_by(of.origin, of.epoch)
    ).subquery()
    query = (
        select(WITNESSED)
        .join(sizes, (of.origin == sizes.c.origin) & (of.epoch == sizes.c.epoch) & (of.size == sizes.c.size))
        .where(of.proved == 1)
        .order_by(of.at.desc())
        .limit(MOST_SEEN)
    )
    return [_note(row) for row in connection.execute(query)]


def add_evidence(connection: Connection, found: Evidence) -> bool:
    """Keep evidence for good; return False when the same fault of the same epoch is known."""
    epoch = Checkpoint.model_validate_json(found.given.statement).epoch
    for known in evidence(connection, found.origin):
        if known.code == found.code and Checkpoint.model_validate_json(known.given.statement).epoch == epoch:
            return False
    shown = {
        "held": found.held.model_dump(),
        "given": found.given.model_dump(),
        "source": found.source,
        "proof": found.proof.model_dump() if found.proof else None,
    }
    row = {"origin": found.origin, "code": found.code, "at": found.at, "shown": json.dumps(shown, separators=(",", ":"))}
    connection.execute(insert(EVIDENCE), [row])
    return True


def evidence(connection: Connection, origin: str) -> list[Evidence]:
    """Return what shows that a peer has two histories, in the order in which it was found."""
    query = select(EVIDENCE).where(EVIDENCE.c.origin == origin).order_by(EVIDENCE.c.n)
    return [_evidence(row) for row in connection.execute(query)]


def all_evidence(connection: Connection, limit: int = 100) -> list[Evidence]:
    """Return what shows of any peer that it has two histories, what was found last first."""
    return [_evidence(row) for row in connection.execute(select(EVIDENCE).order_by(EVIDENCE.c.n.desc()).limit(limit))]


def _row(read: Read, source: str, now: int, *, proved: int) -> dict[str, Any]:
    said = read.said
    where = {"origin": said.centre, "epoch": said.epoch, "size": said.size, "root": said.root}
    return {**where, "proved": proved, "at": now, "source": source, **read.note.model_dump()}


def _held(row: Row[Any]) -> Held:
    note = _note(row)
    return Held(note, Checkpoint.model_validate_json(note.statement), bool(row.proved), row.source, row.at)


def _note(row: Row[Any]) -> Note:
    return Note(statement=row.statement, key=row.key, signature=row.signature)


def _evidence(row: Row[Any]) -> Evidence:
    shown = json.loads(row.shown)
    proof = Proof(size=shown["proof"]["size"], hashes=tuple(shown["proof"]["hashes"])) if shown["proof"] else None
    return Evidence(row.origin, row.code, row.at, Note(**shown["held"]), Note(**shown["given"]), shown["source"], proof)
