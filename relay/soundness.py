"""Soundness: whether this centre's own log still is what it signed, and what follows when it is not.

At the start the log must have the root that was signed last; then, and once an hour, all of it is hashed anew and compared with
every hash and checkpoint that was kept. A witness may hold a checkpoint that this centre signed and that its log does not have
any more. Any of it makes the log *damaged*: nothing is taken, published or signed any more (``audit-damaged``), across restarts,
until an operator's word (``relay recover``) ends its epoch. The next epoch's first leaf says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from relay.centre import Centre
from relay.clock import iso
from relay.errors import NotReady, StoreTrouble
from relay.log import Event
from relay.store import Connection, checkpoints, trees
from relay.store.checkpoints import Damage
from relay.store.trees import Check, Fault
from relay.witnessed import Checkpoint, Read

LEAVES_AT_ONCE = 2048
TROUBLE_SECONDS = 1.0


class Told(Protocol):
    """Who is told that the log is damaged, on the event loop."""

    def __call__(self, size: int) -> None:
        """Tell the witnesses, with a proof from the checkpoint of this size that showed it; 0: none did."""


@dataclass(frozen=True, slots=True)
class Looked:
    """When the whole log was last found to be what was signed (milliseconds), and how many entries of which epoch it had."""

    at: int
    epoch: int
    entries: int


class Soundness:
    """Says whether the log of this centre can be trusted; ``tell`` is called when it can't any more, ``looked`` when it was."""

    def __init__(self, centre: Centre) -> None:
        self.looked: Looked | None = None
        self._centre = centre
        self._damage: Damage | None = None
        self.tell: Told | None = None

    @property
    def trouble(self) -> NotReady | None:
        """Why nothing may be taken and published, or None."""
        if self._damage is None:
            return None
        since = f"{self._damage.detail} Noticed {iso(self._damage.at)}."
        return NotReady("audit-damaged", f"{since} Nothing is taken and published; stop the node and run `relay recover`.")

    async def begin(self) -> None:
        """Before anything runs: see whether the log is known to be damaged, and whether it has the root that was signed last."""
        known = await self._centre.store.read(checkpoints.damage)
        if known is not None and known.epoch == self._centre.store.epoch:
            self.stop(known)
        elif (fault := await self._centre.store.read(self.fault)) is not None:
            await self.find(fault)

    async def run(self) -> None:
        """Check the whole log at the start and once an hour, until cancelled."""
        while True:
            try:
                if self._damage is None and (fault := await self.verify()) is not None:
                    await self.find(fault)
            except StoreTrouble as trouble:
                self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
                await asyncio.sleep(TROUBLE_SECONDS)
                continue
            await asyncio.sleep(self._centre.settings.audit.verify_seconds)

    async def verify(self) -> Fault | None:
        """Hash the whole log anew and compare it with what was kept and signed; return the first fault, or None."""
        centre, state = self._centre, Check(self._centre.store.epoch)
        while True:
            before, begun = state.tree.size, centre.elapsed()
            fault = await centre.store.read(partial(trees.check, state=state, limit=LEAVES_AT_ONCE))
            if fault is not None:
                return fault
            if state.tree.size - before < LEAVES_AT_ONCE:
                self.looked = Looked(centre.now(), state.epoch, state.tree.size)
                centre.metrics.audit_verified.set(self.looked.at / 1000)
                centre.log.info(Event.AUDIT_VERIFIED, epoch=state.epoch, size=state.tree.size)
                return None
            await asyncio.sleep((centre.elapsed() - begun) / 1000)  # the other half of the time is the messages'

    def fault(self, connection: Connection) -> Fault | None:
        """Return how the log differs from the last checkpoint, by its kept hashes and its last leaves; or None."""
        epoch = self._centre.store.epoch
        last = checkpoints.latest(connection, epoch)
        if last is None:
            return None
        try:
            if trees.root(connection, epoch, last.size) == last.root:
                return None
        except (LookupError, ValueError) as error:
            return Fault(epoch, 0, last.size - 1, str(error.args[0] if error.args else error))
        sentence = f"The first {last.size} entries of epoch {epoch} do not have the root that was signed for them."
        return Fault(epoch, 0, last.size - 1, sentence)

    def judge(self, connection: Connection, shown: Read, now: int) -> Callable[[], None] | None:
        """Compare, in this transaction, the log with a checkpoint of this centre that a peer holds; return what follows."""
        said, epoch = shown.said, self._centre.store.epoch
        if said.epoch < epoch:
            return None
        size = trees.size(connection, said.epoch)
        try:
            if said.size <= size and trees.root(connection, epoch, said.size).hex() == said.root:
                return None
        except LookupError:
            pass
        sentence = f"A peer holds a checkpoint of {said.size} entries of epoch {said.epoch}, signed here, that this log is not."
        damage = Damage(epoch, now, sentence, shown.note)
        return partial(self.stop, damage) if checkpoints.set_damage(connection, damage) else None

    async def find(self, fault: Fault) -> None:
        """Keep that the log is damaged, and stop."""
        damage = Damage(fault.epoch, self._centre.now(), fault.detail)
        await self._centre.store.write(partial(checkpoints.set_damage, found=damage))
        self.stop(damage)

    def stop(self, damage: Damage) -> None:
        """Take, publish and sign nothing any more."""
        if self._damage is not None:
            return
        self._damage = damage
        self._centre.may_publish.clear()
        self._centre.sound.clear()
        self._centre.metrics.audit_damaged.set(1)
        self._centre.log.error(Event.AUDIT_DAMAGED, epoch=damage.epoch, code="audit-damaged", detail=damage.detail)
        if self.tell is not None:
            self.tell(Checkpoint.model_validate_json(damage.shown.statement).size if damage.shown is not None else 0)
