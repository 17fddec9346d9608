"""Roots: who may sign the directory, and how one root follows another.

``root.json`` is version 1; its SHA-256 is the network's id for ever and comes to a centre by another way than the file. Root N+1
counts when it says ``version`` N+1, names the digest of root N, and is signed by *all* authorities of root N with keys of root N
and by *all* of its own with its own keys (The Update Framework, 5.3: the thresholds of both). Roots are walked in order.

Errors raised: ``Misconfigured`` with ``bad-root``, ``root-mismatch``, ``root-unsigned``, ``root-chain``, ``directory-too-large``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relay.directory.bundle import Signed
from relay.directory.signatures import ROOT_PREFIX, Authority, AuthorityKey, Signature, digest, read_signatures, signers
from relay.directory.strict import MAX_ROOT_BYTES, Record, decoded, read, shown
from relay.directory.weak import is_weak
from relay.errors import Misconfigured
from relay.keys import SIGNING_ALGORITHM, VerifyKey, key_id

__all__ = ["Authority", "AuthorityKey", "Root", "follow_root", "parse_root", "read_root"]

MAX_AUTHORITIES = 16
MAX_VERSION = 2**53 - 1


class Root(Record):
    """Who may sign the directory. The SHA-256 of version 1's bytes is the network's id."""

    format: Literal[1] = 1
    name: str
    version: int = Field(default=1, ge=1, le=MAX_VERSION)
    previous: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the root before, hex")
    authorities: tuple[Authority, ...] = Field(min_length=1, max_length=MAX_AUTHORITIES)


def read_root(raw: bytes, network: str) -> Root:
    """Return the first root, whose digest is ``network``; another one is refused as ``root-mismatch``."""
    if digest(raw) != network:
        raise Misconfigured("root-mismatch", f"The root file's SHA-256 is {digest(raw)}, but the settings name {network}.")
    root = parse_root(raw)
    if root.version != 1:
        raise Misconfigured("bad-root", f"A network is named after its first root, and this is root {root.version}.")
    return root


def parse_root(raw: bytes) -> Root:
    """Return the root in these bytes, whoever wrote it; raise ``Misconfigured`` when it is none."""
    root = read(Root, raw, MAX_ROOT_BYTES, "bad-root", "root file")
    try:
        _check(root)
    except ValueError as error:
        raise Misconfigured("bad-root", f"The root file is not valid: {shown(str(error))}") from error
    return root


def follow_root(before: Root, before_digest: str, signed: Signed) -> Root:
    """Return the root that follows another, once all authorities of both have signed it."""
    signatures = read_signatures(signed.signatures, "bad-root")
    root = parse_root(signed.raw)
    if root.version != before.version + 1 or root.previous != before_digest:
        sentence = f"Root {root.version} does not follow root {before.version}: its number or the digest it names is another."
        raise Misconfigured("root-chain", sentence)
    for which in (before, root):
        missing = missing_of(which, root_signers(signed.raw, signatures, which))
        if missing:
            sentence = f"Root {root.version} has no signature of {missing} with a key of root {which.version}; all must sign."
            raise Misconfigured("root-unsigned", sentence)
    return root


def root_signers(raw: bytes, signatures: tuple[Signature, ...], root: Root) -> frozenset[str]:
    """Return which authorities of ``root`` signed these bytes of a later root."""
    try:
        return signers(raw, signatures, root.authorities, ROOT_PREFIX)
    except ValueError as error:
        raise Misconfigured("bad-root", f"The root's signatures are not valid: {shown(str(error))}") from error


def missing_of(root: Root, signed: frozenset[str]) -> str:
    """Return the ids of the authorities that have not signed, for a sentence; empty when all have."""
    return shown(", ".join(one.id for one in root.authorities if one.id not in signed))


def _check(root: Root) -> None:
    if (root.version == 1) != (root.previous is None):
        raise ValueError("the first root has no root before it, every other one has")
    ids = [authority.id for authority in root.authorities]
    if len(set(ids)) != len(ids):
        raise ValueError("two authorities have the same id")
    keys = [key for authority in root.authorities for key in authority.keys]
    if len({key.public for key in keys}) != len(keys):
        raise ValueError("one key stands there twice, and a key is one authority's alone")
    for key in keys:
        raw = decoded(key.public)
        VerifyKey(raw)
        if is_weak(SIGNING_ALGORITHM, raw):
            raise ValueError(f"key {key.id} is a point of small order, under which anybody can sign")
        if key.id != key_id(SIGNING_ALGORITHM, raw):
            raise ValueError(f"key {key.id} is not named after its bytes")
