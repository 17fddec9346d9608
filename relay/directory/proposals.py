"""The next version of the register or the next root, as an authority writes it before anybody signs.

Edits are small functions on the document of the version in force; ``next_version`` gives the result its number and its link and
reads it back as every node will. ``candidate`` puts a signed proposal where it belongs in a bundle, so that
:func:`relay.directory.trust.advance` can say what nodes will say.

Errors raised: ``Refused`` with ``bad-proposal``; ``Misconfigured`` where the result is no valid version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from relay.directory.bundle import Bundle, Signed
from relay.directory.register import Directory, parse_directory
from relay.directory.roots import Root, parse_root
from relay.directory.signatures import Signature, Signatures, digest, read_signatures
from relay.directory.strict import shown
from relay.directory.trust import Trusted
from relay.errors import Misconfigured, Refused

Document = dict[str, Any]


def document_of(directory: Directory) -> Document:
    """Return a version as a document to edit."""
    made: Document = json.loads(directory.model_dump_json())
    return made


def suspend(document: Document, centre: str) -> None:
    """Suspend a member."""
    _member(document, centre)["status"] = "suspended"


def revoke(document: Document, key: str, when: datetime) -> None:
    """Let a key, whosever it is, count no more from a moment on."""
    _key(document, key)["revoked_from"] = when.isoformat()


def remove_key(document: Document, key: str) -> None:
    """Take a key, whosever it is, out of the register."""
    found = _key(document, key)
    for member in document["members"]:
        member["keys"] = [one for one in member["keys"] if one is not found]


def add_keys(document: Document, centre: str, keys: Sequence[Mapping[str, Any]]) -> None:
    """List keys of a member, beside those it has."""
    _member(document, centre)["keys"].extend(dict(key) for key in keys)


def put_members(document: Document, members: Sequence[Mapping[str, Any]]) -> None:
    """Change the named fields of members that are there, and admit the others."""
    known = {member["id"]: member for member in document["members"]}
    for member in members:
        if not isinstance(member, dict) or not isinstance(member.get("id"), str):
            raise Refused("bad-proposal", "A member in the file has no id.")
        if member["id"] in known:
            known[member["id"]].update(member)
        else:
            document["members"].append(dict(member))


def renew(document: Document, now: datetime, days: int) -> None:
    """Let the version expire this many days from now, and warn when less than a fifth of them is left."""
    if days < 1:
        raise Refused("bad-proposal", f"A version is renewed for at least one day, not {days}.")
    document["warn_after"] = (now + timedelta(days=days) * 4 / 5).isoformat()
    document["expires_at"] = (now + timedelta(days=days)).isoformat()


def next_version(before: Directory, document: Mapping[str, Any], reason: str, now: datetime) -> bytes:
    """Return the bytes of the version that follows ``before``, for the authorities to sign."""
    links = {"version": before.version + 1, "previous": before.digest, "issued_at": _later(before, now), "reason": reason}
    raw = written({**document, **links})
    parse_directory(raw)
    return raw


def next_root(before: Root, before_digest: str, document: Mapping[str, Any]) -> bytes:
    """Return the bytes of the root that follows ``before``, for the authorities of both to sign."""
    raw = written({**document, "version": before.version + 1, "previous": before_digest})
    parse_root(raw)
    return raw


def written(document: Mapping[str, Any]) -> bytes:
    """Return a document as bytes that a person can read; times of TOML as text."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=lambda one: one.isoformat()).encode() + b"\n"


def add_signature(signatures: bytes | None, made: Sequence[Signature]) -> bytes:
    """Return a file of signatures with more of them; one by the same key is replaced."""
    held = read_signatures(signatures, "bad-directory") if signatures is not None else ()
    by_key = {(one.authority, one.key): one for one in (*held, *made)}
    return Signatures(signatures=tuple(by_key.values())).model_dump_json(indent=2).encode() + b"\n"


def check_place(trusted: Trusted, proposal: Directory) -> None:
    """Raise ``Misconfigured`` when a proposal can't follow the version in force: nobody should sign it."""
    held = trusted.directory
    number = f"Version {proposal.version}"
    if proposal.network != trusted.network:
        raise Misconfigured("bad-directory", f"{number} belongs to network {shown(proposal.network)}, not {trusted.network}.")
    if proposal.version < held.version:
        raise Misconfigured("directory-rollback", f"{number} is older than {held.version}, which is in force.")
    if proposal.version == held.version and proposal.digest != held.digest:
        raise Misconfigured("directory-fork", f"{number} is in force already, with the digest {held.digest}.")
    if proposal.version == held.version + 1 and proposal.previous != held.digest:
        raise Misconfigured("directory-chain", f"{number} follows another version {held.version} than the one in force.")


def candidate(trusted: Trusted, proposal: Signed | None, root: Signed | None) -> Bundle:
    """Return the bundle that nodes would be given: what is in force, a root after it, a version after it."""
    held = trusted.bundle
    roots = held.roots if root is None else (*held.roots, root)
    if proposal is None:
        return Bundle(roots, held.versions)
    before: tuple[Signed, ...] = ()
    if root is None and parse_directory(proposal.raw).previous == trusted.directory.digest:
        before = held.versions
    elif root is None and proposal.raw == held.versions[-1].raw:
        before = held.versions[:-1]
    return Bundle(roots, (*before, proposal))


def root_digest(trusted: Trusted) -> str:
    """Return the digest of the newest root."""
    roots = trusted.bundle.roots
    return digest(roots[-1].raw) if roots else trusted.network


def _later(before: Directory, now: datetime) -> str:
    return max(now, before.issued_at).isoformat()


def _member(document: Document, centre: str) -> Document:
    for member in document["members"]:
        if member["id"] == centre:
            found: Document = member
            return found
    raise Refused("bad-proposal", f"{shown(centre)} is no member of the version in force.")


def _key(document: Document, key: str) -> Document:
    for member in document["members"]:
        for one in member["keys"]:
            if one["id"] == key:
                found: Document = one
                return found
    raise Refused("bad-proposal", f"{shown(key)} is no key of the version in force.")
