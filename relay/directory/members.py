"""Centres: who each is, its keys with the times in which they count, and what it may publish and receive."""

from __future__ import annotations

import base64
from datetime import datetime
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from relay import codes
from relay.directory.strict import Record

MAX_KEYS = 64
MAX_ENTITLEMENTS = 256
MAX_CODES = 512

CentreId = Annotated[str, Field(pattern=r"^[A-Z0-9]{2,8}(-[A-Z0-9]{2,8})?$")]
KeyUse = Literal["signing", "sealing", "checkpoint"]


class Key(Record):
    """A public key of a member, with the time in which it may be used."""

    id: str
    use: KeyUse
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


class Entitlement(Record):
    """A set of crime types x regions x kinds; ``*`` and ``001`` stand for all."""

    crime_types: tuple[str, ...] = Field(min_length=1, max_length=MAX_CODES)
    regions: tuple[str, ...] = Field(min_length=1, max_length=MAX_CODES)
    kinds: tuple[str, ...] = Field(default=("*",), min_length=1, max_length=MAX_CODES)
    nominal: bool = Field(default=False, description="whether it covers messages with personal data")

    def covers(self, crime_type: str, regions: tuple[str, ...], kind: str, *, nominal: bool) -> bool:
        """Return whether it covers this crime type and kind in at least one of the (leaf M49) regions."""
        return (
            (self.nominal or not nominal)
            and ("*" in self.kinds or kind in self.kinds)
            and any(codes.covers_crime_type(entitled, crime_type) for entitled in self.crime_types)
            and any(codes.region_covers(entitled, region) for entitled in self.regions for region in regions)
        )

    def within(self, other: Entitlement) -> bool:
        """Return whether ``other`` provably covers all that this one covers.

        Decided by the codes as they are written, so that every node says the same whatever versions of the lists it has: that a
        region lies in another (the world apart) doesn't count.
        """
        return (
            (other.nominal or not self.nominal)
            and ("*" in other.kinds or set(self.kinds) <= set(other.kinds))
            and (codes.WORLD in other.regions or set(self.regions) <= set(other.regions))
            and all(any(codes.covers_crime_type(wide, narrow) for wide in other.crime_types) for narrow in self.crime_types)
        )


class Contact(Record):
    """Whom to call, at any hour."""

    name: str
    telephone: str
    email: str


class Member(Record):
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
    keys: tuple[Key, ...] = Field(max_length=MAX_KEYS)
    publish: tuple[Entitlement, ...] = Field(default=(), max_length=MAX_ENTITLEMENTS)
    subscribe: tuple[Entitlement, ...] = Field(default=(), max_length=MAX_ENTITLEMENTS)
    reads: dict[str, tuple[str, ...]] = Field(description="kind -> versions this centre's node can read")

    def key(self, key: str) -> Key | None:
        """Return the member's key of this id, whatever its validity."""
        return self._by_id.get(key)

    def sealing_keys(self, now: datetime) -> list[Key]:
        """Return the keys that content may be sealed to at this moment, the newest first."""
        return self._usable("sealing", now)

    def checkpoint_keys(self, now: datetime) -> list[Key]:
        """Return the keys that may sign checkpoints at this moment, the newest first.

        They are its signing keys where the directory lists no checkpoint key of it at all; one that is revoked or expired still
        counts as listed, so that a revocation never gives another key more to say.
        """
        listed = any(key.use == "checkpoint" for key in self.keys)
        return self._usable("checkpoint" if listed else "signing", now)

    def _usable(self, use: KeyUse, now: datetime) -> list[Key]:
        usable = [key for key in self.keys if key.use == use and key.usable(now)]
        return sorted(usable, key=lambda key: key.valid_from, reverse=True)

    @cached_property
    def _by_id(self) -> dict[str, Key]:
        return {key.id: key for key in self.keys}
