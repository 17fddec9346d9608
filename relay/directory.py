"""The directory: the signed register of centres, their keys, and what each may publish and receive.

Three files travel together and are read as bytes: ``root.json`` (the authorities and their public keys; its SHA-256 is the
network's id, obtained out of band), ``directory.json`` (one version of the register) and ``directory.signatures.json``. A version
counts only when *every* authority of the root has signed those exact bytes with one of its keys, when it names this network, and
before it expires (``docs/adr/0001``). Nothing in the code knows a centre by name: centres are this data.

Errors raised: ``Misconfigured`` with the codes ``bad-root``, ``root-mismatch``, ``bad-directory``, ``directory-unsigned``,
``directory-expired``, ``directory-rollback``.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from relay import codes
from relay.errors import Misconfigured
from relay.keys import SIGNING_ALGORITHM, RecipientKey, SealingAlgorithm, SigningKey, VerifyKey, key_id

PREFIX = b"intercentre-relay/1 directory\0"
SHOWN = 200
"""Characters of a file that an error shows."""

CentreId = Annotated[str, Field(pattern=r"^[A-Z0-9]{2,8}(-[A-Z0-9]{2,8})?$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Key(_Record):
    """A public key of a member, with the time in which it may be used."""

    id: str
    use: Literal["signing", "sealing"]
    algorithm: Literal["ed25519", "mlkem768-x25519", "x25519"]
    public: str = Field(description="raw public key, base64; for the hybrid the ML-KEM-768 key, then the X25519 key")
    valid_from: AwareDatetime
    valid_until: AwareDatetime
    revoked_from: AwareDatetime | None = None

    @property
    def raw(self) -> bytes:
        """The raw bytes of the public key."""
        return base64.b64decode(self.public)

    def usable(self, now: datetime) -> bool:
        """Return whether the key is valid and not revoked at this moment."""
        return self.valid_from <= now < self.valid_until and (self.revoked_from is None or now < self.revoked_from)


class Entitlement(_Record):
    """A set of crime types x regions x kinds; ``*`` and ``001`` stand for all."""

    crime_types: tuple[str, ...] = Field(min_length=1)
    regions: tuple[str, ...] = Field(min_length=1)
    kinds: tuple[str, ...] = Field(default=("*",), min_length=1)
    nominal: bool = Field(default=False, description="whether it covers messages with personal data")

    def covers(self, crime_type: str, regions: tuple[str, ...], kind: str, *, nominal: bool) -> bool:
        """Return whether it covers this crime type and kind in at least one of the (leaf M49) regions."""
        return (
            (self.nominal or not nominal)
            and ("*" in self.kinds or kind in self.kinds)
            and any(codes.covers_crime_type(entitled, crime_type) for entitled in self.crime_types)
            and any(codes.region_covers(entitled, region) for entitled in self.regions for region in regions)
        )


class Contact(_Record):
    """Whom to call, at any hour."""

    name: str
    telephone: str
    email: str


class Member(_Record):
    """A centre: who it is, its keys, and what it may say and hear."""

    id: CentreId
    name: str
    organisation: str
    seat: str
    country: str | None = Field(default=None, description="ISO 3166-1 alpha-2; null for an international organisation")
    time_zone: str
    contact: Contact
    status: Literal["active", "suspended"] = "active"
    clearance: str = "unclassified"
    keys: tuple[Key, ...]
    publish: tuple[Entitlement, ...] = ()
    subscribe: tuple[Entitlement, ...] = ()
    reads: dict[str, tuple[str, ...]] = Field(description="kind -> versions this centre's node can read")

    def key(self, key: str) -> Key | None:
        """Return the member's key of this id, whatever its validity."""
        return self._by_id.get(key)

    def sealing_keys(self, now: datetime) -> list[Key]:
        """Return the keys that content may be sealed to at this moment, the newest first."""
        usable = [key for key in self.keys if key.use == "sealing" and key.usable(now)]
        return sorted(usable, key=lambda key: key.valid_from, reverse=True)

    @cached_property
    def _by_id(self) -> dict[str, Key]:
        return {key.id: key for key in self.keys}


