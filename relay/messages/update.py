"""The update: a new version of a message, whole, with the reason for it.

It refers to the message it replaces (relation ``updates``) and carries the complete new body under ``message``,
checked by the model and the rules of its own kind: a receiver's system replaces what it holds and never merges
fields. An update wraps no update and no cancel; every update of a message refers to its first version, so that no
receiver needs to know those between.

The marks that decide who gets the message and how it is handled are said twice, on the update and on the new body,
and must be equal (``rules``): what policy looked at is what the body says. The body's own references and deadline are
its own.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from relay.messages.alert import Alert
from relay.messages.base import Marks, References
from relay.messages.controlled_delivery import ControlledDelivery
from relay.messages.diffusion import Diffusion
from relay.messages.identification import Identification
from relay.messages.notice import Notice
from relay.messages.operation import Operation
from relay.messages.reply import Reply
from relay.messages.request import Request
from relay.messages.seizure import Seizure
from relay.messages.types import Line, Moment

Updatable: TypeAlias = Alert | Seizure | Notice | Diffusion | Request | Reply | ControlledDelivery | Operation | Identification


class Update(Marks):
    """A new version of a message."""

    kind: Literal["update"] = Field(description="message kind")
    references: References = Field(
        description="the message that is replaced, with relation updates, and others",
        json_schema_extra={"contains": {"properties": {"relation": {"const": "updates"}}, "required": ["relation"]}},
    )
    message: Annotated[Updatable, Field(discriminator="kind")] = Field(description="the new version, complete")
    reason: Line = Field(description="what changed and why")
    updated_at: Moment | None = Field(default=None, description="when the new version was made")
    changed: tuple[Line, ...] = Field(
        default=(), max_length=100, description="fields that changed, as JSON Pointers into message"
    )
