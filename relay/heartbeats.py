"""Heartbeats: how centres know that their peers live, what these hold, and whose store or directory is not what it was.

Every half minute a node says to each peer: the time, its epoch, its version of the directory, and its *echo*: what it holds of
that peer. A peer that three heartbeats are missed of is *silent*; it is sent fewer until it is heard again, so that it finds few
when it returns. Who hears of a newer directory than its own answers at once, and who hears of an older one passes its own on
(:mod:`relay.registers`), so a version that came to one node is everywhere within seconds.

What a peer's echo proves is judged by :mod:`relay.echoes`: whose store is not what it was. What is missing *below* this node's
own echo is asked for here, whether or not its origin still speaks of it.

At the start a node asks every peer for a heartbeat and publishes nothing before one came, or ``repair.echo_seconds`` passed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import relay
from relay import points, receipts
from relay.broker import Broker
from relay.centre import Centre
from relay.control import Control, content
from relay.echoes import MARGIN_MS, Echoes, Watch
from relay.errors import Refused, Rejected, StoreTrouble
from relay.log import Event
from relay.points import Point
from relay.receipts import MAX_RANGES, Echo, Heartbeat, Nack
from relay.seal import Opened
from relay.store import Connection, epochs, incoming, peers
from relay.store.peers import Peer

TICK_SECONDS = 0.25
MISSED = 3
LONGEST_SECONDS = 900.0
ANSWER_SECONDS = 1.0
ASK_SECONDS = 2.0
ASKED_AT_RANDOM = 3
SHOW_SECONDS = 2.0

Holes = dict[tuple[int, str], tuple[tuple[tuple[int, int], ...], int]]
"""Per epoch and lane what is missing below the highest sequence held, and the number of the last mark heard there."""


class Sender(Protocol):
    """Who sends again."""

    def resend(self, peer: str, numbers: Sequence[int]) -> None:
        """Send a peer envelopes that it lost."""

    def returned(self, peer: str) -> None:
        """Take note that a peer was silent and is heard again."""


class Gossip(Protocol):
    """Who passes the directory on."""

    def offer(self, peer: str, *, unheard: bool = False) -> None:
        """Send a peer the directory in force, unless that was done lately; to one that is ``unheard``, once."""


@dataclass(slots=True)
class _Seen:
    """A peer as this run of the node sees it; times are the event loop's."""

    due: float = 0.0
    pause: float = 0.0
    answered: float = float("-inf")
    sent: int = 0
    heard: float | None = None
    fresh: bool = False  # something that it said since this node started; what waited in the queue is older
    silent: bool = False
    asked: Echo | None = None
    shown: float = float("-inf")


@dataclass(slots=True)
class _Hole:
    """What is missing below a peer's highest sequence in a lane, and for how many heartbeats it has been."""

    missing: tuple[tuple[int, int], ...]
    beats: int = 0


