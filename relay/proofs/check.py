"""Verifying a proof with nothing but the file and what the verifier knows of the authorities.

In this order; the first failure decides, and its code says where:

1. ``proof-directory``: the authorities signed the versions of the directory in the file, for the network that it names.
2. ``proof-envelope``: the header is signed by its origin, with a key that the directory lists as usable at that time, and names
   the message.
3. ``proof-receipt``: each receipt is signed by a recipient, its body is the one that its header commits to, and it speaks of the
   message.
4. ``proof-checkpoint``, ``proof-countersignature``: the checkpoints are signed by the centre whose log it is, and countersigned.
5. ``proof-leaf``: each leaf binds the list of commitments beside it, and the message's is among them; ``proof-inclusion``: the
   leaf stands in the log at its position.
6. ``proof-content``: what is revealed is what the header commits to.
7. ``proof-altered``: nothing else in the file was changed.

Times are what each signer's own clock said. A key that is revoked from a time on proves nothing that claims a later one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import jiter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relay import envelope as wire
from relay import merkle, receipts, seal, witnessed
from relay.clock import from_ms
from relay.directory import Directory, Key
from relay.envelope import TIME_END, Envelope, Item
from relay.errors import Refused, RelayError
from relay.keys import VerifyKey
from relay.proofs import bundle
from relay.proofs.authorities import Authorities
from relay.proofs.bundle import LeafProof, LogProof, Proof
from relay.witnessed import Checkpoint, Countersignature, Note

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Stated:
    """What a recipient signed about the message; ``at`` by its clock, in milliseconds."""

    recipient: str
    state: str
    at: int
    code: str | None
    receipt: str
    key: str


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry of the log about the message, and the size of the checkpoint that covers it."""

    epoch: int
    position: int
    step: str
    time: int
    peer: str | None
    size: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A checkpoint, and who countersigned it when."""

    epoch: int
    size: int
    root: str
    time: int
    witnesses: tuple[tuple[str, int], ...]


@dataclass(slots=True)
class Verdict:
    """What a proof proves; times in milliseconds since the Unix epoch."""

    network: str
    centre: str
    message: str
    origin: str
    envelope: str
    commitment: str
    sealed_at: int
    key: str
    recipients: tuple[str, ...]
    directories: tuple[int, ...]
    stated: list[Stated] = field(default_factory=list)
    logged: list[Logged] = field(default_factory=list)
    checkpoints: list[Watched] = field(default_factory=list)
    content: bytes | None = None
    cautions: list[str] = field(default_factory=list)


def check(raw: bytes, authorities: Authorities) -> Verdict:
    """Return what a proof's file proves; raise ``Refused`` with the code that says where it does not hold."""
    proof = bundle.read(raw)
    registers = authorities.verified(proof.directories, proof.network)
    verdict = _Checking(proof, registers).verdict()
    bundle.check_digest(raw)
    return verdict


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Leaf(_Part):
    """What counts of an entry that speaks of messages; its centre may be a hostile one, and have logged anything."""

    epoch: int
    time: Annotated[int, Field(ge=0, lt=TIME_END)]
    step: str
    peer: str | None = None
    count: int
    commitments: str


class _Timed(_Part):
    """When a statement says that it was signed."""

    time: Annotated[int, Field(ge=0, lt=TIME_END)]


