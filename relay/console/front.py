"""What the console's parts share while it runs: who is signed in, which pages are kept up to date, how the node does."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast

from starlette.requests import Request

from relay.audit import AuditStep
from relay.clients import Client
from relay.console.live import Lives
from relay.console.session import Session, Sessions
from relay.errors import RelayError, StoreTrouble
from relay.log import Event
from relay.web.record import commit
from relay.web.served import Here

FRESH_SECONDS = 1.0
STALE_SECONDS = 10.0
SLOW_SECONDS = 1.0

_SLOW = StoreTrouble("store-locked", "The node did not say in time how it does: its store is slow, or locked by another process.")


class Condition:
    """What is wrong with the node, without ever keeping a page waiting for a store that does not answer."""

    def __init__(self, here_: Here) -> None:
        self._here = here_
        self._asking: asyncio.Task[None] | None = None
        self._known: tuple[RelayError, ...] = ()
        self._began = self._told = float("-inf")

    async def troubles(self) -> tuple[RelayError, ...]:
        """Return what is wrong as it was known lately, and see to it that it is known anew; wait a moment when it is too old."""
        now = time.monotonic()
        if self._asking is None and now - self._told > FRESH_SECONDS:
            self._began = now
            self._asking = asyncio.create_task(self._ask(), name="console asks how the node does")
        if self._asking is not None and now - self._told > STALE_SECONDS:
            await asyncio.wait({self._asking}, timeout=SLOW_SECONDS)
        slow = self._asking is not None and time.monotonic() - self._began >= SLOW_SECONDS
        full = self._here.node.full()
        found = (*self._known, *([_SLOW] if slow else []), *([full] if full is not None else []))
        return tuple({one.detail: one for one in found}.values())

    async def _ask(self) -> None:
        try:
            self._known = await self._here.readiness.troubles()
        except RelayError as error:
            self._known = (error,)
        finally:
            self._told, self._asking = time.monotonic(), None

    async def problems(self) -> tuple[str, ...]:
        """Return the same in sentences."""
        return tuple(one.detail for one in await self.troubles())

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Front:
    """What the console's parts share."""

    here: Here
    encrypted: bool
    sessions: Sessions
    condition: Condition
    lives: Lives
    trying: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Passwords that are tried at once: each takes 32 MiB."""
    noting: set[asyncio.Task[None]] = field(default_factory=set)
    """Sign-ins that are being written to the record."""

    def note(self, client: Client, address: str) -> None:
        """Write to the record that somebody signed in, in the background: nobody waits for a store that does not answer."""
        task = asyncio.create_task(self._note(client, address), name="console notes a sign-in")
        self.noting.add(task)
        task.add_done_callback(self.noting.discard)

    async def _note(self, client: Client, address: str) -> None:
        centre = self.here.centre
        leaf = centre.audit.leaf(AuditStep.SIGNED_IN, centre.now(), actor=client.actor, why=address)
        try:
            await commit(centre, lambda connection: centre.audit.append(connection, [leaf]))
        except RelayError as trouble:
            centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)

    async def close(self) -> None:
        """Let what is written be written, for a moment, and ask no more."""
        if self.noting:
            await asyncio.wait(self.noting, timeout=SLOW_SECONDS)
        await self.condition.close()

    @property
    def cookie(self) -> str:
        """The name of the session's cookie; browsers tell hosts apart, not ports, so it has the centre's name in it."""
        name = f"relay-session-{self.here.centre.id}"
        return f"__Host-{name}" if self.encrypted else name


def make_front(here_: Here, *, encrypted: bool) -> Front:
    """Return what the parts of a console share."""
    settings = here_.centre.settings.console
    sessions = Sessions(settings, here_.clients, here_.centre.now)
    return Front(here_, encrypted, sessions, Condition(here_), Lives(settings.live_seconds))


def front(request: Request) -> Front:
    """Return what the console's parts share."""
    return cast("Front", request.app.state.front)


def session(request: Request) -> Session:
    """Return the session of a request behind the guard."""
    found = signed_in(request)
    if found is None:
        raise RuntimeError("a page was reached without the guard")
    return found


def signed_in(request: Request) -> Session | None:
    """Return the session of a request, or None when nobody is signed in."""
    return cast("Session | None", getattr(request.state, "session", None))
