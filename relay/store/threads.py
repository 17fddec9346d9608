"""Reads of a message's thread at its origin: its first version, what updated or took it back, who held which of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, join, select

from relay.store import kept
from relay.store.common import Resting, bit, resting, unsigned
from relay.store.tables import (
    INBOX_ENVELOPE,
    INBOX_MESSAGE,
    OUTBOX_DELIVERY,
    OUTBOX_MESSAGE,
    OUTBOX_SEALED,
    OUTBOX_STEP,
    REFERENCE,
    TOMBSTONE,
)

WITHDRAWS = "withdraws"
"""How the store knows a cancel that the node itself sent to those whom an update left out; on the wire it cancels."""

RELEASED = "released"
"""How the store knows whose thread a message of this centre passes on: beside ``releases``, which names the version."""


@dataclass(frozen=True, slots=True)
class Line:
    """What was said of a message that this centre sent, and to whom.

    ``versions`` are ids, the first and its updates in order; ``cancels`` what took all of it back; ``withdrawals`` what took it
    from some. ``sent_to`` says who was sent each of these.
    """

    first: str
    versions: tuple[str, ...]
    cancels: tuple[str, ...]
    withdrawals: tuple[str, ...]
    sent_to: dict[str, frozenset[str]]

    @property
    def holders(self) -> frozenset[str]:
        """Every centre that was ever sent any version."""
        return frozenset(centre for version in self.versions for centre in self.sent_to[version])

    @property
    def newest(self) -> str:
        """The greatest id of the thread."""
        return max((*self.versions, *self.cancels, *self.withdrawals))

    @property
    def recalls(self) -> tuple[str, ...]:
        """What takes older versions back, by id."""
        return tuple(sorted((*self.versions[1:], *self.cancels, *self.withdrawals)))


@dataclass(frozen=True, slots=True)
class Thread(Line):
    """A message that this centre sent, with everything that it said about it since.

    Where the first version rests: ``resting`` at ``position``.
    """

    resting: Resting
    position: int
    purged: bool


@dataclass(frozen=True, slots=True)
class Received:
    """A message that this centre received, at rest."""

    id: str
    origin: str
    state: str
    resting: Resting
    position: int
    purged: bool


@dataclass(frozen=True, slots=True)
class Recalled:
    """Where the recall of a message stands with one centre that was sent it.

    ``by`` is the update or cancel that the centre was sent last, None when it could not be sent one; ``purged_at`` is the
    centre's word, in milliseconds, that nothing older is left with it.
    """

    centre: str
    by: str | None
    purged_at: int | None


def recall_of(thread: Line, purged: dict[str, dict[str, int]]) -> tuple[Recalled, ...]:
    """Return where the recall of a thread stands with each centre that held something taken back; empty when nothing was.

    ``purged`` is what :func:`purged_by` says of the thread's updates, cancels and withdrawals.
    """
    recalls = thread.recalls
    found: list[Recalled] = []
    for centre in sorted(thread.holders):
        oldest = min(version for version in thread.versions if centre in thread.sent_to[version])
        if not recalls or recalls[-1] <= oldest:
            continue  # what it holds is the newest
        told = [one for one in recalls if one > oldest and centre in thread.sent_to[one]]
        by = told[-1] if told else None
        found.append(Recalled(centre, by, purged[by].get(centre) if by else None))
    return tuple(found)


def thread(connection: Connection, me: str, first: str) -> Thread | None:
    """Return the thread that begins with a message of this centre, or None when it sent no such message."""
    row = connection.execute(
        select(OUTBOX_MESSAGE.c.position, OUTBOX_MESSAGE.c.purged_at, OUTBOX_SEALED)
        .select_from(join(OUTBOX_MESSAGE, OUTBOX_SEALED, OUTBOX_SEALED.c.n == OUTBOX_MESSAGE.c.envelope))
        .where(OUTBOX_MESSAGE.c.id == first)
    ).one_or_none()
    if row is None:
        return None
    said = line(connection, me, first)
    return Thread(
        first,
        said.versions,
        said.cancels,
        said.withdrawals,
        said.sent_to,
        resting(row),
        row.position,
        row.purged_at is not None,
    )


def line(connection: Connection, me: str, first: str) -> Line:
    """Return what a centre said of one of its messages, and to whom; the content of none is read."""
    said = kept.referring(connection, first, me, ("updates", "cancels", WITHDRAWS))
    by = {relation: tuple(one for found, one in said if found == relation) for relation in ("updates", "cancels", WITHDRAWS)}
    sent_to = _sent_to(connection, [first, *(one for _, one in said)])
    return Line(first, (first, *by["updates"]), by["cancels"], by[WITHDRAWS], sent_to)


def first_version(connection: Connection, me: str, message: str) -> str:
    """Return the first version of the thread that a message of this centre belongs to: itself, or what it updates or recalls."""
    query = select(REFERENCE.c.target).where(
        REFERENCE.c.origin == me, REFERENCE.c.id == message, REFERENCE.c.relation.in_(("updates", "cancels", WITHDRAWS))
    )
    target = connection.execute(query).scalar()
    return message if target is None else str(target)


def purged_by(connection: Connection, recalls: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return per recall which centres said, and when, that nothing older is left with them."""
    rows = connection.execute(
        select(OUTBOX_MESSAGE.c.id, OUTBOX_MESSAGE.c.position, OUTBOX_STEP.c.recipient, OUTBOX_STEP.c.mask, OUTBOX_STEP.c.at)
        .join(OUTBOX_STEP, OUTBOX_STEP.c.envelope == OUTBOX_MESSAGE.c.envelope)
        .where(OUTBOX_MESSAGE.c.id.in_(recalls), OUTBOX_STEP.c.state == "purged")
    )
    found: dict[str, dict[str, int]] = {one: {} for one in recalls}
    for row in rows:
        if unsigned(row.mask) & bit(row.position):
            found[row.id][row.recipient] = row.at
    return found


