"""The notice: the mirror of a notice on a person, an object or a way of acting, modelled on public descriptions.

The minimal tier is its number, colour, state, facts, the action asked and when it was issued; the full tier adds the
subject, offences and warrants, the state of the review of compliance and the time window. Colours about a person or a
body need their subject, red also a warrant (``rules``); personal data make it nominal.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relay.messages.subjects import Circulation
from relay.messages.types import CaseNumber, Moment, listed


class Notice(Circulation):
    """A reviewed notice."""

    kind: Literal["notice"] = Field(description="message kind")
    notice_number: CaseNumber = Field(description="number of the notice")
    state: Annotated[str, listed("notice_states")] = Field(description="where the notice is in its life")
    compliance: Annotated[str, listed("compliance_states")] | None = Field(
        default=None, description="what the review of compliance said"
    )
    reviewed_at: Moment | None = Field(default=None, description="when it was last reviewed; not before it was issued")
