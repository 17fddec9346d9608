"""Recovery: what a node does when its store was restored from an older copy, or made anew.

A store that went back would give sequences out twice. So a node publishes nothing until a peer's echo came (or the time for it
passed), and when a peer shows what it signed and its store does not know, it publishes and takes no more (``recover``), across
restarts, until an operator ran ``relay recover``. That marks the store; the next start begins a new *epoch*: a record of its own
whose first leaf names the last one before, and sequences from 1, for whatever still lacks the last word of a recipient, too: it
is sealed again under the same ids and commitments (:mod:`relay.copies`), and who has it already states again what it is there.
Peers are told by a signed ``epoch`` statement, and what they hold of earlier epochs beyond this store is listed: loss is never
silent.

:func:`prepare` is the operator's part, :func:`open_epoch` what the start does, :class:`Recovery` what the running node does.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from relay import points, receipts, seal
from relay.audit import Audit, AuditStep
from relay.centre import Centre
from relay.clock import now_ms
from relay.control import Control, content
from relay.errors import Refused, Rejected, StoreTrouble
from relay.log import Event
from relay.points import Point
from relay.receipts import Echo, EpochClosed
from relay.seal import Opened
from relay.settings import Settings
from relay.store import Connection, Store, checkpoints, epochs, peers, record
from relay.store.epochs import Behind, Ordered, Turn
from relay.store.peers import Alarm

NEW_EPOCH = "peer-new-epoch"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What ``relay recover`` did: the epoch of the store, the one that follows, and what had shown that it is needed."""

    epoch: int
    following: int
    behind: Behind | None


@dataclass(frozen=True, slots=True)
class View:
    """Where a recovery stands: whether the node stopped for one, and the last turn to a new epoch."""

    behind: Behind | None
    turn: Turn | None


async def prepare(settings: Settings, *, anyway: bool, order: Ordered | None = None) -> Prepared:
    """Mark the store of a node that does not run, so that its next start begins a new epoch.

    ``order`` says who wants it and why; both stand in the first leaf of that epoch. Raises ``Misconfigured`` (``store-in-use``)
    while a node works on the store, ``Refused`` (``needs-yes``) when no peer showed that it went back and nobody said to do it
    ``anyway``.
    """
    store = await Store.open(settings.store.file, settings.centre, settings.network, now_ms())
    try:
        behind, damage = await store.read(epochs.behind), await store.read(checkpoints.damage)
        if behind is None and (damage is None or damage.epoch != store.epoch) and not anyway:
            sentence = (
                "No peer has shown that this store is an older copy, and its record is not known to be damaged; nothing was "
                "changed. Give --yes to do it all the same."
            )
            raise Refused("needs-yes", sentence)
        points.reach(Point.RECOVER_COMMIT_BEFORE)
        epoch, following = await store.write(partial(epochs.want, now=now_ms(), order=order))
        points.reach(Point.RECOVER_COMMIT_AFTER)
    finally:
        await store.close()
    return Prepared(epoch, following, behind)


async def open_epoch(store: Store, now: int) -> Audit:
    """Return the record of the store's epoch, beginning the one that an operator asked for; in one transaction."""
    following = await store.read(epochs.wanted)
    audit = Audit(following or store.epoch)

    def begin(connection: Connection) -> None:
        after = order = None
        if following is not None:
            order, held = epochs.ordered(connection), checkpoints.last_words(connection, store.epoch)
            after = "; ".join(filter(None, (epochs.turn(connection, following, now), held, order.reason if order else None)))
        if following is not None or not record.size(connection, store.epoch):
            actor = order.actor if order is not None else None
            audit.append(connection, [audit.leaf(AuditStep.EPOCH_OPENED, now, actor=actor, why=after)])

    points.reach(Point.EPOCH_COMMIT_BEFORE)
    await store.write(begin)
    points.reach(Point.EPOCH_COMMIT_AFTER)
    if following is not None:
        store.epoch, store.turned = following, True
    return audit