class Heartbeats:
    """Says that this node lives, and hears whether the others do."""

    def __init__(self, centre: Centre, broker: Broker, control: Control, sender: Sender, watch: Watch, gossip: Gossip) -> None:
        self._centre = centre
        self._broker = broker
        self._control = control
        self._sender = sender
        self._echoes = Echoes(centre, watch, sender.resend)
        self._gossip = gossip
        self._every = centre.settings.repair.heartbeat_seconds
        self._loop = asyncio.get_running_loop()
        self._peers: dict[str, _Seen] = {}  # grows in the thread that writes the store, too: a copy is gone through, never itself
        self._holes: dict[tuple[str, int, str], _Hole] = {}
        self._asking = True
        self._heard = asyncio.Event()
        self._started = centre.now()
        self._version = centre.directory.version
        self._asked = float("-inf")

    async def run(self) -> None:
        """Send heartbeats and notice silence, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._open_gate(), name="heartbeats echo")
            group.create_task(self._beat(), name="heartbeats beat")

    def ask(self, peer: str) -> None:
        """Let a peer that may have a newer directory know, soon and not too often, which one is in force here.

        Of a stranger it is not known whether it can be asked: some other peers are.
        """
        if self._loop.time() - self._asked < ASK_SECONDS:
            return
        self._asked = self._loop.time()
        others = self._others()
        asked = [peer] if peer in others else random.sample(others, min(ASKED_AT_RANDOM, len(others)))
        for one in asked:
            self._seen(one).due = self._loop.time()

    def state(self, peer: str) -> Literal["heard", "silent", "never"]:
        """Return whether a peer was heard since this node started, and whether it still is."""
        seen = self._seen(peer)
        if seen.silent:
            return "silent"
        return "never" if seen.heard is None else "heard"

    def take(self, connection: Connection, sender: str, opened: Opened, now: int) -> Callable[[], None] | None:
        """Take a peer's heartbeat: keep what it says, and act on what its echo proves."""
        body, core = receipts.read(Heartbeat, content(opened)), opened.envelope.core
        if body.epoch != core.epoch or len({one.epoch for one in body.echo}) > 1:
            raise Rejected("bad-control", "A heartbeat speaks of another epoch than its envelope, or echoes several.")
        if body.time > now + 1000 * self._centre.directory.policy.max_ahead_seconds:
            raise Rejected("from-the-future", f"A heartbeat of {sender} is dated {(body.time - now) // 1000} s ahead.")
        if not incoming.is_news(connection, sender, core.epoch, "heartbeat", core.to[0].first):
            return None
        if body.epoch < peers.epoch_of(connection, sender) and body.time <= peers.last_time(connection, sender):
            return None  # held back by the broker: it is older than what came from the later epoch
        later = self._echoes.judge(connection, sender, body, now)
        self._seen(sender).fresh |= body.time >= self._started + min(peers.offset(connection, sender), 0) - MARGIN_MS
        if body.epoch >= peers.epoch_of(connection, sender):
            offset = body.time - now
            said = Peer(sender, now, offset, body.epoch, body.directory, body.digest, body.release, body.echo)
            peers.hear(connection, said)
        return partial(self._hear, sender, body, now, later)

    def _hear(self, sender: str, body: Heartbeat, now: int, later: list[Callable[[], None]]) -> None:
        """After the commit: remember when, count, answer, wake who waits for an echo."""
        metrics, seen, at = self._centre.metrics, self._seen(sender), self._loop.time()
        self._centre.timekeeper.hear(sender, body.time, self._centre.elapsed())
        metrics.peer_heard.labels(sender).set(now / 1000)
        metrics.peer_offset.labels(sender).set((body.time - now) / 1000)
        metrics.peer_directory.labels(sender).set(body.directory)
        self._compare(sender, body)
        if seen.silent:
            self._centre.log.info(Event.PEER_RETURNED, peer=sender)
            seen.silent, seen.due = False, at
            self._sender.returned(sender)
        seen.heard, seen.pause = at, self._every
        if body.answer and at - seen.answered >= ANSWER_SECONDS:
            seen.due, seen.answered = at, at
        if body.show is not None and at - seen.shown >= SHOW_SECONDS:
            seen.asked, seen.due, seen.shown = body.show, at, at
        if self._echoes.is_claiming(sender):
            seen.due = at  # ask at once: before the start, everything waits for it
        for act in later:
            act()
        self._heard.set()

    def _compare(self, sender: str, body: Heartbeat) -> None:
        """Ask for a newer directory, pass on a newer one, and exchange two that contradict each other."""
        mine = self._centre.directory
        if body.directory > mine.version:
            self.ask(sender)
        elif (body.directory, body.digest) != (mine.version, mine.digest):
            self._gossip.offer(sender)

    async def _open_gate(self) -> None:
        """Let the node publish once a peer's echo came; after a turn to a new epoch every peer's is waited for, for its view."""
        store = self._centre.store
        if not store.fresh and self._others():
            await self._broker.connected.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._centre.settings.repair.echo_seconds):
                    await self._heard_enough(everyone=store.turned)
        self._asking = False
        if not await self._is_behind() and self._centre.sound.is_set():
            self._centre.may_publish.set()
        await asyncio.Event().wait()

    async def _heard_enough(self, *, everyone: bool) -> None:
        while True:
            heard = [one for one in self._others() if self._seen(one).fresh]
            claiming = any(self._echoes.is_claiming(one) for one in heard)
            if heard and not claiming and (not everyone or len(heard) == len(self._others())):
                return
            self._heard.clear()
            await self._heard.wait()

    async def _is_behind(self) -> bool:
        """Ask the store until it says; whoever can't read it can't publish either."""
        while True:
            try:
                return await self._centre.store.read(epochs.behind) is not None
            except StoreTrouble:
                await asyncio.sleep(1)

    async def _beat(self) -> None:
        troubled = False
        while True:
            await asyncio.sleep(min(TICK_SECONDS, self._every))
            if not self._broker.connected.is_set():
                await self._broker.connected.wait()
                self._begin_anew()
            if self._version != self._centre.directory.version:
                self._announce()
            due = [one for one in self._others() if self._seen(one).due <= self._loop.time()]
            try:
                if due:
                    await self._send(due)
                    troubled = False
            except StoreTrouble as trouble:
                if not troubled:
                    self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
                troubled = True
                await asyncio.sleep(1)
            self._notice_silence()

    async def _send(self, due: Sequence[str]) -> None:
        """Seal a heartbeat to each of these peers in one transaction, and post them."""
        points.reach(Point.HEARTBEAT_COMMIT_BEFORE)
        sent = await self._centre.store.write(partial(self._compose, due=due))
        points.reach(Point.HEARTBEAT_COMMIT_AFTER)
        for peer, (raw, holes) in sent.items():
            self._control.post(peer, raw)
            points.reach(Point.HEARTBEAT_POSTED)
            self._ask_for(peer, holes)
        for peer in due:
            seen = self._seen(peer)
            seen.sent += 1
            if seen.heard is None and seen.sent > 1:  # it may not know this centre before it has the directory
                self._gossip.offer(peer, unheard=True)
            seen.pause = min(seen.pause * 2, LONGEST_SECONDS) if seen.silent else self._every
            seen.due = self._loop.time() + seen.pause * random.uniform(0.9, 1.0)  # noqa: S311 - spreads the load

    def _compose(self, connection: Connection, due: Sequence[str]) -> dict[str, tuple[bytes, Holes]]:
        register, found = self._centre.directory, dict[str, tuple[bytes, Holes]]()
        for peer in due:
            echo, seen = peers.echo(connection, peer), self._seen(peer)
            asked, seen.asked = seen.asked, None
            header = peers.evidence(connection, peer, asked) if asked is not None else None
            body = Heartbeat(
                time=self._centre.now(),
                epoch=self._centre.store.epoch,
                directory=register.version,
                digest=register.digest,
                release=relay.__version__,
                echo=echo,
                answer=self._asking and not seen.fresh,
                show=self._echoes.claim(peer),
                shown=base64.b64encode(header).decode() if header is not None else None,
            )
            with contextlib.suppress(Refused):  # it has no key that is valid now
                raw = self._control.numbered(connection, "heartbeat", peer, receipts.write(body))
                found[peer] = raw, self._missing(connection, peer, echo)
        return found

    def _missing(self, connection: Connection, peer: str, echo: Sequence[Echo]) -> Holes:
        """Return what is missing below the highest sequences; the marks heard tell its origin from when this is known."""
        return {
            (epoch, lane): (missing, incoming.heard(connection, peer, epoch, f"mark/{lane}"))
            for (epoch, lane), missing in peers.holes(connection, peer, echo).items()
        }

    def _ask_for(self, peer: str, holes: Holes) -> None:
        """Ask for what was missing at the last heartbeat already: at the 2nd, 3rd, 5th, 9th ... time, should it stay so."""
        known = {key: hole for key, hole in self._holes.items() if key[0] == peer}
        for key in known:
            del self._holes[key]
        for (epoch, lane), (missing, mark) in holes.items():
            hole = known.get((peer, epoch, lane))
            beats = hole.beats + 1 if hole is not None and hole.missing == missing else 0
            self._holes[peer, epoch, lane] = _Hole(missing, beats)
            if beats.bit_count() == 1:
                self._control.post(peer, Nack(epoch=epoch, lane=lane, missing=missing[:MAX_RANGES], mark=mark))

    def _announce(self) -> None:
        """Let every peer know soon that another directory is in force here; one that answers with an older is sent it."""
        self._version = self._centre.directory.version
        members = self._centre.directory.active
        self._peers = {peer: seen for peer, seen in list(self._peers.items()) if peer in members}
        self._echoes.keep(members)
        for seen in list(self._peers.values()):
            seen.due = 0.0

    def _begin_anew(self) -> None:
        """After an outage of the broker nobody is silent before it had the time to be heard."""
        for seen in list(self._peers.values()):
            seen.due = 0.0
            seen.heard = self._loop.time() if seen.heard is not None else None

    def _notice_silence(self) -> None:
        limit = self._loop.time() - MISSED * self._every
        for peer, seen in list(self._peers.items()):
            if seen.heard is not None and seen.heard < limit and not seen.silent:
                seen.silent = True
                self._centre.log.warning(Event.PEER_SILENT, peer=peer)

    def _seen(self, peer: str) -> _Seen:
        return self._peers.setdefault(peer, _Seen(pause=self._every))

    def _others(self) -> list[str]:
        return [one for one in self._centre.directory.active if one != self._centre.id]
