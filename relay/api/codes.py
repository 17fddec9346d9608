"""The routes by which a centre's own system gets the code lists, with labels in the language that it asks for.

The lists are fixed while a node runs, so an answer is written once for each list and language; its ``ETag`` is a digest of it,
and a caller that has it already gets 304.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from relay import codes
from relay.api.auth import WORK
from relay.errors import NotFound
from relay.web.language import preferred
from relay.web.served import here

_VARIES = {"Vary": "Accept-Language"}
_ACCEPT_LANGUAGE = {
    "name": "Accept-Language",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "Weighted languages (RFC 9110); of en, fr, es and ar the best is taken, else en.",
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ListHead(_Body):
    """A code list: its name, version, and the days on which it holds."""

    name: str
    version: str
    valid_from: str | None = Field(description="first day, such as 2026-01-01; null when its maker names none")
    valid_until: str | None = Field(description="last day, or null")
    about: str = Field(description="what it is, in English")
    codes: int = Field(description="how many codes it has")


class CodeLists(_Body):
    """All code lists, by name."""

    lists: list[ListHead]


class Code(_Body):
    """A code of a list."""

    code: str
    label: str = Field(description="what people call it, in the language of the answer")
    data: Any = Field(default=None, description="what the list says besides, such as the hours that an answer may take")


class CodeList(_Body):
    """A code list in one language, in the list's order."""

    name: str
    version: str
    valid_from: str | None
    valid_until: str | None
    language: str = Field(description="language of the labels: en, fr, es or ar")
    codes: list[Code]


router = APIRouter(tags=["codes"])


@router.get("/v1/codes", dependencies=[WORK], responses={200: {"model": CodeLists}}, summary="List the code lists")
async def index(request: Request) -> Response:
    """Name every code list with its version and the days on which it holds. Any role but `admin`."""
    return _answer(request, await here(request).centre.work(_index), "en")


@router.get(
    "/v1/codes/{name}",
    dependencies=[WORK],
    responses={200: {"model": CodeList}, 304: {"description": "The caller has this list in this language."}},
    openapi_extra={"parameters": [_ACCEPT_LANGUAGE]},
    summary="Get a code list",
)
async def show(request: Request, name: str) -> Response:
    """Give a list's codes with their labels in English, French, Spanish or Arabic, by `Accept-Language`. Any role but `admin`.

    A code that has no label in a language is labelled in English.
    """
    language = preferred(",".join(request.headers.getlist("accept-language")))
    if name not in codes.label_lists():
        raise NotFound("unknown-list", f"There is no code list {name[:40]!r}; /v1/codes names those there are.")
    return _answer(request, await here(request).centre.work(lambda: _list(name, language)), language, _VARIES)


def _answer(request: Request, body: bytes, language: str, more: dict[str, str] | None = None) -> Response:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Content-Language": language, **(more or {})}
    known = {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}
    if not known.isdisjoint({tag, "*"}):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


@lru_cache(maxsize=1)
def _index() -> bytes:
    return _written({"lists": [{**one.head(), "about": one.about, "codes": len(one.codes)} for one in codes.listings()]})


@lru_cache(maxsize=512)
def _list(name: str, language: str) -> bytes:
    found = codes.listing(name)
    return _written({**found.head(), "language": language, "codes": found.entries(language)})


def _written(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
