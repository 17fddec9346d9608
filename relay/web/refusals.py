"""Who was turned away, and why: counted per minute, and written to the audit record as one leaf per caller, address and code.

A refusal that was written at once would let anybody fill the store, so they are counted in memory and written together: a crash
loses the counts of at most a minute. How many callers are told apart in a minute is bounded; the rest are counted as one.

A leaf has the step ``access-refused``, the ``code``, the ``actor`` (a client's name, or the address of who has no right token),
and as ``why`` how often it was, and what was asked for first: ``17x GET /v1/inbox``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from starlette.requests import Request

from relay.audit import AuditStep
from relay.centre import Centre
from relay.errors import RelayError
from relay.log import Event
from relay.web.callers import address, caller
from relay.web.record import commit

EVERY_SECONDS = 60.0
MOST_KEYS = 1000
OTHERS = "others"

Key = tuple[str, str]
"""Who, and the code."""


@dataclass(slots=True)
class Refusals:
    """The refusals that are not written yet."""

    counts: Counter[Key] = field(default_factory=Counter)
    first: dict[Key, str] = field(default_factory=dict)

    def note(self, request: Request, code: str) -> None:
        """Count a refusal of a request."""
        client = caller(request)
        who = f"address {address(request)}" if client is None else f"{client.actor}, {address(request)}"
        key = (who, code)
        if key not in self.counts and len(self.counts) >= MOST_KEYS:
            key = (OTHERS, code)
        self.counts[key] += 1
        self.first.setdefault(key, asked(request))

    async def run(self, centre: Centre) -> None:
        """Write what was counted every minute, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self.write(centre)

    async def write(self, centre: Centre) -> None:
        """Write what was counted; a store that can't be written is told, and tried again with the next."""
        counts, first = self.counts.copy(), dict(self.first)
        if not counts:
            return
        now, audit = centre.now(), centre.audit
        leaves = [
            audit.leaf(AuditStep.ACCESS_REFUSED, now, code=code, actor=who, why=f"{count}x {first[who, code]}")
            for (who, code), count in counts.items()
        ]
        try:
            await commit(centre, lambda connection: audit.append(connection, leaves))
        except RelayError as trouble:
            centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
            return
        self.counts -= counts
        for key in counts.keys() - self.counts.keys():
            self.first.pop(key, None)


def asked(request: Request) -> str:
    """Return what was asked for: method and route; of what is no route, the method alone, since the rest is the caller's text."""
    route = request.scope.get("route")
    return f"{request.method} {getattr(route, 'path', '')}".strip()
