"""Opens envelopes as ``docs/reference/wire-format.md`` says, and knows the relay by that document alone.

Standard library and ``cryptography``: nothing from ``relay``. Who changes the format must change the document, this
file and the vectors in ``schemas/vectors/``; that it takes three hands is the point.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.independent import hpke
from tests.independent.hpke import Private

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractQueue

WRAP_LENGTHS = {"mlkem768-x25519": 1168, "x25519": 80}
CORE = ("version", "network", "type", "id", "origin", "key", "epoch", "lane", "to", "messages", "directory", "time")
RECIPIENT = ("centre", "key", "suite", "first", "last")
MESSAGE = ("id", "commitment", "deadline")
TYPES = ("batch", "receipt", "mark", "nack", "void", "heartbeat", "epoch", "directory", "comparison", "checkpoint")
LANES = ("flash", "immediate", "priority", "routine", "exercise")
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
CENTRE = r"[A-Z0-9]{2,8}(-[A-Z0-9]{2,8})?"


class Failure(Exception):
    """What is wrong with an envelope, or with one message of it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Parsed:
    """An envelope cut into its parts."""

    core: dict[str, Any]
    core_bytes: bytes
    wraps: list[bytes]
    digests: list[bytes]
    signed: bytes
    signature: bytes
    ciphertexts: list[bytes]


@dataclass(frozen=True)
class Opened:
    """An envelope that was opened: per message its content, or the code of what is wrong with it."""

    core: dict[str, Any]
    content_key: bytes
    contents: list[bytes | str]


def key_id(algorithm: str, public: bytes) -> str:
    """Name a public key."""
    return hashlib.sha256(algorithm.encode() + b"\0" + public).hexdigest()[:32]


def load_private(pem: bytes) -> Private:
    """Read a centre's sealing key file."""
    seed, scalar = None, b""
    for block in re.findall(rb"-----BEGIN PRIVATE KEY-----.+?-----END PRIVATE KEY-----\n?", pem, re.DOTALL):
        match load_pem_private_key(block, None):
            case MLKEM768PrivateKey() as lattice:
                seed = lattice.private_bytes_raw()
            case X25519PrivateKey() as classic:
                scalar = classic.private_bytes_raw()
    return Private(seed, scalar)


def read_directory(root: bytes, directory: bytes, signatures: bytes, network: str) -> dict[str, Any]:
    """Return the directory once every authority of the root has signed these bytes."""
    if hashlib.sha256(root).hexdigest() != network:
        raise Failure("root-mismatch")
    given = json.loads(signatures)["signatures"]
    for authority in json.loads(root)["authorities"]:
        keys = {key["id"]: base64.b64decode(key["public"], validate=True) for key in authority["keys"]}
        mine = [one for one in given if one["authority"] == authority["id"] and one["key"] in keys]
        signed = (
            verifies(keys[one["key"]], base64.b64decode(one["signature"]), b"intercentre-relay/1 directory\0" + directory)
            for one in mine
        )
        if not any(signed):
            raise Failure("directory-unsigned")
    read: dict[str, Any] = json.loads(directory)
    if read["network"] != network:
        raise Failure("bad-directory")
    return read


def parse(raw: bytes) -> Parsed:
    """Cut an envelope into its parts."""
    _must(len(raw) <= 16 * 1024 * 1024 and raw[:4] == b"ICR1")
    length = int.from_bytes(raw[4:8], "big")
    _must(len(raw) >= 8 and length <= 256 * 1024 and len(raw) >= 8 + length)
    core_bytes = raw[8 : 8 + length]
    core = _read_core(core_bytes)
    at = 8 + length
    wraps = []
    for recipient in core["to"]:
        size = int.from_bytes(raw[at : at + 2], "big")
        _must(size == WRAP_LENGTHS[recipient["suite"]] and len(raw) >= at + 2 + size)
        wraps.append(raw[at + 2 : at + 2 + size])
        at += 2 + size
    count = len(core["messages"])
    end = at + 32 * count
    _must(len(raw) >= end + 64)
    digests = [raw[at + 32 * i : at + 32 * (i + 1)] for i in range(count)]
    ciphertexts = _read_ciphertexts(raw[end + 64 :], count)
    return Parsed(core, core_bytes, wraps, digests, raw[:end], raw[end : end + 64], ciphertexts)


