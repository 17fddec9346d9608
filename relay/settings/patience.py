"""Settings of how long is waited for what: for repair, for the last word, until an alarm, for the centre's own system."""

from __future__ import annotations

from pydantic import Field

from relay.settings.section import Section


class RepairSettings(Section):
    """When a node asks again; seconds."""

    mark_first: float = Field(1, gt=0, description="how long a message is open before the first mark")
    mark_longest: float = Field(900, gt=0, description="longest pause between two marks to a peer")
    gap: float = Field(10, ge=0, description="how long a gap is left to close by itself before it is asked for")
    heartbeat_seconds: float = Field(30, gt=0, description="pause between two heartbeats to a peer; three missed are silence")
    echo_seconds: float = Field(30, ge=0, description="how long a start waits for a peer's word that the store is no older copy")


class DeadlineSettings(Section):
    """When a message without a final word of its recipient ends; seconds."""

    grace: float = Field(60, ge=0, description="how long after a message's deadline its receipt is still waited for")


class ClockSettings(Section):
    """How far this machine's clock is trusted; seconds."""

    most_ahead_seconds: float = Field(
        7200,
        ge=0,
        description="how far ahead of the peers' clocks, or of itself, it may be; beyond it nothing is purged or expired. "
        "0: however far",
    )


class AlarmSettings(Section):
    """After how many seconds a message that is not accepted raises an alarm; one not delivered does after twice that."""

    flash: float = Field(120, gt=0, description="seconds until a message of this precedence must be accepted")
    immediate: float = Field(600, gt=0, description="seconds until a message of this precedence must be accepted")
    priority: float = Field(3600, gt=0, description="seconds until a message of this precedence must be accepted")
    routine: float = Field(28800, gt=0, description="seconds until a message of this precedence, or of an exercise, is accepted")


class HandoverSettings(Section):
    """How the centre's own system gets what arrived."""

    attempts: int = Field(20, ge=1, description="how often the system may put a message off before it is dead")
