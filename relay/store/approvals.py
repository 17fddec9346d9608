"""Rows of what waits for a second person. Errors are the caller's: the functions say what is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from sqlalchemy import Connection, Row, insert, select, update

from relay.store.tables import APPROVAL

State = Literal["pending", "approved", "done", "failed", "refused"]

_A = APPROVAL.c


@dataclass(frozen=True, slots=True)
class Approval:
    """An act that one person asked for; times in milliseconds, ``decided_*`` None while nobody decided."""

    id: str
    action: str
    subject: str
    reason: str
    asked_by: str
    person: str
    asked_at: int
    expires_at: int
    state: State
    decided_by: str | None = None
    decided_at: int | None = None
    decided_why: str | None = None


def add(connection: Connection, approval: Approval) -> None:
    """Add what was asked for."""
    row = {name: getattr(approval, name) for name in APPROVAL.c.keys()}  # noqa: SIM118 - a collection of columns, no dict
    connection.execute(insert(APPROVAL), [row])


def find(connection: Connection, id_: str) -> Approval | None:
    """Return an approval, or None."""
    row = connection.execute(select(APPROVAL).where(_A.id == id_)).one_or_none()
    return None if row is None else _of(row)


def pending(connection: Connection, action: str, subject: str, now: int) -> Approval | None:
    """Return what waits for a second person for the same act, or None."""
    same = (_A.action == action, _A.subject == subject, _A.state == "pending", _A.expires_at > now)
    row = connection.execute(select(APPROVAL).where(*same).limit(1)).first()
    return None if row is None else _of(row)


def listed(connection: Connection, now: int, limit: int, *, everything: bool) -> list[Approval]:
    """Return what waits for a second person, or everything that was asked for, the newest first."""
    query = select(APPROVAL).order_by(_A.asked_at.desc(), _A.id).limit(limit)
    if not everything:
        query = query.where((_A.state == "approved") | ((_A.state == "pending") & (_A.expires_at > now)))
    return [_of(row) for row in connection.execute(query)]


def decide(connection: Connection, id_: str, state: State, by: str, at: int, why: str) -> None:
    """Note what a second person decided."""
    values = {"state": state, "decided_by": by, "decided_at": at, "decided_why": why}
    connection.execute(update(APPROVAL).where(_A.id == id_).values(values))


def end(connection: Connection, id_: str, state: State) -> None:
    """Note what became of an approved act."""
    connection.execute(update(APPROVAL).where(_A.id == id_).values(state=state))


def _of(row: Row[tuple[object, ...]]) -> Approval:
    return Approval(**cast("dict[str, object]", row._asdict()))  # type: ignore[arg-type]
