"""The API as a contract: the bodies it takes and gives as models, and the schemas that OpenAPI shows of them.

The models here describe, and write the few answers that are not on a hot path; messages are described by their own models and
never pass through here. ``schemas/openapi.json`` is written from it and checked to be equal.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from relay import messages

Id = Annotated[
    str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", description="a message's id, at every centre the same")
]
Time = Annotated[str, Field(description="RFC 3339, UTC, with milliseconds", examples=["2026-01-31T08:15:00.000Z"])]
State = Literal["queued", "sent", "accepted", "delivered", "rejected", "expired", "cancelled", "deferred", "held", "dead"]
Handling = Literal["H0", "H1", "H2", "H3"]

_REF = "#/components/schemas/{model}"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProblemPlace(_Body):
    """One thing wrong with one place of the body."""

    pointer: str = Field(description="JSON Pointer (RFC 6901); empty for the whole")
    code: str
    detail: str


class Withheld(_Body):
    """A centre that is entitled to a message and does not get it."""

    centre: str
    code: str
    reason: str


class Accepted(_Body):
    """The promise: the message is committed and will be sent to these recipients."""

    id: Id
    recipients: list[str]
    status: str = Field(description="the address at which its state is found")
    withheld: list[Withheld] | None = Field(default=None, description="centres that are entitled and don't get it")
    withdrawn_from: list[str] | None = Field(
        default=None, description="centres that an update leaves out: told to purge what they hold"
    )
    unreachable: list[str] | None = Field(default=None, description="centres that held what is taken back and can't be told now")
    warnings: list[ProblemPlace] | None = Field(default=None, description="what looks wrong; it refuses nothing")


class LineAccepted(_Body):
    """A line of a batch that is committed and will be sent."""

    line: int = Field(description="number of the line, from 1")
    id: Id
    recipients: list[str]
    withheld: list[Withheld] | None = None
    withdrawn_from: list[str] | None = None
    unreachable: list[str] | None = None
    warnings: list[ProblemPlace] | None = None


class Step(_Body):
    """Something that happened to a message at a recipient."""

    state: State
    at: Time
    code: str | None = Field(default=None, description="why it was rejected, ended, or is dead")


class Note(_Body):
    """What a recipient said after a message's terminal state, and against it; it changes nothing."""

    state: State
    at: Time
    code: str | None = Field(default=None, description="why it was rejected")


class Recipient(_Body):
    """Where a message stands with one recipient."""

    centre: str
    state: State = Field(
        description="sent: the broker has it; accepted: the peer's node; delivered: the peer's own system; expired: no proof of "
        "delivery in time; cancelled: discarded here; deferred: waits, tried again by itself; held: by an operator; dead: nobody "
        "tries again by itself"
    )
    at: Time
    code: str | None = Field(default=None, description="why it was rejected, ended, or is dead")
    next_attempt: Time | None = Field(default=None, description="when what is deferred is tried again, if that is known")
    history: list[Step] = Field(description="every state it reached, the first one first")
    notes: list[Note] | None = Field(default=None, description="what contradicts the terminal state and came after it")


class Recalled(_Body):
    """Where a recall stands with one centre that was sent the message."""

    centre: str
    by: Id | None = Field(description="the update or cancel that it was sent last; null: it could not be reached")
    purged_at: Time | None = Field(description="when it said that nothing older is left with it; null: not yet")


class RecallState(_Body):
    """How far a message is taken back."""

    confirmed: int = Field(description="centres that said they hold nothing any more of what was taken back")
    of: int = Field(description="centres that held it")
    centres: list[Recalled]


class MessageState(_Body):
    """A submitted message and where it stands."""

    id: Id
    submitted_at: Time
    lane: str
    purged_at: Time | None = Field(default=None, description="when its content was purged here")
    recipients: list[Recipient]
    versions: list[Id] | None = Field(default=None, description="the first version and its updates, if there is more than one")
    cancelled_by: Id | None = Field(default=None, description="the cancel that takes all of it back")
    recall: RecallState | None = Field(default=None, description="how far updates and cancels took back what was sent before")


class MessageStates(_Body):
    """Submitted messages, the newest first."""

    messages: list[MessageState]
    next: Id | None = Field(description="value of `before` for the next page, or null")


