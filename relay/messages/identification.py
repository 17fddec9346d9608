"""The identification: a question to experts about an object, a species or a product, or an expert's opinion on it.

The minimal tier is whether it asks or answers, a headline, the object and when it was stated; the object is one of
the blocks of ``details``. A question without words asks what the object is; an opinion brings its conclusion
(``rules``). Images stand inside the message or are named by digest.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relay.messages.base import Gradable
from relay.messages.details import Details, Image
from relay.messages.part import Part
from relay.messages.parts import Link, Place
from relay.messages.types import CaseNumber, Label, Line, Moment, Prose, listed


class Opinion(Part):
    """What an expert concluded."""

    conclusion: Line = Field(description="what it is, in a sentence")
    certainty: Annotated[str, listed("certainties")] = Field(description="how sure the expert is")
    institution: Label = Field(description="institution that gives the opinion; no person is named")
    method: Line | None = Field(default=None, description="how it was examined")
    reasoning: Prose | None = Field(default=None, description="reasons at length")
    recommendation: Line | None = Field(default=None, description="what should be done next")


class Identification(Gradable):
    """A question to experts, or their opinion."""

    kind: Literal["identification"] = Field(description="message kind")
    act: Annotated[str, listed("identification_acts")] = Field(description="whether it asks or answers")
    headline: Label = Field(description="what it is about in one line")
    details: Details = Field(description="the object, species or product, by family")
    stated_at: Moment = Field(description="when it was asked or answered")
    question: Line | None = Field(default=None, description="what is to be found out; absent: what it is")
    opinion: Opinion | None = Field(default=None, description="the opinion; required to answer, only there")
    case_number: CaseNumber | None = Field(default=None, description="case number of the sender")
    held_at: Place | None = Field(default=None, description="where the object is now")
    answer_by: Moment | None = Field(default=None, description="when an answer would come too late")
    contact: Line | None = Field(default=None, description="post to call")
    links: tuple[Link, ...] = Field(default=(), max_length=50, description="linked cases")
    images: tuple[Image, ...] = Field(default=(), max_length=50, description="images, by digest")
