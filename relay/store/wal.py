"""The write-ahead log, looked at before SQLite does, which forgets whatever follows a wrong frame and says nothing.

After a crash that is the one transaction that was being written, of which nobody was told that it is stored. But each commit is
forced to disk before the next one is written: when frames of a *later* transaction follow the wrong one, what is wrong was
committed, and forgetting it would lose it.

The form of the log is SQLite's (https://www.sqlite.org/fileformat2.html#walformat).
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER, _FRAME = 32, 24
_MAGIC = 0x377F0682
Sum = tuple[int, int]


def is_damaged(path: Path) -> bool:
    """Return whether a log has lost something that was committed; one that is not there, or empty, has not."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return False
    if len(raw) <= _HEADER:
        return False
    magic, _, page, *_ = struct.unpack_from(">4I", raw)
    order = ">" if magic & 1 else "<"
    sums = _sum(raw[:24], order, (0, 0))
    if magic & ~1 != _MAGIC or page < 512 or sums != struct.unpack_from(">2I", raw, 24):
        return True
    frames = range(_HEADER, len(raw) - _FRAME - page + 1, _FRAME + page)
    salts = raw[16:24]
    for start in frames:
        if raw[start + 8 : start + 16] != salts:
            return False  # from an earlier round of the log: the end of this one
        sums = _sum(raw[start : start + 8] + raw[start + _FRAME : start + _FRAME + page], order, sums)
        if sums != struct.unpack_from(">2I", raw, start + 16):
            return _goes_on([at for at in frames if at >= start], raw, salts)
    return False


def _goes_on(rest: list[int], raw: bytes, salts: bytes) -> bool:
    """Return whether another transaction was begun behind the end of the one in which the wrong frame stands."""
    ended = False
    for start in rest:
        if raw[start + 8 : start + 16] != salts:
            continue
        if ended:
            return True
        ended = raw[start + 4 : start + 8] != b"\0\0\0\0"
    return False


def _sum(raw: bytes, order: str, before: Sum) -> Sum:
    one, two = before
    words = struct.unpack(f"{order}{len(raw) // 4}I", raw)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
