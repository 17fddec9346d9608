"""Valid messages of every kind without end: a hypothesis strategy grown from the published examples.

What may vary is found by asking the parser, not written down: a field that an example may lose, a text that may be any text,
times that may all move together. Each message drawn is an example with some of that done to it, spelled in any way.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from datetime import date, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from relay import messages
from relay.errors import Refused

EXAMPLES = Path(__file__).parent.parent / "schemas" / "examples"
PROBE = 'Ωж漢🙂 \\"\u0301\u202e ' * 3
"""Where this is taken, any text of up to forty characters is."""
DAYS = (-8000, 100_000)
"""By how many days all times of a message may move: no example's leaves the years 1900 to 2999."""

_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

Way = tuple[str | int, ...]
Document = dict[str, Any]

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)


class Seed(NamedTuple):
    """An example, and what of it may vary: fields to leave out, texts, and whether its times may move."""

    document: Document
    optional: tuple[Way, ...]
    free: tuple[Way, ...]
    movable: bool


def spell(document: Document) -> bytes:
    """Return a document as JSON."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def is_valid(document: Document) -> bool:
    """Return whether a centre may submit this document."""
    try:
        messages.parse(spell(document))
    except Refused:
        return False
    return True


@cache
def seeds(kind: str) -> tuple[Seed, ...]:
    """Return the examples of a kind with what may vary in each."""
    found = []
    for path in sorted(EXAMPLES.glob(f"{kind}.*.json")):
        document: Document = json.loads(path.read_bytes())
        ways = list(_ways(document))
        fields = [way for way in ways if isinstance(way[-1], str)]
        optional = tuple(way for way in fields if is_valid(without(document, way)))
        free = tuple(way for way in ways if isinstance(_at(document, way), str) and is_valid(replaced(document, way, PROBE)))
        movable = all(is_valid(moved(document, days, timedelta(hours=-11))) for days in DAYS)
        found.append(Seed(document, optional, free, movable))
    return tuple(found)


@st.composite
def documents(draw: st.DrawFn, kind: str) -> Document:
    """Draw a valid message of a kind, parsed."""
    seed = draw(st.sampled_from(seeds(kind)))
    document = deepcopy(seed.document)
    if seed.movable:
        zone = timedelta(minutes=draw(st.integers(-23 * 60, 23 * 60)))
        document = moved(document, draw(st.integers(*DAYS)), zone)
    for way in draw(st.lists(st.sampled_from(seed.free), unique=True, max_size=4)) if seed.free else ():
        document = replaced(document, way, draw(texts))
    for way in draw(st.lists(st.sampled_from(seed.optional), unique=True, max_size=4)) if seed.optional else ():
        thinner = without(document, way)
        document = thinner if is_valid(thinner) else document  # two fields may need each other
    if draw(st.booleans()):
        document["precedence"] = draw(st.sampled_from(["flash", "immediate", "priority", "routine"]))
    if draw(st.integers(0, 4)) == 0:
        document["attachments"] = [attachment(draw(st.binary(min_size=1, max_size=2000)))]
    return document


@st.composite
def raw_messages(draw: st.DrawFn, kind: str) -> bytes:
    """Draw a valid message of a kind as bytes: its fields in any order, its text escaped or not, with or without space."""
    document = draw(documents(kind))
    names = draw(st.permutations(list(document))) if draw(st.booleans()) else list(document)
    text = json.dumps(
        {name: document[name] for name in names},
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 0, 2])),
        separators=draw(st.sampled_from([(",", ":"), (", ", " : ")])),
    )
    return (text + draw(st.sampled_from(["", "\n", " \r\n\t"]))).encode()


def attachment(content: bytes) -> Document:
    """Return an attachment that holds these bytes."""
    encoded = base64.b64encode(content).decode()
    return {"media_type": "image/png", "digest": hashlib.sha256(content).hexdigest(), "content": encoded}


def without(document: Document, way: Way) -> Document:
    """Return the document without one of its fields; as it is when it no longer has it."""
    changed = deepcopy(document)
    *parents, name = way
    try:
        del _at(changed, tuple(parents))[name]
    except (KeyError, IndexError):
        return document
    return changed


def replaced(document: Document, way: Way, value: object) -> Document:
    """Return the document with another value in one place."""
    changed = deepcopy(document)
    *parents, name = way
    _at(changed, tuple(parents))[name] = value
    return changed


def moved(value: Any, days: int, zone: timedelta) -> Any:
    """Return a value in which all times and days are some days later, the times told in another zone."""
    if isinstance(value, dict):
        return {name: moved(item, days, zone) for name, item in value.items()}
    if isinstance(value, list):
        return [moved(item, days, zone) for item in value]
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        return (datetime.fromisoformat(value) + timedelta(days=days)).astimezone(timezone(zone)).isoformat()
    if isinstance(value, str) and _DAY.fullmatch(value):
        return (date.fromisoformat(value) + timedelta(days=days)).isoformat()
    return value


def _ways(value: Any, way: Way = ()) -> Iterator[Way]:
    """Yield the way to every value inside a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, item in inside:
        yield (*way, part)
        yield from _ways(item, (*way, part))


def _at(value: Any, way: Way) -> Any:
    for part in way:
        value = value[part]
    return value
