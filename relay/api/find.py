"""The route by which an operator finds messages: by marks, time, thread and any identifier, sent and received alike.

Without a filter it lists what this centre submitted, and with ``state`` alone what of that waits or ended. With others it asks
the index, which holds keyed digests (:mod:`relay.store.found`), opens each message of the page as it rests, and shows its marks
and how far it is: never its content. A page is opened in worker threads, some messages and a bounded number of bytes at a time.

A search is an act, and needs the role ``audit`` and a reason: before it is answered the audit record has a leaf with who asks,
the names of the filters used, not their values, and why. A search that can't be recorded is not answered. The list alone, without
a search, is for those who operate, too.

Errors raised: ``Refused`` with ``unknown-code`` (a kind, crime type, country, region or status that is in no list) and
``bad-request``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import jiter
from fastapi import APIRouter
from fastapi import Query as QueryParameters
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from relay import codes, messages, points, seal
from relay.api.auth import SEE, require
from relay.api.contract import Id, MessageStates, Time
from relay.api.messages import listed, standing
from relay.audit import AuditStep
from relay.centre import Centre
from relay.clock import iso, to_ms
from relay.envelope import Envelope, parse
from relay.errors import Problem, Refused, Rejected, RelayError
from relay.log import Event
from relay.messages import terms
from relay.messages.base import Marks
from relay.messages.types import Moment
from relay.points import Point
from relay.store import Connection, found, hits
from relay.store.common import Resting
from relay.store.found import Query
from relay.store.hits import Stored
from relay.store.parked import Waiting
from relay.web.callers import actor
from relay.web.served import here

LONGEST = 200
OPENED_AT_ONCE = 100
OPENED_AT_ONCE_BYTES = 16 * 1024 * 1024

_SHOWN = (
    *("kind", "version", "crime_types", "countries", "tlp", "handling", "precedence", "status", "nominal", "references"),
    "classification",
)
_DEFAULTS = {name: field.default for name, field in Marks.model_fields.items() if name in _SHOWN and not field.is_required()}
_CURSOR = re.compile(r"[0-9a-f]{1,16}")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NO_FILTERS = {"limit", "before", "reason"}
_BY_STATE = {"state"}
_MANY = {"identifier"}

router = APIRouter(tags=["messages"])

Name = Annotated[str, Field(max_length=100)]


class Filters(BaseModel):
    """What is looked for; what is given must all hold."""

    model_config = ConfigDict(extra="forbid")

    kind: Name | None = Field(default=None, description="kind of message; an update is found by the kind that it updates, too")
    crime_type: Name | None = Field(default=None, description="crime type; finds those below it, too")
    region: Name | None = Field(default=None, description="M49 region of any level")
    country: Name | None = Field(default=None, description="country, ISO 3166-1 alpha-2")
    origin: str | None = Field(
        default=None, pattern=r"^[A-Z0-9]{2,8}(-[A-Z0-9]{2,8})?$", description="id of the centre that sent it"
    )
    status: Name | None = Field(default=None, description="actual, exercise or test")
    thread: Id | None = Field(default=None, description="a message's id: finds it and everything that refers to it")
    identifier: list[str] = Field(
        default=[],
        max_length=16,
        description="container, ship, vehicle, document, case number or any other; spaces, hyphens and case don't count; "
        "given several times, all must be there",
    )
    since: Moment | None = Field(default=None, description="submitted or received at this time or later, RFC 3339")
    until: Moment | None = Field(default=None, description="submitted or received before this time, RFC 3339")
    state: Waiting | None = Field(
        default=None, description="of what this centre submitted, what is in this state at some recipient; without other filters"
    )
    direction: Literal["sent", "received", "any"] | None = Field(default=None, description="any when left out beside a filter")
    limit: int = Field(default=100, ge=1, le=1000, description="most messages of the answer")
    before: str | None = Field(default=None, max_length=36, description="the `next` of the page before")
    reason: str | None = Field(
        default=None, min_length=1, max_length=500, description="why; required with a filter, and kept in the audit record"
    )


class Standing(BaseModel):
    """Where a sent message stands with one recipient."""

    centre: str
    state: str
    at: Time
    code: str | None = Field(default=None, description="why it was rejected")


class FoundReference(BaseModel):
    """A message that the found one refers to."""

    id: Id
    digest: str
    relation: str


class FoundMessage(BaseModel):
    """A message that was found: its marks and where it stands; `damaged` stands in place of marks that can't be read."""

    id: Id
    direction: Literal["sent", "received"]
    origin: str
    at: Time = Field(description="when it was submitted or received")
    kind: str | None = None
    version: str | None = None
    crime_types: list[str] | None = None
    countries: list[str] | None = None
    regions: list[str] | None = Field(default=None, description="M49 sub-regions of its countries")
    tlp: str | None = None
    handling: str | None = None
    classification: str | None = None
    precedence: str | None = None
    status: str | None = None
    nominal: bool | None = None
    references: list[FoundReference] | None = None
    recipients: list[Standing] | None = Field(default=None, description="of a sent message")
    state: str | None = Field(default=None, description="of a received message: waiting, handed, delivered, rejected, withdrawn")
    code: str | None = Field(default=None, description="of a received message: why it was rejected")
    damaged: str | None = Field(default=None, description="code that says why it can't be read in the store")


