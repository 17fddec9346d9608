"""The building blocks several kinds share: places, quantities, conveyances, commodities, persons, links.

A block requires only what makes it mean anything (a place its country, a commodity its description); the rest is the
full tier. A block that contradicts itself is refused here: a UN/LOCODE of another country, a net weight above the
gross weight, half a piece, a destination before the departure.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from relay.messages.details import Details
from relay.messages.identifiers import Container, Hs, Imo, Locode, Mmsi, Packaging, Phone, Vin
from relay.messages.part import Part
from relay.messages.types import (
    Amount,
    CaseNumber,
    CentreId,
    Count,
    Country,
    Currency,
    Distinct,
    Label,
    Language,
    Line,
    Moment,
    TransportMode,
    Unit,
    listed,
    refusal,
)

_COUNTED = ("C62", "NAR", "NPR")


class Place(Part):
    """A place on a route or of an event."""

    country: Country = Field(description="country, ISO 3166-1 alpha-2")
    locode: Locode | None = Field(default=None, description="UN/LOCODE of the place; its country agrees")
    name: Label | None = Field(default=None, description="name of the place")
    at: Moment | None = Field(default=None, description="when the goods or conveyance were or are expected there")

    @model_validator(mode="after")
    def _one_country(self) -> Self:
        if self.locode and not self.locode.startswith(self.country):
            raise refusal("contradiction", "the UN/LOCODE is of another country than the place")
        return self


class Route(Part):
    """Where goods came from, through and to."""

    departure: Place | None = Field(default=None, description="place of departure")
    transit: tuple[Place, ...] = Field(default=(), max_length=32, description="places of transit, in order")
    destination: Place | None = Field(default=None, description="place of destination")

    @model_validator(mode="after")
    def _in_order_of_time(self) -> Self:
        times = [place.at for place in (self.departure, *self.transit, self.destination) if place and place.at]
        if times != sorted(times):
            raise refusal("contradiction", "the times of this route are not in order: departure, transit, destination")
        return self


class Quantity(Part):
    """An amount with its unit."""

    amount: Amount = Field(description="amount, in the unit beside it")
    unit: Unit = Field(description="UN/ECE Recommendation 20 unit, such as KGM (kilograms) or C62 (pieces)")

    @model_validator(mode="after")
    def _whole_pieces(self) -> Self:
        if self.unit in _COUNTED and self.amount % 1:
            raise refusal("contradiction", "pieces, articles and pairs are counted in whole numbers")
        return self


class Money(Part):
    """An amount of money."""

    amount: Amount = Field(description="amount, in units of the currency beside it")
    currency: Currency = Field(description="ISO 4217 currency")


class Conveyance(Part):
    """A means of transport and what identifies it."""

    mode: TransportMode = Field(description="UN/ECE Recommendation 19 mode: 1 maritime, 3 road, 4 air, ...")
    name: Label | None = Field(default=None, description="name of the vessel or vehicle")
    imo: Imo | None = Field(default=None, description="IMO ship number, 7 digits")
    mmsi: Mmsi | None = Field(default=None, description="maritime mobile service identity, 9 digits")
    vin: Vin | None = Field(default=None, description="vehicle identification number, 17 characters")
    registration: Label | None = Field(default=None, description="registration plate or aircraft registration")
    journey: Label | None = Field(default=None, description="flight, voyage or train number")
    flag: Country | None = Field(default=None, description="flag or country of registration, ISO 3166-1 alpha-2")
    operator: Label | None = Field(default=None, description="carrier or operator")
    containers: Annotated[tuple[Container, ...], Field(max_length=100), Distinct] = Field(
        default=(), description="ISO 6346 container numbers"
    )


class Commodity(Part):
    """Goods: what they are, how many, and what they were declared as."""

    description: Line = Field(description="what the goods are, in words")
    hs: Hs | None = Field(default=None, description="Harmonised System code, 6 digits")
    quantity: Quantity | None = Field(default=None, description="how much")
    packages: Count | None = Field(default=None, description="number of packages")
    packaging: Packaging | None = Field(default=None, description="UN/ECE Recommendation 21 package type")
    declared_as: Line | None = Field(default=None, description="what the goods were declared as")
    value: Money | None = Field(default=None, description="estimated value")
    origin_country: Country | None = Field(default=None, description="country of origin, ISO 3166-1 alpha-2")
    details: Details | None = Field(default=None, description="typed details of the goods, by family")


class SeizedCommodity(Commodity):
    """Goods that were seized: their quantity is known."""

    quantity: Quantity = Field(description="how much was seized")


class PersonGroup(Part):
    """Persons involved, counted and not named."""

    count: Count = Field(description="number of persons")
    role: Annotated[str, listed("person_roles")] | None = Field(default=None, description="what they had to do with it")
    nationality: Country | None = Field(default=None, description="nationality, ISO 3166-1 alpha-2")
    age_band: Annotated[str, listed("age_bands")] | None = Field(default=None, description="age in full years")


class Link(Part):
    """Another case linked to this one."""

    relation: Annotated[str, listed("link_relations")] = Field(description="how the cases are linked")
    case_number: CaseNumber = Field(description="case number of the other case, as its holder writes it")
    holder: CentreId | None = Field(default=None, description="id of the centre that holds the other case")
    note: Line | None = Field(default=None, description="what links them, in words")


class Contact(Part):
    """A post that can be reached, not a person: people change shifts."""

    post: Label = Field(description="duty post, such as the operations room of an administration")
    phone: Phone = Field(description="telephone number, E.164")
    centre: CentreId | None = Field(default=None, description="id of its centre")
    country: Country | None = Field(default=None, description="country, ISO 3166-1 alpha-2")
    round_the_clock: bool = Field(default=True, description="whether somebody answers at any hour")
    languages: Annotated[tuple[Language, ...], Field(max_length=16), Distinct] = Field(
        default=(), description="languages spoken there, BCP 47"
    )
