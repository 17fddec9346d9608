"""The route that explains policy: who would get a message, and which rule decides for each centre. Nothing is stored or sent."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from relay import messages
from relay.api.auth import needs
from relay.api.contract import ProblemPlace, taking_message
from relay.errors import Problem, Refused
from relay.messages import Message
from relay.policy import Judge, Rule, marks
from relay.web.body import read_body
from relay.web.served import here

LARGE_BYTES = 64 * 1024

_NOTES = {
    "cancel": "A recall reaches everyone who ever held the message, whatever they are entitled to now.",
    "update": "A recall reaches everyone who ever held the message: the entitled get the new version, other holders a cancel.",
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CentreExplained(_Body):
    """Whether a centre would get the message, and why."""

    centre: str
    gets: bool = Field(description="true: it gets the message, if nothing in `refused` keeps it from being sent")
    rule: Rule = Field(description="the rule that decided")
    sentence: str = Field(description="the entitlement, mark or level that decided, for people")


class Explanation(_Body):
    """Who would get a message, by the directory that the node has now."""

    kind: str
    version: str
    directory: int = Field(description="version of the directory that decided")
    refused: list[ProblemPlace] = Field(description="why policy would refuse the message as it stands; then nobody gets it")
    centres: list[CentreExplained] = Field(description="every centre of the directory, this one and suspended ones too")
    warnings: list[ProblemPlace] = Field(description="what looks wrong in the message and refuses nothing")
    note: str | None = Field(description="what else decides, for an update or a cancel")


router = APIRouter(tags=["policy"])


@router.post(
    "/v1/policy/explain",
    dependencies=[needs("submit", "operate")],
    openapi_extra={"requestBody": taking_message("application/json", "One message, UTF-8.")["requestBody"]},
    summary="Explain who would get a message",
)
async def explain(request: Request) -> Explanation:
    """Say for every centre whether it would get a message, and by which rule. Nothing is stored or sent.

    Role `submit` or `operate`.

    A message that is not valid is refused as it would be when submitted. Whether an update or a cancel may refer to what it
    refers to is not looked at.
    """
    centre = here(request).centre
    limits = centre.settings.limits
    raw = await read_body(request, limits.message_bytes)
    parse = partial(messages.parse, raw, limit=limits.message_bytes, limits=limits.attachments)
    message = await centre.work(parse) if len(raw) > LARGE_BYTES else parse()
    return _explanation(centre.judge, message)


def _explanation(judge: Judge, message: Message) -> Explanation:
    return Explanation(
        kind=message.kind,
        version=message.version,
        directory=judge.directory.version,
        refused=_places(_refused(judge, message)),
        centres=[CentreExplained(**asdict(one)) for one in judge.explain(marks(message))],
        warnings=_places(messages.warnings(message)),
        note=_NOTES.get(message.kind),
    )


def _refused(judge: Judge, message: Message) -> tuple[Problem, ...]:
    """Return every reason for which policy refuses a message of this centre."""
    found: tuple[Problem, ...] = ()
    try:
        judge.check_origin(message.origin)
    except Refused as refused:
        found = refused.problems
    if message.kind == "cancel":  # a member may always recall what it said
        return found
    try:
        judge.admit(marks(message))
    except Refused as refused:
        found += refused.problems
    return found


def _places(problems: tuple[Problem, ...]) -> list[ProblemPlace]:
    return [ProblemPlace(pointer=one.pointer, code=one.code, detail=one.detail) for one in problems]
