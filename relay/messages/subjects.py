"""Whom or what a notice is about, and what a notice and a diffusion have in common.

A subject is told by its ``type``: a person, an unidentified body, an organisation, an object or asset. Persons and
bodies are personal data, so a message with one is nominal (``rules``). An identity document carries the check digits
of ICAO Doc 9303 where they were read: the digit behind its number, or the whole machine-readable zone.

``Circulation`` holds the fields of notice and diffusion; the two differ in who reviewed them and whom they reach.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from relay.messages.base import Gradable
from relay.messages.details import Image, PartialDate
from relay.messages.identifiers import Iban, Imo, Mrz, Vin, icao_digit
from relay.messages.part import Part
from relay.messages.parts import Conveyance, Link, Money, Place
from relay.messages.types import (
    CaseNumber,
    Country,
    Day,
    Distinct,
    Form,
    Label,
    Line,
    Moment,
    Prose,
    listed,
    refusal,
)

Centimetres: TypeAlias = Annotated[int, Field(ge=20, le=280)]
DocumentNumber: TypeAlias = Annotated[str, Form(r"^[0-9A-Z]{1,20}$", "a document number is written in A-Z and 0-9 only", 20)]
Digit: TypeAlias = Annotated[str, Form(r"^[0-9]$", "a check digit is one digit", 1)]


class Document(Part):
    """An identity or travel document."""

    type: Annotated[str, listed("document_types")] = Field(description="kind of document")
    number: DocumentNumber = Field(description="number, without spaces")
    country: Country | None = Field(default=None, description="country that issued it, ISO 3166-1 alpha-2")
    check_digit: Digit | None = Field(
        default=None, description="digit behind the number in the machine-readable zone (ICAO 9303)"
    )
    mrz: Mrz | None = Field(default=None, description="machine-readable zone, its lines joined by a line feed")
    valid_until: Day | None = Field(default=None, description="last day of its validity")
    stolen: bool | None = Field(default=None, description="whether it is reported stolen, lost or blank")

    @model_validator(mode="after")
    def _digit_of_its_number(self) -> Self:
        if self.check_digit and icao_digit(self.number.ljust(9, "<")) != self.check_digit:
            raise refusal("check-digit", "the check digit of this document number is wrong; compare it with the document")
        return self


class Person(Part):
    """A person, by name or by what else is known."""

    type: Literal["person"] = Field(description="type of the subject")
    family_name: Label = Field(description="family name, or all that is known of the name")
    given_names: Label | None = Field(default=None, description="given names")
    aliases: tuple[Label, ...] = Field(default=(), max_length=50, description="other names used")
    born: PartialDate | None = Field(default=None, description="date of birth: year, month or day")
    birthplace: Label | None = Field(default=None, description="place of birth")
    sex: Annotated[str, listed("sexes")] | None = Field(default=None, description="sex as documents write it")
    nationalities: Annotated[tuple[Country, ...], Field(max_length=16), Distinct] = Field(
        default=(), description="nationalities, ISO 3166-1 alpha-2"
    )
    documents: tuple[Document, ...] = Field(default=(), max_length=32, description="identity and travel documents")
    height_cm: Centimetres | None = Field(default=None, description="height in centimetres")
    description: Line | None = Field(default=None, description="distinguishing marks and appearance")
    dangerous: Line | None = Field(default=None, description="warning for whoever meets the person")


class Body(Part):
    """An unidentified body."""

    type: Literal["body"] = Field(description="type of the subject")
    description: Prose = Field(description="what would let somebody recognise the dead person")
    found: Place = Field(description="where, and when if known, it was found")
    sex: Annotated[str, listed("sexes")] | None = Field(default=None, description="sex")
    age: Label | None = Field(default=None, description="estimated age, in words")
    height_cm: Centimetres | None = Field(default=None, description="height in centimetres")
    belongings: Prose | None = Field(default=None, description="clothes and objects found with it")


class Organisation(Part):
    """A firm, group or other organisation."""

    type: Literal["organisation"] = Field(description="type of the subject")
    name: Label = Field(description="name")
    aliases: tuple[Label, ...] = Field(default=(), max_length=50, description="other names used")
    registration: Label | None = Field(default=None, description="number in a public register")
    country: Country | None = Field(default=None, description="country of its seat, ISO 3166-1 alpha-2")
    sanctions_reference: Label | None = Field(default=None, description="reference in the list of sanctions")


class Thing(Part):
    """An object, device or asset."""

    type: Literal["object"] = Field(description="type of the subject")
    description: Prose = Field(description="what it is, so that a stranger would recognise it")
    conveyance: Conveyance | None = Field(default=None, description="vessel, vehicle or aircraft, if it is one")
    vin: Vin | None = Field(default=None, description="vehicle identification number, 17 characters")
    imo: Imo | None = Field(default=None, description="IMO ship number, 7 digits")
    iban: Iban | None = Field(default=None, description="IBAN of an account; it identifies a person, so nominal must be true")
    value: Money | None = Field(default=None, description="estimated value")
    location: Place | None = Field(default=None, description="where it is, or was last seen")


Subject: TypeAlias = Annotated[Person | Body | Organisation | Thing, Field(discriminator="type")]


class Warrant(Part):
    """A warrant of arrest or a judgement."""

    number: CaseNumber = Field(description="number of the warrant or judgement")
    authority: Label = Field(description="authority that issued it")
    country: Country = Field(description="country that issued it, ISO 3166-1 alpha-2")
    issued_on: Day = Field(description="day of issue")
    offence: Line = Field(description="offence in words, with the place of the law")
    maximum_penalty: Label | None = Field(default=None, description="maximum penalty, or the sentence passed")


class Circulation(Gradable):
    """What a notice and a diffusion have in common."""

    colour: Annotated[str, listed("notice_colours")] = Field(description="colour: what it is for")
    summary: Line = Field(description="facts in short")
    requested_action: Line = Field(description="what receivers are asked to do")
    circulated_at: Moment = Field(description="when it was issued or sent")
    subject: Subject | None = Field(default=None, description="whom or what it is about; a person or body makes it nominal")
    offences: tuple[Line, ...] = Field(default=(), max_length=32, description="offences, one a line")
    warrants: tuple[Warrant, ...] = Field(default=(), max_length=32, description="warrants; red rests on at least one")
    case_number: CaseNumber | None = Field(default=None, description="case number of the issuer")
    text: Prose | None = Field(default=None, description="the facts at length, or the modus operandi")
    caution: Line | None = Field(default=None, description="what to be careful about")
    last_seen: Place | None = Field(default=None, description="where the subject was last seen")
    valid_from: Moment | None = Field(default=None, description="start of the time window")
    valid_until: Moment | None = Field(default=None, description="end of the time window; not before its start")
    contact: Line | None = Field(default=None, description="duty post to call")
    links: tuple[Link, ...] = Field(default=(), max_length=50, description="linked cases")
    images: tuple[Image, ...] = Field(default=(), max_length=50, description="images, by digest")
