"""Signatures of authorities over the bytes of a root or a register, and which authorities have signed.

An authority has signed when one of the keys that the root lists for it has; several of its keys count as one authority. What
signs a register signs no root: each has a prefix of its own. No key is asked twice: two signatures by one key are refused as a
whole.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

from pydantic import Field

from relay.directory.strict import MAX_SIGNATURES_BYTES, Record, decoded, read
from relay.errors import Misconfigured
from relay.keys import SigningKey, VerifyKey

PREFIX = b"intercentre-relay/1 directory\0"
ROOT_PREFIX = b"intercentre-relay/1 root\0"
MAX_SIGNATURES = 64
MAX_AUTHORITY_KEYS = 16


class AuthorityKey(Record):
    """A public key of an authority (Ed25519, raw, base64)."""

    id: str
    public: str


class Authority(Record):
    """An organisation whose signature every version of the directory needs."""

    id: str = Field(min_length=1, max_length=64)
    keys: tuple[AuthorityKey, ...] = Field(min_length=1, max_length=MAX_AUTHORITY_KEYS)


class Signature(Record):
    """An authority's signature over the bytes of a root or a register."""

    authority: str
    key: str
    signature: str = Field(description="Ed25519, base64")


class Signatures(Record):
    """The content of ``directory.signatures.json`` and ``root.N.signatures.json``."""

    signatures: tuple[Signature, ...] = Field(max_length=MAX_SIGNATURES)


def digest(raw: bytes) -> str:
    """Return the SHA-256 of a file's bytes in hex: a root's network id, a directory's link."""
    return hashlib.sha256(raw).hexdigest()


def sign(raw: bytes, authority: str, key: SigningKey) -> Signature:
    """Return an authority's signature over the bytes of a directory."""
    return _sign(PREFIX, raw, authority, key)


def sign_root(raw: bytes, authority: str, key: SigningKey) -> Signature:
    """Return an authority's signature over the bytes of a root that follows another."""
    return _sign(ROOT_PREFIX, raw, authority, key)


def read_signatures(raw: bytes, code: str) -> tuple[Signature, ...]:
    """Return the signatures in these bytes; raise ``Misconfigured`` with ``code`` when they are none."""
    found = read(Signatures, raw, MAX_SIGNATURES_BYTES, code, "file of signatures").signatures
    if len({(one.authority, one.key) for one in found}) != len(found):
        raise Misconfigured(code, "The file of signatures is not valid: it has two signatures by one key.")
    return found


def signers(raw: bytes, signatures: Iterable[Signature], authorities: Iterable[Authority], prefix: bytes) -> frozenset[str]:
    """Return the ids of the authorities that verifiably signed these bytes.

    A signature that names an unknown authority or key counts for nothing. Raises ``ValueError`` for one that is not base64.
    """
    given = tuple(signatures)
    return frozenset(one.id for one in authorities if _has_signed(one, raw, given, prefix))


def _has_signed(authority: Authority, raw: bytes, signatures: tuple[Signature, ...], prefix: bytes) -> bool:
    keys = {key.id: VerifyKey(decoded(key.public)) for key in authority.keys}
    mine = [one for one in signatures if one.authority == authority.id and one.key in keys]
    return any(keys[one.key].verifies(decoded(one.signature), prefix, raw) for one in mine)


def _sign(prefix: bytes, raw: bytes, authority: str, key: SigningKey) -> Signature:
    made = base64.b64encode(key.sign(prefix, raw)).decode()
    return Signature(authority=authority, key=key.id, signature=made)
