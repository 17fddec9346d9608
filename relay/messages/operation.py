"""The joint operation: who takes part, where it stands, and what it brought.

The minimal tier is the code name, the phase, the participants, the situation in words and when it was reported: a
daily situation report is five fields. The full tier adds the period, objectives, indicators to look for, and results
by country and category. Results are of countries that take part, and the period ends after it begins (``rules``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relay.messages.base import Gradable
from relay.messages.details import Image
from relay.messages.part import Part
from relay.messages.parts import Commodity, Contact, Link, Money, Quantity
from relay.messages.types import CentreId, Country, Day, Label, Line, Moment, Prose, listed

Total = Annotated[int, Field(ge=0, le=1_000_000_000)]


class Participant(Part):
    """A country that takes part."""

    country: Country = Field(description="country, ISO 3166-1 alpha-2")
    role: Annotated[str, listed("participant_roles")] = Field(description="what it does in the operation")
    centre: CentreId | None = Field(default=None, description="id of its centre")
    agencies: tuple[Label, ...] = Field(default=(), max_length=32, description="administrations that take part")


class Result(Part):
    """What a country's part brought, in one category."""

    country: Country = Field(description="country, ISO 3166-1 alpha-2; it takes part")
    category: Annotated[str, listed("result_categories")] = Field(description="what is counted")
    count: Total = Field(description="how many, since the operation began")
    goods: Label | None = Field(default=None, description="which goods, in words")
    quantity: Quantity | None = Field(default=None, description="how much of them")
    value: Money | None = Field(default=None, description="estimated value")


class Operation(Gradable):
    """A joint operation and where it stands."""

    kind: Literal["operation"] = Field(description="message kind")
    code_name: Label = Field(description="code name")
    phase: Annotated[str, listed("operation_phases")] = Field(description="phase")
    participants: tuple[Participant, ...] = Field(min_length=1, max_length=200, description="countries that take part")
    situation: Prose = Field(description="situation report in words")
    reported_at: Moment = Field(description="when the situation was as reported")
    report_number: Annotated[int, Field(ge=1, le=10_000)] | None = Field(default=None, description="number of the report")
    begins_on: Day | None = Field(default=None, description="first day of the operation")
    ends_on: Day | None = Field(default=None, description="last day of the operation; not before the first")
    objectives: tuple[Line, ...] = Field(default=(), max_length=50, description="objectives, one a line")
    indicators: tuple[Line, ...] = Field(default=(), max_length=100, description="what to look for, one a line")
    results: tuple[Result, ...] = Field(default=(), max_length=500, description="results by country and category")
    commodities: tuple[Commodity, ...] = Field(default=(), max_length=50, description="goods concerned")
    next_report_at: Moment | None = Field(default=None, description="when the next report is due; not before this one")
    contacts: tuple[Contact, ...] = Field(default=(), max_length=50, description="posts to call")
    links: tuple[Link, ...] = Field(default=(), max_length=50, description="linked cases")
    images: tuple[Image, ...] = Field(default=(), max_length=50, description="images, by digest")
