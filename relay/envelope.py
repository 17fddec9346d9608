"""The envelope: one byte string on the wire, a signed header and one ciphertext per message.

Layout (integers are big-endian; ``docs/reference/wire-format.md`` is the specification)::

    0        4      magic "ICR1"
    4        4      C, the length of the core
    8        C      core: one compact JSON object, ASCII, of exactly one possible spelling      (class Core)
    8+C             per recipient, in the core's order: 2 bytes length, the content key wrapped for it
                    per message, in the core's order: 32 bytes, SHA-256 of its ciphertext
    S       64      Ed25519 signature over PREFIX(type) and bytes 0..S
    S+64            per message, in the core's order: 4 bytes length, ciphertext (length 0: purged, at rest only)

This module knows the bytes and nothing of keys: :func:`parse` raises ``NotAuthentic`` for whatever is not exactly this form,
:mod:`relay.seal` verifies and opens. Times are milliseconds since the Unix epoch. A receipt, mark, nack or other control envelope
has the same form with one body in place of messages, one recipient, and its number where a batch has a sequence.

Numbers stay below 2**53 and times below the year 10000, so that every language, database and calendar can hold them.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import jiter
import uuid_utils
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from relay.errors import NotAuthentic, NotForUs
from relay.keys import SealingAlgorithm

MAGIC = b"ICR1"
COMMITMENTS_PREFIX = b"intercentre-relay/1 commitments\0"
MAX_MESSAGES = 64
MAX_ENVELOPE_BYTES = 16 * 1024 * 1024
MAX_CORE_BYTES = 256 * 1024
SIGNATURE_BYTES = 64
DIGEST_BYTES = 32
LEAST_CIPHERTEXT_BYTES = 48
"""A salt and a tag around no content at all."""
WRAP_BYTES: dict[SealingAlgorithm, int] = {"mlkem768-x25519": 1168, "x25519": 80}
NUMBER_END = 2**53
TIME_END = 253_402_300_800_000
"""Milliseconds at which the year 10000 begins."""

EnvelopeType = Literal["batch", "receipt", "mark", "nack", "void", "heartbeat", "epoch", "directory", "comparison", "checkpoint"]
UNNUMBERED: frozenset[EnvelopeType] = frozenset({"receipt", "directory"})
MessageLane = Annotated[str, Field(pattern=r"^(flash|immediate|priority|routine|exercise)$")]
Lane = Annotated[str, Field(pattern=r"^(flash|immediate|priority|routine|exercise|control)$")]

_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
_Centre = Annotated[str, Field(pattern=r"^[A-Z0-9]{2,8}(-[A-Z0-9]{2,8})?$")]
_KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Number = Annotated[int, Field(ge=0, lt=NUMBER_END)]
_Positive = Annotated[int, Field(ge=1, lt=NUMBER_END)]
_Time = Annotated[int, Field(ge=0, lt=TIME_END)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Recipient(_Part):
    """A recipient, the key and suite its content key is wrapped with, and the sequences its messages have.

    In a control envelope ``first`` and ``last`` are its number, in a receipt and a directory they are 0.
    """

    centre: _Centre
    key: _KeyId
    suite: SealingAlgorithm
    first: _Number
    last: _Number


class Item(_Part):
    """A message as the header names it; ``deadline`` is 0 in control envelopes, and only there."""

    id: _Id
    commitment: _Digest
    deadline: _Time


class Core(_Part):
    """What the signature covers first, and what every wrap and ciphertext is bound to."""

    version: Literal[1]
    network: _Digest
    type: EnvelopeType
    id: _Id
    origin: _Centre
    key: _KeyId
    epoch: _Positive
    lane: Lane
    to: Annotated[tuple[Recipient, ...], Field(min_length=1, max_length=1024), FailFast()]
    messages: Annotated[tuple[Item, ...], Field(min_length=1, max_length=MAX_MESSAGES), FailFast()]
    directory: _Positive
    time: _Time

    def recipient(self, centre: str) -> Recipient:
        """Return the entry of this centre; raise ``NotForUs`` when the envelope does not name it."""
        for recipient in self.to:
            if recipient.centre == centre:
                return recipient
        raise NotForUs("not-addressed", f"Envelope {self.id} does not name {centre}.")


@dataclass(frozen=True, slots=True)
class Outline:
    """What matters of an envelope for sending it: its id, who signed it with which key, each recipient's key, the messages.

    ``messages`` are their ids, in the order of their ``commitments``.
    """

    id: str
    signed_with: str
    sealed_to: dict[str, str]
    commitments: list[str]
    messages: list[str]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope; nothing in it is verified yet."""

    core: Core
    core_bytes: bytes
    wraps: tuple[bytes, ...]
    digests: tuple[bytes, ...]
    header: bytes
    ciphertexts: tuple[bytes, ...]

    @property
    def signed(self) -> bytes:
        """The bytes that the signature covers (after its prefix)."""
        return self.header[:-SIGNATURE_BYTES]

    @property
    def signature(self) -> bytes:
        """The 64 bytes of the Ed25519 signature."""
        return self.header[-SIGNATURE_BYTES:]

    @property
    def body(self) -> bytes:
        """Everything behind the header."""
        return join_ciphertexts(self.ciphertexts)

    def intact(self, index: int) -> bool:
        """Return whether the ciphertext at this index is there and the one that was signed."""
        return bool(self.ciphertexts[index]) and hashlib.sha256(self.ciphertexts[index]).digest() == self.digests[index]


