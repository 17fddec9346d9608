"""Checkpoints: this centre's own log, signed each minute while there is something new, and given to its witnesses.

A checkpoint is signed in the transaction that reads the log: the hashes of its leaves are completed, the log must have the root
that was signed last, and the new root is that over all leaves so far. Each witness is given the newest checkpoint with a proof
from the one that it countersigned last, and again with growing pauses until it countersigned. A witness may *ask* for a proof
from any checkpoint of this centre that it holds; it is answered truthfully, whatever follows from it (:mod:`relay.soundness`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol

from relay import points, receipts, witnessed
from relay.centre import Centre
from relay.clock import from_ms
from relay.control import Control
from relay.directory import Key
from relay.errors import NotReady, Refused, Rejected, StoreTrouble
from relay.log import Event
from relay.points import Point
from relay.store import Connection, checkpoints, trees
from relay.store import witnessed as seen
from relay.store.checkpoints import Kept
from relay.store.trees import Fault
from relay.witnessed import MOST_PROOFS, Checkpoint, Exchange, Note, Proof, Read

LONGEST_SECONDS = 900.0
TROUBLE_SECONDS = 1.0
THIN_EVERY = 60
"""Rounds after which old checkpoints are thinned."""


class Log(Protocol):
    """Who knows whether the log is what was signed."""

    @property
    def trouble(self) -> NotReady | None:
        """Why nothing may be signed, or None."""

    def fault(self, connection: Connection) -> Fault | None:
        """Return how the log differs from the last checkpoint, or None."""

    def judge(self, connection: Connection, shown: Read, now: int) -> Callable[[], None] | None:
        """Compare the log with a checkpoint of this centre that a peer holds; return what follows the commit."""

    async def find(self, fault: Fault) -> None:
        """Keep that the log is damaged, and stop."""


@dataclass(slots=True)
class _Told:
    """What a witness was given last; ``owed`` are sizes from which it asked for a proof. Times are the event loop's."""

    due: float = 0.0
    pause: float = 0.0
    owed: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Round:
    """What a round did, to be acted on after its commit."""

    newest: Kept | None = None
    made: Checkpoint | None = None
    fault: Fault | None = None
    more: bool = False
    log_size: int = 0
    countersigned: int = 0
    posts: list[tuple[str, bytes]] = field(default_factory=list)


