"""Typed details of goods, one block per crime family of the mission, and one for everything else.

Drugs, medicines, timber and wildlife, cultural goods, generic: a block is told by its ``family``. Each requires two or three
fields and offers the rest; weights are kilograms, volumes cubic metres, shares percent. Code lists and identifiers
are modelled on public descriptions of those the field uses (UN schedules, WHO terms, CITES codes, Object ID); the
closed lists stand in ``relay.codes``.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from relay.messages.identifiers import Atc, Cas, Gtin
from relay.messages.part import Part
from relay.messages.types import CaseNumber, Count, Country, Day, Digest, Form, Kilograms, Label, Line, Prose, listed, refusal

Percent: TypeAlias = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
CubicMetres: TypeAlias = Annotated[float, Field(gt=0, le=1e7, allow_inf_nan=False)]
MonthOrDay: TypeAlias = Annotated[
    str,
    Form(
        r"^[0-9]{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?$",
        "a day is written as 2027-03-31, a month as 2027-03",
        10,
    ),
]
PartialDate: TypeAlias = Annotated[
    str,
    Form(
        r"^[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?$",
        "a date is written as a year, a month or a day: 2019, 2019-07 or 2019-07-21",
        10,
    ),
]


class Drugs(Part):
    """A drug or precursor."""

    family: Literal["drugs"] = Field(description="family of the block")
    substance: Label = Field(description="name of the substance")
    form: Annotated[str, listed("drug_forms")] = Field(description="physical form")
    control: Annotated[str, listed("drug_controls")] | None = Field(
        default=None, description="UN convention and schedule, nps for a new psychoactive substance, or none"
    )
    precursor_table: Annotated[str, listed("precursor_tables")] | None = Field(
        default=None, description="table of the 1988 UN convention, for precursors"
    )
    cas: Cas | None = Field(default=None, description="CAS registry number")
    gross_kg: Kilograms | None = Field(default=None, description="gross weight with packing, kg")
    net_kg: Kilograms | None = Field(default=None, description="net weight, kg; not above the gross weight")
    purity_percent: Percent | None = Field(default=None, description="purity, percent by mass")
    marking: Label | None = Field(default=None, description="logo or marking on the goods")
    laboratory_profile: Label | None = Field(default=None, description="reference of the laboratory profile")

    @model_validator(mode="after")
    def _net_within_gross(self) -> Self:
        if self.net_kg is not None and self.gross_kg is not None and self.net_kg > self.gross_kg:
            raise refusal("contradiction", "net_kg is above gross_kg")
        return self


class Medicines(Part):
    """A medical product."""

    family: Literal["medicines"] = Field(description="family of the block")
    product_name: Label = Field(description="name on the label")
    who_class: Annotated[str, listed("medicine_classes")] = Field(description="WHO class")
    inn: Label | None = Field(default=None, description="international non-proprietary name")
    atc: Atc | None = Field(default=None, description="anatomical therapeutic chemical code")
    dosage_form: Label | None = Field(default=None, description="dosage form, such as film-coated tablet")
    strength: Label | None = Field(default=None, description="strength as labelled, with its unit, such as 500 mg")
    labelled_manufacturer: Label | None = Field(default=None, description="manufacturer on the label, true or not")
    batch: Label | None = Field(default=None, description="batch or lot number")
    expiry: MonthOrDay | None = Field(default=None, description="expiry date on the label, day or month")
    gtin: Gtin | None = Field(default=None, description="global trade item number")
    serial: Label | None = Field(default=None, description="serial number of the pack")
    sales_channel: Annotated[str, listed("sales_channels")] | None = Field(default=None, description="how it was sold")
    units: Count | None = Field(default=None, description="quantity, in dose units (tablets, vials, ...)")


class Permit(Part):
    """A paper that was shown for a specimen, true or not."""

    number: CaseNumber = Field(description="number of the paper")
    type: Annotated[str, listed("permit_types")] | None = Field(default=None, description="kind of paper")
    country: Country | None = Field(default=None, description="country that issued it, or is said to have")
    valid_from: Day | None = Field(default=None, description="first day of its validity")
    valid_until: Day | None = Field(default=None, description="last day of its validity; not before the first")

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.valid_from and self.valid_until and self.valid_until < self.valid_from:
            raise refusal("contradiction", "valid_until is before valid_from")
        return self


class Species(Part):
    """Timber or wildlife: a specimen of a species."""

    family: Literal["timber", "wildlife"] = Field(description="family of the block: timber, or any other wildlife")
    scientific_name: Label = Field(description="scientific name, as far as it is known")
    specimen: Annotated[str, listed("cites_specimens")] = Field(description="CITES description of the specimen")
    common_name: Label | None = Field(default=None, description="common name")
    cites_appendix: Annotated[str, listed("cites_appendices")] | None = Field(default=None, description="CITES appendix, or none")
    source: Annotated[str, listed("cites_sources")] | None = Field(default=None, description="CITES source code")
    purpose: Annotated[str, listed("cites_purposes")] | None = Field(
        default=None, description="CITES purpose code of the transaction"
    )
    volume_m3: CubicMetres | None = Field(default=None, description="volume, cubic metres")
    mass_kg: Kilograms | None = Field(default=None, description="mass, kg")
    count: Count | None = Field(default=None, description="number of specimens")
    permits: tuple[Label, ...] = Field(default=(), max_length=32, description="numbers of permits shown, true or not")
    papers: tuple[Permit, ...] = Field(default=(), max_length=32, description="the same papers with their validity, if known")
    origin: Country | None = Field(default=None, description="country of harvest or catch, ISO 3166-1 alpha-2")

    @model_validator(mode="after")
    def _appendix_of_a_listed_species(self) -> Self:
        if self.cites_appendix is None and (self.source or self.purpose):
            raise refusal("contradiction", "CITES source and purpose codes are given without cites_appendix; give it, or none")
        return self


class Image(Part):
    """A picture or document held outside the message, named by its digest."""

    digest: Digest = Field(description="SHA-256 of the file, hex")
    media_type: Annotated[str, listed("media_types")] = Field(description="media type of the file")
    caption: Line | None = Field(default=None, description="what it shows")


class CulturalGoods(Part):
    """A cultural object, described after the Object ID fields."""

    family: Literal["cultural-goods"] = Field(description="family of the block")
    object_type: Annotated[str, listed("object_types")] = Field(description="type of object")
    description: Prose = Field(description="short description that would let a stranger recognise it")
    title: Label | None = Field(default=None, description="title")
    subject: Line | None = Field(default=None, description="what is depicted")
    materials: Line | None = Field(default=None, description="materials and techniques")
    measurements: Line | None = Field(default=None, description="size and weight, with their units")
    inscriptions: Line | None = Field(default=None, description="inscriptions and markings")
    distinguishing_features: Line | None = Field(default=None, description="damage, repairs, defects")
    period: Label | None = Field(default=None, description="date or period")
    maker: Label | None = Field(default=None, description="maker, school or culture")
    theft_date: PartialDate | None = Field(default=None, description="when it was stolen: year, month or day")
    theft_place: Label | None = Field(default=None, description="where it was stolen")
    provenance_country: Country | None = Field(default=None, description="country it comes from, ISO 3166-1 alpha-2")
    red_list: Label | None = Field(default=None, description="reference of the ICOM Red List category it resembles")
    images: tuple[Image, ...] = Field(default=(), max_length=50, description="images, by digest")


class Attribute(Part):
    """A property of goods that no block has a field for."""

    name: Label = Field(description="what it is, such as calibre")
    value: Label = Field(description="its value, with its unit")


class Generic(Part):
    """Goods of any other crime type: weapons, tobacco, vehicles, devices, money, ..."""

    family: Literal["generic"] = Field(description="family of the block")
    item: Label = Field(description="what it is, in a word or two")
    description: Prose | None = Field(default=None, description="description that would let a stranger recognise it")
    make: Label | None = Field(default=None, description="make or brand")
    model: Label | None = Field(default=None, description="model or type")
    serials: tuple[Label, ...] = Field(default=(), max_length=100, description="serial numbers")
    marking: Line | None = Field(default=None, description="marks, stamps, logos")
    origin: Country | None = Field(default=None, description="country of manufacture, ISO 3166-1 alpha-2")
    attributes: tuple[Attribute, ...] = Field(default=(), max_length=32, description="other properties")


Details: TypeAlias = Annotated[Drugs | Medicines | Species | CulturalGoods | Generic, Field(discriminator="family")]