class Received(_Body):
    """A message that arrived; `message` holds the very bytes that its origin's system submitted."""

    id: Id
    origin: str
    received_at: Time
    handling: Handling = Field(description="handling code; H1 to H3 are shown on every export and print")
    warnings: list[ProblemPlace] | None = Field(default=None, description="what looks wrong; its origin was told the same")
    message: dict[str, Any]


class Inbox(_Body):
    """Messages that the centre's system has not acknowledged."""

    messages: list[Received]


class Acknowledgement(_Body):
    """The ids of messages that the centre's system has."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=1000)]
    confirmed: Annotated[list[Id], Field(max_length=1000)] = Field(
        default=[], description="those whose restriction (H3, `handling_text`) was shown and confirmed"
    )


class Acknowledged(_Body):
    """What an acknowledgement did."""

    delivered: int = Field(description="messages that it settled")
    unknown: list[Id] = Field(description="ids that were never given out")
    unconfirmed: list[Id] = Field(description="ids that carry a restriction (H3) and do not stand in `confirmed`")


class Health(_Body):
    """How the node does; what is open or set aside is counted every few seconds, and null before the node first looked."""

    centre: str
    ready: bool
    problems: list[str] = Field(description="sentences; empty when the node is ready")
    warnings: list[str] = Field(description="sentences: what to see to soon, such as keys that expire; it works all the same")
    broker_connected: bool
    unsent_envelopes: int = Field(description="envelopes that wait for the broker")
    open_messages: int | None = Field(description="messages without a terminal receipt, once for each recipient")
    waiting_messages: int | None = Field(description="messages that the centre's system has not acknowledged")
    quarantined_messages: int | None = Field(description="messages that were refused on arrival and are kept")
    observed_at: Time | None = Field(description="when open, waiting and quarantined messages were counted")
    disk_free_bytes: int
    disk_floor_bytes: int
    queued_envelopes_limit: int
    directory_version: int
    directory_warn_after: Time
    directory_expires_at: Time
    epoch: int


class ProblemDocument(_Body):
    """What went wrong (RFC 9457); `relay explain CODE` says more."""

    type: str = Field(description="urn:intercentre-relay:error:CODE")
    title: str
    status: int
    detail: str
    code: str
    errors: list[ProblemPlace] | None = Field(default=None, description="every place at fault")


class LineRefused(_Body):
    """A line of a batch that is refused; the other lines are not affected."""

    line: int = Field(description="number of the line, from 1")
    problem: ProblemDocument


KINDS = tuple(messages.MODELS.values())
PROBLEM = {"application/problem+json": {"schema": {"$ref": _REF.format(model="ProblemDocument")}}}
MESSAGE: dict[str, Any] = {
    "oneOf": [{"$ref": _REF.format(model=model.__name__)} for model in KINDS],
    "discriminator": {
        "propertyName": "kind",
        "mapping": {kind: _REF.format(model=model.__name__) for kind, model in messages.MODELS.items()},
    },
}
LINE = {"oneOf": [{"$ref": _REF.format(model=model.__name__)} for model in (LineAccepted, LineRefused)]}
KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "description": "The same key with the same body is the same message; with another body it is refused (409).",
}


def described(model: type[BaseModel], *, media_type: str = "application/json") -> dict[str, Any]:
    """Return what tells OpenAPI that a route takes a body of this model, which the route reads by itself."""
    return {"requestBody": {"required": True, "content": {media_type: {"schema": {"$ref": _REF.format(model=model.__name__)}}}}}


def taking_message(media_type: str, note: str) -> dict[str, Any]:
    """Return what tells OpenAPI that a route takes messages and an idempotency key."""
    schema = {"$ref": _REF.format(model="Message")}
    body = {"required": True, "description": note, "content": {media_type: {"schema": schema}}}
    return {"parameters": [KEY_HEADER], "requestBody": body}


def schemas() -> dict[str, Any]:
    """Return the schemas of everything that the framework does not see by itself."""
    models: tuple[type[BaseModel], ...] = (*KINDS, ProblemDocument, Acknowledgement, LineAccepted, LineRefused)
    _, found = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    return {**found["$defs"], "Message": MESSAGE}