def verify(parsed: Parsed, me: str, network: str, directory: Mapping[str, Any], now: datetime) -> None:
    """Check who sent it, and that it came whole."""
    core = parsed.core
    if core["network"] != network:
        raise Failure("other-network")
    if me not in [recipient["centre"] for recipient in core["to"]]:
        raise Failure("not-addressed")
    public = _signing_key(core, directory, now)
    prefix = b"intercentre-relay/1 envelope " + core["type"].encode() + b"\0"
    if not verifies(public, parsed.signature, prefix + parsed.signed):
        raise Failure("bad-signature")
    for ciphertext, digest in zip(parsed.ciphertexts, parsed.digests, strict=True):
        if not ciphertext or hashlib.sha256(ciphertext).digest() != digest:
            raise Failure("altered")


def unseal(parsed: Parsed, me: str, keys: Mapping[str, Private]) -> Opened:
    """Decrypt a verified envelope."""
    index, recipient = next((i, one) for i, one in enumerate(parsed.core["to"]) if one["centre"] == me)
    private = keys.get(recipient["key"])
    if private is None or private.suite != recipient["suite"]:
        raise Failure("cannot-unwrap")
    info = b"intercentre-relay/1 wrap\0" + hashlib.sha256(parsed.core_bytes).digest()
    info += me.encode() + b"\0" + recipient["key"].encode()
    try:
        content_key = hpke.open_(private, info, parsed.wraps[index])
    except (InvalidTag, ValueError):
        raise Failure("cannot-unwrap") from None
    return Opened(parsed.core, content_key, contents(parsed, content_key))


def contents(parsed: Parsed, content_key: bytes) -> list[bytes | str]:
    """Return per message its content, or the code of what is wrong with it."""
    return [_content(parsed, content_key, index) for index in range(len(parsed.ciphertexts))]


def open_envelope(
    raw: bytes, me: str, network: str, directory: Mapping[str, Any], now: datetime, keys: Mapping[str, Private]
) -> Opened:
    """Parse, verify and unseal."""
    parsed = parse(raw)
    verify(parsed, me, network, directory, now)
    return unseal(parsed, me, keys)


async def listen(channel: AbstractChannel, exchange: str, key: str) -> AbstractQueue:
    """Declare a temporary queue that gets a copy of what passes an exchange; for an administrator's account only."""
    queue = await channel.declare_queue(exclusive=True, auto_delete=True)
    await queue.bind(exchange, key)
    return queue


def _content(parsed: Parsed, content_key: bytes, index: int) -> bytes | str:
    ciphertext = parsed.ciphertexts[index]
    if not ciphertext:
        return "purged"
    aad = hashlib.sha256(parsed.core_bytes).digest() + index.to_bytes(4, "big")
    try:
        plaintext = AESGCM(content_key).decrypt(index.to_bytes(12, "big"), ciphertext, aad)
    except InvalidTag:
        return "cannot-decrypt"
    commitment = hashlib.sha256(b"intercentre-relay/1 commitment\0" + plaintext).hexdigest()
    return plaintext[32:] if commitment == parsed.core["messages"][index]["commitment"] else "commitment-mismatch"


def _signing_key(core: Mapping[str, Any], directory: Mapping[str, Any], now: datetime) -> bytes:
    active = {member["id"]: member for member in directory["members"] if member.get("status", "active") == "active"}
    member = active.get(core["origin"])
    for key in member["keys"] if member else ():
        if key["id"] == core["key"] and key["use"] == "signing" and _usable(key, now):
            return base64.b64decode(key["public"], validate=True)
    if core["directory"] > directory["version"]:
        raise Failure("directory-too-old")
    raise Failure("unknown-key" if member else "unknown-centre")


