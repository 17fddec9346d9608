"""Seal and open: who said it is proved by a signature, who may read it is decided by whom the content key was wrapped for.

Sealing makes one content key per envelope, encrypts each message under it (AES-256-GCM; the nonce is the message's index, the
associated data SHA-256 of the core and the index), and wraps the key for every recipient (HPKE; ``info`` names the core, the
recipient and the key). The signature (Ed25519) covers core, wraps and ciphertext digests. Inside each ciphertext a 32-byte salt
stands before the message's bytes; the commitment in the core is SHA-256 over prefix, salt and bytes, so a receipt or a proof
that names it tells nobody what was said.

Opening goes cheapest check first, and what it raises says what may be done about it: ``NotForUs`` (drop and count),
``NotAuthentic`` (count, keep a sample, sign nothing), ``CannotOpen`` (ask again by a nack). A message that is damaged inside an
authentic envelope comes back as ``Rejected`` in its own place and harms no neighbour.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relay import envelope as wire
from relay.directory import Directory, Key, Member
from relay.envelope import Core, Envelope, EnvelopeType, Item, Recipient
from relay.errors import CannotOpen, NotAuthentic, Rejected
from relay.keyring import Keyring
from relay.keys import CONTENT_KEY_BYTES, RecipientKey, SealingAlgorithm, SealingKey, SigningKey, VerifyKey

WRAP_PREFIX = b"intercentre-relay/1 wrap\0"
COMMITMENT_PREFIX = b"intercentre-relay/1 commitment\0"
SALT_BYTES = 32
OVERHEAD_BYTES = SALT_BYTES + 16
"""By how much a ciphertext is longer than its message: the salt and the tag."""
_FRAME_BYTES, _RECIPIENT_BYTES, _ITEM_BYTES = 768, 1536, 320


@dataclass(frozen=True, slots=True)
class Draft:
    """A message on its way into an envelope; ``deadline`` in milliseconds since the Unix epoch, 0 for none."""

    id: str
    content: bytes
    deadline: int = 0


@dataclass(frozen=True, slots=True)
class Addressee:
    """A recipient with the sequence of the first message (or a control envelope's number)."""

    centre: str
    key: Key
    first: int


def most_bytes(recipients: int, messages: int, content: int) -> int:
    """Return how long an envelope for so many recipients with so many messages of ``content`` bytes together is at most.

    A few hundred bytes a recipient and message more than it is: enough to cut what will be sealed before it is sealed.
    """
    return _FRAME_BYTES + recipients * _RECIPIENT_BYTES + messages * _ITEM_BYTES + content


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed envelope and the content key that its origin keeps, to read its own outbox."""

    envelope: Envelope
    content_key: bytes

    @property
    def raw(self) -> bytes:
        """The envelope as it goes on the wire."""
        return self.envelope.header + self.envelope.body


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened envelope: per message its bytes, or why this one can't be had."""

    envelope: Envelope
    content_key: bytes
    contents: tuple[bytes | Rejected, ...]


class Sealer:
    """Seals in the name of one centre, with the key of its keyring that signs at the moment, or always with the same."""

    def __init__(self, centre: str, network: str, keys: Keyring | SigningKey) -> None:
        self.centre = centre
        self._network = network
        self._keys = keys

    def probe(self, now: int) -> None:
        """Sign something that is thrown away, to show that the key works; ``now`` in milliseconds."""
        self._key(now).sign(b"intercentre-relay/1 probe\0", os.urandom(SALT_BYTES))

    def seal(
        self,
        envelope_type: EnvelopeType,
        lane: str,
        drafts: Sequence[Draft],
        addressees: Sequence[Addressee],
        *,
        epoch: int,
        directory: int,
        now: int,
    ) -> Sealed:
        """Return one envelope that carries these messages to these recipients; ``now`` in milliseconds."""
        salts = _salts(len(drafts))
        items = tuple(
            Item(id=draft.id, commitment=commit(salt, draft.content), deadline=draft.deadline)
            for draft, salt in zip(drafts, salts, strict=True)
        )
        key = self._key(now)
        core = self._core(key, envelope_type, lane, items, addressees, epoch, directory, now)
        plaintexts = [salt + draft.content for draft, salt in zip(drafts, salts, strict=True)]
        return self._enclose(key, core, plaintexts, addressees)

    def again(
        self,
        old: Envelope,
        content_key: bytes,
        positions: range,
        addressees: Sequence[Addressee],
        *,
        directory: int,
        now: int,
        epoch: int | None = None,
    ) -> Sealed:
        """Return consecutive messages of an envelope of this centre in a new one: same ids, sequences and commitments, a new key.

        An addressee's ``first`` is the sequence of the first of these messages: another than before only in another ``epoch``.
        Raises ``Rejected`` when one of them was purged or is damaged.
        """
        plaintexts = [_plaintext(old, content_key, position) for position in positions]
        items = tuple(old.core.messages[position] for position in positions)
        key = self._key(now)
        core = self._core(key, old.core.type, old.core.lane, items, addressees, epoch or old.core.epoch, directory, now)
        return self._enclose(key, core, plaintexts, addressees)

    def _key(self, now: int) -> SigningKey:
        return self._keys if isinstance(self._keys, SigningKey) else self._keys.signing(now)

    def _core(
        self,
        key: SigningKey,
        envelope_type: EnvelopeType,
        lane: str,
        items: tuple[Item, ...],
        addressees: Sequence[Addressee],
        epoch: int,
        directory: int,
        now: int,
    ) -> Core:
        return Core(
            version=1,
            network=self._network,
            type=envelope_type,
            id=wire.new_id(self.centre),
            origin=self.centre,
            key=key.id,
            epoch=epoch,
            lane=lane,
            to=tuple(_recipient(addressee, len(items)) for addressee in addressees),
            messages=items,
            directory=directory,
            time=now,
        )

    @staticmethod
    def _enclose(key: SigningKey, core: Core, plaintexts: Sequence[bytes], addressees: Sequence[Addressee]) -> Sealed:
        content_key = os.urandom(CONTENT_KEY_BYTES)
        core_bytes = wire.encode_core(core)
        core_digest = hashlib.sha256(core_bytes).digest()
        wraps = tuple(_wrap(content_key, core_digest, addressee) for addressee in addressees)
        ciphertexts = _encrypt(content_key, core_digest, plaintexts)
        digests = tuple(hashlib.sha256(ciphertext).digest() for ciphertext in ciphertexts)
        signed = wire.encode_signed(core_bytes, wraps, digests)
        header = signed + key.sign(wire.signature_prefix(core.type), signed)
        return Sealed(Envelope(core, core_bytes, wraps, digests, header, ciphertexts), content_key)


def commit(salt: bytes, content: bytes) -> str:
    """Return the commitment to a message's bytes under a salt: SHA-256 in hex."""
    return hashlib.sha256(COMMITMENT_PREFIX + salt + content).hexdigest()


def verify(envelope: Envelope, me: str, network: str, directory: Directory, now: datetime) -> Member:
    """Return the member that verifiably signed this envelope for this centre.

    Raises ``NotForUs`` or ``NotAuthentic``: without a verified signature there is nobody to answer, also when the envelope
    names a directory newer than ours (its origin's marks repair that once we have it).
    """
    core = envelope.core
    if core.network != network:
        raise NotAuthentic("other-network", "The envelope belongs to another network.")
    core.recipient(me)
    sender, key = _signing_key(core, directory, now)
    if not _is_signed(envelope, key):
        raise NotAuthentic("bad-signature", f"An envelope claims to be from {core.origin}, but its signature is wrong.")
    if not all(envelope.intact(index) for index in range(len(envelope.ciphertexts))):
        raise NotAuthentic("altered", f"A ciphertext of envelope {core.id} is not the one that was signed.")
    return sender


def signed_by(header: bytes, origin: Member | None, network: str) -> Core | None:
    """Return the core of an envelope's header if this member signed it, with a key that is listed and not revoked; else None."""
    try:
        envelope = wire.parse_header(header)
    except NotAuthentic:
        return None
    core = envelope.core
    key = origin.key(core.key) if origin is not None and (core.origin, core.network) == (origin.id, network) else None
    if key is None or key.use != "signing" or key.revoked_from is not None or not _is_signed(envelope, key):
        return None
    return core


def unseal(envelope: Envelope, me: str, keys: Mapping[str, SealingKey]) -> Opened:
    """Return the contents of a verified envelope; raise ``CannotOpen`` when no key of ours unwraps it."""
    core = envelope.core
    recipient = core.recipient(me)
    index = core.to.index(recipient)
    key = keys.get(recipient.key)
    info = _wrap_info(hashlib.sha256(envelope.core_bytes).digest(), recipient)
    content_key = key.unwrap(envelope.wraps[index], info) if key and key.algorithm == recipient.suite else None
    if not content_key or len(content_key) != CONTENT_KEY_BYTES:
        raise CannotOpen("cannot-unwrap", f"Envelope {core.id} does not open with key {recipient.key} of this centre.")
    return Opened(envelope, content_key, contents(envelope, content_key))


def contents(envelope: Envelope, content_key: bytes) -> tuple[bytes | Rejected, ...]:
    """Return each message's bytes under a known content key, or why this one can't be had."""
    core_digest = hashlib.sha256(envelope.core_bytes).digest()
    cipher = AESGCM(content_key)
    return tuple(_content(envelope, cipher, core_digest, index) for index in range(len(envelope.ciphertexts)))


def content(envelope: Envelope, content_key: bytes, index: int) -> bytes | Rejected:
    """Return the bytes of one message, checked against its commitment."""
    return _content(envelope, AESGCM(content_key), hashlib.sha256(envelope.core_bytes).digest(), index)


def opening(envelope: Envelope, content_key: bytes, index: int) -> tuple[bytes, bytes]:
    """Return the salt and the bytes of one message: what opens its commitment to whoever is shown both.

    Raises ``Rejected`` when it was purged or is damaged.
    """
    plaintext = _plaintext(envelope, content_key, index)
    return plaintext[:SALT_BYTES], plaintext[SALT_BYTES:]


def _content(envelope: Envelope, cipher: AESGCM, core_digest: bytes, index: int) -> bytes | Rejected:
    item = envelope.core.messages[index]
    if not envelope.ciphertexts[index]:
        return Rejected("purged", f"Message {item.id} was purged; its header stays as evidence.")
    try:
        plaintext = cipher.decrypt(_nonce(index), envelope.ciphertexts[index], core_digest + struct.pack(">I", index))
    except (InvalidTag, ValueError):
        return Rejected("cannot-decrypt", f"Message {item.id} does not decrypt under its envelope's key.")
    salt, message = plaintext[:SALT_BYTES], plaintext[SALT_BYTES:]
    if commit(salt, message) != item.commitment:
        return Rejected("commitment-mismatch", f"Message {item.id} is not what its envelope commits to.")
    return message


def _plaintext(envelope: Envelope, content_key: bytes, index: int) -> bytes:
    """Return a message of an envelope of this centre, with its salt."""
    ciphertext = envelope.ciphertexts[index]
    if not ciphertext:
        raise Rejected("purged", f"Message {envelope.core.messages[index].id} was purged; its header stays as evidence.")
    bound = hashlib.sha256(envelope.core_bytes).digest() + struct.pack(">I", index)
    try:
        return AESGCM(content_key).decrypt(_nonce(index), ciphertext, bound)
    except (InvalidTag, ValueError):
        raise Rejected("cannot-decrypt", f"Message {envelope.core.messages[index].id} is damaged in the store.") from None


def _signing_key(core: Core, directory: Directory, now: datetime) -> tuple[Member, Key]:
    sender = directory.member(core.origin)
    key = sender and sender.key(core.key)
    if sender and key and key.use == "signing" and key.usable(now):
        return sender, key
    if core.directory > directory.version:
        raise NotAuthentic(
            "directory-too-old",
            f"The envelope names directory version {core.directory}; this node has {directory.version}.",
        )
    if sender is None:
        raise NotAuthentic("unknown-centre", f"An envelope claims to be from {core.origin}, which is no active member.")
    raise NotAuthentic("unknown-key", f"The envelope is signed with a key that {core.origin} may not use now.")


def _is_signed(envelope: Envelope, key: Key) -> bool:
    try:
        verify_key = _verify_key(key.raw)
    except ValueError:  # the directory lists bytes that are no point of the curve: nobody can have signed with them
        return False
    return verify_key.verifies(envelope.signature, wire.signature_prefix(envelope.core.type), envelope.signed)


def _recipient(addressee: Addressee, count: int) -> Recipient:
    return Recipient(
        centre=addressee.centre,
        key=addressee.key.id,
        suite=_suite(addressee.key),
        first=addressee.first,
        last=addressee.first + count - 1,
    )


def _suite(key: Key) -> SealingAlgorithm:
    if key.algorithm == "ed25519":
        raise ValueError(f"key {key.id} is a signing key")
    return key.algorithm


def _wrap(content_key: bytes, core_digest: bytes, addressee: Addressee) -> bytes:
    recipient = _recipient(addressee, 1)
    return _recipient_key(recipient.suite, addressee.key.raw).wrap(content_key, _wrap_info(core_digest, recipient))


def _wrap_info(core_digest: bytes, recipient: Recipient) -> bytes:
    return WRAP_PREFIX + core_digest + recipient.centre.encode() + b"\0" + recipient.key.encode()


def _encrypt(content_key: bytes, core_digest: bytes, plaintexts: Sequence[bytes]) -> tuple[bytes, ...]:
    cipher = AESGCM(content_key)
    return tuple(
        cipher.encrypt(_nonce(index), plaintext, core_digest + struct.pack(">I", index))
        for index, plaintext in enumerate(plaintexts)
    )


def _salts(count: int) -> list[bytes]:
    """Return fresh salts, asked of the system at once: each request gives up the interpreter's lock."""
    drawn = os.urandom(SALT_BYTES * count)
    return [drawn[at : at + SALT_BYTES] for at in range(0, len(drawn), SALT_BYTES)]


def _nonce(index: int) -> bytes:
    return index.to_bytes(12, "big")


@lru_cache(maxsize=1024)
def _verify_key(public: bytes) -> VerifyKey:
    return VerifyKey(public)


@lru_cache(maxsize=1024)
def _recipient_key(algorithm: SealingAlgorithm, public: bytes) -> RecipientKey:
    return RecipientKey(algorithm, public)
