"""One version of the register of centres, and what makes it contradict itself.

A version is judged for what it says here, and for who signed it in :mod:`relay.directory.trust`: signatures show who made it, not
that it is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal

from pydantic import AwareDatetime, Field

from relay import codes
from relay.directory.members import Entitlement, Key, Member
from relay.directory.policies import Policy
from relay.directory.roots import MAX_VERSION
from relay.directory.signatures import digest
from relay.directory.strict import MAX_DIRECTORY_BYTES, SHOWN, Record, decoded, read, shown
from relay.directory.weak import is_weak
from relay.errors import Misconfigured
from relay.keys import SIGNING_ALGORITHM, RecipientKey, VerifyKey, key_id

MAX_MEMBERS = 1000
Age = Literal["valid", "due", "expired"]


class Directory(Record):
    """One version of the register."""

    format: Literal[1] = 1
    network: str = Field(description="SHA-256 of root.json, hex")
    version: int = Field(ge=1, le=MAX_VERSION)
    previous: str | None = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the version before, hex; null for the first")
    issued_at: AwareDatetime
    warn_after: AwareDatetime
    expires_at: AwareDatetime
    reason: str = Field(default="", max_length=500, description="why this version was issued, for people")
    policy: Policy = Policy()
    members: tuple[Member, ...] = Field(max_length=MAX_MEMBERS)

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

    def age(self, now: datetime) -> Age:
        """Return ``due`` once a newer version should have come, ``expired`` once this one no longer counts."""
        if now >= self.expires_at:
            return "expired"
        return "due" if now >= self.warn_after else "valid"

    @cached_property
    def _active(self) -> dict[str, Member]:
        return {member.id: member for member in self.members if member.status == "active"}


def parse_directory(raw: bytes) -> Directory:
    """Return the version in these bytes, whoever wrote it; raise ``Misconfigured`` when it is none or contradicts itself."""
    directory = read(Directory, raw, MAX_DIRECTORY_BYTES, "bad-directory", "directory")
    directory.__dict__["digest"] = digest(raw)
    try:
        _check(directory)
    except ValueError as error:
        raise Misconfigured("bad-directory", f"The directory is not valid: {shown(str(error))}") from error
    return directory


def check_network(directory: Directory, network: str) -> None:
    """Raise ``Misconfigured`` when a version belongs to another network."""
    if directory.network != network:
        sentence = f"The directory belongs to network {shown(directory.network)}, not {network}."
        raise Misconfigured("bad-directory", sentence)


def check_age(directory: Directory, now: datetime) -> None:
    """Raise ``Misconfigured`` when a version's time is over."""
    if directory.age(now) == "expired":
        raise Misconfigured("directory-expired", f"Directory version {directory.version} expired {directory.expires_at}.")


def _check(directory: Directory) -> None:
    if (directory.version == 1) != (directory.previous is None):
        raise ValueError("the first version has none before it, every other one has")
    ids = [member.id for member in directory.members]
    if len(set(ids)) != len(ids):
        raise ValueError("two members have the same id")
    keys = [key.id for member in directory.members for key in member.keys]
    if len(set(keys)) != len(keys):
        raise ValueError("one key stands there twice, and a key has one owner and one use")
    if not set(directory.policy.witnesses) <= set(ids):
        raise ValueError("a witness is no member")
    for moment in (directory.issued_at, directory.warn_after, directory.expires_at):
        _check_moment(moment)
    for member in directory.members:
        _check_member(member)


def _check_member(member: Member) -> None:
    if member.clearance not in codes.CLASSIFICATIONS:
        raise ValueError(f"{member.id} has the clearance {member.clearance[:SHOWN]!r}, which is no classification")
    for key in member.keys:
        _check_key(member.id, key)
    for entitlement in (*member.publish, *member.subscribe):
        for wrong in _unknown(entitlement):
            raise ValueError(f"{member.id} is entitled to {wrong[:SHOWN]!r}, which is no crime type or M49 region")


def _check_moment(moment: datetime) -> None:
    """Refuse what no clock in UTC can show: within hours of the calendar's ends, and beyond them by its offset."""
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment.isoformat()} is no moment in UTC that can be written") from None


def _check_key(member: str, key: Key) -> None:
    for moment in filter(None, (key.valid_from, key.valid_until, key.revoked_from)):
        _check_moment(moment)
    raw = decoded(key.public)
    if key.id != key_id(key.algorithm, raw):
        raise ValueError(f"key {key.id} of {member} is not named after its bytes")
    if (key.use == "sealing") == (key.algorithm == SIGNING_ALGORITHM):
        raise ValueError(f"key {key.id} of {member} has an algorithm that does not fit its use")
    if key.algorithm == "ed25519":
        VerifyKey(raw)
    else:
        RecipientKey(key.algorithm, raw)
    if is_weak(key.algorithm, raw):
        raise ValueError(f"key {key.id} of {member} is a point of small order, which is nobody's secret")


def _unknown(entitlement: Entitlement) -> Iterator[str]:
    yield from (one for one in entitlement.crime_types if one != codes.ALL_CRIME_TYPES and not codes.is_crime_type(one))
    yield from (one for one in entitlement.regions if not codes.is_region(one))