class Recovery:
    """Keeps a node whose store went back from doing harm, and brings it forward again."""

    def __init__(self, centre: Centre, control: Control) -> None:
        self._centre = centre
        self._control = control
        self._behind: Behind | None = None

    @property
    def trouble(self) -> StoreTrouble | None:
        """Why nothing may be taken and published, or None."""
        if self._behind is None:
            return None
        one = self._behind
        sentence = (
            f"{one.peer} holds sequence {one.theirs} of lane {one.lane}, epoch {one.epoch}, and this store knows "
            f"{one.ours}: it is an older copy. Nothing is taken and published; stop the node and run `relay recover`."
        )
        return StoreTrouble("recover", sentence)

    async def begin(self) -> None:
        """Before anything runs: see whether the store is known to be an older copy; tell the peers of a new epoch."""
        store = self._centre.store
        self._behind = await store.read(epochs.behind)
        if self._behind is not None:
            self._say()
        if store.turned:
            await self._tell_peers()
        else:
            others = [one for one in self._centre.directory.active if one != self._centre.id]
            points.reach(Point.NUMBERS_COMMIT_BEFORE)
            await store.write(partial(epochs.raise_numbers, peers=others, now=self._centre.now()))
            points.reach(Point.NUMBERS_COMMIT_AFTER)

    def stop(self, connection: Connection, peer: str, held: Echo, known: int, now: int) -> Callable[[], None] | None:
        """Note, in this transaction, that a peer holds more of this centre than its store knows; return what follows."""
        found = Behind(peer, held.epoch, held.lane, held.highest, known, now)
        if not epochs.set_behind(connection, found):
            return None
        leaf = self._centre.audit.leaf(AuditStep.STORE_WENT_BACK, now, peer=peer, code="recover")
        self._centre.audit.append(connection, [leaf])
        return partial(self._stop, found)

    def proof(self, peer: str, shown: str | None, known: int, claimed: Echo) -> Echo | None:
        """Return what a peer proved to hold beyond the highest sequence known here, by an envelope that this centre signed."""
        try:
            header = base64.b64decode(shown or "", validate=True)
        except ValueError:
            return None
        centre = self._centre
        core = seal.signed_by(header, centre.directory.member(centre.id), centre.settings.network)
        if core is None or (core.type, core.epoch, core.lane) != ("batch", claimed.epoch, claimed.lane):
            return None
        last = next((one.last for one in core.to if one.centre == peer), 0)
        return Echo(epoch=core.epoch, lane=core.lane, highest=last) if last > known else None

    def take_epoch(self, connection: Connection, sender: str, opened: Opened, now: int) -> Callable[[], None] | None:
        """Take a peer's word that it counts anew: nothing is missing any more of what it sent before."""
        body = receipts.read(EpochClosed, content(opened))
        if body.epoch != opened.envelope.core.epoch:
            raise Rejected("bad-control", "An epoch statement speaks of another epoch than its envelope.")
        if body.epoch <= peers.epoch_of(connection, sender):
            return None
        peers.set_epoch(connection, sender, body.epoch)
        return self.alarm(connection, sender, NEW_EPOCH, now)

    def alarm(self, connection: Connection, peer: str, code: str, now: int) -> Callable[[], None]:
        """Raise an alarm about a peer's store in this transaction; return what says so after its commit."""
        peers.raise_alarm(connection, peer, Alarm(code, now))
        self._centre.audit.append(connection, [self._centre.audit.leaf(AuditStep.PEER_ALARM, now, peer=peer, code=code)])
        return partial(self._alarmed, peer, code)

    async def view(self) -> View:
        """Return where a recovery stands."""
        return await self._centre.store.read(lambda connection: View(epochs.behind(connection), epochs.turned(connection)))

    def _stop(self, found: Behind) -> None:
        self._behind = found
        self._centre.may_publish.clear()
        self._say()

    def _say(self) -> None:
        if (trouble := self.trouble) is not None:
            self._centre.log.error(Event.STORE_WENT_BACK, code=trouble.code, detail=trouble.detail)

    def _alarmed(self, peer: str, code: str) -> None:
        self._centre.metrics.peer_alarms.labels(peer, code).inc()
        self._centre.log.error(Event.PEER_ALARM, peer=peer, code=code)

    async def _tell_peers(self) -> None:
        centre = self._centre
        turn = await centre.store.read(epochs.turned)
        centre.log.warning(Event.EPOCH_BEGUN, epoch=centre.store.epoch, before=turn.before if turn else None)
        closed = (turn.before,) if turn else ()
        body = receipts.write(EpochClosed(epoch=centre.store.epoch, closed=closed, time=centre.now()))
        for peer in (one for one in centre.directory.active if one != centre.id):
            try:
                points.reach(Point.STATEMENT_COMMIT_BEFORE)
                raw = await centre.store.write(partial(self._control.numbered, kind="epoch", recipient=peer, content=body))
                points.reach(Point.STATEMENT_COMMIT_AFTER)
            except Refused:  # it has no key: it will learn of it from a heartbeat
                continue
            self._control.post(peer, raw)
            points.reach(Point.STATEMENT_POSTED)