class Retention(_Record):
    """How long a kind of message is kept, in days: unless it says so itself, and at most."""

    default_days: int = Field(ge=1)
    most_days: int = Field(ge=1)


class RetentionPolicy(_Record):
    """How long messages are kept; a kind that is not named here is kept as ``other`` says."""

    kinds: dict[str, Retention] = Field(
        default={
            "alert": Retention(default_days=365, most_days=1826),
            "notice": Retention(default_days=1826, most_days=3652),
            "diffusion": Retention(default_days=1826, most_days=3652),
            "seizure": Retention(default_days=1826, most_days=3652),
            "identification": Retention(default_days=1826, most_days=3652),
        }
    )
    other: Retention = Retention(default_days=1096, most_days=1826)
    nominal_days: int = Field(default=1826, ge=1, le=1826, description="most days for personal data, whatever the kind")

    def of(self, kind: str, *, nominal: bool) -> Retention:
        """Return how long a message of this kind is kept, with or without personal data."""
        found = self.kinds.get(kind, self.other)
        if not nominal:
            return found
        return Retention(
            default_days=min(found.default_days, self.nominal_days), most_days=min(found.most_days, self.nominal_days)
        )


class Policy(_Record):
    """The rules every member's node applies."""

    suites: tuple[SealingAlgorithm, ...] = ("mlkem768-x25519", "x25519")
    default_expiry_hours: int = Field(default=72, ge=1)
    max_expiry_hours: int = Field(default=24 * 30, ge=1)
    retention: RetentionPolicy = RetentionPolicy()


