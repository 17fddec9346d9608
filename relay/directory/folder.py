"""The directory as files: where a node finds them, and how they are put there.

``root.json`` never changes; ``root.N.json`` with ``root.N.signatures.json`` are the roots after it, beside it.
``directory.json`` and ``directory.signatures.json`` are the newest version, for people and for a first start;
``directory.bundle`` beside them is the packed bundle, for a version that not all authorities signed needs those before it. The
bundle is one file and replaced in one step, roots and all; loose files count only where their version is higher than the
bundle's, so a node that reads while files are replaced gets either the old or the new.

Errors raised: ``Misconfigured`` with ``bad-directory``, ``bad-bundle`` and ``directory-too-large``.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relay.directory.bundle import MAX_BUNDLE_BYTES, MAX_ROOTS, Bundle, Signed
from relay.directory.strict import MAX_DIRECTORY_BYTES, MAX_ROOT_BYTES, MAX_SIGNATURES_BYTES
from relay.errors import Misconfigured

ROOT, DIRECTORY, SIGNATURES, BUNDLE = "root.json", "directory.json", "directory.signatures.json", "directory.bundle"


@dataclass(frozen=True, slots=True)
class Paths:
    """The three files that settings name; the others stand beside them."""

    root: Path
    file: Path
    signatures: Path

    @classmethod
    def of(cls, folder: Path) -> Paths:
        """Return the files of a folder by their usual names."""
        return cls(folder / ROOT, folder / DIRECTORY, folder / SIGNATURES)

    @property
    def bundle(self) -> Path:
        """The packed bundle."""
        return self.file.with_name(BUNDLE)

    def later_root(self, number: int) -> tuple[Path, Path]:
        """Return the files of root ``number`` and of its signatures."""
        return self.root.with_name(f"root.{number}.json"), self.root.with_name(f"root.{number}.signatures.json")

    def first_root(self) -> bytes:
        """Return the bytes of the first root."""
        return read_capped(self.root, MAX_ROOT_BYTES)


def read_bundle(where: Path | Paths) -> Bundle:
    """Return the bundle of a folder (or of files named one by one), nothing of it verified."""
    paths = Paths.of(where) if isinstance(where, Path) else where
    packed = Bundle.unpack(read_capped(paths.bundle, MAX_BUNDLE_BYTES)) if paths.bundle.exists() else None
    loose = _loose(paths) if packed is None or paths.file.exists() else None
    if packed and not (loose and _number(loose.raw) > _number(packed.versions[-1].raw)):
        return packed
    roots = tuple(_roots(paths))
    if packed and len(packed.roots) > len(roots):
        roots = packed.roots
    return Bundle(roots, (loose,) if loose else ())


def write_bundle(bundle: Bundle, where: Path | Paths) -> None:
    """Put a bundle where a node reads it: the bundle in one step, then roots and the newest version for people.

    What is written is not verified here. The first root is not touched: a node gets it by another way.
    """
    paths = Paths.of(where) if isinstance(where, Path) else where
    replace(paths.bundle, bundle.pack())
    for number, signed in enumerate(bundle.roots, start=2):
        root, signatures = paths.later_root(number)
        replace(signatures, signed.signatures)
        replace(root, signed.raw)
    newest = bundle.versions[-1]
    replace(paths.signatures, newest.signatures)
    replace(paths.file, newest.raw)


def replace(path: Path, content: bytes) -> None:
    """Write a file in one step: whoever reads it gets the old content or the new, also after a crash."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise Misconfigured("bad-directory", f"{path} can't be written: {error.strerror}.") from error


def read_capped(path: Path, limit: int) -> bytes:
    """Return a file's bytes, never more than ``limit``; raise ``Misconfigured`` when it is larger or can't be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise Misconfigured("bad-directory", f"{path} can't be read: {error.strerror}.") from error
    if len(raw) > limit:
        raise Misconfigured("directory-too-large", f"{path} has more than {limit} bytes; it was not read.")
    return raw


def _loose(paths: Paths) -> Signed:
    return Signed(read_capped(paths.file, MAX_DIRECTORY_BYTES), read_capped(paths.signatures, MAX_SIGNATURES_BYTES))


def _roots(paths: Paths) -> Iterator[Signed]:
    for number in range(2, MAX_ROOTS + 2):
        root, signatures = paths.later_root(number)
        if not root.exists():
            return
        yield Signed(read_capped(root, MAX_ROOT_BYTES), read_capped(signatures, MAX_SIGNATURES_BYTES))


def _number(raw: bytes) -> int:
    """Return the version that a document claims, 0 when it claims none: only to choose which of two to judge."""
    try:
        number = json.loads(raw)["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0
    return number if isinstance(number, int) else 0
