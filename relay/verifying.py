"""Verifying the audit record: every leaf hashed anew and compared with what was kept and signed, until the first that differs.

What is looked at, epoch by epoch: that no position is missing, that each leaf has the hash that its tile keeps, that tiles and
subtrees are those of their leaves (:func:`relay.store.trees.check`), that each checkpoint states the root of what is before it,
that it and its countersignatures are signed by whom they name. The first fault is named: its epoch and positions, what is wrong,
and what the entry says now. Entries behind the last tile and the last checkpoint were signed by nobody yet: there a missing
one shows, a changed one does not.

It works on the store of a running node (in small pieces, each a snapshot of its own) and on a store's file.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from relay import witnessed
from relay.clock import from_ms
from relay.directory import Directory, Key
from relay.errors import RelayError
from relay.proofs import Authorities
from relay.store import Connection, checkpoints, record, traces, trees
from relay.store.checkpoints import Kept
from relay.store.trees import Check, Fault
from relay.witnessed import Note

AT_ONCE = 16 * 1024
SHOWN = 500

T = TypeVar("T")


@dataclass(slots=True)
class EpochFound:
    """How much of an epoch's record was verified: entries, checkpoints; entries that are ``signed`` and ``countersigned`` for."""

    epoch: int
    entries: int = 0
    checkpoints: int = 0
    signed: int = 0
    countersigned: int = 0


@dataclass(slots=True)
class Verified:
    """What a verification found: its epochs in order, and the first fault, or None; ``says`` is what the entry there says now.

    ``unsigned`` says that no directory was given, so that signatures were not looked at.
    """

    epochs: list[EpochFound] = field(default_factory=list)
    fault: Fault | None = None
    says: str | None = None
    unsigned: bool = False

    @property
    def entries(self) -> int:
        """How many entries were verified."""
        return sum(one.entries for one in self.epochs)


class Verification:
    """One verification, begun anew each time; ``registers`` are versions of the directory, of which one lists each key."""

    def __init__(self, network: str, registers: Sequence[Directory]) -> None:
        self._network = network
        self._registers = sorted(registers, key=lambda one: one.version, reverse=True)
        self.found = Verified(unsigned=not registers)

    def at_once(self, connection: Connection) -> Verified:
        """Verify everything on one connection."""
        for epoch in traces.epochs(connection):
            state = self._begin(epoch)
            while self.step(connection, state):
                pass
            if self.found.fault is not None:
                break
        return self.found

    async def bit_by_bit(
        self, read: Callable[[Callable[[Connection], bool]], Awaitable[bool]], epochs: Iterable[int]
    ) -> Verified:
        """Verify the record of a running node, a bounded number of entries in each of its reads."""
        for epoch in epochs:
            state = self._begin(epoch)
            while await read(partial(self.step, state=state)):
                pass
            if self.found.fault is not None:
                break
        return self.found

    def step(self, connection: Connection, state: Check) -> bool:
        """Verify the next entries of an epoch; return whether there are more."""
        begun, mine = state.tree.size, self.found.epochs[-1]
        fault = trees.check(connection, state, AT_ONCE)
        end = state.tree.size
        mine.entries = end
        signed = checkpoints.between(connection, state.epoch, begun, end)
        fault = fault or self._signatures(signed, mine)
        if fault is None and end - begun < AT_ONCE:
            fault = _after(connection, state.epoch, end)
        if fault is not None:
            mine.entries = min(end, fault.first)
            self.found.fault, self.found.says = fault, _says(connection, fault)
        return fault is None and end - begun == AT_ONCE

    def _begin(self, epoch: int) -> Check:
        self.found.epochs.append(EpochFound(epoch))
        return Check(epoch)

    def _signatures(self, signed: Sequence[Kept], mine: EpochFound) -> Fault | None:
        for kept in signed:
            if self._registers and (wrong := self._wrong(kept)) is not None:
                return Fault(kept.epoch, mine.signed, kept.size - 1, wrong)
            mine.checkpoints += 1
            mine.signed = kept.size
            mine.countersigned = kept.size if kept.countersignatures else mine.countersigned
        return None

    def _wrong(self, kept: Kept) -> str | None:
        """Return what is wrong with a checkpoint or one of its countersignatures, or None."""
        about = f"The checkpoint of {kept.size} entries, epoch {kept.epoch}"
        try:
            said = self._any(lambda register: witnessed.checkpoint(kept.note, self._network, register, _usable(kept.note)).said)
        except RelayError as error:
            return f"{about}, does not count: {error.detail}"
        if (said.epoch, said.size) != (kept.epoch, kept.size):
            return f"{about}, is kept under another epoch or size than it states."
        for witness, note in kept.countersignatures.items():
            try:
                by = self._any(partial(_countersignature, note, self._network))
            except RelayError as error:
                return f"{about}: the countersignature of {witness} does not count: {error.detail}"
            if (by.witness, by.checkpoint) != (witness, kept.note.digest):
                return f"{about}: what is kept as the countersignature of {witness} is about something else."
        return None

    def _any(self, read: Callable[[Directory], T]) -> T:
        """Return what was signed, by the newest version of the directory that lists its key."""
        refusal: RelayError | None = None
        for register in self._registers:
            try:
                return read(register)
            except RelayError as error:
                refusal = refusal or error
        raise refusal or RelayError("audit-fault", "There is no directory.")


def registers(root: bytes, network: str, bundles: Iterable[bytes]) -> list[Directory]:
    """Return those versions of the directory, kept as packed bundles, that the authorities signed; the others do not count."""
    authorities, found = Authorities.of_root(root, network), list[Directory]()
    for one in bundles:
        with contextlib.suppress(RelayError):
            found += authorities.verified([one], network)
    return found


def words(found: Verified) -> list[str]:
    """Return what was found in sentences."""
    said = [
        f"epoch {one.epoch}: {one.entries} entries fit; {one.checkpoints} checkpoints, the last over {one.signed} entries, "
        f"the last that a witness countersigned over {one.countersigned}."
        for one in found.epochs
    ]
    if found.fault is not None:
        said.append(f"FIRST FAULT: {found.fault.detail}")
        if found.says is not None:
            said.append(f"It says now: {found.says}")
    if found.unsigned:
        said.append("Signatures were not looked at: no directory was given.")
    return said


def _after(connection: Connection, epoch: int, size: int) -> Fault | None:
    """Return what is missing behind the last entry that follows without a hole."""
    if max(traces.tiled(connection, epoch), record.size(connection, epoch)) > size:
        return Fault(epoch, size, size, f"Entry {size} of epoch {epoch} is missing.")
    return None


def _says(connection: Connection, fault: Fault) -> str | None:
    """Return what the entry at a fault says now, when the fault is about one entry that is there."""
    found = traces.page(connection, (fault.epoch, fault.first - 1), 1)
    if fault.first != fault.last or not found or (found[0].epoch, found[0].position) != (fault.epoch, fault.first):
        return None
    return ascii(found[0].leaf.decode(errors="replace"))[1:-1][:SHOWN]


def _usable(note: Note) -> Callable[[Key], bool]:
    try:
        at = from_ms(int(json.loads(note.statement)["time"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return lambda _: False
    return lambda key: key.usable(at)


def _countersignature(note: Note, network: str, register: Directory) -> witnessed.Countersignature:
    return witnessed.countersignature(note, network, register, _usable(note))
