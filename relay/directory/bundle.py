"""A bundle: everything a node needs to follow the directory from wherever it is, as one run of bytes.

Roots after the first, in order; the last version that every authority signed; and the versions after it that only take rights
away, in order. It is what travels through the relay, what ``directory.bundle`` holds and what a node keeps. The layout, numbers
big-endian::

    "ICRD" │ format: 1 byte = 1 │ roots: 2 bytes │ versions: 2 bytes
    then for each root, then each version:  length: 4 bytes │ document │ length: 4 bytes │ its signatures

The same bundle always has the same bytes. Nothing in it is trusted because it is there: :mod:`relay.directory.trust` judges it.

Errors raised: ``Misconfigured`` with ``bad-bundle`` and ``directory-too-large``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from relay.errors import Misconfigured

MAX_BUNDLE_BYTES = 8 * 1024 * 1024
MAX_ROOTS = 64
MAX_VERSIONS = 65

_HEAD = struct.Struct(">4sBHH")
_LENGTH = struct.Struct(">I")
_MAGIC, _FORMAT = b"ICRD", 1


@dataclass(frozen=True, slots=True)
class Signed:
    """The bytes of a root or a version, and those of its file of signatures."""

    raw: bytes
    signatures: bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    """Roots after the first, the last fully signed version, and the narrowing versions after it."""

    roots: tuple[Signed, ...]
    versions: tuple[Signed, ...]

    def pack(self) -> bytes:
        """Return the bundle as bytes; raise ``Misconfigured`` when it is larger than anybody takes."""
        parts = [_HEAD.pack(_MAGIC, _FORMAT, len(self.roots), len(self.versions))]
        for signed in (*self.roots, *self.versions):
            for part in (signed.raw, signed.signatures):
                parts += (_LENGTH.pack(len(part)), part)
        raw = b"".join(parts)
        _check_size(len(raw), len(self.roots), len(self.versions))
        return raw

    @classmethod
    def unpack(cls, raw: bytes) -> Bundle:
        """Return the bundle in these bytes, all of them; nothing of it is verified yet."""
        if len(raw) < _HEAD.size:
            raise Misconfigured("bad-bundle", f"The bundle has {len(raw)} bytes, which is no bundle.")
        magic, form, roots, versions = _HEAD.unpack_from(raw)
        if (magic, form) != (_MAGIC, _FORMAT):
            raise Misconfigured("bad-bundle", "The bundle does not begin as one does.")
        _check_size(len(raw), roots, versions)
        parts, at = [], _HEAD.size
        for _ in range(2 * (roots + versions)):
            part, at = _part(raw, at)
            parts.append(part)
        if at != len(raw) or not versions:
            raise Misconfigured("bad-bundle", "The bundle has bytes after its end, or no version.")
        signed = tuple(Signed(*pair) for pair in zip(parts[::2], parts[1::2], strict=True))
        return cls(signed[:roots], signed[roots:])


def _part(raw: bytes, at: int) -> tuple[bytes, int]:
    start = at + _LENGTH.size
    if start > len(raw):
        raise Misconfigured("bad-bundle", "The bundle ends in the middle of a length.")
    end = start + _LENGTH.unpack_from(raw, at)[0]
    if end > len(raw):
        raise Misconfigured("bad-bundle", "The bundle ends in the middle of a document.")
    return raw[start:end], end


def _check_size(size: int, roots: int, versions: int) -> None:
    if size > MAX_BUNDLE_BYTES or roots > MAX_ROOTS or versions > MAX_VERSIONS:
        sentence = f"The bundle has {size} bytes, {roots} roots and {versions} versions; one takes at most {MAX_BUNDLE_BYTES}"
        raise Misconfigured("directory-too-large", f"{sentence} bytes, {MAX_ROOTS} roots and {MAX_VERSIONS} versions.")
