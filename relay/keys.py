"""Keys: made, kept in files, named by a digest of their public half, and used for exactly one thing each.

Signing keys are Ed25519 (RFC 8032). Sealing keys receive content keys by HPKE (RFC 9180), with one of two key encapsulation
mechanisms: ``mlkem768-x25519`` (KEM 0x647A, the hybrid of draft-ietf-hpke-pq) or ``x25519`` (KEM 0x0020); KDF HKDF-SHA256, AEAD
AES-256-GCM. The storage key wraps content keys at rest (AES key wrap, RFC 3394), so that a sealing key can be rotated out and
destroyed while what was received under it stays readable to its owner. Keys that follow from it serve the index and short texts.

This module and :mod:`relay.seal` are the only ones that touch cryptography. All primitives come from ``cryptography``. Private
keys live in PEM files (PKCS 8; a hybrid key is two blocks, ML-KEM-768 first) that only their owner may read, and are never logged
or stored elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from functools import cache
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relay import private
from relay.errors import Misconfigured

SealingAlgorithm = Literal["mlkem768-x25519", "x25519"]
SIGNING_ALGORITHM = "ed25519"
CONTENT_KEY_BYTES = 32
INDEX_BYTES = 8
NONCE_BYTES = 12

_MLKEM_PUBLIC_BYTES = 1184
_P = 2**255 - 19
_Y_BITS = 2**255 - 1
_Y_OF_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER = frozenset({0, 1, _P - 1, _P, _P + 1, _Y_OF_ORDER_8, _P - _Y_OF_ORDER_8})
"""The y coordinates of the eight points of Ed25519 whose order divides 8, in every spelling of 255 bits."""
_PEM_BLOCK = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----.+?-----END [A-Z0-9 ]+-----\n?", re.DOTALL)

_SealingPrivate = hpke.MLKEM768X25519PrivateKey | x25519.X25519PrivateKey
_SealingPublic = hpke.MLKEM768X25519PublicKey | x25519.X25519PublicKey


def key_id(algorithm: str, public: bytes) -> str:
    """Return the name of a public key: 32 hex digits of SHA-256 over its algorithm, a zero byte and its raw bytes."""
    return hashlib.sha256(algorithm.encode() + b"\0" + public).hexdigest()[:32]


class SigningKey:
    """An Ed25519 private key and its name."""

    def __init__(self, private: ed25519.Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        self.id = key_id(SIGNING_ALGORITHM, self.public)

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a new key."""
        return cls(ed25519.Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a key from a PEM file; raise ``Misconfigured`` when it is missing or of another kind."""
        match _load_blocks(path):
            case [ed25519.Ed25519PrivateKey() as private]:
                return cls(private)
            case _:
                raise Misconfigured("bad-key-file", f"{path} does not hold one Ed25519 private key.")

    def save(self, path: Path) -> None:
        """Write the key to a new PEM file that only its owner can read."""
        write_private(path, _pem(self._private))

    def sign(self, prefix: bytes, data: bytes) -> bytes:
        """Return the 64-byte signature over ``prefix`` (which names the purpose) and ``data``."""
        return self._private.sign(prefix + data)


class VerifyKey:
    """The public half of a signing key."""

    def __init__(self, public: bytes) -> None:
        if int.from_bytes(public, "little") & _Y_BITS in _SMALL_ORDER:
            raise ValueError("a public key of small order: a signature for it can be made without a private key")
        self._public = ed25519.Ed25519PublicKey.from_public_bytes(public)
        self.id = key_id(SIGNING_ALGORITHM, public)

    def verifies(self, signature: bytes, prefix: bytes, data: bytes) -> bool:
        """Return whether the signature over ``prefix`` and ``data`` was made with this key."""
        try:
            self._public.verify(signature, prefix + data)
        except InvalidSignature:
            return False
        return True


class SealingKey:
    """A private key that opens content keys sealed to its owner."""

    def __init__(self, algorithm: SealingAlgorithm, parts: tuple[bytes, ...]) -> None:
        self.algorithm: SealingAlgorithm = algorithm
        self._parts = parts
        self._private, self.public = _sealing_from_parts(algorithm, parts)
        self.id = key_id(algorithm, self.public)

    @classmethod
    def generate(cls, algorithm: SealingAlgorithm = "mlkem768-x25519") -> SealingKey:
        """Make a new key."""
        classic = x25519.X25519PrivateKey.generate().private_bytes_raw()
        if algorithm == "x25519":
            return cls(algorithm, (classic,))
        return cls(algorithm, (mlkem.MLKEM768PrivateKey.generate().private_bytes_raw(), classic))

    @classmethod
    def load(cls, path: Path) -> SealingKey:
        """Read a key from a PEM file; raise ``Misconfigured`` when it is missing or of another kind."""
        match _load_blocks(path):
            case [x25519.X25519PrivateKey() as classic]:
                return cls("x25519", (classic.private_bytes_raw(),))
            case [mlkem.MLKEM768PrivateKey() as lattice, x25519.X25519PrivateKey() as classic]:
                return cls("mlkem768-x25519", (lattice.private_bytes_raw(), classic.private_bytes_raw()))
            case _:
                raise Misconfigured("bad-key-file", f"{path} holds neither an X25519 nor an ML-KEM-768 and X25519 key.")

    def save(self, path: Path) -> None:
        """Write the key to a new PEM file that only its owner can read."""
        blocks = [_pem(x25519.X25519PrivateKey.from_private_bytes(self._parts[-1]))]
        if self.algorithm == "mlkem768-x25519":
            blocks.insert(0, _pem(mlkem.MLKEM768PrivateKey.from_seed_bytes(self._parts[0])))
        write_private(path, b"".join(blocks))

    def unwrap(self, wrapped: bytes, info: bytes) -> bytes | None:
        """Return the content key sealed to this key under ``info``, or None when it does not open."""
        try:
            return _suite(self.algorithm).decrypt(wrapped, self._private, info=info)
        except (InvalidTag, ValueError):
            return None


class RecipientKey:
    """The public half of a sealing key."""

    def __init__(self, algorithm: SealingAlgorithm, public: bytes) -> None:
        self.algorithm: SealingAlgorithm = algorithm
        self.id = key_id(algorithm, public)
        self._public: _SealingPublic
        classic = x25519.X25519PublicKey.from_public_bytes(public if algorithm == "x25519" else public[_MLKEM_PUBLIC_BYTES:])
        x25519.X25519PrivateKey.generate().exchange(classic)  # refuses a point of small order: what is sealed to it, all can open
        self._public = classic
        if algorithm != "x25519":
            lattice = mlkem.MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC_BYTES])
            self._public = hpke.MLKEM768X25519PublicKey(lattice, classic)

    def wrap(self, content_key: bytes, info: bytes) -> bytes:
        """Return the content key sealed to this key's owner; it opens only under the same ``info``."""
        return _suite(self.algorithm).encrypt(content_key, self._public, info=info)


class StorageKey:
    """The local key under which content keys rest in the store."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @classmethod
    def generate(cls) -> StorageKey:
        """Make a new key."""
        return cls(os.urandom(CONTENT_KEY_BYTES))

    @classmethod
    def load(cls, path: Path) -> StorageKey:
        """Read a key from a file of base64; raise ``Misconfigured`` when it is missing or has another length."""
        try:
            raw = base64.b64decode(private.read(path).strip(), validate=True)
        except binascii.Error:
            raw = b""
        if len(raw) != CONTENT_KEY_BYTES:
            raise Misconfigured("bad-key-file", f"{path} does not hold 32 bytes in base64.")
        return cls(raw)

    def save(self, path: Path) -> None:
        """Write the key to a new file that only its owner can read."""
        write_private(path, base64.b64encode(self._raw) + b"\n")

    def index_key(self) -> IndexKey:
        """Return the key under which search terms rest in the store; it follows from this one."""
        return IndexKey(hashlib.blake2b(self._raw, digest_size=32, person=b"icr/1 index").digest())

    def text_key(self) -> TextKey:
        """Return the key under which short texts rest in the store; it follows from this one."""
        return TextKey(hashlib.blake2b(self._raw, digest_size=32, person=b"icr/1 text").digest())

    def wrap(self, content_key: bytes) -> bytes:
        """Return the content key as it may rest in the store (40 bytes)."""
        return keywrap.aes_key_wrap(self._raw, content_key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return the content key; raise ``Misconfigured`` when it was wrapped under another storage key."""
        try:
            return keywrap.aes_key_unwrap(self._raw, wrapped)
        except keywrap.InvalidUnwrap:
            raise Misconfigured("wrong-storage-key", "The store was written under another storage key.") from None


class TextKey:
    """The key under which short texts of people rest in the store."""

    def __init__(self, raw: bytes) -> None:
        self._cipher = AESGCM(raw)

    def seal(self, text: str, about: str) -> bytes:
        """Return a text as it may rest in the store; it opens only for what it is ``about``."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text.encode(), about.encode())

    def open(self, sealed: bytes, about: str) -> str:
        """Return the text; raise ``Misconfigured`` when it was sealed under another storage key or is about something else."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about.encode()).decode()
        except (InvalidTag, ValueError):
            raise Misconfigured("wrong-storage-key", "The store was written under another storage key.") from None


class IndexKey:
    """The key of the index: a term rests as a keyed digest, so that the store alone tells nobody what was searched for."""

    def __init__(self, raw: bytes) -> None:
        self._keyed = hashlib.blake2b(key=raw, digest_size=INDEX_BYTES)

    def token(self, term: str) -> str:
        """Return what stands for a term in the index: 16 hex digits (BLAKE2b, keyed; RFC 7693)."""
        keyed = self._keyed.copy()
        keyed.update(term.encode())
        return keyed.hexdigest()


def write_private(path: Path, content: bytes) -> None:
    """Write a new file with mode 0600; raise ``FileExistsError`` rather than replace one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _load_blocks(path: Path) -> list[object]:
    try:
        blocks = [serialization.load_pem_private_key(block, None) for block in _PEM_BLOCK.findall(private.read(path))]
    except TypeError:  # what cryptography says of a block that needs a passphrase
        sentence = (
            f"{path} is encrypted, and a node has nobody to ask: keep the key decrypted with mode 0600, or as a credential."
        )
        raise Misconfigured("bad-key-file", sentence) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Misconfigured("bad-key-file", f"{path} is not a PEM file of private keys.") from error
    return list(blocks)


def _pem(private: ed25519.Ed25519PrivateKey | x25519.X25519PrivateKey | mlkem.MLKEM768PrivateKey) -> bytes:
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _sealing_from_parts(algorithm: SealingAlgorithm, parts: tuple[bytes, ...]) -> tuple[_SealingPrivate, bytes]:
    classic = x25519.X25519PrivateKey.from_private_bytes(parts[-1])
    classic_public = classic.public_key().public_bytes_raw()
    if algorithm == "x25519":
        return classic, classic_public
    lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(parts[0])
    return hpke.MLKEM768X25519PrivateKey(lattice, classic), lattice.public_key().public_bytes_raw() + classic_public


@cache
def _suite(algorithm: SealingAlgorithm) -> hpke.Suite:
    kem = hpke.KEM.MLKEM768_X25519 if algorithm == "mlkem768-x25519" else hpke.KEM.X25519
    return hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
