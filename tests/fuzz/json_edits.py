"""Makes bad input from good JSON by its structure: fields dropped, retyped, renamed, repeated, grafted, oddly spelled.

Each function takes a source of chance and something good, and returns something changed. Nothing else decides what comes out, so
the same seed gives the same bytes.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.fuzz.byte_edits import bytes_of, few

Json = Any
RARELY = 1 / 500
"""How often a value is tens of kilobytes wide or deep: that is slow, and a few hundred of them show what there is to see."""

_MEMBER = re.compile(rb'"[a-z_]{1,30}":("[^"\\]{0,80}"|-?[0-9.]{1,20}|true|false|null)')

CHARACTERS: tuple[str, ...] = (
    *"\0\n\t\x1b\x7f\"\\/~{}[]'%<&aZ0-+. ",
    *"\u0661\u00e9\u00b2\u0130\u017f\u0301\u200b\u200f\u202e\u2028\ufeff\ufffe\uffff\U00010348\U0001f6a2\U0010ffff",
    *"\ud800\udfff",
)
"""Controls, what JSON and pointers escape, digits and letters of other scripts, marks of direction, surrogates."""

STRINGS: tuple[str, ...] = (
    "",
    " ",
    "0",
    "-1",
    "null",
    "BE",
    "1.1",
    "1.999",
    "2.0",
    "*",
    "__proto__",
    "2026-02-30T25:61:61+99:99",
    "1900-01-01T00:00:00+23:59",
    "2999-12-31T23:59:59.999999-23:59",
    "2026-02-29",
    "9" * 40,
    "a" * 64,
    "0" * 64,
    "019c2a51-7e00-7a30-9d11-2f6f0f1c8a02",
    "iVBORw0KGgo=",
    "A===",
    "\r\n" * 9,
)
NUMBERS = (0, -0.0, 1, -1, 0.5, 1e15, 1e16, 1e-320, 1e308, 2**31, 2**53 - 1, 2**53, -(2**63), 2**63, 2**64, 10**40, 10**400)

# Spellings that no writer of JSON makes from a value; they stand in for a text that is replaced afterwards.
_SPELLINGS = (
    b"1e999",
    b"-1e999",
    b"1E400000000000",
    b"-0",
    b"01",
    b"+1",
    b".5",
    b"1.",
    b"0x10",
    b"NaN",
    b"-Infinity",
    b"9" * 4000,
    b"0." + b"3" * 4000,
    b'"\\u0000"',
    b'"\\\\u0000"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\u12"',
    b'"\\x41"',
    b'"\xff\xfe"',
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    b'"tab\there"',
    b'{"a":1,"a":2}',
    b'{"":{"":[]}}',
    b"[,]",
    b"[1,]",
    b"/**/null",
    b"'text'",
    b"undefined",
    b"True",
    b"",
)
_DEPTHS = (30, 190, 198, 199, 200, 201, 260, 2000)


def some_text(dice: Random) -> str:
    """Return a text: one with a meaning somewhere, odd characters, or a long one."""
    draw = dice.random()
    if draw < 0.5:
        return dice.choice(STRINGS)
    if draw < 0.9:
        return "".join(dice.choices(CHARACTERS, k=dice.randint(1, 12)))
    return dice.choice(CHARACTERS) * dice.choice((40, 41, 200, 201, 1000, 1001, 20_001))


def some_value(dice: Random) -> Json:
    """Return any JSON value."""
    draw = dice.randrange(10)
    if draw < 3:
        return some_text(dice)
    if draw < 6:
        return dice.choice(NUMBERS)
    if draw < 8:
        return dice.choice((None, True, False, [], {}, [[]], [None], {"": ""}))
    if draw == 8:
        return [some_value(dice) for _ in range(dice.randint(1, 3))]
    return {some_text(dice): some_value(dice) for _ in range(dice.randint(1, 3))}


def json_of(dice: Random, good: bytes, others: Sequence[bytes], times: int = 0) -> bytes:
    """Return the JSON document ``good`` with its structure changed in one to some places; ``others`` lend their parts."""
    document = json.loads(good)
    for _ in range(times or few(dice)):
        document = dice.choice(_EDITS)(dice, document, others)
    spelling = _spelling(dice) if dice.random() < 0.15 else None
    if spelling is not None:
        parent, key = _place(dice, document)
        if parent is not None:
            parent[key] = "@spelled@"
    written = _write(dice, document)
    if spelling is not None:
        written = written.replace(b'"@spelled@"', spelling)
    return _twice(dice, written) if dice.random() < 0.05 else written


def any_of(dice: Random, good: bytes, others: Sequence[bytes]) -> bytes:
    """Return the JSON document ``good`` changed by its structure, by its bytes, or both."""
    draw = dice.random()
    if draw < 0.25:
        return bytes_of(dice, good, others)
    changed = json_of(dice, good, others)
    return bytes_of(dice, changed, others) if draw < 0.35 else changed


def _place(dice: Random, document: Json) -> tuple[Any, Any]:
    """Return a list or object somewhere in a document and a key in it, or (None, None) when there is none."""
    parent, key, value = None, None, document
    while isinstance(value, dict | list) and value:
        if parent is not None and dice.random() < 0.35:
            break
        parent = value
        key = dice.choice(list(value)) if isinstance(value, dict) else dice.randrange(len(value))
        value = value[key]
    return parent, key


def _drop(dice: Random, document: Json, _: Sequence[bytes]) -> Json:
    parent, key = _place(dice, document)
    if parent is not None:
        del parent[key]
    return document


def _retype(dice: Random, document: Json, _: Sequence[bytes]) -> Json:
    parent, key = _place(dice, document)
    if parent is None:
        return some_value(dice)
    parent[key] = some_value(dice)
    return document


def _swap(dice: Random, document: Json, _: Sequence[bytes]) -> Json:
    (one, here), (other, there) = _place(dice, document), _place(dice, document)
    if one is not None and one is other:  # only within one object, or a part could come to hold itself
        one[here], one[there] = one[there], one[here]
    return document


def _repeat(dice: Random, document: Json, _: Sequence[bytes]) -> Json:
    parent, key = _place(dice, document)
    if isinstance(parent, list):
        count = 60_000 if dice.random() < RARELY else dice.choice((1, 1, 1, 16, 33, 260, 520))
        parent[key:key] = [parent[key]] * count
    elif parent is not None:
        parent[some_text(dice)] = parent[key]
    return document


def _rename(dice: Random, document: Json, others: Sequence[bytes]) -> Json:
    parent, key = _place(dice, document)
    if isinstance(parent, dict):
        donor = json.loads(dice.choice(others))
        known = isinstance(donor, dict) and donor and dice.random() < 0.6
        parent[dice.choice(list(donor)) if known else some_text(dice)] = parent.pop(key)
    return document


def _edit(dice: Random, document: Json, _: Sequence[bytes]) -> Json:
    """Change a text or a number a little: the form stays nearly right."""
    parent, key = _place(dice, document)
    value = parent[key] if parent is not None else None
    if isinstance(value, str) and value:
        at = dice.randrange(len(value))
        new = dice.choice(string.digits if value[at].isdigit() else CHARACTERS) if dice.random() < 0.8 else ""
        parent[key] = value[:at] + new + value[at + 1 :]
    elif isinstance(value, int | float):
        parent[key] = dice.choice((-value, value + 1, value * 10, value // 7, not value, min(value, 2**60) + 0.5))
    elif isinstance(value, list):
        dice.shuffle(value)
    return document


def _graft(dice: Random, document: Json, others: Sequence[bytes]) -> Json:
    """Put a part of another document here: the same field of it, any of its fields, or its value in place of one."""
    donor = json.loads(dice.choice(others))
    parent, key = _place(dice, donor)
    if parent is None or not isinstance(document, dict):
        return donor
    if isinstance(key, str) and dice.random() < 0.7:
        document[key] = parent[key]
        return document
    here, where = _place(dice, document)
    if here is not None:
        here[where] = parent[key]
    return document


def _newer(dice: Random, document: Json, _: Sequence[bytes]) -> Json:
    """Say a newer minor version, and mean it: add a field that nobody knows yet."""
    if isinstance(document, dict):
        document["version"] = dice.choice(("1.1", "1.2", "1.999"))
        document[some_text(dice)] = some_value(dice)
    return document


_EDITS: tuple[Callable[[Random, Json, Sequence[bytes]], Json], ...] = (
    *(_drop, _drop, _retype, _retype, _retype, _swap, _repeat, _rename),
    *(_edit, _edit, _edit, _graft, _graft, _newer),
)


def _spelling(dice: Random) -> bytes:
    if dice.random() < 0.15:
        depth = 60_000 if dice.random() < RARELY * 10 else dice.choice(_DEPTHS)
        opened, closed = dice.choice(((b"[", b"]"), (b'{"a":', b"}")))
        return opened * depth + b"1" + closed * dice.choice((depth, depth, 0))
    if dice.random() < RARELY:
        return b"[" + b"1," * 100_000 + b"1]"
    return dice.choice(_SPELLINGS)


def _write(dice: Random, document: Json) -> bytes:
    """Spell a document: mostly compact, sometimes with space, with text as it is or escaped."""
    spaces = (",", ":") if dice.random() < 0.9 else (" ,\n", "\t: ")
    text = json.dumps(document, separators=spaces, ensure_ascii=dice.random() < 0.5)
    if dice.random() < 0.01:
        return text.encode(dice.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7")), "replace")
    return text.encode("utf-8", "surrogatepass")


def _twice(dice: Random, raw: bytes) -> bytes:
    """Let a field stand twice in an object."""
    members = list(_MEMBER.finditer(raw[:20_000]))
    if not members:
        return raw
    here, what = dice.choice(members), dice.choice(members)
    return raw[: here.start()] + what[0] + b"," + raw[here.start() :]
