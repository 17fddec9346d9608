"""Moments in what operators see: milliseconds since the Unix epoch in Python, RFC 3339 in JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema

from relay.clock import from_ms, iso

Moment = Annotated[
    int,
    PlainSerializer(iso, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "description": "RFC 3339, UTC, with milliseconds",
            "examples": ["2026-01-31T08:15:00.000Z"],
        }
    ),
]
"""A moment in milliseconds, that is written as RFC 3339."""


class Shown(BaseModel):
    """Something that operators see; its fields are what JSON and pages say alike."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def local(ms: int, zone: str) -> datetime | None:
    """Return a moment as the clocks of a time zone show it; None for a zone that this machine does not know."""
    try:
        return from_ms(ms).astimezone(ZoneInfo(zone))
    except (KeyError, ValueError, OSError):  # not found, no such name, a folder of zones
        return None
