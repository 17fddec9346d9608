"""The gate before the models: bytes in, one JSON object out, or a refusal.

JSON lets much through that two parsers read differently or that no store keeps: duplicate keys, NaN, numbers that
overflow to infinity, NUL, lone surrogates, other encodings, bottomless nesting. All are refused here, each with its
own code, so that what is validated, sealed and stored has one meaning for every reader.

The good path costs one pass of jiter and one scan for an escaped NUL; finding out *why* bytes are refused may read
them again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import jiter

from relay.errors import Problem, Refused

MAX_BYTES = 6 * 1024 * 1024
MAX_DEPTH = 200  # jiter's own bound, not configurable
MAX_PROBLEMS = 1000
MAX_ENTRIES = 500  # of one list or object; the longest list of any model takes 256
SHOWN = 40

# Above this the shape is looked at first: pydantic holds the GIL for 4 s to name half a million unknown fields.
_LARGE = 64 * 1024

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_DUPLICATE = re.compile(r'Detected duplicate key "(.*)" at (line \d+ column \d+)$', re.DOTALL)


def read_document(raw: bytes, limit: int = MAX_BYTES) -> dict[str, Any]:
    """Return the one JSON object in these bytes, or raise ``Refused``."""
    if len(raw) > limit:
        raise _refused("too-large", f"the message has {len(raw)} bytes; this node takes up to {limit}")
    try:
        document = jiter.from_json(raw, catch_duplicate_keys=True, allow_inf_nan=False, cache_mode="keys")
    except ValueError as error:
        raise _why(raw, str(error)) from None
    if b"\\u0000" in raw:
        _refuse_nul(document)
    if not isinstance(document, dict):
        raise _refused("not-an-object", "a message is one JSON object, in braces")
    if len(raw) > _LARGE:
        _refuse_wide(document)
    return document


def refuse_infinite(document: dict[str, Any]) -> None:
    """Raise ``Refused`` for every number too large for a double (``1e999``), wherever it stands."""
    sentence = "the number is too large for a double; write a finite one"
    found = (
        Problem(place, "not-finite", sentence)
        for place, value in _walk(document)
        if isinstance(value, float) and math.isinf(value)
    )
    _raise_any(found)


def refusal_of(problems: tuple[Problem, ...]) -> Refused:
    """Return the error for these problems: under its own code when there is one, else ``invalid-message``."""
    if len(problems) == 1:
        return Refused(problems[0].code, problems[0].detail, problems)
    return Refused("invalid-message", f"{len(problems)} problems; the first: {problems[0].detail}", problems)


def shown(text: str) -> str:
    """Return at most 40 characters of content, quoted and escaped, for a sentence."""
    # Escaped first: a control or bidirectional character of a refused message must not reach a terminal.
    escaped = json.dumps(text[:SHOWN])[1:-1]
    return f'"{escaped if len(text) <= SHOWN and len(escaped) <= SHOWN else escaped[: SHOWN - 3] + "..."}"'


def step(pointer: str, part: str | int) -> str:
    """Return a JSON Pointer one step further; a key too long to show leaves it at the parent."""
    text = str(part)
    return pointer if len(text) > SHOWN else f"{pointer}/{text.replace('~', '~0').replace('/', '~1')}"


def _refused(code: str, sentence: str) -> Refused:
    return Refused(code, sentence, (Problem("", code, sentence),))


def _raise_any(problems: Iterable[Problem]) -> None:
    found = tuple(islice(problems, MAX_PROBLEMS))
    if found:
        raise refusal_of(found)


def _walk(value: object, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key (at its object's place) and every scalar with its place; the depth is bounded by the parser."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield pointer, key
            yield from _walk(item, step(pointer, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, step(pointer, index))
    else:
        yield pointer, value


def _refuse_nul(document: object) -> None:
    # The escape may itself be escaped ("\\u0000" is six characters of text), so only the parsed strings tell.
    sentence = "the character U+0000 is not taken; remove it"
    found = (Problem(place, "nul", sentence) for place, text in _walk(document) if isinstance(text, str) and "\0" in text)
    _raise_any(found)


def _refuse_wide(value: object, pointer: str = "") -> None:
    if not isinstance(value, dict | list):
        return
    if len(value) > MAX_ENTRIES:
        sentence = f"{len(value)} entries; no list or object of a message has more than {MAX_ENTRIES}"
        raise refusal_of((Problem(pointer, "too-long", sentence),))
    for part, item in value.items() if isinstance(value, dict) else enumerate(value):
        _refuse_wide(item, step(pointer, part))


def _why(raw: bytes, complaint: str) -> Refused:
    """Return the refusal for bytes that jiter does not take: the first diagnosis that fits."""
    duplicate = _DUPLICATE.match(complaint)
    key = shown(duplicate[1]) if duplicate else ""
    for fits, code, sentence in _DIAGNOSES:
        if fits(raw, complaint):
            return _refused(code, sentence.format(where=_where(complaint), key=key, depth=MAX_DEPTH))
    # The parser's own phrases hold no content (the one that does, the duplicate key, is told above).
    return _refused("not-json", f"the bytes are not one JSON document: {complaint[:100]}")


def _where(complaint: str) -> str:
    return complaint[complaint.rfind("line ") :]


def _is_plain_utf8(raw: bytes) -> bool:
    if json.detect_encoding(raw) != "utf-8":  # UTF-16, UTF-32, or UTF-8 with a byte order mark
        return False
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _takes_with_nan(raw: bytes, complaint: str) -> bool:
    try:
        jiter.from_json(raw, catch_duplicate_keys=True, allow_inf_nan=True)
    except ValueError as error:
        return str(error) != complaint
    return True


_DIAGNOSES: tuple[tuple[Callable[[bytes, str], bool], str, str], ...] = (
    (
        lambda raw, _: not _is_plain_utf8(raw),
        "not-utf8",
        "the bytes are not UTF-8 without a byte order mark; encode the message so",
    ),
    (
        lambda _, complaint: complaint.startswith("Detected duplicate key"),
        "duplicate-key",
        "the key {key} stands twice in one object ({where}); keep one",
    ),
    (
        lambda _, complaint: complaint.startswith("recursion limit"),
        "too-deep",
        "the message nests deeper than {depth} levels; flatten it",
    ),
    (
        lambda _, complaint: complaint.startswith("number out of range"),
        "out-of-range",
        "a number has more digits than any field takes ({where})",
    ),
    (lambda raw, _: b"\0" in raw, "nul", "a NUL byte stands in the message ({where}); remove it"),
    (
        lambda raw, complaint: "hex escape" in complaint and bool(_SURROGATE.search(raw)),
        "lone-surrogate",
        "half of a surrogate pair stands alone ({where}); send both halves or neither",
    ),
    (
        _takes_with_nan,
        "not-finite",
        "NaN and Infinity are no JSON ({where}); write a number or leave the field out",
    ),
)
