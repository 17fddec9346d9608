"""The alert: an urgent warning of a trend, a route, a way of concealment or a threat.

The minimal tier is a headline, what it warns of, the text and when it was issued; the full tier adds goods, routes,
conveyances, risk indicators, the time window and what receivers are asked to do.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relay.messages.base import Intelligence
from relay.messages.details import Image
from relay.messages.parts import Commodity, Conveyance, Link, Route
from relay.messages.types import CaseNumber, Label, Line, Moment, Prose, listed


class Alert(Intelligence):
    """An urgent warning."""

    kind: Literal["alert"] = Field(description="message kind")
    headline: Label = Field(description="the warning in one line")
    threat: Annotated[str, listed("threats")] = Field(description="what it warns of")
    text: Prose = Field(description="the threat or modus operandi, in words")
    issued_at: Moment = Field(description="when the warning was issued")
    case_number: CaseNumber | None = Field(default=None, description="the issuer's own reference")
    commodities: tuple[Commodity, ...] = Field(default=(), max_length=50, description="goods concerned")
    concealment: Line | None = Field(default=None, description="how the goods are hidden")
    routes: tuple[Route, ...] = Field(default=(), max_length=32, description="routes used or expected")
    risk_indicators: tuple[Line, ...] = Field(default=(), max_length=100, description="what to look for, one a line")
    conveyances: tuple[Conveyance, ...] = Field(default=(), max_length=50, description="means of transport concerned")
    valid_from: Moment | None = Field(default=None, description="start of the time window")
    valid_until: Moment | None = Field(default=None, description="end of the time window; not before its start")
    requested_action: Line | None = Field(default=None, description="what receivers are asked to do")
    contact: Line | None = Field(default=None, description="duty post to call with questions")
    links: tuple[Link, ...] = Field(default=(), max_length=50, description="linked cases")
    images: tuple[Image, ...] = Field(default=(), max_length=50, description="images, by digest")
