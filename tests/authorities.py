"""Authorities of an invented network, and the roots, versions and bundles that they (or whoever has a key of theirs) can make.

Keys are derived from their names, so each run of the tests makes the same bytes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from relay.directory import Bundle, Directory, Signatures, Signed, Trusted, begin, digest, parse_directory, sign, sign_root
from tests.make_vectors import NOW, START, listed, sealing, signing

Change = Callable[[dict[str, Any]], object]
Signers = Iterable[tuple[str, str]]

NORTH, SOUTH = ("NORTH", "north 1"), ("SOUTH", "south 1")
BOTH = (NORTH, SOUTH)
NEW_NORTH, NEW_SOUTH = ("NORTH", "north 3"), ("SOUTH", "south 3")
KEYS = {"NORTH": ("north 1", "north 2"), "SOUTH": ("south 1", "south 2")}
NEW_KEYS = {"NORTH": ("north 3",), "SOUTH": ("south 3",)}
DAY = timedelta(days=1)
Z = "0" * 64


def authority(name: str, keys: Iterable[str]) -> dict[str, Any]:
    """Return an authority as a root lists it, with the keys of these names."""
    made = [signing(key) for key in keys]
    return {"id": name, "keys": [{"id": key.id, "public": base64.b64encode(key.public).decode()} for key in made]}


def root(version: int = 1, previous: str | None = None, keys: Mapping[str, Iterable[str]] = KEYS, **more: Any) -> bytes:
    """Return the bytes of a root."""
    authorities = [authority(name, names) for name, names in keys.items()]
    document = {"format": 1, "name": "Attacked", "version": version, "previous": previous, "authorities": authorities} | more
    return json.dumps(document).encode()


FIRST = root()
NETWORK = digest(FIRST)


def with_signatures(raw: bytes, by: Signers, how: Callable[..., Any] = sign) -> Signed:
    """Return bytes with signatures: pairs of an authority's name and the name of the key that signs."""
    made = Signatures(signatures=tuple(how(raw, name, signing(key)) for name, key in by))
    return Signed(raw, made.model_dump_json().encode())


def next_root(
    by: Signers = (*BOTH, NEW_NORTH, NEW_SOUTH),
    version: int = 2,
    previous: str = NETWORK,
    keys: Mapping[str, Iterable[str]] = NEW_KEYS,
    **more: Any,
) -> Signed:
    """Return a root that follows another, signed by all of both unless told otherwise."""
    return with_signatures(root(version, previous, keys, **more), by, sign_root)


def member(centre: str) -> dict[str, Any]:
    """Return a member with keys of each use, two of them to sign and to seal."""
    signers = [listed(signing(f"{centre} {number}")) for number in (1, 2)]
    sealers = [listed(sealing(f"{centre} {number}", "x25519")) for number in (1, 2)]
    checkpoint = listed(signing(f"{centre} checkpoint")).model_copy(update={"use": "checkpoint"})
    keys = [json.loads(key.model_dump_json()) for key in (*signers, *sealers, checkpoint)]
    return {
        "id": centre,
        "name": centre.title(),
        "organisation": "Attacked",
        "seat": "nowhere",
        "time_zone": "UTC",
        "contact": {"name": "Duty officer", "telephone": "+00 0 000 00 00", "email": f"duty@{centre.lower()}.example"},
        "keys": keys,
        "publish": [{"crime_types": ["drugs", "medicines"], "regions": ["150"], "nominal": True}],
        "subscribe": [
            {"crime_types": ["*"], "regions": ["001"]},
            {"crime_types": ["weapons"], "regions": ["035", "155"], "nominal": True},
        ],
        "reads": {},
    }


def document(version: int = 1, previous: str | None = None) -> dict[str, Any]:
    """Return a version of three members as a document."""
    return {
        "format": 1,
        "network": NETWORK,
        "version": version,
        "previous": previous,
        "issued_at": START.isoformat(),
        "warn_after": (NOW + 30 * DAY).isoformat(),
        "expires_at": (NOW + 60 * DAY).isoformat(),
        "members": [member(centre) for centre in ("ALFA", "BRAVO", "CHARLIE")],
    }


def written(document: Mapping[str, Any]) -> bytes:
    """Return a document as bytes."""
    return json.dumps(document).encode()


def after(before: bytes, *changes: Change) -> bytes:
    """Return the version that follows another, changed."""
    made = json.loads(before)
    made.update(version=made["version"] + 1, previous=digest(before))
    for change in changes:
        change(made)
    return written(made)


def full(raw: bytes, by: Signers = BOTH) -> Signed:
    """Return a version signed by all authorities of the first root."""
    return with_signatures(raw, by)


def one(raw: bytes, by: tuple[str, str] = NORTH) -> Signed:
    """Return a version that a single authority signed."""
    return with_signatures(raw, (by,))


def bundle(*versions: Signed, roots: tuple[Signed, ...] = ()) -> Bundle:
    """Return versions as a bundle."""
    return Bundle(roots, versions)


def started(*versions: Signed, roots: tuple[Signed, ...] = ()) -> Trusted:
    """Return what a node trusts that starts from these versions."""
    return begin(NETWORK, FIRST, bundle(*versions, roots=roots), NOW)


def parsed(document: Mapping[str, Any]) -> Directory:
    """Return a document as the relay reads it, unsigned."""
    return parse_directory(written(document))


def suspend(index: int = 0) -> Change:
    """Suspend a member."""
    return lambda it: it["members"][index].update(status="suspended")


def revoke(key: int = 0, when: str = "2026-06-01T00:00:00Z", index: int = 0) -> Change:
    """Revoke a key of a member."""
    return lambda it: it["members"][index]["keys"][key].update(revoked_from=when)


def rename(name: str = "Other") -> Change:
    """Change what only all authorities may."""
    return lambda it: it["members"][0].update(name=name)