def new_id(origin: str, after: str = "") -> str:
    """Return a new UUIDv7 (RFC 9562) that is its origin's alone: the last 32 of its random bits are the origin's tag.

    So no centre can take an id before its owner does, and an id alone names one message in the whole network. The id is greater
    than ``after``, also when the clock was set back meanwhile.
    """
    new = str(uuid_utils.uuid7())[: -len(_tag(origin))] + _tag(origin)
    if new > after:
        return new
    following = f"{int(after[:13].replace('-', ''), 16) + 1:012x}"  # the millisecond after that of the other id
    return f"{following[:8]}-{following[8:]}{new[13:]}"


def given_at(message: str) -> int:
    """Return when an id was given, in milliseconds by its origin's clock."""
    return int(message[:8] + message[9:13], 16)


def is_of(message: str, origin: str) -> bool:
    """Return whether an id is one that this origin alone can have given."""
    return message.endswith(_tag(origin))


@cache
def _tag(origin: str) -> str:
    return hashlib.sha256(origin.encode()).hexdigest()[:8]


def signature_prefix(envelope_type: str) -> bytes:
    """Return what is signed in front of an envelope of this type, so that no signature serves two purposes."""
    return b"intercentre-relay/1 envelope " + envelope_type.encode() + b"\0"


def encode_core(core: Core) -> bytes:
    """Return a core as the compact JSON that is signed; one that no receiver would take raises ``ValueError``."""
    if fault := _fault(core):
        raise ValueError(fault)
    return _spell(core)


def encode_signed(core_bytes: bytes, wraps: Sequence[bytes], digests: Sequence[bytes]) -> bytes:
    """Return the header's bytes up to its signature."""
    parts = [MAGIC, struct.pack(">I", len(core_bytes)), core_bytes]
    for wrap in wraps:
        parts += (struct.pack(">H", len(wrap)), wrap)
    return b"".join((*parts, *digests))


def join_ciphertexts(ciphertexts: Sequence[bytes]) -> bytes:
    """Return the ciphertexts, each behind its length, as they follow the header."""
    return b"".join(part for ciphertext in ciphertexts for part in (struct.pack(">I", len(ciphertext)), ciphertext))


def parse(raw: bytes) -> Envelope:
    """Return the envelope that these bytes are; anything else raises ``NotAuthentic``."""
    if len(raw) > MAX_ENVELOPE_BYTES:
        raise NotAuthentic("not-an-envelope", f"The envelope has {len(raw)} bytes, more than {MAX_ENVELOPE_BYTES}.")
    reader = _Reader(raw)
    if reader.take(4) != MAGIC:
        raise NotAuthentic("not-an-envelope", "The bytes do not begin as an envelope does.")
    core_length = reader.number(4)
    if core_length > MAX_CORE_BYTES:
        raise NotAuthentic("not-an-envelope", f"The core claims {core_length} bytes, more than {MAX_CORE_BYTES}.")
    core_bytes = reader.take(core_length)
    core = _parse_core(core_bytes)
    wraps = tuple(reader.wrap(recipient) for recipient in core.to)
    digests = tuple(reader.take(DIGEST_BYTES) for _ in core.messages)
    reader.take(SIGNATURE_BYTES)
    header = raw[: reader.at]
    ciphertexts = tuple(reader.ciphertext() for _ in core.messages)
    reader.end()
    return Envelope(core, core_bytes, wraps, digests, header, ciphertexts)


def parse_header(header: bytes) -> Envelope:
    """Return the envelope, without its ciphertexts, that this header is of; anything else raises ``NotAuthentic``."""
    if header[:4] != MAGIC or len(header) > MAX_ENVELOPE_BYTES:
        raise NotAuthentic("not-an-envelope", "The bytes do not begin as an envelope does.")
    count = header[8 : 8 + int.from_bytes(header[4:8], "big")].count(b'"commitment":')
    return parse(header + bytes(4) * count)  # lengths of 0, as at rest after a purge


def read_core(header: bytes) -> Core:
    """Return the core of a header that this node itself has parsed or sealed before."""
    return Core.model_validate_json(header[8 : 8 + int.from_bytes(header[4:8], "big")])


def commitments(header: bytes) -> list[str]:
    """Return the commitments, in order, that a header names which this node itself has parsed or sealed before."""
    core: dict[str, Any] = jiter.from_json(header[8 : 8 + int.from_bytes(header[4:8], "big")])
    return [item["commitment"] for item in core["messages"]]


