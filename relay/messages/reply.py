"""The reply: a full or partial answer, a refusal with its ground, a question back, or a delay with its new date.

It refers to its request (relation ``answers``). The minimal tier is the outcome, the text and when it was given; each
outcome but the full answer says one thing more, and no other outcome may say it (``rules``): a partial answer what is
missing, a refusal its ground, a clarification its questions, a delay the new date.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relay.messages.base import Gradable, References
from relay.messages.details import Image
from relay.messages.parts import Commodity, Contact, Conveyance, Link
from relay.messages.subjects import Subject
from relay.messages.types import CaseNumber, Line, Moment, Prose, listed


class Reply(Gradable):
    """An answer to a request."""

    kind: Literal["reply"] = Field(description="message kind")
    references: References = Field(
        description="the request, with relation answers, and others",
        json_schema_extra={"contains": {"properties": {"relation": {"const": "answers"}}, "required": ["relation"]}},
    )
    outcome: Annotated[str, listed("reply_outcomes")] = Field(description="what it brings")
    text: Prose = Field(description="the answer, or the reason for a refusal or delay, in words")
    answered_at: Moment = Field(description="when it was given")
    missing: Line | None = Field(default=None, description="what is still to come; with a partial answer, only there")
    ground: Annotated[str, listed("refusal_grounds")] | None = Field(
        default=None, description="ground of the refusal; with a refusal, only there"
    )
    questions: tuple[Line, ...] = Field(default=(), max_length=50, description="questions back; with a clarification, only there")
    new_date: Moment | None = Field(
        default=None, description="when the answer will come; with a delay, only there; after answered_at"
    )
    case_number: CaseNumber | None = Field(default=None, description="case number of the answering centre")
    subject: Subject | None = Field(default=None, description="whom or what it is about; a person or body makes it nominal")
    commodities: tuple[Commodity, ...] = Field(default=(), max_length=50, description="goods concerned")
    conveyances: tuple[Conveyance, ...] = Field(default=(), max_length=50, description="means of transport concerned")
    use: Line | None = Field(default=None, description="what the information may be used for, if it is restricted")
    contact: Contact | None = Field(default=None, description="post to call with questions")
    links: tuple[Link, ...] = Field(default=(), max_length=50, description="linked cases")
    images: tuple[Image, ...] = Field(default=(), max_length=50, description="images, by digest")