class FoundMessages(BaseModel):
    """Messages that were found, the newest first."""

    messages: list[FoundMessage]
    next: str | None = Field(description="value of `before` for the next page, or null")


@router.get(
    "/v1/messages",
    dependencies=[SEE],
    responses={200: {"model": FoundMessages | MessageStates}},
    summary="Find messages, or list those submitted",
)
async def find(request: Request, asked: Annotated[Filters, QueryParameters()]) -> Response:
    """Find messages that this centre sent or received, the newest first; without a filter, list what it submitted.

    Role `operate`, `audit` or `watch`; a search needs `audit` and a `reason`. The answer has marks and states, never content. A
    search is written to the audit record.
    """
    centre, given = here(request).centre, sorted(set(request.query_params) - _NO_FILTERS)
    if searched := bool(set(given) - _BY_STATE):
        require(request, "audit")
    _check(request, asked, filtered=searched)
    if not given:
        return await listed(here(request), asked.limit, asked.before)
    if given == ["state"]:
        return await listed(here(request), asked.limit, asked.before, asked.state)
    query = _query(centre, asked)
    leaf = centre.audit.leaf(AuditStep.SEARCHED, centre.now(), actor=actor(request), why=f"{' '.join(given)}; {asked.reason}")
    points.reach(Point.SEARCH_COMMIT_BEFORE)
    await centre.store.write(lambda connection: centre.audit.append(connection, [leaf]))
    points.reach(Point.SEARCH_COMMIT_AFTER)
    page, following = await centre.store.read(partial(_search, asked=asked, query=query))
    shown: list[dict[str, Any]] = []
    for some in _portions(page):
        sealed = await centre.store.read(partial(_sealed, some=some))
        shown += await centre.work(partial(_opened, centre, some, sealed))
    body = json.dumps({"messages": shown, "next": following}, separators=(",", ":"))
    return Response(body, media_type="application/json")


def _check(request: Request, asked: Filters, *, filtered: bool) -> None:
    """Raise ``Refused`` with everything that is wrong with a request's parameters."""
    repeated = {name for name in request.query_params if name not in _MANY and len(request.query_params.getlist(name)) > 1}
    wrong = [("bad-request", name, "give it once") for name in sorted(repeated)]
    wrong += [("unknown-code", name, f"{value[:50]} is {what}") for name, value, what in _unknown(asked)]
    if any(not terms.normal(one) or len(one) > LONGEST for one in asked.identifier):
        wrong.append(("bad-request", "identifier", f"it has neither a letter nor a digit, or more than {LONGEST} characters"))
    if asked.state is not None and filtered:
        wrong.append(("bad-request", "state", "it goes with no other filter"))
    if asked.since and asked.until and asked.until <= asked.since:
        wrong.append(("bad-request", "until", "it is not after since"))
    if filtered and not (asked.reason or "").strip():
        wrong.append(("bad-request", "reason", "a search needs one; the audit record keeps it"))
    if asked.before is not None and not (_CURSOR if filtered else _ID).fullmatch(asked.before):
        wrong.append(("bad-request", "before", "it is not the `next` of a page of the same search"))
    if wrong:
        problems = tuple(Problem("", code, f"The parameter `{name}` can't be taken: {why}.") for code, name, why in wrong)
        raise Refused(wrong[0][0], " ".join(problem.detail for problem in problems), problems)


def _unknown(asked: Filters) -> Iterator[tuple[str, str, str]]:
    """Return the codes of a request that no list has: parameter, value and what it is not."""
    known: tuple[tuple[str, str | None, Callable[[str], bool], str], ...] = (
        ("kind", asked.kind, messages.MODELS.__contains__, "no kind of message"),
        ("crime_type", asked.crime_type, codes.is_crime_type, "no crime type of the list in force"),
        ("region", asked.region, codes.is_region, "no M49 region"),
        ("country", asked.country, codes.is_country, "no country of ISO 3166-1 alpha-2"),
        ("status", asked.status, codes.STATUSES.__contains__, "no status"),
    )
    for name, value, is_known, what in known:
        if value is not None and not is_known(value):
            yield name, value, what


