"""Attachments: photographs and reports inside the message itself, sealed and purged with it.

An attachment is base64 with the SHA-256 of its decoded bytes. The model looks at its fields; ``faults`` decodes each
one and compares size and digest, and is only called for a message that has any. An attachment is never handled less
strictly than it says: its handling code is at most that of its message, whose code the machine rules look at.

Codes of what it finds: ``attachment-too-large``, ``digest-mismatch``, ``bad-format``, ``contradiction``.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any

from pydantic import Field

from relay import codes
from relay.errors import Problem
from relay.messages.part import Part
from relay.messages.types import Digest, Label, Line, listed

MAX_ATTACHMENT_BYTES = 1024 * 1024
MAX_ATTACHMENTS_BYTES = 4 * 1024 * 1024
MAX_CONTENT = (MAX_ATTACHMENTS_BYTES + 2) // 3 * 4  # in base64; what a node takes of it, ``Limits`` says


@dataclass(frozen=True, slots=True)
class Limits:
    """How many decoded bytes of attachments a node takes: in one, and in all of a message together."""

    each: int = MAX_ATTACHMENT_BYTES
    together: int = MAX_ATTACHMENTS_BYTES


LIMITS = Limits()
WIDEST = Limits(each=MAX_ATTACHMENTS_BYTES)  # what any centre may be set to submit, so what every centre reads
MOST = Limits(MAX_ATTACHMENTS_BYTES, MAX_ATTACHMENTS_BYTES)


class Attachment(Part):
    """A file inside the message."""

    media_type: Annotated[str, listed("media_types")] = Field(description="media type of the file")
    digest: Digest = Field(description="SHA-256 of the decoded bytes, hex")
    content: Annotated[str, Field(min_length=4, max_length=MAX_CONTENT, json_schema_extra={"contentEncoding": "base64"})] = Field(
        description="the file, base64 (RFC 4648, with padding, without line breaks)"
    )
    handling: Annotated[str, listed("handling_codes")] = Field(
        default="H0", description="handling code; not above that of the message"
    )
    name: Label | None = Field(default=None, description="name of the file")
    caption: Line | None = Field(default=None, description="what it shows")


def faults(attachments: Sequence[Any], handling: str, limits: Limits, place: str = "/attachments") -> list[Problem]:
    """Return what is wrong with the attachments of a message, given as models or as parsed JSON."""
    found: list[Problem] = []
    together = 0
    for index, each in enumerate(attachments):
        fields = each if isinstance(each, Mapping) else each.__dict__
        size = _size(fields["content"])
        together += size
        found += _faults(fields, size, handling, limits, f"{place}/{index}")
    if together > limits.together:
        sentence = f"{together} bytes of attachments together; this node takes up to {limits.together} in a message"
        found.append(Problem(place, "attachment-too-large", sentence))
    return found


def _size(content: str) -> int:
    return len(content) // 4 * 3 - content[-2:].count("=")


def _faults(fields: Mapping[str, Any], size: int, handling: str, limits: Limits, place: str) -> list[Problem]:
    found = []
    own = fields.get("handling", "H0")
    if codes.HANDLING_CODES.index(own) > codes.HANDLING_CODES.index(handling):
        sentence = f"the attachment is marked {own}, above the message's {handling}: raise the message's handling"
        found.append(Problem(f"{place}/handling", "contradiction", sentence))
    if size > limits.each:
        sentence = f"the attachment has {size} bytes; this node takes up to {limits.each} in one"
        return [*found, Problem(f"{place}/content", "attachment-too-large", sentence)]
    return found + _content_faults(fields["content"], fields["digest"], place)


def _content_faults(content: str, digest: str, place: str) -> list[Problem]:
    try:
        decoded = b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return [Problem(f"{place}/content", "bad-format", "the content is not base64 with padding and without line breaks")]
    if sha256(decoded).hexdigest() != digest:
        return [Problem(f"{place}/digest", "digest-mismatch", "the SHA-256 of the decoded content is another than this digest")]
    return []
