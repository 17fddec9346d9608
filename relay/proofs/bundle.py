"""The file that a proof is: one compact JSON object with one spelling, so that no byte of it can be changed unseen.

``docs/reference/proof-format.md`` is the specification. It holds no content of any message: headers, receipts, leaves and
checkpoints name messages by their commitments. Only a proof that was made with ``--reveal`` has the message's salt and bytes,
so that whoever holds it can show what was said. The last member is a digest of all before it; what counts is verified by
:mod:`relay.proofs.check`, the digest finds the rest.

Error raised: ``Refused`` with the code ``proof-malformed`` or ``proof-altered``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated, Literal

import jiter
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError, WithJsonSchema

from relay.errors import Refused
from relay.witnessed import Note

DIGEST_PREFIX = b"intercentre-relay/1 proof\0"
MAX_PROOF_BYTES = 64 * 1024 * 1024
_DIGEST = b',"digest":"'
_TAIL_BYTES = len(_DIGEST) + 64 + len(b'"}')


def _unpack(value: object) -> bytes:
    """Return the bytes of strict base64: one spelling only."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ValueError("not base64")  # noqa: TRY004 - what pydantic makes of it is a validation error
    try:
        raw = base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if base64.b64encode(raw).decode() != value:
        raise ValueError("base64 of another spelling")
    return raw


Octets = Annotated[
    bytes,
    PlainValidator(_unpack),
    PlainSerializer(lambda raw: base64.b64encode(raw).decode(), return_type=str),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
CentreId = Annotated[str, Field(pattern=r"^[A-Z0-9]{2,8}(-[A-Z0-9]{2,8})?$")]
Number = Annotated[int, Field(ge=0, lt=2**53)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Receipt(_Part):
    """A receipt: its signed header, and the salt and bytes of the body that the header commits to."""

    header: Octets
    salt: Octets
    body: Octets


class LeafProof(_Part):
    """A leaf of the log, the list of commitments that it binds, and the hashes that lead from it to the checkpoint's root."""

    position: Number
    leaf: Octets
    commitments: Annotated[tuple[Hex, ...], Field(max_length=2**20)]
    inclusion: Annotated[tuple[Hex, ...], Field(max_length=64)]


class LogProof(_Part):
    """Leaves of one epoch's log, the checkpoint that covers them, and who countersigned it."""

    checkpoint: Note
    countersignatures: Annotated[tuple[Note, ...], Field(max_length=64)]
    leaves: Annotated[tuple[LeafProof, ...], Field(min_length=1, max_length=4096)]


class Revealed(_Part):
    """What the message says: the salt and bytes that its commitment was made of."""

    salt: Octets
    content: Octets


class Proof(_Part):
    """A proof about one message, made from the store of ``centre``; ``directories`` are packed bundles, the newest last."""

    format: Literal["intercentre-relay/1 proof"] = "intercentre-relay/1 proof"
    network: Hex
    centre: CentreId
    message: Id
    directories: Annotated[tuple[Octets, ...], Field(min_length=1, max_length=32)]
    envelope: Octets
    receipts: Annotated[tuple[Receipt, ...], Field(max_length=4096)]
    logs: Annotated[tuple[LogProof, ...], Field(max_length=64)]
    revealed: Revealed | None = None


def write(proof: Proof) -> bytes:
    """Return the bytes of a proof's file, without a line end."""
    spelled = proof.model_dump_json(exclude_none=True).encode()
    return spelled[:-1] + _DIGEST + _digest(spelled[:-1]) + b'"}'


def read(raw: bytes) -> Proof:
    """Return the proof of a file, not verified yet; a line end after it is passed over.

    Raises ``Refused``: ``proof-malformed`` when it is none, or spelled in another way. Whether the digest fits is for
    :func:`check_digest`, which comes last, so that whoever can say where something was changed says so first.
    """
    raw = raw.removesuffix(b"\n")
    if len(raw) > MAX_PROOF_BYTES:
        raise Refused("proof-malformed", f"The file has {len(raw)} bytes, more than any proof.")
    spelled, tail = raw[:-_TAIL_BYTES] + b"}", raw[-_TAIL_BYTES:]
    if not (tail.startswith(_DIGEST) and tail.endswith(b'"}')):
        raise Refused("proof-malformed", "The file does not end as a proof does, with its digest.")
    try:
        jiter.from_json(spelled, catch_duplicate_keys=True, allow_inf_nan=False)
        proof = Proof.model_validate_json(spelled)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = "/".join(map(str, first["loc"])) or "the whole"
        raise Refused("proof-malformed", f"The file is no proof: {ascii(place)[:200]}: {first['msg'][:200]}.") from None
    except ValueError as error:
        raise Refused("proof-malformed", f"The file is no proof: {ascii(str(error))[:200]}.") from None
    if proof.model_dump_json(exclude_none=True).encode() != spelled:
        raise Refused("proof-malformed", "The file is not spelled as a proof is; something in it was changed.")
    return proof


def check_digest(raw: bytes) -> None:
    """Raise ``Refused`` (``proof-altered``) when the digest at the end is not that of the rest."""
    raw = raw.removesuffix(b"\n")
    if raw[-_TAIL_BYTES + len(_DIGEST) : -2] != _digest(raw[:-_TAIL_BYTES]):
        raise Refused("proof-altered", "The digest at the end of the file is not that of the rest: something in it was changed.")


def _digest(spelled: bytes) -> bytes:
    return hashlib.sha256(DIGEST_PREFIX + spelled).hexdigest().encode()