def _query(centre: Centre, asked: Filters) -> Query:
    """Return what the index is asked for."""
    own, marks = f"origin:{centre.id}", ("kind", "crime_type", "country", "origin", "status")
    wanted = [f"{name}:{value}" for name in marks if (value := getattr(asked, name)) is not None]
    if asked.region not in (None, codes.WORLD):
        wanted.append(f"region:{asked.region}")
    wanted += filter(None, map(terms.identifier, asked.identifier))
    if asked.direction == "sent":
        wanted.append(own)
    received = asked.direction == "received"
    return Query(
        tokens=_tokens(centre, wanted),
        without=_tokens(centre, [own]) if received else (),
        either=_tokens(centre, [f"status:{status}" for status in codes.STATUSES]) if received else (),
        about=None if asked.thread is None else _tokens(centre, [terms.thread(asked.thread)])[0],
        message=asked.thread,
    )


def _tokens(centre: Centre, wanted: Iterable[str]) -> tuple[str, ...]:
    return tuple(centre.keeper.tokens(wanted).split())


def _search(connection: Connection, asked: Filters, query: Query) -> tuple[list[Stored], str | None]:
    """Return a page of what a query finds, and where the next one begins."""
    given = {
        "before": None if asked.before is None else min(int(asked.before, 16), found.END),
        "since": None if asked.since is None else to_ms(asked.since),
        "until": None if asked.until is None else to_ms(asked.until),
    }
    some = found.search(connection, query, **given, limit=asked.limit + 1)
    page = some[: asked.limit]
    return hits.stored(connection, page), f"{page[-1].number:x}" if len(some) > asked.limit else None


def _portions(page: Sequence[Stored]) -> Iterator[list[Stored]]:
    """Cut a page into runs that are opened at once: so many messages, so many bytes of envelopes; one at least."""
    run: list[Stored] = []
    sizes: dict[tuple[bool, int], int] = {}
    for one in page:
        sizes[_envelope(one)] = one.size
        if run and (len(run) == OPENED_AT_ONCE or sum(sizes.values()) > OPENED_AT_ONCE_BYTES):
            yield run
            run, sizes = [], {_envelope(one): one.size}
        run.append(one)
    if run:
        yield run


def _envelope(one: Stored) -> tuple[bool, int]:
    return one.hit.received, one.envelope


def _sealed(connection: Connection, some: Sequence[Stored]) -> dict[tuple[bool, int], Resting]:
    """Return the envelopes of some messages as they rest."""
    numbers = {_envelope(one) for one in some}
    return {
        (received, n): rest
        for received in (False, True)
        for n, rest in hits.sealed(connection, [n for side, n in numbers if side is received], received=received).items()
    }


def _opened(centre: Centre, some: Sequence[Stored], sealed: dict[tuple[bool, int], Resting]) -> list[dict[str, Any]]:
    """Return some messages as they are shown; one that was purged meanwhile is left out."""
    unwrapped = {envelope: _unwrapped(centre, rest) for envelope, rest in sealed.items()}
    shown = []
    for one in some:
        known = unwrapped[_envelope(one)]
        content = known if isinstance(known, RelayError) else seal.content(*known, one.position)
        if isinstance(content, Rejected) and content.code == "purged":
            continue
        marks = _marks(content) if isinstance(content, bytes) else {"damaged": _damaged(centre, content)}
        shown.append({**_head(centre, one), **marks, **_standing(one)})
    return shown


def _unwrapped(centre: Centre, rest: Resting) -> tuple[Envelope, bytes] | RelayError:
    try:
        return parse(rest.header + rest.body), centre.storage_key.unwrap(rest.content_key)
    except RelayError as error:
        return error


def _damaged(centre: Centre, error: RelayError) -> str:
    detail = f"A found message is damaged in the store and can't be read: {error.detail}"
    centre.log.error(Event.STORE_TROUBLE, code=error.code, detail=detail)
    return error.code


def _marks(content: bytes) -> dict[str, Any]:
    """Return the marks of a message, which was validated when it was stored."""
    given: dict[str, Any] = jiter.from_json(content)
    marks = {name: given.get(name, _DEFAULTS.get(name)) for name in _SHOWN}
    return {**marks, "regions": codes.sub_regions(tuple(given["countries"]))}


def _head(centre: Centre, one: Stored) -> dict[str, Any]:
    direction = "received" if one.hit.received else "sent"
    return {"id": one.hit.id, "direction": direction, "origin": one.origin or centre.id, "at": iso(one.at)}


def _standing(one: Stored) -> dict[str, Any]:
    if one.state is None:
        return {"recipients": [standing(recipient, steps) for recipient, steps in one.recipients.items()]}
    return {"state": one.state.state} if one.state.code is None else {"state": one.state.state, "code": one.state.code}
