"""What the console's parts share while it runs: who is signed in, which pages are kept up to date, how the node does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

from starlette.requests import Request

from relay.clock import elapsed_ms
from relay.console.live import Lives
from relay.console.session import Session, Sessions
from relay.errors import RelayError, StoreTrouble
from relay.web.served import Here

PATIENCE_SECONDS = 0.4
FRESH_MS = 1_000


_SLOW = StoreTrouble("store-locked", "The node did not say at once how it does: its store is slow, or locked by another process.")


class Condition:
    """What is wrong with the node, without ever keeping a page waiting for a store that does not answer."""

    def __init__(self, here_: Here) -> None:
        self._here = here_
        self._asking: asyncio.Task[tuple[RelayError, ...]] | None = None
        self._known: tuple[RelayError, ...] = ()
        self._asked = 0

    async def troubles(self) -> tuple[RelayError, ...]:
        """Return what is wrong, the most recent that is known; asked anew when that is older than a second."""
        asking = self._asking
        if asking is None and (not self._asked or elapsed_ms() - self._asked > FRESH_MS):
            asking = self._asking = asyncio.create_task(self._here.readiness.troubles(), name="console asks how the node does")
        if asking is not None:
            await asyncio.wait({asking}, timeout=PATIENCE_SECONDS)
            self._learn(asking)
        full = self._here.node.full()
        found = (*self._known, *([full] if full is not None else []))
        return tuple({one.detail: one for one in found}.values())

    def _learn(self, asking: asyncio.Task[tuple[RelayError, ...]]) -> None:
        """Take note of what was said, or that nothing was said yet."""
        if not asking.done():
            self._known = self._known or (_SLOW,)
        elif asking is self._asking:
            self._known, self._asking, self._asked = asking.result(), None, elapsed_ms()

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