def received(connection: Connection, message: str) -> Received | None:
    """Return a message that this centre received, or None."""
    row = connection.execute(
        select(INBOX_MESSAGE, INBOX_ENVELOPE.c.header, INBOX_ENVELOPE.c.body, INBOX_ENVELOPE.c.content_key)
        .join(INBOX_ENVELOPE, INBOX_ENVELOPE.c.n == INBOX_MESSAGE.c.envelope)
        .where(INBOX_MESSAGE.c.id == message)
    ).first()
    if row is None:
        return None
    return Received(row.id, row.origin, row.state, resting(row), row.position, row.purged_at is not None)


def questions(connection: Connection, me: str, message: str) -> list[str]:
    """Return the messages of this centre that refer to a received one as to be released: questions and releases."""
    return [one for _, one in kept.referring(connection, message, me, ("releases",))]


def answers(connection: Connection, question: str, origin: str) -> list[str]:
    """Return what a peer answered to a request of this centre."""
    return [one for _, one in kept.referring(connection, question, origin, ("answers",))]


def recalled_releases(connection: Connection, me: str) -> list[str]:
    """Return what this centre released of others' messages that were taken back since, and has not itself recalled yet."""
    passed_on = (
        select(REFERENCE.c.id)
        .where(REFERENCE.c.origin == me, REFERENCE.c.relation == "cancels", REFERENCE.c.target == _FIRST.c.id)
        .exists()
    )
    buried = select(TOMBSTONE.c.id).where(TOMBSTONE.c.target == _FIRST.c.target, TOMBSTONE.c.id > _VERSION.c.target).exists()
    query = (
        select(_FIRST.c.id)
        .join(_VERSION, (_VERSION.c.id == _FIRST.c.id) & (_VERSION.c.origin == me) & (_VERSION.c.relation == "releases"))
        .where(_FIRST.c.origin == me, _FIRST.c.relation == RELEASED, buried, ~passed_on)
    )
    return list(connection.execute(query.distinct().order_by(_FIRST.c.id)).scalars())


_FIRST = REFERENCE.alias("released_first")
_VERSION = REFERENCE.alias("released_version")


def _sent_to(connection: Connection, ids: Sequence[str]) -> dict[str, frozenset[str]]:
    rows: Sequence[Any] = connection.execute(
        select(OUTBOX_MESSAGE.c.id, OUTBOX_DELIVERY.c.recipient)
        .join(OUTBOX_DELIVERY, OUTBOX_DELIVERY.c.envelope == OUTBOX_MESSAGE.c.envelope)
        .where(OUTBOX_MESSAGE.c.id.in_(ids))
    ).all()
    return {one: frozenset(row.recipient for row in rows if row.id == one) for one in ids}