class Directory(_Record):
    """One version of the register."""

    format: Literal[1] = 1
    network: str = Field(description="SHA-256 of root.json, hex")
    version: int = Field(ge=1)
    previous: str | None = Field(description="SHA-256 of the version before, hex; null for the first")
    issued_at: AwareDatetime
    warn_after: AwareDatetime
    expires_at: AwareDatetime
    policy: Policy = Policy()
    members: tuple[Member, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the very bytes that were signed, hex; zeros of one that was not read from its files."""
        return "0" * 64

    def member(self, centre: str) -> Member | None:
        """Return the active member of this id, or None."""
        return self._active.get(centre)

    @property
    def active(self) -> dict[str, Member]:
        """The active members by id."""
        return self._active

    @cached_property
    def _active(self) -> dict[str, Member]:
        return {member.id: member for member in self.members if member.status == "active"}


class AuthorityKey(_Record):
    """A public key of an authority (Ed25519, raw, base64)."""

    id: str
    public: str


class Authority(_Record):
    """An organisation whose signature every version of the directory needs."""

    id: str
    keys: tuple[AuthorityKey, ...] = Field(min_length=1)


class Root(_Record):
    """Who may sign the directory. Its bytes' SHA-256 is the network's id."""

    format: Literal[1] = 1
    name: str
    authorities: tuple[Authority, ...] = Field(min_length=1)


class Signature(_Record):
    """An authority's signature over the bytes of a directory."""

    authority: str
    key: str
    signature: str = Field(description="Ed25519, base64")


class Signatures(_Record):
    """The content of ``directory.signatures.json``."""

    signatures: tuple[Signature, ...]


def digest(raw: bytes) -> str:
    """Return the SHA-256 of a file's bytes in hex: a root's network id, a directory's link."""
    return hashlib.sha256(raw).hexdigest()


def sign(raw: bytes, authority: str, key: SigningKey) -> Signature:
    """Return an authority's signature over the bytes of a directory."""
    made = base64.b64encode(key.sign(PREFIX, raw)).decode()
    return Signature(authority=authority, key=key.id, signature=made)


def read_root(raw: bytes, network: str) -> Root:
    """Return the root whose digest is ``network``; another one is refused as ``root-mismatch``."""
    if digest(raw) != network:
        raise Misconfigured("root-mismatch", f"The root file's SHA-256 is {digest(raw)}, but the settings name {network}.")
    try:
        return Root.model_validate_json(raw)
    except ValidationError as error:
        raise Misconfigured("bad-root", f"The root file is not valid: {_first(error)}") from error


def read_directory(raw: bytes, signatures: bytes, root: Root, network: str, now: datetime, *, held: int = 0) -> Directory:
    """Return the directory once every authority's signature over exactly these bytes is verified.

    ``held`` is the version already in force; a lower one is refused as ``directory-rollback``.
    """
    try:
        signed = Signatures.model_validate_json(signatures).signatures
        _check_signed(raw, signed, root)
        directory = Directory.model_validate_json(raw)
        directory.__dict__["digest"] = digest(raw)
        _check_members(directory)
    except (ValidationError, ValueError) as error:
        raise Misconfigured("bad-directory", f"The directory is not valid: {_first(error)}") from error
    if directory.network != network:
        raise Misconfigured("bad-directory", f"The directory belongs to network {directory.network[:SHOWN]}, not {network}.")
    if directory.version < held:
        raise Misconfigured("directory-rollback", f"Directory version {directory.version} is older than {held}.")
    if now >= directory.expires_at:
        raise Misconfigured("directory-expired", f"Directory version {directory.version} expired {directory.expires_at}.")
    return directory


def _check_signed(raw: bytes, signatures: tuple[Signature, ...], root: Root) -> None:
    missing = [authority.id for authority in root.authorities if not _has_signed(authority, raw, signatures)]
    if missing:
        raise Misconfigured(
            "directory-unsigned",
            f"The directory has no valid signature of {', '.join(missing)[:SHOWN]}; all authorities must sign.",
        )


def _has_signed(authority: Authority, raw: bytes, signatures: tuple[Signature, ...]) -> bool:
    keys = {key.id: VerifyKey(base64.b64decode(key.public)) for key in authority.keys}
    return any(
        keys[signature.key].verifies(base64.b64decode(signature.signature), PREFIX, raw)
        for signature in signatures
        if signature.authority == authority.id and signature.key in keys
    )


def _check_members(directory: Directory) -> None:
    ids = [member.id for member in directory.members]
    if len(set(ids)) != len(ids):
        raise ValueError("two members have the same id")
    for member in directory.members:
        if member.clearance not in codes.CLASSIFICATIONS:
            raise ValueError(f"{member.id} has the clearance {member.clearance!r}, which is no classification")
        for key in member.keys:
            _load_key(key)
            if key.id != key_id(key.algorithm, key.raw):
                raise ValueError(f"key {key.id} of {member.id} is not named after its bytes")
            if (key.use == "signing") != (key.algorithm == SIGNING_ALGORITHM):
                raise ValueError(f"key {key.id} of {member.id} has an algorithm that does not fit its use")
        for entitlement in (*member.publish, *member.subscribe):
            _check_entitlement(member.id, entitlement)


def _load_key(key: Key) -> None:
    """Raise ``ValueError`` when a key's bytes are no key of its algorithm."""
    if key.algorithm == "ed25519":
        VerifyKey(key.raw)
    else:
        RecipientKey(key.algorithm, key.raw)


def _check_entitlement(member: str, entitlement: Entitlement) -> None:
    for crime_type in entitlement.crime_types:
        if crime_type != "*" and not codes.is_crime_type(crime_type):
            raise ValueError(f"{member} is entitled to {crime_type!r}, which is no crime type")
    for region in entitlement.regions:
        if not codes.is_region(region):
            raise ValueError(f"{member} is entitled to {region!r}, which is no M49 region")


def _first(error: ValueError) -> str:
    """Return what is wrong first, within bounds and escaped: the name of an unknown field may be anything."""
    if not isinstance(error, ValidationError):
        return str(error)[:SHOWN]
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "document"
    return f"{(place if place.isprintable() else ascii(place))[:SHOWN]}: {first['msg']}"
