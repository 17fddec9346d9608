"""The rules that every member's node applies, as the directory states them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relay.directory.members import CentreId
from relay.directory.strict import Record
from relay.envelope import MAX_ENVELOPE_BYTES
from relay.keys import SealingAlgorithm

MAX_WITNESSES = 5
DAY_SECONDS = 86_400
"""How far a heartbeat's time may lie ahead at most. An honest clock is minutes off; one that is days off proves nothing."""
MOST_HOURS, MOST_DAYS = 10 * 365 * 24, 100 * 366
"""Ten years of waiting for a recipient, a century of keeping: whatever is added to a time stays within what can be written."""
FourEyes = Literal["replay", "quarantine-release", "purge"]


class Retention(Record):
    """How long a kind of message is kept, in days: unless it says so itself, and at most."""

    default_days: int = Field(ge=1, le=MOST_DAYS)
    most_days: int = Field(ge=1, le=MOST_DAYS)


class RetentionPolicy(Record):
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


class Policy(Record):
    """The rules every member's node applies."""

    suites: tuple[SealingAlgorithm, ...] = ("mlkem768-x25519", "x25519")
    default_expiry_hours: int = Field(default=72, ge=1, le=MOST_HOURS)
    max_expiry_hours: int = Field(default=24 * 30, ge=1, le=MOST_HOURS)
    retention: RetentionPolicy = RetentionPolicy()
    witnesses: tuple[CentreId, ...] = Field(
        default=(),
        max_length=MAX_WITNESSES,
        description="who countersigns checkpoints; empty: all other active members, up to five",
    )
    key_notice_hours: int = Field(default=24, ge=0, description="how long before it counts a new key stands in the directory")
    four_eyes: tuple[FourEyes, ...] = Field(default=(), max_length=3, description="what needs two different people at a centre")
    max_envelope_bytes: int = Field(
        default=MAX_ENVELOPE_BYTES, ge=64 * 1024, le=MAX_ENVELOPE_BYTES, description="of one with messages"
    )
    max_clock_skew_seconds: int | None = Field(
        default=None, ge=1, description="how far ahead a heartbeat's time may lie; a day at most, which null stands for"
    )

    @property
    def max_ahead_seconds(self) -> int:
        """How far ahead the time of a heartbeat may lie; an envelope's own time decides nothing."""
        return min(self.max_clock_skew_seconds or DAY_SECONDS, DAY_SECONDS)
