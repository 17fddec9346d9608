"""The gate before the models: bytes of a root, a register or signatures in, one document out, or a refusal.

A file is refused by its size before it is parsed. Duplicate keys, NaN, nesting without bottom, other encodings, unknown fields
and values of another JSON type than the field's are refused, so that what was signed has one meaning for every reader.

Errors raised: ``Misconfigured`` with ``directory-too-large`` and the code that the caller names.
"""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import jiter
from pydantic import BaseModel, ConfigDict, ValidationError

from relay.errors import Misconfigured

SHOWN = 200
"""Characters of a file that an error shows."""

MAX_ROOT_BYTES = 64 * 1024
MAX_DIRECTORY_BYTES = 1024 * 1024
MAX_SIGNATURES_BYTES = 32 * 1024


class Record(BaseModel):
    """A part of a signed document: immutable, and nothing in it that is not named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Document = TypeVar("Document", bound=Record)


def read(model: type[Document], raw: bytes, limit: int, code: str, name: str) -> Document:
    """Return the document in these bytes; ``name`` says in an error what they should have been."""
    if len(raw) > limit:
        raise Misconfigured("directory-too-large", f"The {name} has {len(raw)} bytes, more than {limit}; it was not read.")
    try:
        jiter.from_json(raw, catch_duplicate_keys=True, allow_inf_nan=False)
        return model.model_validate_json(raw, strict=True)
    except ValueError as error:
        raise Misconfigured(code, f"The {name} is not valid: {first(error)}") from error


def decoded(text: str) -> bytes:
    """Return the bytes of base64 in its one spelling; raise ``ValueError`` for any other."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{shown(text)} is not base64") from error
    if base64.b64encode(raw).decode() != text:
        raise ValueError(f"{shown(text)} is not base64 as it is written")
    return raw


def first(error: ValueError) -> str:
    """Return what is wrong first, within bounds and escaped: the name of an unknown field may be anything."""
    if not isinstance(error, ValidationError):
        return shown(str(error))
    found = error.errors()[0]
    return f"{shown('.'.join(map(str, found['loc'])) or 'document')}: {shown(found['msg'])}"


def shown(text: str) -> str:
    """Return text from a file as a terminal may see it: short, and escaped where it is not printable."""
    return (text if text.isprintable() else ascii(text))[:SHOWN]
