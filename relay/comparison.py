"""Comparison: once an hour each centre compares with each peer what it sent it with what the peer holds of that.

When an hour is over, and nothing that was sent in it waits for a word of the recipient any more, the origin says how many of
its messages the recipient signed for, by lane, with a digest of their commitments; the recipient counts what it holds of that
hour, and answers with its own. So neither a lost row nor a receipt that was never written stays unseen, on either side, and
neither learns anything but counts. A message counts in the hour in which its id was given, so one that arrives late changes
nothing: its hour is compared later. What ended without the recipient's word (expired, cancelled) is named and left out.

A difference is looked at again after a while; one that is still there, unchanged, raises the alarm ``audit-mismatch`` about the
peer, with the time, the lane and both counts in the log and at ``relay peer``. It is asked about again with each round, and
forgotten once both agree; after a week it is asked about no more and stays listed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from relay import points, receipts
from relay.centre import Centre
from relay.control import Control, content
from relay.errors import Refused, Rejected, StoreTrouble
from relay.limits import COMPARED, Gate
from relay.log import Event
from relay.points import Point
from relay.receipts import MAX_APART, LaneCount
from relay.receipts import Comparison as Body
from relay.seal import Opened
from relay.store import Connection, compared, incoming
from relay.store.compared import Difference, Due, SentThen, Side

PREFIX = b"intercentre-relay/1 comparison\0"
MISMATCH = "audit-mismatch"
SEEN = 2
"""Times that a difference is seen, unchanged, until it raises an alarm."""
ASKED_MS = 7 * 24 * 3600 * 1000
"""How long after its end a time is asked about."""
PERIODS_AT_ONCE = 48
DUE_AT_ONCE = 256
MOST_WAITING = 64
LONGEST_MS = 25 * 3600 * 1000
PAUSE_SECONDS = 0.02

T = TypeVar("T")


class Watch(Protocol):
    """Who raises alarms about peers; it writes in the transaction that it is given, and returns what follows it."""

    def alarm(self, connection: Connection, peer: str, code: str, now: int) -> Callable[[], None]:
        """Raise an alarm about a peer."""


class Comparison:
    """Compares with the peers what was sent with what was received."""

    def __init__(self, centre: Centre, control: Control, watch: Watch) -> None:
        self._centre = centre
        self._control = control
        self._watch = watch
        self._waiting: dict[tuple[str, Side, int], Body] = {}
        self._asked = asyncio.Event()
        self._differs = asyncio.Event()
        self._gate = Gate()

    async def run(self) -> None:
        """Compare regularly, and answer peers, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._rounds(), name="comparison rounds")
            group.create_task(self._answers(), name="comparison answers")

    def take(self, connection: Connection, sender: str, opened: Opened, now: int) -> Callable[[], None] | None:
        """Take a peer's summary; it is counted against after the commit, apart from the writer of the store."""
        del now
        body, core = receipts.read(Body, content(opened)), opened.envelope.core
        if not body.first < body.until <= body.first + LONGEST_MS or len({one.lane for one in body.lanes}) < len(body.lanes):
            raise Rejected("bad-control", "A comparison speaks of too long a time, of none, or of a lane twice.")
        if not incoming.is_news(connection, sender, core.epoch, "comparison", core.to[0].first):
            return None
        return partial(self._let_wait, sender, body)

    async def round(self) -> None:
        """Line up the times that are over, and ask about what is ripe."""
        now, settings = self._centre.now(), self._centre.settings.audit
        period = int(settings.comparison_seconds * 1000)
        end = (now - int(settings.comparison_grace_seconds * 1000)) // period * period
        await self._line_up(end, period, now // period * period)
        waiting = await self._centre.store.read(partial(compared.due, limit=DUE_AT_ONCE))
        for first, until in sorted({(one.first, one.until) for one in waiting}):
            sent = await self._centre.store.read(partial(compared.sent_then, first=first, until=until))
            for one in waiting:
                if one.first == first:
                    await self._ask(one, sent.get(one.peer, SentThen()))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _rounds(self) -> None:
        settings = self._centre.settings.audit
        soon = min(settings.comparison_seconds, settings.comparison_grace_seconds)
        while True:
            self._differs.clear()
            try:
                await self.round()
            except StoreTrouble as trouble:  # the next round finds the same
                self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
            await asyncio.sleep(soon)  # a difference that is seen meanwhile is looked at again after that
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(settings.comparison_seconds - soon, 0.05)):
                    await self._differs.wait()

    async def _line_up(self, end: int, period: int, present: int) -> None:
        """Note for each time that is over which peers were sent something in it; begin with the present one."""
        store = self._centre.store
        marker = await store.read(compared.compared_until)
        if marker is None:
            await self._commit(lambda connection: compared.set_compared_until(connection, present))
            return
        for first in range(marker, end, period)[:PERIODS_AT_ONCE]:
            until = min(first + period, end)
            sent = await store.read(partial(compared.sent_then, first=first, until=until))
            await self._commit(partial(_over, first=first, until=until, peers=sorted(sent)))

    async def _ask(self, one: Due, sent: SentThen) -> None:
        """Ask a peer about a time; not while its word is still awaited, and no more once it has left, or long afterwards."""
        gone = one.peer not in self._centre.directory.active or (one.asked > 0 and self._centre.now() > one.until + ASKED_MS)
        if gone or sum(map(len, sent.apart.values())) > MAX_APART:
            await self._commit(partial(compared.end, peer=one.peer, first=one.first))
        elif not sent.open:
            counts = await self._centre.work(partial(_counts, sent.said, sent.apart))
            body = Body(of="sent", first=one.first, until=one.until, lanes=counts)
            await self._commit(partial(compared.asked, one=one))
            await self._say(one.peer, body)

    async def _say(self, peer: str, body: Body) -> None:
        try:
            raw = await self._commit(
                partial(self._control.numbered, kind="comparison", recipient=peer, content=receipts.write(body))
            )
        except Refused:  # it has no key that is valid now
            return
        self._control.post(peer, raw)
        points.reach(Point.COMPARISON_POSTED)

    def _let_wait(self, sender: str, body: Body) -> None:
        """After the commit: let a summary wait for its turn; a peer that says too much at once is asked or asks again."""
        mine = [key for key in self._waiting if key[0] == sender]
        if len(mine) < MOST_WAITING and self._gate.may(sender, "compared", COMPARED, self._centre.elapsed()):
            self._waiting[sender, body.of, body.first] = body
            self._asked.set()

    async def _answers(self) -> None:
        while True:
            await self._asked.wait()
            if not self._waiting:
                self._asked.clear()
                continue
            key = next(iter(self._waiting))
            body = self._waiting.pop(key)
            try:
                await (self._answer(key[0], body) if body.of == "sent" else self._learn(key[0], body))
            except StoreTrouble as trouble:  # the origin asks again
                self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _answer(self, sender: str, body: Body) -> None:
        """Count what is held of a peer's messages of a time, note what differs, and say what was counted."""
        left_out = {commitment for one in body.lanes for commitment in one.apart}
        held = await self._centre.store.read(partial(compared.received_then, origin=sender, first=body.first, until=body.until))
        ours = await self._centre.work(partial(_counts_without, held, left_out))
        await self._note(sender, "received", body, ours)
        await self._say(sender, Body(of="received", first=body.first, until=body.until, lanes=ours))

    async def _learn(self, sender: str, body: Body) -> None:
        """Compare a peer's answer with what it was asked."""
        store = self._centre.store
        if not await store.read(partial(compared.is_due, peer=sender, first=body.first, until=body.until)):
            return
        found = await store.read(partial(compared.sent_then, first=body.first, until=body.until))
        sent = found.get(sender, SentThen())
        if sent.open:
            return
        if not await self._note(sender, "sent", body, await self._centre.work(partial(_counts, sent.said, {}))):
            await self._commit(partial(compared.end, peer=sender, first=body.first))

    async def _note(self, peer: str, side: Side, body: Body, ours: Sequence[LaneCount]) -> bool:
        """Keep where both sides differ, raise the alarm for what stays so; return whether anything differs."""
        now = self._centre.now()
        seen = list(_differences(peer, side, body, ours, now))
        kept, later = await self._commit(partial(self._keep, seen=seen, peer=peer, side=side, first=body.first, now=now))
        for act in later:
            act()
        if any(one.times < SEEN for one in kept):
            self._differs.set()
        return bool(kept)

    def _keep(
        self, connection: Connection, seen: Sequence[Difference], peer: str, side: Side, first: int, now: int
    ) -> tuple[list[Difference], list[Callable[[], None]]]:
        kept = compared.differ(connection, seen, peer, side, first)
        alarming = [one for one in kept if one.times == SEEN]
        if not alarming:
            return kept, []
        return kept, [self._watch.alarm(connection, peer, MISMATCH, now), *(partial(self._tell, one) for one in alarming)]

    def _tell(self, one: Difference) -> None:
        given = {"side": one.side, "lane": one.lane, "first": one.first, "until": one.until}
        self._centre.log.error(Event.COMPARISON_DIFFERS, peer=one.peer, ours=one.ours, theirs=one.theirs, **given)

    async def _commit(self, job: Callable[[Connection], T]) -> T:
        points.reach(Point.COMPARISON_COMMIT_BEFORE)
        done = await self._centre.store.write(job)
        points.reach(Point.COMPARISON_COMMIT_AFTER)
        return done


