"""Seals envelopes as ``docs/reference/wire-format.md`` says, and breaks each of its rules on request.

It imports nothing from ``relay``: what it seals, the relay must open, and what it breaks, the relay must refuse.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.independent import hpke
from tests.independent.opener import key_id


@dataclass(frozen=True)
class To:
    """A recipient: its id, the suite and raw public key of its sealing key, and the first sequence."""

    centre: str
    suite: str
    public: bytes
    first: int = 1


@dataclass
class Parts:
    """An envelope before it is signed. Change what you like, then :meth:`sign` it."""

    core: dict[str, Any]
    core_bytes: bytes
    content_key: bytes
    wraps: list[bytes]
    ciphertexts: list[bytes]
    digests: list[bytes] = field(default_factory=list)

    def sign(self, private: bytes, *, prefix: str | None = None) -> bytes:
        """Return the envelope's bytes, signed with an Ed25519 seed; ``prefix`` is the type named there."""
        digests = self.digests or [hashlib.sha256(ciphertext).digest() for ciphertext in self.ciphertexts]
        signed = b"ICR1" + struct.pack(">I", len(self.core_bytes)) + self.core_bytes
        signed += b"".join(struct.pack(">H", len(wrap)) + wrap for wrap in self.wraps) + b"".join(digests)
        purpose = b"intercentre-relay/1 envelope " + (prefix or self.core["type"]).encode() + b"\0"
        signature = Ed25519PrivateKey.from_private_bytes(private).sign(purpose + signed)
        return signed + signature + b"".join(struct.pack(">I", len(one)) + one for one in self.ciphertexts)


def core_of(
    network: str, origin: str, signing: bytes, to: Sequence[To], contents: Sequence[bytes], /, **changes: Any
) -> tuple[dict[str, Any], list[bytes]]:
    """Return a core and the plaintexts (salt and content) it commits to; ``changes`` replace fields."""
    plaintexts = [os.urandom(32) + content for content in contents]
    public = Ed25519PrivateKey.from_private_bytes(signing).public_key().public_bytes_raw()
    named = str(changes.get("origin", origin))
    core = {
        "version": 1,
        "network": network,
        "type": "batch",
        "id": new_id(named),
        "origin": origin,
        "key": key_id("ed25519", public),
        "epoch": 1,
        "lane": "routine",
        "to": [
            {
                "centre": one.centre,
                "key": key_id(one.suite, one.public),
                "suite": one.suite,
                "first": one.first,
                "last": one.first + len(contents) - 1,
            }
            for one in to
        ],
        "messages": [
            {"id": new_id(named), "commitment": commitment(plaintext), "deadline": 1_800_000_000_000} for plaintext in plaintexts
        ],
        "directory": 1,
        "time": 1_780_000_000_000,
    }
    return core | changes, plaintexts


def new_id(origin: str) -> str:
    """Return a new id that ends in its origin's tag."""
    return str(uuid.uuid4())[:-8] + hashlib.sha256(origin.encode()).hexdigest()[:8]


def commitment(plaintext: bytes) -> str:
    """Return the commitment to a salt and the content behind it."""
    return hashlib.sha256(b"intercentre-relay/1 commitment\0" + plaintext).hexdigest()


def enclose(
    core: dict[str, Any], plaintexts: Sequence[bytes], to: Sequence[To], spell: Callable[[dict[str, Any]], bytes] | None = None
) -> Parts:
    """Encrypt and wrap under a core, however malformed it is; ``spell`` replaces its encoding."""
    core_bytes = spell(core) if spell else compact(core)
    content_key, digest = os.urandom(32), hashlib.sha256(core_bytes).digest()
    ciphertexts = [
        AESGCM(content_key).encrypt(index.to_bytes(12, "big"), plaintext, digest + index.to_bytes(4, "big"))
        for index, plaintext in enumerate(plaintexts)
    ]
    return Parts(core, core_bytes, content_key, [wrap(content_key, digest, one) for one in to], ciphertexts)


def wrap(content_key: bytes, core_digest: bytes, to: To) -> bytes:
    """Wrap a content key for a recipient."""
    info = b"intercentre-relay/1 wrap\0" + core_digest + to.centre.encode() + b"\0" + key_id(to.suite, to.public).encode()
    return hpke.seal(to.suite, to.public, info, content_key)


def compact(core: dict[str, Any]) -> bytes:
    """Spell a core as the format asks."""
    return json.dumps(core, separators=(",", ":")).encode()
