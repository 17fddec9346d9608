"""Settings of how much a node takes: of a message, of a batch, of what waits, of what is under way to one peer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from relay.settings.section import Section

if TYPE_CHECKING:
    from relay.messages import Limits

MOST_ATTACHED = 4 * 1024 * 1024  # what the models of messages take at most; a centre may set less


class LimitSettings(Section):
    """What a node takes at most."""

    message_bytes: int = Field(6 * 1024 * 1024, ge=1024, description="largest message")
    batch_lines: int = Field(10_000, ge=1, description="most lines of an NDJSON batch")
    batch_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="largest NDJSON batch")
    queued_envelopes: int = Field(20_000, ge=1, description="envelopes not yet sent above which submit answers 429")

    attachment_bytes: int = Field(1024 * 1024, ge=1, le=MOST_ATTACHED, description="largest attachment, decoded")
    attachments_bytes: int = Field(
        MOST_ATTACHED, ge=1, le=MOST_ATTACHED, description="most bytes of a message's attachments together, decoded"
    )

    @property
    def attachments(self) -> Limits:
        """The bounds of attachments, as ``messages.parse`` and ``messages.read`` take them."""
        from relay.messages import Limits  # noqa: PLC0415 - who only reads settings does not wait for the models

        return Limits(self.attachment_bytes, self.attachments_bytes)


class WindowSettings(Section):
    """How many bytes of envelopes may be under way to one peer without its receipt, per lane; beyond them it catches up alone."""

    flash: int = Field(256 * 1024 * 1024, ge=1024, description="unreceipted bytes per peer in the lane of this name")
    immediate: int = Field(64 * 1024 * 1024, ge=1024, description="unreceipted bytes per peer in the lane of this name")
    priority: int = Field(64 * 1024 * 1024, ge=1024, description="unreceipted bytes per peer in the lane of this name")
    routine: int = Field(64 * 1024 * 1024, ge=1024, description="unreceipted bytes per peer in the lane of this name")
    exercise: int = Field(64 * 1024 * 1024, ge=1024, description="unreceipted bytes per peer in the lane of this name")
