"""The diffusion: the same purposes as a notice, sent directly and not reviewed by anyone.

The minimal tier is its colour, the facts, the action asked, when it was sent, whom it is for (named centres, or all
members) and ``reviewed``, which is always false and says so to every reader. Named recipients stand in the mark
``to``, and only then (``rules``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from relay.messages.subjects import Circulation
from relay.messages.types import listed, refusal


def _unreviewed(value: bool) -> bool:
    if value:
        raise refusal("contradiction", "a diffusion is not reviewed: write false, or send a notice")
    return value


class Diffusion(Circulation):
    """A circulation that nobody reviewed."""

    kind: Literal["diffusion"] = Field(description="message kind")
    addressees: Annotated[str, listed("addressees")] = Field(
        description="named: the centres in to; all-members: all entitled, no to"
    )
    # No Literal[False]: that would take the number 0 as well.
    reviewed: Annotated[bool, AfterValidator(_unreviewed)] = Field(
        description="always false: a diffusion is not reviewed", json_schema_extra={"const": False}
    )
    notice_requested: bool | None = Field(default=None, description="whether a notice was also asked for")
