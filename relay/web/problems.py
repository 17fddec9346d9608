"""Every error as an answer: an RFC 9457 problem document with a code of the catalogue.

:func:`answer` takes whatever went wrong with a request: the relay's own errors, those of the framework (no such address,
wrong method, wrong parameter), and anything else, which becomes ``internal-error`` and says nothing but that. A refused
submission is counted and, when its caller is known, written to the audit record: one leaf per request and code, so that
nobody can fill the disk. Who is turned away (no right token, another role, too often) is counted, and recorded once a minute
(:mod:`relay.web.refusals`). A record that can't be written (a full disk) never hides the answer.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from relay import points
from relay.audit import AuditStep
from relay.clients import Client
from relay.errors import (
    BrokerTrouble,
    Busy,
    NotAllowed,
    NotFound,
    Problem,
    Refused,
    RelayError,
    StoreTrouble,
    TooMany,
    catalogue,
    http_status,
)
from relay.log import Event
from relay.points import Point
from relay.web.callers import caller
from relay.web.limits import whole_seconds
from relay.web.served import Here, here

MEDIA_TYPE = "application/problem+json"
SUBMIT = "/v1/messages"
URN = "urn:intercentre-relay:error:"

_RETRY_AFTER: dict[type[RelayError], str] = {Busy: "1", StoreTrouble: "10", BrokerTrouble: "5"}
_CLOSE = frozenset({"too-large", "body-timeout", "body-incomplete"})  # the rest of the body is still on its way
_BEARER = 'Bearer realm="relay"'
_BEARER_OR_BASIC = f'{_BEARER}, Basic realm="relay", charset="UTF-8"'


def document(error: RelayError) -> dict[str, Any]:
    """Return an error as a problem document."""
    entry = catalogue().get(error.code)
    body: dict[str, Any] = {
        "type": URN + error.code,
        "title": entry.title if entry else error.code,
        "status": http_status(error),
        "detail": error.detail,
        "code": error.code,
    }
    if error.problems:
        body["errors"] = [{"pointer": one.pointer, "code": one.code, "detail": one.detail} for one in error.problems]
    return body


async def answer(request: Request, error: Exception) -> Response:
    """Return the answer to a request that failed, counting and recording it."""
    refusal = noted(request, error)
    if not isinstance(refusal, NotAllowed | TooMany) and request.method == "POST" and request.url.path.startswith(SUBMIT):
        await record(here(request), caller(request), [refusal])
    headers = _headers(request, refusal)
    return Response(json.dumps(document(refusal)), http_status(refusal), headers, MEDIA_TYPE)


async def record(here_: Here, who: Client | None, refusals: Iterable[RelayError]) -> None:
    """Count refused messages, and write a leaf per code to the audit record when it is known who asked."""
    codes: set[str] = set()
    for refusal in refusals:
        here_.centre.metrics.refused.labels(refusal.code).inc()
        if isinstance(refusal, Refused):
            codes.add(refusal.code)
    if not codes or who is None:
        return
    audit, now = here_.centre.audit, here_.centre.now()
    leaves = [audit.leaf(AuditStep.REFUSED, now, code=code, actor=who.actor) for code in sorted(codes)]
    with contextlib.suppress(RelayError):
        points.reach(Point.REFUSAL_COMMIT_BEFORE)
        await here_.centre.store.write(lambda connection: audit.append(connection, leaves))
        points.reach(Point.REFUSAL_COMMIT_AFTER)


def noted(request: Request, error: Exception) -> RelayError:
    """Return what went wrong in the relay's own words, said in the log; who is turned away is counted for the record."""
    refusal, here_, client = refusal_of(error), here(request), caller(request)
    if refusal.code == "internal-error":
        here_.centre.log.error(Event.API_FAILED, error=type(error).__name__, method=request.method)
    else:
        here_.centre.log.info(Event.API_REFUSED, code=refusal.code, client=client.name if client else None)
    if isinstance(refusal, NotAllowed | TooMany):
        here_.refusals.note(request, refusal.code)
    return refusal


def refusal_of(error: Exception) -> RelayError:
    """Return what went wrong with a request in the relay's own words."""
    if isinstance(error, RelayError):
        return error
    if isinstance(error, HTTPException):
        return _of_framework(error)
    if isinstance(error, RequestValidationError):
        found = tuple(Problem("", "bad-request", _parameter(one["loc"], one["msg"])) for one in error.errors())
        return Refused("bad-request", " ".join(problem.detail for problem in found), found)
    return RelayError("internal-error", "The node failed to answer this request; its log says more.")


def _of_framework(error: HTTPException) -> RelayError:
    if error.status_code == 404:
        return NotFound("unknown-address", "There is nothing at this address.")
    if error.status_code == 405:
        return Refused("method-not-allowed", "This address does not take this method.")
    return Refused("bad-request", "The request can't be read.")


def _parameter(place: tuple[int | str, ...], complaint: str) -> str:
    return f"The parameter `{place[-1]}` can't be taken: {complaint}."


def _headers(request: Request, error: RelayError) -> dict[str, str]:
    headers = {"Connection": "close"} if error.code in _CLOSE else {}
    if isinstance(error, NotAllowed) and error.code == "not-authenticated":
        page = request.method == "GET" and request.url.path.startswith(("/docs", "/openapi.json"))
        headers["WWW-Authenticate"] = _BEARER_OR_BASIC if page else _BEARER
    for kind, seconds in _RETRY_AFTER.items():
        if isinstance(error, kind):
            headers["Retry-After"] = whole_seconds(error.seconds) if isinstance(error, TooMany) else seconds
    return headers