def digest_of_commitments(commitments: Iterable[str]) -> str:
    """Return the one digest that stands for a list of commitments in an audit leaf: SHA-256 in hex."""
    return hashlib.sha256(COMMITMENTS_PREFIX + bytes.fromhex("".join(commitments))).hexdigest()


def outline(header: bytes) -> Outline:
    """Return what matters for sending a header that this node itself has sealed before.

    Raises ``NotAuthentic`` (``not-an-envelope``) when it was damaged since.
    """
    try:
        core: dict[str, Any] = jiter.from_json(header[8 : 8 + int.from_bytes(header[4:8], "big")])
        return Outline(
            core["id"],
            core["key"],
            {recipient["centre"]: recipient["key"] for recipient in core["to"]},
            [item["commitment"] for item in core["messages"]],
            [item["id"] for item in core["messages"]],
        )
    except (ValueError, TypeError, KeyError) as error:
        raise NotAuthentic("not-an-envelope", "The header of an envelope is damaged in the store.") from error


def without(header: bytes, body: bytes, positions: Iterable[int]) -> bytes:
    """Return the body of an envelope at rest without the ciphertexts at these positions; header and neighbours still verify."""
    reader, purged = _Reader(body), set(positions)
    kept = [reader.ciphertext() for _ in read_core(header).messages]
    return join_ciphertexts([b"" if position in purged else ciphertext for position, ciphertext in enumerate(kept)])


def is_whole(body: bytes) -> bool:
    """Return whether no ciphertext of an envelope at rest was purged; one that is there has at least its tag."""
    at = 0
    while at < len(body):
        length = int.from_bytes(body[at : at + 4], "big")
        if not length:
            return False
        at += 4 + length
    return True


def _parse_core(core_bytes: bytes) -> Core:
    try:
        core = Core.model_validate_json(core_bytes)
    except ValidationError as error:
        raise NotAuthentic("not-an-envelope", "The core of the envelope is not of its form.") from error
    # One spelling only: no duplicate keys, no white space, no escapes, so no two readers take two meanings.
    fault = _fault(core) or (None if _spell(core) == core_bytes else "The core of the envelope is not spelled as it must be.")
    if fault:
        raise NotAuthentic("not-an-envelope", fault)
    return core


def _spell(core: Core) -> bytes:
    return core.model_dump_json().encode()


def _fault(core: Core) -> str | None:
    """Return what is wrong between the fields of a core, or None."""
    if len({recipient.centre for recipient in core.to} | {core.origin}) != len(core.to) + 1:
        return "The envelope names a recipient twice, or its own origin."
    if len({item.id for item in core.messages}) != len(core.messages):
        return "The envelope names a message twice."
    tag = _tag(core.origin)
    if not core.id.endswith(tag) or not all(item.id.endswith(tag) for item in core.messages):
        return "An id does not end in the tag of the envelope's origin."
    if len({item.commitment for item in core.messages}) != len(core.messages):
        return "The envelope names a commitment twice."
    return _fault_of_batch(core) if core.type == "batch" else _fault_of_control(core)


def _fault_of_batch(core: Core) -> str | None:
    if core.lane == "control":
        return "A batch travels in a lane for messages."
    if any(recipient.first < 1 or recipient.last - recipient.first + 1 != len(core.messages) for recipient in core.to):
        return "A recipient's sequences do not count the messages from 1 up."
    if any(item.deadline == 0 for item in core.messages):
        return "A message has no deadline."
    return None


def _fault_of_control(core: Core) -> str | None:
    if (core.lane == "control") == (core.type == "mark"):
        return "A mark travels in a lane for messages, all other control in the lane for control."
    if len(core.to) != 1 or len(core.messages) != 1 or core.messages[0].deadline != 0:
        return "A control envelope has one recipient and one body without deadline."
    first, last = core.to[0].first, core.to[0].last
    if first != last or (first == 0) != (core.type in UNNUMBERED):
        return "A control envelope has one number from 1 up, a receipt and a directory have 0."
    return None


class _Reader:
    """Takes bytes from the front; running out of them raises ``NotAuthentic``."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.at = 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self._raw):
            raise NotAuthentic("not-an-envelope", "The envelope ends too early.")
        taken = self._raw[self.at : end]
        self.at = end
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def wrap(self, recipient: Recipient) -> bytes:
        taken = self.take(self.number(2))
        if len(taken) != WRAP_BYTES[recipient.suite]:
            raise NotAuthentic("not-an-envelope", "A wrapped key has not the length of its suite.")
        return taken

    def ciphertext(self) -> bytes:
        taken = self.take(self.number(4))
        if 0 < len(taken) < LEAST_CIPHERTEXT_BYTES:
            raise NotAuthentic("not-an-envelope", "A ciphertext is too short to hold a message.")
        return taken

    def end(self) -> None:
        if self.at != len(self._raw):
            raise NotAuthentic("not-an-envelope", "Bytes follow the end of the envelope.")
