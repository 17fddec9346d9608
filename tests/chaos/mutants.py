"""Nodes with one thing broken on purpose, to show that the judge sees what follows from it.

:func:`run` runs a node as ``relay node run`` does; a mutant breaks one thing, and a window makes it stand still between two
steps, having written a file, so that a kill -9 falls exactly there. The windows are between a group's commit and its
acknowledgement to the broker (``inbox``), in whichever order these are, and in the transaction that makes a receipt of
``delivered`` true (``receipt``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete

from relay.broker import Broker, Delivery
from relay.cli import node
from relay.control import Control
from relay.inbox import Inbox
from relay.marks import Marks
from relay.receipts import Statement
from relay.store import incoming
from relay.store.incoming import Arrival, Taken
from relay.store.tables import INBOX_CLOSED, INBOX_ENVELOPE, INBOX_MESSAGE
from relay.topology import CONTROL

_windows: dict[str, Path] = {}
_loops: list[asyncio.AbstractEventLoop] = []


async def _stand_still(name: str) -> None:
    if name in _windows:
        _windows[name].touch()
        await asyncio.Event().wait()


def _stand_still_here(name: str) -> None:
    if name in _windows:
        _windows[name].touch()
        time.sleep(3600)


def ack_before_commit() -> None:
    """Acknowledge to the broker what is not yet committed."""
    take_in = Inbox._take_in

    async def broken(self: Inbox, judged: list[Any]) -> None:
        await Broker.ack(self._broker, [one.delivery for one in judged])
        if any(one.delivery.lane != CONTROL for one in judged):
            await _stand_still("inbox")
        await take_in(self, judged)

    Inbox._take_in = broken  # type: ignore[method-assign]


def commit_before_ack() -> None:
    """Break nothing, but let the ``inbox`` window open where it belongs."""
    ack = Broker.ack

    async def held(self: Broker, deliveries: Iterable[Delivery]) -> None:
        given = list(deliveries)
        if any(one.lane != CONTROL for one in given):
            await _stand_still("inbox")
        await ack(self, given)

    Broker.ack = held  # type: ignore[method-assign]


def receipt_before_commit() -> None:
    """Post a receipt before what it says is committed."""
    _in_receipt(early=True)


def commit_before_receipt() -> None:
    """Break nothing, but let the ``receipt`` window open where it belongs."""
    _in_receipt(early=False)


def _in_receipt(*, early: bool) -> None:
    receipt, run = Control.receipt, Control.run

    async def noted(self: Control) -> None:
        _loops.append(asyncio.get_running_loop())
        await run(self)

    def sealed(self: Control, connection: Connection, recipient: str, said: Sequence[Statement], *more: Any) -> bytes:
        raw = receipt(self, connection, recipient, said, *more)
        if early:
            _loops[-1].call_soon_threadsafe(self.post, recipient, raw)
        if any(one.state == "delivered" for one in said):
            _stand_still_here("receipt")
        return raw

    Control.run = noted  # type: ignore[method-assign]
    Control.receipt = sealed  # type: ignore[method-assign, assignment]


def dedupe_removed() -> None:
    """Forget whatever is known of an envelope when a copy of it arrives."""
    take = incoming.take

    def forgetful(connection: Connection, arrival: Arrival, *more: Any) -> Taken:
        core = arrival.envelope.core
        ids = [item.id for item in core.messages]
        connection.execute(delete(INBOX_MESSAGE).where(INBOX_MESSAGE.c.origin == core.origin, INBOX_MESSAGE.c.id.in_(ids)))
        connection.execute(delete(INBOX_ENVELOPE).where(INBOX_ENVELOPE.c.origin == core.origin, INBOX_ENVELOPE.c.id == core.id))
        connection.execute(delete(INBOX_CLOSED).where(INBOX_CLOSED.c.origin == core.origin, INBOX_CLOSED.c.lane == core.lane))
        return take(connection, arrival, *more)

    incoming.take = forgetful  # type: ignore[assignment]


def marks_off() -> None:
    """Never tell a peer what it should have."""

    async def nothing(self: Marks) -> None:
        del self

    Marks._mark_open = nothing  # type: ignore[method-assign]


def resending_off() -> None:
    """Never send again what a peer asks for."""

    async def nothing(self: Marks) -> None:
        self._resend.clear()

    Marks._send_again = nothing  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    "ack-before-commit": ack_before_commit,
    "receipt-before-commit": receipt_before_commit,
    "dedupe-removed": dedupe_removed,
    "marks-off": marks_off,
    "resending-off": resending_off,
}
SOUND: dict[str, Callable[[], None]] = {"commit-before-ack": commit_before_ack, "commit-before-receipt": commit_before_receipt}


def run(settings: Path, mutant: str = "", window: tuple[str, Path] | None = None) -> None:
    """Run a node that is broken as told."""
    if window is not None:
        _windows.update([window])
    if mutant:
        {**MUTANTS, **SOUND}[mutant]()
    node.run(settings)