def _usable(key: Mapping[str, Any], now: datetime) -> bool:
    start, end, revoked = (
        datetime.fromisoformat(key[name]) if key.get(name) else None for name in ("valid_from", "valid_until", "revoked_from")
    )
    return start is not None and end is not None and start <= now < end and (revoked is None or now < revoked)


def verifies(public: bytes, signature: bytes, data: bytes) -> bool:
    """Return whether an Ed25519 signature holds."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _read_ciphertexts(body: bytes, count: int) -> list[bytes]:
    found = []
    for _ in range(count):
        size = int.from_bytes(body[:4], "big")
        _must(len(body) >= 4 + size and (size == 0 or size >= 48))
        found.append(body[4 : 4 + size])
        body = body[4 + size :]
    _must(not body)
    return found


def _read_core(core_bytes: bytes) -> dict[str, Any]:
    try:
        core = json.loads(core_bytes)
    except (ValueError, RecursionError):
        raise Failure("not-an-envelope") from None
    _must(isinstance(core, dict) and tuple(core) == CORE and _is_list(core["to"], 1024) and _is_list(core["messages"], 64))
    _must(_number(core["version"]) and core["version"] == 1)
    _must(core["type"] in TYPES and core["lane"] in (*LANES, "control"))
    _texts((core["network"], r"[0-9a-f]{64}"), (core["id"], UUID), (core["origin"], CENTRE), (core["key"], r"[0-9a-f]{32}"))
    _must(_number(core["epoch"], 1) and _number(core["directory"], 1) and _time(core["time"]))
    for recipient in core["to"]:
        _must(isinstance(recipient, dict) and tuple(recipient) == RECIPIENT and recipient["suite"] in WRAP_LENGTHS)
        _texts((recipient["centre"], CENTRE), (recipient["key"], r"[0-9a-f]{32}"))
        _must(_number(recipient["first"]) and _number(recipient["last"]))
    for message in core["messages"]:
        _must(isinstance(message, dict) and tuple(message) == MESSAGE and _time(message["deadline"]))
        _texts((message["id"], UUID), (message["commitment"], r"[0-9a-f]{64}"))
    _must(json.dumps(core, separators=(",", ":")).encode() == core_bytes)
    _check_rules(core)
    return core


def _check_rules(core: Mapping[str, Any]) -> None:
    to, messages = core["to"], core["messages"]
    tag = hashlib.sha256(core["origin"].encode()).hexdigest()[:8]
    _must(all(one["id"].endswith(tag) for one in (core, *messages)))
    _must(len({one["centre"] for one in to} | {core["origin"]}) == len(to) + 1)
    _must(len({one["id"] for one in messages}) == len({one["commitment"] for one in messages}) == len(messages))
    if core["type"] == "batch":
        _must(core["lane"] != "control" and all(one["deadline"] > 0 for one in messages))
        _must(all(one["first"] >= 1 and one["last"] == one["first"] + len(messages) - 1 for one in to))
        return
    _must(len(to) == len(messages) == 1 and messages[0]["deadline"] == 0 and to[0]["first"] == to[0]["last"])
    _must((core["lane"] == "control") == (core["type"] != "mark"))
    _must((to[0]["first"] == 0) == (core["type"] in ("receipt", "directory")))


def _texts(*pairs: tuple[object, str]) -> None:
    for value, pattern in pairs:
        _must(isinstance(value, str) and re.fullmatch(pattern, value) is not None)


def _is_list(value: object, most: int) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= most


def _number(value: object, least: int = 0) -> bool:
    return type(value) is int and least <= value < 2**53


def _time(value: object) -> bool:
    return type(value) is int and 0 <= value < 253_402_300_800_000


def _must(holds: bool) -> None:
    if not holds:
        raise Failure("not-an-envelope")
