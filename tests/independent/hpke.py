"""HPKE (RFC 9180, base mode, single shot) for the two suites of the wire format, from hash and curve up.

Written from ``docs/reference/wire-format.md`` and the RFC alone; it imports nothing from ``relay``, nor HPKE of ``cryptography``.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEM_IDS = {"mlkem768-x25519": b"\x64\x7a", "x25519": b"\x00\x20"}
KDF_ID, AEAD_ID = b"\x00\x01", b"\x00\x02"
MLKEM_PUBLIC, MLKEM_CIPHERTEXT = 1184, 1088
XWING_LABEL = b"\\.//^\\"


@dataclass(frozen=True)
class Private:
    """A sealing key: the ML-KEM-768 seed (64 bytes, or None) and the X25519 scalar (32 bytes)."""

    seed: bytes | None
    scalar: bytes

    @property
    def suite(self) -> str:
        """The suite's name in the header and the directory."""
        return "x25519" if self.seed is None else "mlkem768-x25519"

    @property
    def public(self) -> bytes:
        """The raw public key as the directory lists it."""
        classic = X25519PrivateKey.from_private_bytes(self.scalar).public_key().public_bytes_raw()
        if self.seed is None:
            return classic
        return MLKEM768PrivateKey.from_seed_bytes(self.seed).public_key().public_bytes_raw() + classic


def seal(suite: str, public: bytes, info: bytes, plaintext: bytes) -> bytes:
    """Return ``enc || ct`` for a recipient's public key."""
    shared, enc = _encapsulate(suite, public)
    key, nonce = _schedule(suite, shared, info)
    return enc + AESGCM(key).encrypt(nonce, plaintext, b"")


def open_(private: Private, info: bytes, wrapped: bytes) -> bytes:
    """Return the plaintext of ``enc || ct``; raises when it does not open."""
    length = 32 if private.seed is None else MLKEM_CIPHERTEXT + 32
    key, nonce = _schedule(private.suite, _decapsulate(private, wrapped[:length]), info)
    return AESGCM(key).decrypt(nonce, wrapped[length:], b"")


def _encapsulate(suite: str, public: bytes) -> tuple[bytes, bytes]:
    ephemeral = X25519PrivateKey.generate()
    enc = ephemeral.public_key().public_bytes_raw()
    classic_public = public[-32:]
    dh = ephemeral.exchange(X25519PublicKey.from_public_bytes(classic_public))
    if suite == "x25519":
        return _dhkem(dh, enc, classic_public), enc
    lattice, ciphertext = MLKEM768PublicKey.from_public_bytes(public[:MLKEM_PUBLIC]).encapsulate()
    return _xwing(lattice, dh, enc, classic_public), ciphertext + enc


def _decapsulate(private: Private, enc: bytes) -> bytes:
    scalar = X25519PrivateKey.from_private_bytes(private.scalar)
    public = scalar.public_key().public_bytes_raw()
    dh = scalar.exchange(X25519PublicKey.from_public_bytes(enc[-32:]))
    if private.seed is None:
        return _dhkem(dh, enc, public)
    lattice = MLKEM768PrivateKey.from_seed_bytes(private.seed).decapsulate(enc[:MLKEM_CIPHERTEXT])
    return _xwing(lattice, dh, enc[-32:], public)


def _dhkem(dh: bytes, enc: bytes, public: bytes) -> bytes:
    suite = b"KEM" + KEM_IDS["x25519"]
    return _expand(suite, _extract(suite, b"", b"eae_prk", dh), b"shared_secret", enc + public, 32)


def _xwing(lattice: bytes, dh: bytes, enc: bytes, public: bytes) -> bytes:
    return hashlib.sha3_256(lattice + dh + enc + public + XWING_LABEL).digest()


def _schedule(suite_name: str, shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    suite = b"HPKE" + KEM_IDS[suite_name] + KDF_ID + AEAD_ID
    context = b"\x00" + _extract(suite, b"", b"psk_id_hash", b"") + _extract(suite, b"", b"info_hash", info)
    secret = _extract(suite, shared, b"secret", b"")
    return _expand(suite, secret, b"key", context, 32), _expand(suite, secret, b"base_nonce", context, 12)


def _extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, labelled + b"\x01", "sha256")[:length]
