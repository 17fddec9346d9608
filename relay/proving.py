"""Proving: what this centre can show about one message, from its store: proofs, who received it, and what the record says.

A proof (:mod:`relay.proofs`) of a message that this centre sent holds its signed header, every receipt that speaks of it, and the
entries of the record about it under a checkpoint; of one that it received, the header and its own entries. Nothing of any
message's content is in it unless it is revealed on purpose, with a reason. What was asked for goes on record.

Errors raised: ``NotFound`` (``not-kept-here``), ``Conflict`` (``already-purged``), ``StoreTrouble``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from relay import directory, points, proofs, seal
from relay import envelope as wire
from relay.audit import AuditStep, digest
from relay.centre import Centre
from relay.envelope import Envelope
from relay.errors import Conflict, NotFound, Rejected
from relay.points import Point
from relay.proofs import LeafProof, LogProof, Proof, Receipt, Revealed
from relay.store import Connection, checkpoints, directories, traces, trees
from relay.store.common import Resting
from relay.store.traces import KeptReceipt, Leaf, ReceivedEvidence, SentEvidence

STATED = frozenset({"accepted", "delivered", "rejected", "purged"})


@dataclass(frozen=True, slots=True)
class Bound:
    """A leaf and the list of commitments that it binds."""

    leaf: Leaf
    commitments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """What the store has about one message."""

    side: SentEvidence | ReceivedEvidence
    receipts: tuple[KeptReceipt, ...]
    logs: tuple[LogProof, ...]
    directories: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Receiver:
    """What one recipient of a message did with it; times in milliseconds, None for what it did not do, as far as is known."""

    centre: str
    sent_at: int | None
    accepted_at: int | None
    delivered_at: int | None
    rejected_at: int | None
    purged_at: int | None
    ended_at: int | None
    code: str | None
    receipts: dict[str, str]


@dataclass(frozen=True, slots=True)
class Receivers:
    """Who was sent a message and what became of it there; ``submitted_at`` is when this centre had it first."""

    message: str
    origin: str
    envelope: str
    submitted_at: int
    recipients: tuple[Receiver, ...]


class Proving:
    """Makes proofs from a centre's store."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    async def prove(self, message: str, actor: str, reveal: str | None = None, why: str | None = None) -> bytes:
        """Return the file that proves what became of a message; with ``reveal``, the reason for it, what it says, too.

        ``why`` is a reason that goes on record with a proof that reveals nothing.
        """
        found = await self._centre.store.read(partial(self._find, message=message))
        made = await self._centre.work(partial(self._make, message, found, reveal=reveal is not None))
        await self._note(found, actor, AuditStep.PROVED if reveal is None else AuditStep.REVEALED, reveal or why)
        return made

    async def receivers(self, message: str) -> Receivers:
        """Return who received a message, from the receipts that are kept, or from this centre's own rows."""
        return await self._centre.store.read(partial(_receivers, message=message, me=self._centre.id))

    def _find(self, connection: Connection, message: str) -> _Found:
        sent = traces.sent(connection, message)
        if sent is not None:
            said = traces.receipts(connection, {one.receipt for one in sent.said if one.receipt is not None})
            bound = list(_of_sent(connection, sent, said))
            return self._complete(connection, sent, tuple(said), bound)
        received = traces.received(connection, message)
        if received is None:
            raise NotFound("not-kept-here", f"Message {message} is not known here, neither sent nor received.")
        return self._complete(connection, received, (), list(_of_received(connection, received)))

    def _complete(
        self, connection: Connection, side: SentEvidence | ReceivedEvidence, said: tuple[KeptReceipt, ...], bound: Sequence[Bound]
    ) -> _Found:
        """Add what covers the leaves, and the versions of the directory that list the keys."""
        commitment = _commitment(side)
        logs = tuple(_logs(connection, [one for one in bound if commitment in one.commitments]))
        versions = {wire.read_core(side.resting.header).directory}
        versions |= {wire.read_core(one.resting.header).directory for one in said}
        return _Found(side, said, logs, _bundles(connection, versions))

    def _make(self, message: str, found: _Found, *, reveal: bool) -> bytes:
        core = wire.read_core(found.side.resting.header)
        proof = Proof(
            network=core.network,
            centre=self._centre.id,
            message=message,
            directories=found.directories or (self._filed(),),
            envelope=found.side.resting.header,
            receipts=tuple(self._receipt(one) for one in found.receipts),
            logs=found.logs,
            revealed=self._revealed(message, found.side) if reveal else None,
        )
        return proofs.write(proof)

    def _filed(self) -> bytes:
        """Return the packed directory of the settings' files: of a store that kept none yet."""
        files = self._centre.settings.directory
        return directory.read_bundle(directory.Paths(files.root, files.file, files.signatures)).pack()

    def _receipt(self, one: KeptReceipt) -> Receipt:
        salt, body = seal.opening(_parsed(one.resting), self._centre.storage_key.unwrap(one.resting.content_key), 0)
        return Receipt(header=one.resting.header, salt=salt, body=body)

    def _revealed(self, message: str, side: SentEvidence | ReceivedEvidence) -> Revealed:
        try:
            key = self._centre.storage_key.unwrap(side.resting.content_key)
            salt, content = seal.opening(_parsed(side.resting), key, side.position)
        except Rejected as error:
            raise Conflict("already-purged", f"Message {message} can't be revealed: {error.detail}") from None
        return Revealed(salt=salt, content=content)

    async def _note(self, found: _Found, actor: str, step: AuditStep, why: str | None) -> None:
        """Put on record who made a proof, and why."""
        centre = self._centre
        leaf = centre.audit.leaf(step, centre.now(), commitments=[_commitment(found.side)], actor=actor, why=why)
        points.reach(Point.PROOF_COMMIT_BEFORE)
        await centre.store.write(lambda connection: centre.audit.append(connection, [leaf]))
        points.reach(Point.PROOF_COMMIT_AFTER)


