"""The cancel: the recall of a message, and why.

It refers to the message it recalls (relation ``cancels``); the one other field of the minimal tier is the reason, so
that nothing delays a recall. The full tier says more, and whether what was done on the strength of the message is to
be undone.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relay.messages.base import Marks, References
from relay.messages.types import Line, Moment, listed


class Cancel(Marks):
    """The recall of a message."""

    kind: Literal["cancel"] = Field(description="message kind")
    references: References = Field(
        description="the message that is recalled, with relation cancels, and others",
        json_schema_extra={"contains": {"properties": {"relation": {"const": "cancels"}}, "required": ["relation"]}},
    )
    reason: Annotated[str, listed("cancel_reasons")] = Field(description="why it is recalled")
    explanation: Line | None = Field(default=None, description="the reason in words")
    cancelled_at: Moment | None = Field(default=None, description="when the recall was decided")
    undo: Line | None = Field(default=None, description="what receivers who acted on it are asked to undo")
