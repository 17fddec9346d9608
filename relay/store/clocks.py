"""Rows of the reply clocks: which request awaits whose answer, since when and until when.

A clock of a request that this centre sent (``asked`` 1) begins with the peer's signed word that it has the request; one of a
request that it received (``asked`` 0) begins at arrival, so both sides count from the same moment. States: ``open``, ``partial``,
``clarification``, ``delay`` (all still running), ``full``, ``refusal`` (answered).
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, update

from relay.keeping import HOUR_MS, Answer
from relay.store.tables import CLOCK

CLOSING = frozenset({"full", "refusal"})


def begin(connection: Connection, request: str, peers: Sequence[str], hours: int, started_at: int | None) -> None:
    """Set a request's clock for each peer; ``started_at`` is when this centre received it, None for a request that it sends."""
    begun = {"started_at": started_at, "due_at": None if started_at is None else started_at + hours * HOUR_MS}
    common = {"request": request, "asked": started_at is None, "hours": hours, "state": "open", "reminded": 0, **begun}
    connection.execute(insert(CLOCK), [{"peer": peer, **common} for peer in peers])


def answer(connection: Connection, answer: Answer, peers: Sequence[str], at: int, *, received: bool) -> None:
    """Note an answer on its request's clock: a received one on the clock of its sender, a sent one on that of its addressees."""
    changed: dict[str, object] = {"state": answer.outcome}
    if answer.outcome in CLOSING:
        changed["answered_at"] = at
    if answer.due_at is not None:
        changed |= {"due_at": answer.due_at, "reminded": 0}
    connection.execute(
        update(CLOCK)
        .where(
            CLOCK.c.request == answer.request,
            CLOCK.c.peer.in_(peers),
            CLOCK.c.asked == int(received),
            CLOCK.c.answered_at.is_(None),
        )
        .values(**changed)
    )