def _of_sent(connection: Connection, sent: SentEvidence, said: Sequence[KeptReceipt]) -> Iterator[Bound]:
    """Yield the leaves about an envelope of this centre and the receipts of it, each with the commitments that it binds."""
    everything = tuple(wire.commitments(sent.resting.header))
    kept = {one.id: one for one in said}
    changed = {one.id: traces.said_in(connection, one.n) for one in said}
    for leaf, says in traces.entries(traces.leaves_with(connection, [sent.envelope, *kept])):
        about = says.get("envelope")
        if about == sent.envelope and _binds(says, everything):
            yield Bound(leaf, everything)
        elif about in changed and says.get("peer") == kept[about].sender:
            some = _next(changed[about], says)
            if _binds(says, some):
                yield Bound(leaf, some)


def _next(changed: list[tuple[str, str | None, str]], says: dict[str, Any]) -> tuple[str, ...]:
    """Take from what a receipt changed, in order, as much as the next leaf about it binds."""
    fits = [one for one in changed if one[:2] == (says.get("step"), says.get("code"))][: int(says.get("count", 0))]
    for one in fits:
        changed.remove(one)
    return tuple(commitment for _, _, commitment in fits)


def _of_received(connection: Connection, received: ReceivedEvidence) -> Iterator[Bound]:
    """Yield the leaves about an envelope that came, and about its being taken, each with the commitments that it binds."""
    everything = tuple(wire.commitments(received.resting.header))
    mine = (everything[received.position],)
    for leaf, says in traces.entries(traces.leaves_with(connection, [received.envelope])):
        if says.get("envelope") == received.envelope:
            yield from (Bound(leaf, some) for some in dict.fromkeys((everything, mine)) if _binds(says, some))
    if received.state == "delivered":
        given = tuple(traces.given_at(connection, received.origin, received.at))
        text = f'"time":{received.at},"step":"{AuditStep.TAKEN_BY_SYSTEM}"'
        for leaf, says in traces.entries(traces.leaves_with(connection, [text])):
            if says.get("peer") == received.origin and _binds(says, given):
                yield Bound(leaf, given)


