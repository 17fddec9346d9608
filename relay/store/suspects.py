"""Rows of messages that were taken under a key which the directory revoked since, and of how far each revocation was looked into.

A message is suspect when it came at or after the moment from which its key is revoked, or says that it was signed then. What an
envelope says of its time is its signer's word, and whoever stole the key may say what he likes: so the time of receipt decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select, update

from relay.envelope import read_core
from relay.store.common import upsert
from relay.store.tables import INBOX_ENVELOPE, INBOX_MESSAGE, REVOCATION, SUSPECT

SKEW_MS = 300_000
"""How far ahead of ours a signer's clock may have been: what came earlier than that was signed before the key was revoked."""

_E = INBOX_ENVELOPE.c
_PAGE = (
    select(_E.n, _E.received_at, _E.header)
    .where(_E.n > bindparam("after"), _E.origin == bindparam("of_origin"), _E.received_at >= bindparam("since"))
    .order_by(_E.n)
)


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revoked key of a centre, from when on, when that was noticed here, and the last envelope that was looked at."""

    key: str
    origin: str
    revoked_from: int
    noticed_at: int = 0
    looked_to: int = 0


@dataclass(frozen=True, slots=True)
class Suspect:
    """A message that was taken under a revoked key; times in milliseconds, ``signed_at`` by its signer's word."""

    id: str
    origin: str
    envelope: str
    signed_at: int
    received_at: int


@dataclass(frozen=True, slots=True)
class Found:
    """A page of what a revocation casts doubt on, with the commitments of the messages; ``last`` is the envelope it ends with."""

    suspects: tuple[Suspect, ...]
    commitments: tuple[str, ...]
    last: int
    complete: bool


def known(connection: Connection) -> dict[str, Revocation]:
    """Return the revocations that were noticed, by key."""
    rows = connection.execute(select(REVOCATION))
    return {row.key: Revocation(row.key, row.origin, row.revoked_from, row.noticed_at, row.looked_to) for row in rows}


def begin(connection: Connection, one: Revocation) -> None:
    """Note a revocation, or that it reaches further back than it did: everything is to be looked at."""
    row = {"key": one.key, "origin": one.origin, "revoked_from": one.revoked_from, "noticed_at": one.noticed_at, "looked_to": 0}
    upsert(connection, REVOCATION, [row], ["revoked_from", "noticed_at", "looked_to"])


def find(connection: Connection, one: Revocation, limit: int) -> Found:
    """Return what a revocation casts doubt on among the next envelopes of its origin."""
    given = {"after": one.looked_to, "of_origin": one.origin, "since": one.revoked_from - SKEW_MS}
    rows = connection.execute(_PAGE.limit(limit), given).all()
    suspects: list[Suspect] = []
    commitments: list[str] = []
    for row in rows:
        if one.key.encode() not in row.header:
            continue
        core = read_core(row.header)
        if core.key != one.key or max(core.time, row.received_at) < one.revoked_from:
            continue
        sent = {item.id: item.commitment for item in core.messages}
        for message in _here(connection, one.origin, row.n, list(sent)):
            suspects.append(Suspect(message, one.origin, core.id, core.time, row.received_at))
            commitments.append(sent[message])
    return Found(tuple(suspects), tuple(commitments), rows[-1].n if rows else one.looked_to, len(rows) < limit)


def note(connection: Connection, one: Revocation, found: Found) -> None:
    """Keep a page of suspects, and how far was looked."""
    rows = [
        {"key": one.key, "id": s.id, "origin": s.origin, "envelope": s.envelope}
        | {"signed_at": s.signed_at, "received_at": s.received_at}
        for s in found.suspects
    ]
    upsert(connection, SUSPECT, rows, ["received_at"])
    connection.execute(update(REVOCATION).where(REVOCATION.c.key == one.key).values(looked_to=found.last))


def listed(connection: Connection, key: str, after: str = "", limit: int = 1000) -> list[Suspect]:
    """Return the suspects of a key by id, those above ``after``."""
    rows = connection.execute(
        select(SUSPECT).where(SUSPECT.c.key == key, SUSPECT.c.id > after).order_by(SUSPECT.c.id).limit(limit)
    )
    return [Suspect(row.id, row.origin, row.envelope, row.signed_at, row.received_at) for row in rows]


def counts(connection: Connection) -> dict[str, int]:
    """Return how many suspects each revoked key has."""
    rows = connection.execute(select(SUSPECT.c.key, func.count().label("many")).group_by(SUSPECT.c.key))
    return {row.key: row.many for row in rows}


def _here(connection: Connection, origin: str, envelope: int, ids: Sequence[str]) -> list[str]:
    """Return which of an envelope's messages were taken with it."""
    of = INBOX_MESSAGE.c
    query = select(of.id).where(of.id.in_(list(ids)), of.origin == origin, of.envelope == envelope).order_by(of.position)
    return list(connection.execute(query).scalars())
