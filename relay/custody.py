"""Custody: looks after this centre's keys while the node runs, and after what was taken under keys that are revoked since.

Each time the directory or a validity changes it asks whether the node still holds keys that may be used, says when the last of a
use ends soon (60, 14 and 3 days before) and when a private key that was rotated out is needed no more. When a directory revokes a
key that signs, the messages of its centre that came under it since are looked for in the store, kept as *suspects* and put on
record, and an alarm is raised about that centre; a start goes on where the last run ended. For a while what is committed
meanwhile is looked at, too: it may have been judged by the version before.

Key files that changed are read anew when the process is sent SIGHUP (:meth:`Custody.reload`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Protocol

from relay import keyring, points
from relay.audit import AuditStep
from relay.centre import Centre
from relay.clock import from_ms, iso, to_ms
from relay.errors import Misconfigured, NotReady, StoreTrouble
from relay.keyring import USES, Keyring, Standing
from relay.log import Event
from relay.points import Point
from relay.renewals import Renewals
from relay.store import Connection, suspects
from relay.store.suspects import Found, Revocation

PAUSE_SECONDS = 5.0
PAGE = 500
LOOKED_AFTER_MS = 600_000
"""How long after a revocation was noticed the store is looked at for what was judged before."""
KEY_REVOKED = "key-revoked"


class Watch(Protocol):
    """Who raises alarms about peers, in a transaction; returns what follows its commit."""

    def alarm(self, connection: Connection, peer: str, code: str, now: int) -> Callable[[], None]:
        """Raise an alarm about a peer."""


class Custody:
    """Says what is wrong with keys; ``warnings`` are sentences for an operator though the node works."""

    def __init__(self, centre: Centre, watch: Watch) -> None:
        self.warnings: tuple[str, ...] = ()
        self._centre = centre
        self._watch = watch
        self._renewals = Renewals(centre)
        self._troubled = False
        self._warned: dict[str, int | None] = {}
        self._destroyable: set[str] = set()

    @property
    def trouble(self) -> NotReady | None:
        """Why nothing can be signed, or sealed to this centre, now; None when all is well."""
        return self._centre.keyring.trouble(self._centre.now())

    async def run(self) -> None:
        """Look at every change, until cancelled."""
        changed = self._centre.directory_changed
        while True:
            ticket = changed.ticket()
            self.look()
            try:
                await self._look_into_revocations()
            except StoreTrouble as trouble:  # the next look finds the same
                self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
            await changed.changed(ticket, PAUSE_SECONDS)

    def reload(self, load: Callable[[], Keyring]) -> None:
        """Hold the keys of the files as they are now, by ``load``; what can't be used changes nothing, and why is said."""
        centre, before = self._centre, self._centre.keyring.held
        try:
            centre.keyring.take(load(), centre.now())
        except Misconfigured as error:
            centre.log.error(Event.KEY_REFUSED, code=error.code, detail=error.detail)
            return
        held = centre.keyring.held
        added, removed = sorted(held.keys() - before.keys()), sorted(before.keys() - held.keys())
        centre.log.info(Event.KEY_TAKEN_UP, added=added, removed=removed)
        self.look()

    def look(self) -> None:
        """See how the keys stand, and say once what changed."""
        centre, now = self._centre, self._centre.now()
        found = centre.keyring.standings(now)
        self._say_trouble()
        needless = [one for one in found if self._is_needless(one, now)]
        said = [f"The {one.use} key {one.id} is needed no more: `relay key destroy {one.id}`." for one in needless]
        self.warnings = (*keyring.warnings(found, from_ms(now)), *said, *self._renewals.look())
        for one in needless:
            if one.id not in self._destroyable:
                self._destroyable.add(one.id)
                centre.log.info(Event.KEY_DESTROYABLE, key=one.id, use=one.use)
        for use in USES:
            if (end := keyring.ends(found, use, from_ms(now))) is None:
                continue
            centre.metrics.key_expiry.labels(use).set(end.timestamp())
            days = keyring.threshold(end, from_ms(now))
            if days is not None and days != self._warned.get(use):
                centre.log.warning(Event.KEY_EXPIRING, use=use, days=days, until=iso(to_ms(end)))
            self._warned[use] = days

    def _say_trouble(self) -> None:
        trouble = self.trouble
        if trouble is not None and not self._troubled:
            self._centre.log.error(Event.KEY_UNUSABLE, code=trouble.code, detail=trouble.detail)
        elif trouble is None and self._troubled:
            self._centre.log.info(Event.KEY_USABLE)
        self._troubled = trouble is not None

    def _is_needless(self, one: Standing, now: int) -> bool:
        end = keyring.destroyable(one, self._centre.directory)
        return one.held and one.listed is not None and end <= from_ms(now)

    async def _look_into_revocations(self) -> None:
        """Look into what is newly revoked, and again into what was lately."""
        centre, now = self._centre, self._centre.now()
        revoked = list(self._revoked(now))
        known = await centre.store.read(suspects.known) if revoked else {}
        for one in revoked:
            before = known.get(one.key)
            if before is None or before.revoked_from > one.revoked_from:
                await self._look_into(one, new=True)
            elif before.noticed_at + LOOKED_AFTER_MS > now:
                await self._look_into(before, new=False)

    def _revoked(self, now: int) -> Iterator[Revocation]:
        for member in self._centre.directory.members:
            for key in member.keys:
                if key.use == "signing" and key.revoked_from is not None and to_ms(key.revoked_from) <= now:
                    yield Revocation(key.id, member.id, to_ms(key.revoked_from), now)

    async def _look_into(self, one: Revocation, *, new: bool) -> None:
        """Find what came under a revoked key, page by page; keep it, put it on record and say it."""
        count, complete = 0, False
        while not complete:
            found = await self._centre.store.read(partial(suspects.find, one=one, limit=PAGE))
            if new or found.last != one.looked_to:
                points.reach(Point.REVOCATION_COMMIT_BEFORE)
                alarmed = await self._centre.store.write(partial(self._note, one=one, found=found, new=new))
                points.reach(Point.REVOCATION_COMMIT_AFTER)
                if alarmed is not None:
                    alarmed()
            count, complete, new = count + len(found.suspects), found.complete, False
            one = replace(one, looked_to=found.last)
        if count:
            self._centre.log.error(Event.KEY_SUSPECTS, peer=one.origin, key=one.key, messages=count)

    def _note(self, connection: Connection, one: Revocation, found: Found, *, new: bool) -> Callable[[], None] | None:
        """Keep a page of suspects; with the first one put the revocation on record, and raise the alarm about its centre."""
        centre, now = self._centre, self._centre.now()
        leaf = partial(centre.audit.leaf, time=now, peer=one.origin, code=KEY_REVOKED)
        leaves = [leaf(AuditStep.KEY_REVOKED, why=f"{one.key} from {iso(one.revoked_from)}")] if new else []
        if new:
            suspects.begin(connection, one)
        suspects.note(connection, one, found)
        if found.suspects:
            leaves.append(leaf(AuditStep.SUSPECTED, commitments=list(found.commitments), why=one.key))
        centre.audit.append(connection, leaves)
        return self._watch.alarm(connection, one.origin, KEY_REVOKED, now) if new and one.origin != centre.id else None
