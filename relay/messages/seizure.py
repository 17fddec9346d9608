"""The seizure: a customs seizure or offence record, told without naming persons.

The minimal tier is seven fields: case number, time, office, kind of location, direction, means of transport and the
goods with their quantity. The full tier adds route, conveyances, typed details of the goods, concealment, detection,
persons by number, nationality and age band, accounts found, and links to other cases.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relay.messages.base import Intelligence
from relay.messages.details import Image
from relay.messages.identifiers import Iban, Locode
from relay.messages.parts import Conveyance, Link, PersonGroup, Route, SeizedCommodity
from relay.messages.types import CaseNumber, Distinct, Label, Line, Moment, Prose, TransportMode, listed


class Seizure(Intelligence):
    """A customs seizure or offence record."""

    kind: Literal["seizure"] = Field(description="message kind")
    case_number: CaseNumber = Field(description="case number of the seizing administration")
    seized_at: Moment = Field(description="when the goods were seized")
    office: Label = Field(description="customs office that seized")
    location_type: Annotated[str, listed("location_types")] = Field(description="where it was: kind of location")
    direction: Annotated[str, listed("directions")] = Field(description="which way the goods moved")
    transport_mode: TransportMode = Field(description="UN/ECE Recommendation 19 mode: 1 maritime, 3 road, 4 air, ...")
    commodities: tuple[SeizedCommodity, ...] = Field(min_length=1, max_length=50, description="what was seized")
    reported_at: Moment | None = Field(default=None, description="when it was reported; not before the seizure")
    locode: Locode | None = Field(default=None, description="UN/LOCODE of the place of seizure")
    procedure: Annotated[str, listed("procedures")] | None = Field(
        default=None, description="customs procedure the goods were under"
    )
    conveyances: tuple[Conveyance, ...] = Field(default=(), max_length=50, description="means of transport used")
    route: Route | None = Field(default=None, description="departure, transit and destination")
    concealment: Line | None = Field(default=None, description="how the goods were hidden")
    detection_method: Annotated[str, listed("detection_methods")] | None = Field(default=None, description="what led to the find")
    persons: tuple[PersonGroup, ...] = Field(default=(), max_length=50, description="persons involved, not named")
    accounts: Annotated[tuple[Iban, ...], Field(max_length=50), Distinct] = Field(
        default=(), description="IBANs found; they identify persons, so nominal must be true"
    )
    links: tuple[Link, ...] = Field(default=(), max_length=50, description="linked cases")
    images: tuple[Image, ...] = Field(default=(), max_length=50, description="images, by digest")
    remarks: Prose | None = Field(default=None, description="anything else")
