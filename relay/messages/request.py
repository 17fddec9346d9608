"""The request: what a centre asks another, why, and how soon it needs the answer.

The minimal tier is a headline, the questions, the offence, why the information is wanted, why the addressee is
believed to have it, the urgency and when it was asked. The urgency is a clock class of ``codes`` (8 hours, 3 days or
7 days from receipt, as data); anything but ``normal`` says why (``rules``). The full tier adds what the questions are
about and how the answer may be used.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relay.messages.base import Marks
from relay.messages.details import Image
from relay.messages.parts import Commodity, Contact, Conveyance, Link
from relay.messages.subjects import Subject
from relay.messages.types import CaseNumber, Label, Line, Moment, Prose, listed


class Request(Marks):
    """A request for information."""

    kind: Literal["request"] = Field(description="message kind")
    headline: Label = Field(description="what it is about in one line")
    asked: tuple[Line, ...] = Field(min_length=1, max_length=50, description="information asked for, one question a line")
    offence: Line = Field(description="offence it is about")
    reason: Line = Field(description="what the information is wanted for")
    availability: Line = Field(description="why the addressee is believed to have it")
    urgency: Annotated[str, listed("urgencies")] = Field(description="clock class; the answer is due so many hours from receipt")
    asked_at: Moment = Field(description="when it was asked")
    urgency_reason: Line | None = Field(default=None, description="why it is urgent; required unless the urgency is normal")
    answer_by: Moment | None = Field(default=None, description="when the answer would come too late; not before it was asked")
    case_number: CaseNumber | None = Field(default=None, description="case number of the asking centre")
    background: Prose | None = Field(default=None, description="the case in words")
    legal_basis: Line | None = Field(default=None, description="law or agreement it rests on")
    subject: Subject | None = Field(default=None, description="whom or what it is about; a person or body makes it nominal")
    commodities: tuple[Commodity, ...] = Field(default=(), max_length=50, description="goods concerned")
    conveyances: tuple[Conveyance, ...] = Field(default=(), max_length=50, description="means of transport concerned")
    evidence: bool | None = Field(default=None, description="whether the answer shall serve as evidence in court")
    contact: Contact | None = Field(default=None, description="post to call with questions")
    links: tuple[Link, ...] = Field(default=(), max_length=50, description="linked cases")
    images: tuple[Image, ...] = Field(default=(), max_length=50, description="images, by digest")