def _binds(says: dict[str, Any], commitments: Iterable[str]) -> bool:
    return says.get("commitments") == digest(commitments)


def _logs(connection: Connection, bound: Sequence[Bound]) -> Iterator[LogProof]:
    """Yield, by epoch, the leaves that a checkpoint covers; what is younger than the last checkpoint is left out."""
    for epoch in sorted({one.leaf.epoch for one in bound}):
        mine = [one for one in bound if one.leaf.epoch == epoch]
        while mine and not (covering := checkpoints.covering(connection, epoch, mine[-1].leaf.position)):
            mine.pop()
        if not mine:
            continue
        kept = max(covering, key=lambda one: (len(one.countersignatures), -one.size))
        leaves = tuple(
            LeafProof(
                position=one.leaf.position,
                leaf=one.leaf.leaf,
                commitments=one.commitments,
                inclusion=tuple(path.hex() for path in trees.inclusion(connection, epoch, one.leaf.position, kept.size)),
            )
            for one in mine
        )
        yield LogProof(checkpoint=kept.note, countersignatures=tuple(kept.countersignatures.values()), leaves=leaves)


def _bundles(connection: Connection, versions: set[int]) -> tuple[bytes, ...]:
    """Return the packed directories of these versions as far as they are kept, and the newest one."""
    found = {version: kept for version in versions if (kept := directories.of_version(connection, version)) is not None}
    if (newest := directories.newest(connection)) is not None:
        found[newest.version] = newest
    return tuple(kept.bundle for _, kept in sorted(found.items()))


def _receivers(connection: Connection, message: str, me: str) -> Receivers:
    if (sent := traces.sent(connection, message)) is not None:
        ids = traces.receipt_ids(connection, {one.receipt for one in sent.said if one.receipt is not None})
        recipients = tuple(_receiver(sent, one, ids) for one in sent.recipients)
        return Receivers(message, me, sent.envelope, sent.submitted_at, recipients)
    if (received := traces.received(connection, message)) is not None:
        core = wire.read_core(received.resting.header)
        others = [_nothing_known(one.centre) for one in core.to if one.centre != me]
        ours = _ours(received, me)
        return Receivers(message, received.origin, received.envelope, core.time, (ours, *others))
    raise NotFound("not-kept-here", f"Message {message} is not known here, neither sent nor received.")


def _receiver(sent: SentEvidence, centre: str, ids: dict[int, str]) -> Receiver:
    said = [one for one in sent.said if one.recipient == centre]
    first: dict[str, traces.Said] = {}
    for one in said:
        first.setdefault(one.state, one)
    alone, ended = first.get("sent"), next((one for one in said if one.state in ("expired", "cancelled")), None)
    at = {state: one.at for state, one in first.items()}
    last = first.get("rejected") or ended
    return Receiver(
        centre=centre,
        sent_at=alone.at if alone else sent.sent_at,
        accepted_at=at.get("accepted"),
        delivered_at=at.get("delivered"),
        rejected_at=at.get("rejected"),
        purged_at=at.get("purged"),
        ended_at=ended.at if ended else None,
        code=(last.code or last.state) if last else None,
        receipts={state: ids[one.receipt] for state, one in first.items() if state in STATED and one.receipt in ids},
    )


def _ours(received: ReceivedEvidence, me: str) -> Receiver:
    refused = received.state in ("quarantined", "rejected")
    return Receiver(
        centre=me,
        sent_at=None,
        accepted_at=None if refused else received.received_at,
        delivered_at=received.at if received.state == "delivered" else None,
        rejected_at=received.at if refused else None,
        purged_at=received.purged_at,
        ended_at=None,
        code=received.code,
        receipts={},
    )


def _nothing_known(centre: str) -> Receiver:
    return Receiver(centre, None, None, None, None, None, None, None, {})


def _commitment(side: SentEvidence | ReceivedEvidence) -> str:
    return wire.commitments(side.resting.header)[side.position]


def _parsed(resting: Resting) -> Envelope:
    return wire.parse(resting.header + resting.body)
