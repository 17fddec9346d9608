"""The route by which an operator sees which peers are late with what they owe, and whom to call: role `operate`."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from relay.api.auth import WATCH
from relay.api.contract import Time
from relay.clock import iso
from relay.deadlines import Alarm
from relay.web.served import Here, here

router = APIRouter(tags=["alarms"], dependencies=[WATCH])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DutyContact(_Body):
    """Whom to call at a peer, round the clock, as the directory says."""

    name: str
    telephone: str
    email: str


class RaisedAlarm(_Body):
    """A promise that a peer has not kept in time."""

    peer: str
    precedence: str = Field(description="lane of the messages: a precedence, or exercise")
    promise: Literal["accepted", "delivered", "half"] = Field(description="half: half of the time to their deadline is over")
    messages: int = Field(description="how many, counted up to some thousands")
    oldest_at: Time = Field(description="when the oldest of them was submitted")
    contact: DutyContact | None = Field(description="null: the peer is no member of the directory any more")


class Alarms(_Body):
    """What stands now, the most urgent lane first."""

    alarms: list[RaisedAlarm]


@router.get("/v1/alarms", responses={200: {"model": Alarms}}, summary="See which peers are late")
async def list_(request: Request) -> Response:
    """List the promises that peers have not kept in time, with the duty contact of each peer. Role `operate` or `watch`."""
    here_ = here(request)
    body = Alarms(alarms=[_raised(here_, alarm) for alarm in here_.node.deadlines.alarms])
    return Response(body.model_dump_json(), media_type="application/json")


def _raised(here_: Here, alarm: Alarm) -> RaisedAlarm:
    contact = here_.node.deadlines.contact(alarm.peer)
    return RaisedAlarm(
        peer=alarm.peer,
        precedence=alarm.lane,
        promise=alarm.promise,
        messages=alarm.messages,
        oldest_at=iso(alarm.since),
        contact=None if contact is None else DutyContact(name=contact.name, telephone=contact.telephone, email=contact.email),
    )
