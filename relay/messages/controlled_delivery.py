"""The controlled delivery: coordination of a consignment that is watched on its way instead of being stopped.

A late or misread message here has a human cost, so that what nobody may guess is required: case number, consignments,
goods, whether they were replaced, the planned way with what each country is asked to do, the legal basis, when to
stop, and posts that answer at any hour: nine fields. Decisions of the countries and the rest are the full tier.

The way is in order of time; every country on it stands in the mark ``countries``, so that no route misses it; a
decision is of a country on the way; at least one contact answers round the clock (``rules``). It is no intelligence
record, so ``grading`` is optional: nobody holds back an order because its source is not graded.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from relay.messages.base import Gradable
from relay.messages.details import Image
from relay.messages.identifiers import Container, Locode
from relay.messages.part import Part
from relay.messages.parts import Commodity, Contact, Conveyance, Link
from relay.messages.types import (
    CaseNumber,
    Country,
    Distinct,
    Label,
    Line,
    Moment,
    Prose,
    TransportMode,
    listed,
    refusal,
)


class Consignment(Part):
    """What identifies a consignment: its document, its containers, or both."""

    document: Annotated[str, listed("transport_documents")] | None = Field(default=None, description="kind of document")
    number: CaseNumber | None = Field(default=None, description="number of the document")
    containers: Annotated[tuple[Container, ...], Field(max_length=100), Distinct] = Field(
        default=(), description="ISO 6346 container numbers"
    )
    seals: tuple[Label, ...] = Field(default=(), max_length=100, description="numbers of the seals")
    tracker: Label | None = Field(default=None, description="reference of a tracking device")

    @model_validator(mode="after")
    def _identified(self) -> Self:
        if not self.number and not self.containers:
            raise refusal("missing-field", "nothing identifies this consignment: give number or containers")
        return self


class Waypoint(Part):
    """A point on the planned way, and what the country there is asked to do."""

    country: Country = Field(description="country asked, ISO 3166-1 alpha-2")
    point: Label = Field(description="border point, port, airport or place")
    planned_at: Moment = Field(description="when the consignment is expected there")
    action: Annotated[str, listed("delivery_actions")] = Field(description="what the country is asked to do")
    locode: Locode | None = Field(default=None, description="UN/LOCODE of the place; its country agrees")
    transport_mode: TransportMode | None = Field(default=None, description="mode in which it goes on, UN/ECE Recommendation 19")
    note: Line | None = Field(default=None, description="anything else about this point")

    @model_validator(mode="after")
    def _one_country(self) -> Self:
        if self.locode and not self.locode.startswith(self.country):
            raise refusal("contradiction", "the UN/LOCODE is of another country than the point")
        return self


class Decision(Part):
    """What a country decided."""

    country: Country = Field(description="country that decided, ISO 3166-1 alpha-2; it is on the way")
    decision: Annotated[str, listed("delivery_decisions")] = Field(description="the decision")
    authority: Label | None = Field(default=None, description="authority that decided")
    decided_at: Moment | None = Field(default=None, description="when it decided")
    conditions: Line | None = Field(default=None, description="its conditions")


class ControlledDelivery(Gradable):
    """A consignment watched on its way."""

    kind: Literal["controlled-delivery"] = Field(description="message kind")
    case_number: CaseNumber = Field(description="case number of the coordinating centre")
    consignments: tuple[Consignment, ...] = Field(min_length=1, max_length=50, description="what is watched")
    commodities: tuple[Commodity, ...] = Field(min_length=1, max_length=50, description="goods in it")
    substitution: Annotated[str, listed("substitutions")] = Field(description="whether the goods were replaced")
    waypoints: tuple[Waypoint, ...] = Field(min_length=1, max_length=50, description="planned way, in order of time")
    legal_basis: Line = Field(description="law, treaty or agreement it rests on")
    abort_criteria: tuple[Line, ...] = Field(min_length=1, max_length=50, description="when it is stopped, one a line")
    contacts: tuple[Contact, ...] = Field(min_length=1, max_length=32, description="posts; at least one round the clock")
    code_name: Label | None = Field(default=None, description="code name")
    issued_at: Moment | None = Field(default=None, description="when this plan was made")
    decisions: tuple[Decision, ...] = Field(default=(), max_length=50, description="decision of each country")
    conveyances: tuple[Conveyance, ...] = Field(default=(), max_length=50, description="means of transport")
    surveillance: Line | None = Field(default=None, description="how it is watched")
    risks: Line | None = Field(default=None, description="danger to officers, sources or the public")
    evidence: Line | None = Field(default=None, description="how evidence is to be kept")
    text: Prose | None = Field(default=None, description="the case in words")
    links: tuple[Link, ...] = Field(default=(), max_length=50, description="linked cases")
    images: tuple[Image, ...] = Field(default=(), max_length=50, description="images, by digest")