class _Checking:
    """One proof under the directories that it carries."""

    def __init__(self, proof: Proof, registers: Sequence[Directory]) -> None:
        self._proof = proof
        self._registers = sorted(registers, key=lambda one: one.version)
        self._cautions: list[str] = []

    def verdict(self) -> Verdict:
        proof = self._proof
        envelope = self._signed(proof.envelope, "batch", "proof-envelope")
        core = envelope.core
        item = next((one for one in core.messages if one.id == proof.message), None)
        if item is None:
            raise Refused("proof-envelope", f"The signed header does not name message {proof.message}.")
        recipients = tuple(one.centre for one in core.to)
        if proof.centre not in (core.origin, *recipients):
            raise Refused("proof-envelope", f"{proof.centre} is neither the origin nor a recipient of the envelope.")
        verdict = Verdict(
            network=proof.network,
            centre=proof.centre,
            message=proof.message,
            origin=core.origin,
            envelope=core.id,
            commitment=item.commitment,
            sealed_at=core.time,
            key=core.key,
            recipients=recipients,
            directories=tuple(one.version for one in self._registers),
            cautions=self._cautions,
        )
        for number in range(len(proof.receipts)):
            verdict.stated += self._stated(number, envelope, item)
        for log in proof.logs:
            self._add_log(log, item, verdict)
        if proof.revealed is not None:
            if seal.commit(proof.revealed.salt, proof.revealed.content) != item.commitment:
                raise Refused("proof-content", "The revealed content is not what the header commits to.")
            verdict.content = proof.revealed.content
        return verdict

    def _signed(self, header: bytes, kind: str, code: str) -> Envelope:
        """Return the envelope of a header once its signature is verified."""
        try:
            count = len(wire.read_core(header).messages)
            envelope = wire.parse(header + wire.join_ciphertexts([b""] * count))
        except (RelayError, ValidationError, ValueError, IndexError):
            raise Refused(code, f"A {kind}'s header is not of its form.") from None
        core = envelope.core
        if core.type != kind or core.network != self._proof.network:
            raise Refused(code, f"A header is that of another network, or of no {kind}.")
        key = self._key(core.origin, core.key, core.directory, core.time, code)
        if not VerifyKey(key.raw).verifies(envelope.signature, wire.signature_prefix(core.type), envelope.signed):
            raise Refused(code, f"The signature of {core.origin} over the header of {kind} {core.id} is wrong.")
        return envelope

    def _key(self, centre: str, key_id: str, version: int, at: int, code: str) -> Key:
        """Return a member's signing key: every version in the file that lists it must list it as usable at that time."""
        listed = [
            (register.version, key)
            for register in self._registers
            for member in register.members
            if member.id == centre and (key := member.key(key_id)) is not None and key.use == "signing"
        ]
        if not listed:
            raise Refused(code, f"No version of the directory in the file lists key {key_id} as a signing key of {centre}.")
        if not all(key.usable(from_ms(at)) for _, key in listed):
            raise Refused(code, f"Key {key_id} of {centre} was not valid, or revoked, at the time that the signature names.")
        if version not in {one for one, _ in listed}:
            self._caution(f"{centre} went by directory version {version}, which is not in the file; its key is listed in others.")
        if any(key.revoked_from is not None for _, key in listed):
            self._caution(
                f"Key {key_id} of {centre} was revoked later: only a countersigned checkpoint shows that it signed before."
            )
        return listed[-1][1]

    def _stated(self, number: int, envelope: Envelope, item: Item) -> list[Stated]:
        """Return what one receipt says of the message."""
        given = self._proof.receipts[number]
        signed = self._signed(given.header, "receipt", "proof-receipt")
        core = signed.core
        if core.origin not in {one.centre for one in envelope.core.to} or core.to[0].centre != envelope.core.origin:
            raise Refused("proof-receipt", f"Receipt {core.id} is not one of a recipient to the origin.")
        if seal.commit(given.salt, given.body) != core.messages[0].commitment:
            raise Refused("proof-receipt", f"The body of receipt {core.id} is not the one that was signed.")
        try:
            said = receipts.read(receipts.Receipt, given.body)
        except RelayError as error:
            raise Refused("proof-receipt", f"Receipt {core.id}: {error.detail}") from None
        found = [
            Stated(core.origin, one.state, one.time, one.code, core.id, core.key)
            for one in said.statements
            if item.commitment in one.commitments
        ]
        if not found:
            raise Refused("proof-receipt", f"Receipt {core.id} says nothing of the message.")
        return found

    def _add_log(self, log: LogProof, item: Item, verdict: Verdict) -> None:
        said = self._checkpoint(log.checkpoint)
        if said.centre != self._proof.centre:
            raise Refused("proof-checkpoint", f"A checkpoint is that of {said.centre}, not of {self._proof.centre}.")
        by = tuple((one.witness, one.time) for one in (self._countersignature(log, note) for note in log.countersignatures))
        if len({witness for witness, _ in by} | {said.centre}) != len(by) + 1:
            raise Refused("proof-countersignature", "A witness countersigned a checkpoint twice, or its own.")
        for leaf in log.leaves:
            verdict.logged.append(_entry(leaf, said, item))
        verdict.checkpoints.append(Watched(said.epoch, said.size, said.root, said.time, by))

    def _checkpoint(self, note: Note) -> Checkpoint:
        at = _time(note, "proof-checkpoint")
        return self._read("proof-checkpoint", lambda register: witnessed.checkpoint(note, self._proof.network, register, at).said)

    def _countersignature(self, log: LogProof, note: Note) -> Countersignature:
        at = _time(note, "proof-countersignature")
        said = self._read(
            "proof-countersignature", lambda register: witnessed.countersignature(note, self._proof.network, register, at)
        )
        if said.checkpoint != log.checkpoint.digest:
            raise Refused("proof-countersignature", f"{said.witness} countersigned another checkpoint than the one in the file.")
        return said

    def _read(self, code: str, read: Callable[[Directory], S]) -> S:
        """Return what was signed, by the newest version of the directory that lists its key."""
        refusal = RelayError(code, "The file has no version of the directory.")
        for register in reversed(self._registers):
            try:
                return read(register)
            except RelayError as error:
                refusal = error
        raise Refused(code, refusal.detail)

    def _caution(self, sentence: str) -> None:
        if sentence not in self._cautions:
            self._cautions.append(sentence)


def _entry(given: LeafProof, checkpoint: Checkpoint, item: Item) -> Logged:
    """Return what a leaf says once it is shown to stand in the log and to speak of the message."""
    try:
        jiter.from_json(given.leaf, catch_duplicate_keys=True, allow_inf_nan=False)
        said = _Leaf.model_validate_json(given.leaf)
    except ValueError:
        raise Refused("proof-leaf", f"Entry {given.position} is no leaf that speaks of messages.") from None
    logged = Logged(said.epoch, given.position, said.step, said.time, said.peer, checkpoint.size)
    bound = (said.commitments, said.count)
    if (
        bound != (wire.digest_of_commitments(given.commitments), len(given.commitments))
        or item.commitment not in given.commitments
    ):
        raise Refused("proof-leaf", f"Entry {given.position} does not bind the commitments beside it, or not the message's.")
    if logged.epoch != checkpoint.epoch:
        raise Refused("proof-leaf", f"Entry {given.position} is one of another epoch than the checkpoint.")
    path = [bytes.fromhex(one) for one in given.inclusion]
    if not merkle.includes(merkle.hash_leaf(given.leaf), given.position, checkpoint.size, path, bytes.fromhex(checkpoint.root)):
        raise Refused(
            "proof-inclusion", f"Entry {given.position} is not in the log of {checkpoint.size} entries that was signed."
        )
    return logged


def _time(note: Note, code: str) -> Callable[[Key], bool]:
    """Return what says whether a key was usable when a statement says that it was signed."""
    try:
        at = from_ms(_Timed.model_validate_json(note.statement).time)
    except ValueError:
        raise Refused(code, "A statement is not of its form.") from None
    return lambda key: key.usable(at)
