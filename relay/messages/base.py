"""The marks every message has: who may get it, how urgent it is, and how it must be handled.

A kind's model derives from ``Marks`` and adds its own fields; marks do not count among a kind's required ten. All
models are frozen, refuse unknown fields and convert nothing. Marks are rules the software enforces: their
contradictions are refused before anything is stored (``rules``). What the node sets itself (``id``, ``regions``) is
no field: a submitter that sends it is refused.

The bytes of a message are never written again from its model, so the models only read.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from relay import codes
from relay.messages.attachments import Attachment
from relay.messages.part import Part
from relay.messages.translations import MOST, Translation
from relay.messages.types import (
    CentreId,
    Country,
    CrimeType,
    Digest,
    Distinct,
    Form,
    Grading,
    Language,
    Line,
    MessageId,
    Moment,
    TraceId,
    listed,
)

Version: TypeAlias = Annotated[str, Form(r"^1\.(0|[1-9][0-9]{0,2})$", "the version is 1.0", 5, code="unknown-version")]


class Reference(Part):
    """Another message this one updates, cancels, answers or releases."""

    id: MessageId = Field(description="id of the other message")
    digest: Digest = Field(description="SHA-256 of the other message's bytes, hex")
    relation: Annotated[str, listed("relations")] = Field(description="what this message does to the other")


References: TypeAlias = Annotated[tuple[Reference, ...], Field(min_length=1, max_length=32)]


class Marks(Part):
    """The fields every message has, whatever its kind."""

    kind: str = Field(description="message kind")
    version: Version = Field(default="1.0", description="version of the kind's schema, major.minor")
    crime_types: Annotated[tuple[CrimeType, ...], Field(min_length=1, max_length=32), Distinct] = Field(
        description="crime types it is about; they decide who is entitled"
    )
    countries: Annotated[tuple[Country, ...], Field(min_length=1, max_length=250), Distinct] = Field(
        description="countries it concerns; their M49 sub-regions decide who is entitled"
    )
    tlp: Annotated[str, listed("tlp")] = Field(description="Traffic Light Protocol 2.0 mark; RED needs named recipients")
    purpose: Annotated[str, listed("purposes")] = Field(description="purpose the data are processed for")
    nominal: bool = Field(description="whether it holds personal data")
    precedence: Annotated[str, listed("precedences")] = Field(default="routine", description="urgency")
    status: Annotated[str, listed("statuses")] = Field(default="actual", description="real, exercise or test traffic")
    handling: Annotated[str, listed("handling_codes")] = Field(default="H0", description="handling code")
    handling_text: Line | None = Field(default=None, description="the restriction in words; required with H3, only there")
    classification: Annotated[str, listed("classifications")] = Field(
        default="unclassified", description="classification; no centre below this clearance gets it"
    )
    to: Annotated[tuple[CentreId, ...], Field(min_length=1, max_length=256), Distinct] | None = Field(
        default=None, description="ids of the recipient centres; absent: all entitled"
    )
    exclude: Annotated[tuple[CentreId, ...], Field(max_length=256), Distinct] = Field(
        default=(), description="centres (ids) or countries (ISO 3166-1) that must not receive it"
    )
    references: tuple[Reference, ...] = Field(default=(), max_length=32, description="messages it refers to")
    expires_at: Moment | None = Field(default=None, description="deadline of delivery; absent: by policy")
    retention_until: Moment | None = Field(default=None, description="when every holder purges it; absent: by policy")
    origin: CentreId | None = Field(default=None, description="id of the sending centre; absent: the node's own")
    language: Language | None = Field(default=None, description="language of the free text, BCP 47")
    translations: tuple[Translation, ...] = Field(
        default=(), max_length=MOST, description="translations of its texts into other languages"
    )
    attachments: tuple[Attachment, ...] = Field(default=(), max_length=16, description="files inside the message")
    correlation: TraceId | None = Field(
        default=None,
        description="W3C trace id of the sender's own system, for the logs at both ends; absent: the message's id says enough",
    )

    @property
    def regions(self) -> tuple[str, ...]:
        """The leaf M49 sub-regions of its countries, sorted."""
        return codes.sub_regions(self.countries)


class Intelligence(Marks):
    """The marks of kinds that carry intelligence, alerts and seizures: graded too.

    The other kinds ask, coordinate, circulate or correct. Where they may carry intelligence as well their ``grading``
    is optional (``Gradable``): a late or missing message does more harm there than one whose source is not graded.
    """

    grading: Grading = Field(description="source (A B C X) and information (1 to 4) grading, such as B2")


class Gradable(Marks):
    """The marks of kinds that may carry intelligence: graded if it is known."""

    grading: Grading | None = Field(default=None, description="source (A B C X) and information (1 to 4) grading, such as B2")
