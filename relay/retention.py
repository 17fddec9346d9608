"""Retention: what a centre keeps goes when its time is up, unless a legal hold keeps it, and the record says so.

Once an hour :meth:`Retention.run` carries out what :mod:`relay.keeping` decided for each message when it was submitted or came:
its bytes are purged, the signed header, the receipts and the row stay as evidence. A message that the centre's system never took
is rejected first (``expired``), so its origin learns of it. A run is many short transactions, each with its leaf in the audit
record, so it may end anywhere and the next one goes on; what a dry run shows is what a run at the same moment purges.

A hold binds retention and recalls alike. While it lasts, the origin of a recall sees it unconfirmed; with its end the recall is
carried out, and the origin told, in the same transaction.

While this machine's clock is doubted (:mod:`relay.timekeeping`) nothing is purged, whoever asks; a dry run is answered.

Errors raised: ``NotFound`` (``not-kept-here``, ``no-hold``), ``Conflict`` (``already-purged``, ``already-held``), ``NotReady``
(``clock-doubted``) and ``StoreTrouble``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from relay import points
from relay.audit import AuditStep
from relay.centre import Centre
from relay.control import Control, statements
from relay.errors import Conflict, NotFound, NotReady, StoreTrouble
from relay.keeping import DAY_MS
from relay.log import Event
from relay.points import Point
from relay.receipts import Statement
from relay.store import Connection, incoming, recalled, retained
from relay.store.incoming import Place
from relay.store.recalled import Buried
from relay.store.retained import Due, Found, Gone, Hold, Page, Side

FIRST_SECONDS = 10.0
DOUBTED_SECONDS = 60.0
PAGE = 500
PAGE_BYTES = 16 * 1024 * 1024
LISTED = 1000
SAMPLES_MS = 90 * DAY_MS
KEYS_MS = 30 * DAY_MS
CODE = "retention"

Posted = list[tuple[str, bytes]]


@dataclass(slots=True)
class Outcome:
    """What a run purged, or would purge: ``listed`` are the first of it; counts of messages, samples and idempotency keys.

    ``held`` messages are kept by a legal hold; ``needed`` ones are due and may still have to be sent again.
    """

    dry_run: bool
    received: int = 0
    sent: int = 0
    held: int = 0
    needed: int = 0
    samples: int = 0
    keys: int = 0
    listed: list[Due] = field(default_factory=list)

    def note(self, gone: Sequence[Due]) -> None:
        """Count what was purged."""
        self.received += sum(one.side == "received" for one in gone)
        self.sent += sum(one.side == "sent" for one in gone)
        self.listed += gone[: LISTED - len(self.listed)]


class Retention:
    """Purges what is due, and keeps what is under legal hold."""

    def __init__(self, centre: Centre, control: Control) -> None:
        self._centre = centre
        self._control = control
        self._running = asyncio.Lock()

    async def run(self) -> None:
        """Purge what is due soon after the start and then regularly, until cancelled."""
        every = self._centre.settings.retention.every_seconds
        pause = min(FIRST_SECONDS, every)
        while True:
            await asyncio.sleep(pause)
            pause = every
            try:
                await self.purge()
            except NotReady:  # the node says why; as soon as the clock is trusted what is due should go
                pause = min(DOUBTED_SECONDS, every)
            except StoreTrouble as trouble:  # the next run finds the same
                self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)

    async def purge(self, *, dry_run: bool = False, actor: str | None = None, why: str | None = None) -> Outcome:
        """Purge everything that is due now; with ``dry_run`` only say what that is. ``actor`` asked for it, or nobody did."""
        async with self._running:
            outcome, now = Outcome(dry_run), self._centre.now()
            if not dry_run and (doubt := self._centre.doubt()) is not None:
                raise NotReady("clock-doubted", doubt)
            async for page in self._pages(now):
                outcome.held += page.held
                outcome.needed += page.needed
                for portion in _portions(page.due):
                    outcome.note(portion if dry_run else await self._purge(portion, actor, why))
            await self._forget(outcome, now)
            if not dry_run:
                points.reach(Point.SCRUB_BEFORE)
                await self._centre.store.scrub()
                points.reach(Point.SCRUB_AFTER)
                self._say(outcome)
            return outcome

    async def hold(self, message: str, reason: str, actor: str) -> Hold:
        """Put a message, received or sent, under legal hold until :meth:`lift`; say so in the record."""
        centre = self._centre
        new = Hold(message, reason, actor, centre.now())

        def hold(connection: Connection) -> None:
            found = _find(connection, message)
            if found.row.purged_at is not None:
                raise Conflict("already-purged", f"The content of message {message} was purged: there is nothing left to hold.")
            if retained.held(connection, message) is not None:
                raise Conflict("already-held", f"Message {message} is under legal hold already.")
            retained.hold(connection, new)
            leaf = centre.audit.leaf(AuditStep.HOLD_SET, new.at, commitments=[found.commitment], actor=actor, why=reason)
            centre.audit.append(connection, [leaf])

        points.reach(Point.HOLD_COMMIT_BEFORE)
        await centre.store.write(hold)
        points.reach(Point.HOLD_COMMIT_AFTER)
        centre.log.warning(Event.HOLD_SET, message=message)
        return new

    async def lift(self, message: str, reason: str, actor: str) -> None:
        """End a legal hold, say so in the record, and carry out what it held up."""
        now = self._centre.now()

        def lift(connection: Connection) -> tuple[list[Buried], Posted]:
            if retained.held(connection, message) is None:
                raise NotFound("no-hold", f"There is no legal hold on message {message}.")
            found = _find(connection, message)
            retained.lift(connection, message)
            common = {"actor": actor, "why": reason}
            leaf = self._centre.audit.leaf(AuditStep.HOLD_LIFTED, now, commitments=[found.commitment], **common)
            self._centre.audit.append(connection, [leaf])
            return self._carry_out(connection, found, now) if found.side == "received" else ([], [])

        points.reach(Point.LIFT_COMMIT_BEFORE)
        buried, posted = await self._centre.store.write(lift)
        points.reach(Point.LIFT_COMMIT_AFTER)
        self._post(posted)
        for one in buried:
            self._centre.metrics.purged.labels(one.code).inc(len(one.purged))
            own = ({"message": recalled} for recalled in one.messages)
            self._centre.log.messages(Event.MESSAGE_RECALLED, own, code=one.code)
        self._centre.log.warning(Event.HOLD_LIFTED, message=message, purged=sum(len(one.purged) for one in buried))
        if buried:
            await self._centre.store.scrub()
            points.reach(Point.LIFT_SCRUBBED)

    async def _pages(self, now: int) -> AsyncIterator[Page]:
        """Find what is due, some at a time, so that a long list is never in memory."""
        read = self._centre.store.read
        number, id_ = 0, ""
        while page := await read(partial(retained.received, now=now, after=number, limit=PAGE)):
            yield page
            number = page.last
        while page := await read(partial(retained.sent, now=now, after=id_, limit=PAGE)):
            yield page
            id_ = page.last

    async def _purge(self, portion: Sequence[Due], actor: str | None, why: str | None) -> list[Due]:
        """Purge messages of one side in one transaction; return those that were still to be purged."""

        def purge(connection: Connection) -> tuple[Gone, Posted]:
            now = self._centre.now()
            if portion[0].side == "received":
                gone = retained.purge_received(connection, [one.number for one in portion], now)
            else:
                gone = retained.purge_sent(connection, [one.id for one in portion], now)
            posted = self._expire(connection, incoming.places(connection, gone.expired), now) if gone.expired else []
            if gone.commitments:
                leaf = self._centre.audit.leaf
                done = leaf(AuditStep.PURGED, now, commitments=list(gone.commitments), code=CODE, actor=actor, why=why)
                self._centre.audit.append(connection, [done])
            return gone, posted

        points.reach(Point.PURGE_COMMIT_BEFORE)
        gone, posted = await self._centre.store.write(purge)
        points.reach(Point.PURGE_COMMIT_AFTER)
        self._post(posted)
        self._centre.metrics.purged.labels(CODE).inc(len(gone.commitments))
        done = [one for one in portion if one.id in gone.ids]
        self._say_of_each(portion[0].side, [one.id for one in done], gone.expired, actor)
        return done

    def _say_of_each(self, side: Side, gone: Sequence[str], rejected: Sequence[Any], actor: str | None) -> None:
        """Log what became of each message: rejected first where nobody had taken it, then purged."""
        log, by = self._centre.log, {"actor": actor} if actor is not None else {}
        if rejected:
            own = ({"message": row.id, "peer": row.origin} for row in rejected)
            log.messages(Event.RETENTION_REJECTED, own, code="expired", **by)
        if gone:
            log.messages(Event.RETENTION_PURGED, ({"message": message} for message in gone), side=side, **by)

    def _expire(self, connection: Connection, places: Sequence[Place], now: int) -> Posted:
        """Say that messages were never taken by the centre's system: to their origins, and to the record."""
        carried_out = [one for one in places if one.recall and recalled.complete(connection, one.origin, one.id)]
        purged = statements(carried_out, "purged", now)  # the last receipt of a recall says so, as marks bring that one again
        posted: Posted = []
        for origin, said in statements(places, "rejected", now, "expired").items():
            posted += self._control.tell(connection, origin, said + purged.get(origin, []), now)
            commitments = [commitment for one in said for commitment in one.commitments]
            leaf = self._centre.audit.leaf
            done = leaf(AuditStep.EXPIRED_BY_RETENTION, now, peer=origin, commitments=commitments, code="expired")
            self._centre.audit.append(connection, [done])
        return posted

    def _carry_out(self, connection: Connection, found: Found, now: int) -> tuple[list[Buried], Posted]:
        """Carry out the recalls that came while a received message was on hold, and say so to its origin and to the record."""
        carried = retained.carry_out(connection, found.row, now)
        origin: str = found.row.origin
        said: list[Statement] = []
        for buried, recall in carried:
            rejected = statements(incoming.places(connection, buried.rejected), "rejected", now, buried.code)
            confirmed = statements(incoming.places(connection, [recall] if recall else []), "purged", now)
            said += rejected.get(origin, []) + confirmed.get(origin, [])
            if buried.purged:
                leaf = self._centre.audit.leaf
                done = leaf(AuditStep.PURGED, now, peer=origin, commitments=list(buried.purged), code=buried.code)
                self._centre.audit.append(connection, [done])
        return [buried for buried, _ in carried], self._control.tell(connection, origin, said, now) if said else []

    async def _forget(self, outcome: Outcome, now: int) -> None:
        """Let go samples and idempotency keys that are old."""
        store, after = self._centre.store, ""
        while keys := await store.read(partial(retained.old_keys, before=now - KEYS_MS, after=after, limit=PAGE)):
            if not outcome.dry_run:
                points.reach(Point.KEYS_COMMIT_BEFORE)
                await store.write(partial(retained.drop_keys, keys=keys))
                points.reach(Point.KEYS_COMMIT_AFTER)
            outcome.keys += len(keys)
            after = keys[-1]
        outcome.samples = await store.read(partial(retained.old_samples, before=now - SAMPLES_MS))
        if outcome.samples and not outcome.dry_run:
            points.reach(Point.SAMPLES_COMMIT_BEFORE)
            await store.write(partial(retained.drop_samples, before=now - SAMPLES_MS))
            points.reach(Point.SAMPLES_COMMIT_AFTER)

    def _say(self, outcome: Outcome) -> None:
        self._centre.metrics.retention_run.set(self._centre.now() / 1000)
        counts = {name: getattr(outcome, name) for name in ("received", "sent", "held", "needed", "samples", "keys")}
        self._centre.log.info(Event.RETENTION_RUN, **counts)

    def _post(self, posted: Posted) -> None:
        for recipient, raw in posted:
            self._control.post(recipient, raw)
        points.reach(Point.RETENTION_POSTED)


def _find(connection: Connection, message: str) -> Found:
    found = retained.find(connection, message)
    if found is None:
        raise NotFound("not-kept-here", f"No message {message} was received or sent here.")
    return found


def _portions(due: Sequence[Due]) -> Iterator[list[Due]]:
    """Cut what is due into portions whose envelopes, each counted once, have a bounded size: each is one transaction."""
    portion: list[Due] = []
    counted: dict[int, int] = {}
    for one in due:
        counted[one.envelope] = one.size
        if portion and sum(counted.values()) > PAGE_BYTES:
            yield portion
            portion, counted = [], {one.envelope: one.size}
        portion.append(one)
    if portion:
        yield portion
