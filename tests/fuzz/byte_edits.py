"""Makes bad input from good by its bytes: flipped, cut, doubled, spliced, numbers exchanged.

Nothing but the given source of chance decides what comes out, so the same seed gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

_NUMBER = re.compile(rb"-?[0-9]+(\.[0-9]+)?")


def few(dice: Random) -> int:
    """Return 1 half of the time, 2 a quarter of it, and so on up to 8."""
    count = 1
    while count < 8 and dice.random() < 0.5:
        count += 1
    return count


def bytes_of(dice: Random, good: bytes, others: Sequence[bytes]) -> bytes:
    """Return ``good`` with its bytes changed in one to some places; ``others`` lend theirs."""
    raw = good
    for _ in range(few(dice)):
        raw = dice.choice(_EDITS)(dice, raw, others)
    return raw


def _flip(dice: Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    if not raw:
        return raw
    at = dice.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ 1 << dice.randrange(8)]) + raw[at + 1 :]


def _overwrite(dice: Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    at = dice.randint(0, len(raw))
    new = dice.randbytes(dice.choice((1, 1, 2, 4, 16)))
    return raw[:at] + new + raw[at + len(new) :]


def _insert(dice: Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    at = dice.randint(0, len(raw))
    new = dice.choice((b"\0", b"\xff", b'"', b"{", b"}", b"[", b"]", b",", b"\\", b"\n", b"\xef\xbb\xbf", b"\xed\xa0\x80"))
    return raw[:at] + new * dice.choice((1, 1, 1, 7, 300)) + raw[at:]


def _stretch(dice: Random, raw: bytes) -> tuple[int, int]:
    start = dice.randint(0, len(raw))
    return start, min(len(raw), start + dice.choice((1, 1, 2, 4, 16, 64, 1000)))


def _cut(dice: Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    start, stop = _stretch(dice, raw)
    return raw[:start] + raw[stop:]


def _truncate(dice: Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    return raw[: dice.randint(0, len(raw))]


def _double(dice: Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    start, stop = _stretch(dice, raw)
    return raw[:stop] + raw[start:stop] * dice.choice((1, 1, 3, 100)) + raw[stop:]


def _splice(dice: Random, raw: bytes, others: Sequence[bytes]) -> bytes:
    other = dice.choice(others)
    return raw[: dice.randint(0, len(raw))] + other[dice.randint(0, len(other)) :]


def _renumber(dice: Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    """Put another number where a number in ASCII stands."""
    numbers = list(_NUMBER.finditer(raw[:20_000]))
    if not numbers:
        return raw
    here = dice.choice(numbers)
    return raw[: here.start()] + dice.choice((b"-1", b"1e5", b"1e999", b"9" * 400, b"0", b"00", b"1.5")) + raw[here.end() :]


_EDITS: tuple[Callable[[Random, bytes, Sequence[bytes]], bytes], ...] = (
    *(_flip, _flip, _overwrite, _insert, _cut, _truncate, _double, _splice, _renumber),
)
