"""What is said about an audit log: checkpoints, countersignatures, and the body in which they travel.

A *checkpoint* is a centre's signed word that its log of an epoch has a size and, as a Merkle tree, a root. A *countersignature*
is a witness's signed word that it saw a checkpoint and that this continues everything that it saw of that log before. Both are a
:class:`Note`: the exact text (compact JSON of exactly one possible spelling), the id of the key, and an Ed25519 signature over
a prefix of its own and the text. They stand for themselves, outside of any envelope: whoever has the directory can check them.

:func:`checkpoint` and :func:`countersignature` read what was signed and raise ``Rejected`` (``bad-checkpoint``) for what is not
of its form or not signed by a key that its author may use. A key of use ``checkpoint`` signs them, or one of use ``signing``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from relay import merkle
from relay.directory import Directory, Key
from relay.envelope import NUMBER_END, TIME_END
from relay.errors import Rejected
from relay.keys import SigningKey, VerifyKey

CHECKPOINT_PREFIX = b"intercentre-relay/1 checkpoint\0"
COUNTERSIGNATURE_PREFIX = b"intercentre-relay/1 countersignature\0"
MOST_PROOFS = 8
MOST_SEEN = 16
MOST_STATEMENT = 1024

_Number = Annotated[int, Field(ge=0, lt=NUMBER_END)]
_Positive = Annotated[int, Field(ge=1, lt=NUMBER_END)]
_Time = Annotated[int, Field(ge=0, lt=TIME_END)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Centre = Annotated[str, Field(pattern=r"^[A-Z0-9]{2,8}(-[A-Z0-9]{2,8})?$")]
_Hashes = Annotated[tuple[_Digest, ...], Field(max_length=merkle.MOST_HASHES), FailFast()]


class _Statement(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Checkpoint(_Statement):
    """What a centre says of its log: the root over its first ``size`` leaves, under which directory, when (milliseconds)."""

    v: Literal[1] = 1
    network: _Digest
    centre: _Centre
    epoch: _Positive
    size: _Positive
    root: _Digest
    time: _Time
    directory: _Positive


class Countersignature(_Statement):
    """What a witness says of a checkpoint: SHA-256 of its text, hex, and when it countersigned (milliseconds)."""

    v: Literal[1] = 1
    network: _Digest
    witness: _Centre
    checkpoint: _Digest
    time: _Time


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Note(_Part):
    """A text, the id of the key that signed it, and the signature in hex; nothing of it is verified yet."""

    statement: Annotated[str, Field(max_length=MOST_STATEMENT)]
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    @property
    def digest(self) -> str:
        """SHA-256 of the text in hex: what a countersignature names it by."""
        return hashlib.sha256(self.statement.encode()).hexdigest()


class Proof(_Part):
    """That the tree of ``size`` is the beginning of that of the checkpoint beside it (RFC 6962, 2.1.2)."""

    size: _Positive
    hashes: _Hashes


class Exchange(_Part):
    """The body of a ``checkpoint`` envelope; each member may be absent.

    ``checkpoint`` is the sender's newest, ``proofs`` show that it continues earlier ones, ``countersignature`` is of the newest
    one that the recipient gave. ``asks`` are checkpoints of the *recipient* which the sender holds and wants it to prove, first
    the one that it countersigned last. ``seen`` are the newest that the sender holds of third centres. ``damaged`` says that the
    sender's own log is not what it signed, and that it takes nothing any more.
    """

    checkpoint: Note | None = None
    proofs: Annotated[tuple[Proof, ...], Field(max_length=MOST_PROOFS), FailFast()] = ()
    countersignature: Note | None = None
    asks: Annotated[tuple[Note, ...], Field(max_length=MOST_PROOFS), FailFast()] = ()
    seen: Annotated[tuple[Note, ...], Field(max_length=MOST_SEEN), FailFast()] = ()
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """A checkpoint whose signature was verified, with the text that was signed."""

    note: Note
    said: Checkpoint


_Said = TypeVar("_Said", Checkpoint, Countersignature)


def sign_checkpoint(key: SigningKey, said: Checkpoint) -> Note:
    """Return a signed checkpoint."""
    return _sign(key, CHECKPOINT_PREFIX, said)


def countersign(key: SigningKey, said: Countersignature) -> Note:
    """Return a countersignature."""
    return _sign(key, COUNTERSIGNATURE_PREFIX, said)


def checkpoint(signed: Note, network: str, register: Directory, may: Callable[[Key], bool]) -> Read:
    """Return the checkpoint that an active member signed with a key that it ``may`` use."""
    said = _read(Checkpoint, signed)
    _check(signed, CHECKPOINT_PREFIX, said.network == network, register, said.centre, may)
    return Read(signed, said)


def countersignature(signed: Note, network: str, register: Directory, may: Callable[[Key], bool]) -> Countersignature:
    """Return the countersignature that an active member signed with a key that it ``may`` use."""
    said = _read(Countersignature, signed)
    _check(signed, COUNTERSIGNATURE_PREFIX, said.network == network, register, said.witness, may)
    return said


def witnesses(register: Directory, centre: str) -> tuple[str, ...]:
    """Return who countersigns what a centre signs: those that the directory's policy names, or else up to five other members."""
    named = [one for one in getattr(register.policy, "witnesses", ()) if one != centre and register.member(one)]
    return tuple(named or sorted(one for one in register.active if one != centre)[:5])


def _sign(key: SigningKey, prefix: bytes, said: _Statement) -> Note:
    text = said.model_dump_json()
    return Note(statement=text, key=key.id, signature=key.sign(prefix, text.encode()).hex())


def _read(model: type[_Said], signed: Note) -> _Said:
    try:
        said = model.model_validate_json(signed.statement)
    except ValidationError as error:
        raise Rejected("bad-checkpoint", f"A {model.__name__.lower()} is not of its form.") from error
    if said.model_dump_json() != signed.statement:  # one spelling, so that no two readers take two meanings
        raise Rejected("bad-checkpoint", f"A {model.__name__.lower()} is not spelled as it must be.")
    return said


def _check(signed: Note, prefix: bytes, ours: bool, register: Directory, author: str, may: Callable[[Key], bool]) -> None:
    if not ours:
        raise Rejected("bad-checkpoint", "A checkpoint or countersignature belongs to another network.")
    member = register.member(author)
    key = member.key(signed.key) if member else None
    if key is None or key.use == "sealing" or not may(key):
        raise Rejected("bad-checkpoint", f"A checkpoint or countersignature names a key that {author} may not use.")
    if not _verify_key(key.raw).verifies(bytes.fromhex(signed.signature), prefix, signed.statement.encode()):
        raise Rejected("bad-checkpoint", f"A checkpoint or countersignature in the name of {author} has a wrong signature.")


@lru_cache(maxsize=1024)
def _verify_key(public: bytes) -> VerifyKey:
    return VerifyKey(public)
