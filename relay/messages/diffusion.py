"""The diffusion: the same purposes as a notice, sent directly and not reviewed by anyone.

The minimal tier is its colour, the facts, the action asked, when it was sent, whom it is for (named centres, or all
members) and ``reviewed``, which is always false and says so to every reader. Named recipients stand in the mark
``to``, and only then (``rules``).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relay.messages.subjects import Circulation


class Diffusion(Circulation):
    """A circulation that nobody reviewed."""

    kind: Literal["diffusion"] = Field(description="message kind")
    addressees: Literal["named", "all-members"] = Field(description="named: the centres in to; all-members: all entitled, no to")
    reviewed: Literal[False] = Field(description="always false: a diffusion is not reviewed")
    notice_requested: bool | None = Field(default=None, description="whether a notice was also asked for")