def digest(commitments: Iterable[str]) -> str:
    """Return the digest of a set of commitments: SHA-256 in hex over the prefix and the commitments, sorted."""
    return hashlib.sha256(PREFIX + b"".join(sorted(map(bytes.fromhex, commitments)))).hexdigest()


def _over(connection: Connection, first: int, until: int, peers: Sequence[str]) -> None:
    compared.add_due(connection, peers, first, until)
    compared.set_compared_until(connection, until)


def _counts(found: Mapping[str, Sequence[str]], apart: Mapping[str, Sequence[str]]) -> tuple[LaneCount, ...]:
    """Return the summary of commitments by lane."""
    lanes = sorted({lane for some in (found, apart) for lane, commitments in some.items() if commitments})
    return tuple(
        LaneCount(
            lane=lane,
            count=len(found.get(lane, ())),
            digest=digest(found.get(lane, ())),
            apart=tuple(sorted(apart.get(lane, ()))),
        )
        for lane in lanes
    )


def _counts_without(found: Mapping[str, Sequence[str]], left_out: set[str]) -> tuple[LaneCount, ...]:
    """Return the summary of commitments by lane, but for some; of a busy day, so not for the event loop."""
    return _counts({lane: [one for one in some if one not in left_out] for lane, some in found.items()}, {})


def _differences(peer: str, side: Side, body: Body, ours: Sequence[LaneCount], now: int) -> Iterable[Difference]:
    """Yield where two summaries differ; a lane that one of them does not name is empty there."""
    empty = digest(())
    here, there = ({one.lane: (one.count, one.digest) for one in some} for some in (ours, body.lanes))
    for lane in sorted({*here, *there}):
        mine, theirs = here.get(lane, (0, empty)), there.get(lane, (0, empty))
        if mine != theirs:
            yield Difference(peer, side, body.first, body.until, lane, mine[0], theirs[0], now, 1)