class Checkpoints:
    """Signs this centre's log, and keeps what its witnesses say of it."""

    def __init__(self, centre: Centre, control: Control, log: Log) -> None:
        self._centre = centre
        self._control = control
        self._log = log
        self._every = centre.settings.audit.checkpoint_seconds
        self._loop = asyncio.get_running_loop()
        self._told: dict[str, _Told] = {}
        self._wake = asyncio.Event()
        self._alert = False
        self._rounds = 0

    async def run(self) -> None:
        """Sign and give out checkpoints, until cancelled; the first comes after the first pause."""
        following, troubled = self._loop.time() + self._every, False
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(following):
                    await self._wake.wait()
            self._wake.clear()
            fresh = self._loop.time() >= following
            following = self._loop.time() + self._every if fresh else following
            try:
                while self._may_speak() and await self.round(fresh=fresh):
                    pass
                troubled = False
            except StoreTrouble as trouble:
                if not troubled:
                    self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
                troubled = True
                await asyncio.sleep(TROUBLE_SECONDS)

    async def round(self, *, fresh: bool = True) -> bool:
        """Give the newest checkpoint to who lacks it, a new one if ``fresh`` and there is something new; return whether to go on.

        The hashes of a log that has many leaves and none yet are completed over several rounds.
        """
        due = [one for one in self._witnesses() if self._owes(one) or self._loop.time() >= self._of(one).due]
        fresh = fresh and self._log.trouble is None
        points.reach(Point.CHECKPOINT_COMMIT_BEFORE)
        done = await self._centre.store.write(partial(self._commit, due=due, fresh=fresh))
        points.reach(Point.CHECKPOINT_COMMIT_AFTER)
        self._alert = False
        for peer, raw in done.posts:
            self._control.post(peer, raw)
            self._note(peer)
        points.reach(Point.CHECKPOINT_POSTED)
        if done.fault is not None:
            await self._log.find(done.fault)
        self._count(done)
        return done.more

    def hear(self, connection: Connection, sender: str, body: Exchange, now: int) -> Callable[[], None] | None:
        """Take, in this transaction, a witness's countersignature and what it asks for; return what follows the commit."""
        later: list[Callable[[], None] | None] = []
        if body.countersignature is not None:
            later.append(self._countersign(connection, sender, body.countersignature, now))
        own = [self._own(note) for note in body.asks]
        later += [self._log.judge(connection, read, now) for read in own]
        present = [read.said.size for read in own if read.said.epoch == self._centre.store.epoch]
        if present:
            later.append(partial(self._owe, sender, present))
        return partial(_all, [one for one in later if one is not None])

    def shown(self, connection: Connection, note: Note, now: int) -> Callable[[], None] | None:
        """Take, in this transaction, a checkpoint of this centre that a third one holds; return what follows the commit."""
        return self._log.judge(connection, self._own(note), now)

    def tell(self, size: int) -> None:
        """Tell the witnesses that this log is damaged; each of them may hold the checkpoint that showed it."""
        self._alert = True
        for told in map(self._of, self._witnesses()):
            told.due = 0.0
            told.owed.update({size} - {0})
        self._wake.set()

    def _commit(self, connection: Connection, due: Sequence[str], *, fresh: bool) -> _Round:
        epoch, done = self._centre.store.epoch, _Round()
        if fresh and trees.complete(connection, epoch):
            done.more = True
            return done
        if fresh and (fault := self._log.fault(connection)) is not None:
            done.fault = fault
            return done
        done.newest, done.log_size = checkpoints.latest(connection, epoch), trees.size(connection, epoch)
        if fresh and done.log_size > (done.newest.size if done.newest else 0):
            done.made, done.newest = self._sign(connection, done.log_size, done.newest)
        countersigned = checkpoints.countersigned(connection, epoch)
        done.countersigned = max(countersigned.values(), default=0)
        for peer in due:
            body = self._body(connection, peer, done.newest, countersigned.get(peer, 0))
            if body is not None:
                with contextlib.suppress(Refused):  # it has no key that is valid now
                    raw = self._control.numbered(connection, "checkpoint", peer, receipts.write(body))
                    done.posts.append((peer, raw))
        self._rounds += 1
        if self._rounds % THIN_EVERY == 0:
            checkpoints.thin(connection, epoch, self._centre.now())
        return done

    def _sign(self, connection: Connection, size: int, last: Kept | None) -> tuple[Checkpoint, Kept]:
        centre, now = self._centre, self._centre.now()
        time = max(now, last.time + 1 if last else 0)  # a log whose time goes on and whose size goes back was cut
        said = Checkpoint(
            network=centre.settings.network,
            centre=centre.id,
            epoch=centre.store.epoch,
            size=size,
            root=trees.root(connection, centre.store.epoch, size).hex(),
            time=time,
            directory=centre.directory.version,
        )
        note = witnessed.sign_checkpoint(centre.keyring.checkpoint(now), said)
        checkpoints.add(connection, said, note)
        return said, Kept(said.epoch, size, time, note, {})

    def _body(self, connection: Connection, peer: str, newest: Kept | None, since: int) -> Exchange | None:
        """Return what a witness is given: nothing when it has countersigned the newest checkpoint and asked for nothing."""
        owed, damaged = self._of(peer).owed, self._alert and self._log.trouble is not None
        if newest is None:
            return Exchange(damaged=True) if damaged else None
        if since == newest.size and not owed and not damaged:
            return None
        sizes = sorted({*owed, since} - {0}, reverse=True)[:MOST_PROOFS]
        proofs = [proof for size in sizes if size <= newest.size and (proof := self._proof(connection, size, newest.size))]
        others = seen.newest(connection, (self._centre.id, peer))
        return Exchange(checkpoint=newest.note, proofs=tuple(proofs), seen=tuple(others), damaged=damaged)

    def _proof(self, connection: Connection, old: int, new: int) -> Proof | None:
        """Return the proof that the log truly has, whether or not it shows what was signed; None where it lacks leaves."""
        try:
            hashes = trees.consistency(connection, self._centre.store.epoch, old, new)
        except LookupError:
            return None
        return Proof(size=old, hashes=tuple(one.hex() for one in hashes))

    def _countersign(self, connection: Connection, sender: str, note: Note, now: int) -> Callable[[], None] | None:
        moment = from_ms(now)
        said = witnessed.countersignature(note, self._centre.settings.network, self._centre.directory, _usable(moment))
        if said.witness != sender:
            raise Rejected("bad-checkpoint", f"{sender} gives a countersignature of {said.witness}.")
        kept = checkpoints.named(connection, self._centre.store.epoch, said.checkpoint)
        if kept is None or not checkpoints.countersign(connection, kept, said, note, now):
            return None
        return partial(self._countersigned, sender, kept.size)

    def _own(self, note: Note) -> Read:
        """Return a checkpoint that this centre signed, with whatever key it had that nobody else got hold of."""
        register, network = self._centre.directory, self._centre.settings.network
        read = witnessed.checkpoint(note, network, register, lambda key: key.revoked_from is None)
        if read.said.centre != self._centre.id:
            raise Rejected("bad-checkpoint", f"A checkpoint of {read.said.centre} is shown to {self._centre.id} as its own.")
        return read

    def _countersigned(self, witness: str, size: int) -> None:
        told = self._of(witness)
        told.pause = told.due = 0.0
        self._centre.metrics.countersignatures.labels(witness).inc()
        self._centre.log.debug(Event.AUDIT_COUNTERSIGNED, peer=witness, size=size)

    def _owe(self, peer: str, sizes: Sequence[int]) -> None:
        self._of(peer).owed.update(sizes)
        self._wake.set()

    def _owes(self, peer: str) -> bool:
        return bool(self._of(peer).owed)

    def _note(self, peer: str) -> None:
        """Remember that a witness was given a checkpoint: it gets the same one again after a while, twice as long each time."""
        told = self._of(peer)
        told.owed.clear()
        told.pause = min(max(told.pause * 2, self._every), max(LONGEST_SECONDS, self._every))
        told.due = self._loop.time() + told.pause * 0.99  # due again when the round after the pause comes

    def _count(self, done: _Round) -> None:
        metrics = self._centre.metrics
        metrics.audit_uncountersigned.set(max(done.log_size - done.countersigned, 0))
        if (made := done.made) is not None:
            metrics.checkpoint_size.set(made.size)
            metrics.checkpoint_time.set(made.time / 1000)
            self._centre.log.debug(Event.AUDIT_CHECKPOINT, epoch=made.epoch, size=made.size, root=made.root)

    def _may_speak(self) -> bool:
        """Return whether to speak: a store that may be an older copy signs nothing; a damaged log still answers."""
        return self._centre.may_publish.is_set() or self._log.trouble is not None

    def _witnesses(self) -> tuple[str, ...]:
        """Return the witnesses, and whoever else asked for a proof."""
        named = witnessed.witnesses(self._centre.directory, self._centre.id)
        asking = [peer for peer, told in self._told.items() if told.owed and peer not in named]
        return (*named, *(peer for peer in asking if self._centre.directory.member(peer)))

    def _of(self, peer: str) -> _Told:
        return self._told.setdefault(peer, _Told())


def _usable(moment: datetime) -> Callable[[Key], bool]:
    return lambda key: key.usable(moment)


def _all(acts: Sequence[Callable[[], None]]) -> None:
    for act in acts:
        act()
