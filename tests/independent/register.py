"""Reads bundles of the directory as ``docs/reference/wire-format.md``, section 4, and ``proof-format.md``, section 2, say.

It judges who signed a version and what follows what, and takes what the authorities signed as they signed it: that a key of a
member is a good one is theirs to see.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.independent.opener import Failure, key_id, verifies

Keys = Mapping[str, Sequence[bytes]]
MAX_BUNDLE, MAX_ROOT, MAX_DIRECTORY, MAX_SIGNATURES = 8 * 1024 * 1024, 64 * 1024, 1024 * 1024, 32 * 1024
DEFAULTS: dict[str, Any] = {"status": "active", "clearance": "unclassified", "country": None, "publish": [], "subscribe": []}


def read(raw: bytes) -> Any:
    """Return a JSON document in which no member stands twice."""
    try:
        return json.loads(raw.decode(), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Failure("not-json") from None


def version_of(packed: bytes, network: str, first_root: bytes | None, named: Keys | None) -> dict[str, Any]:
    """Return the last version of a packed bundle, once enough of the authorities that count have signed each in it."""
    roots, versions = _unpack(packed)
    if named is None:
        assert first_root is not None
        _must(hashlib.sha256(first_root).hexdigest() == network)
        named = _walk(first_root, roots)
    found: dict[str, Any] = {}
    before = b""
    for raw, signatures in versions:
        _must(len(raw) <= MAX_DIRECTORY)
        by = _signers(raw, signatures, named, b"intercentre-relay/1 directory\0")
        following = read(raw)
        _must(isinstance(following, dict) and following.get("network") == network)
        if before:
            _must(following.get("version") == found["version"] + 1)
            _must(following.get("previous") == hashlib.sha256(before).hexdigest())
        _must(by == set(named) or bool(by and before and narrows(found, following)))
        found, before = following, raw
    return found


def keys_of(version: Mapping[str, Any], centre: str, *, active: bool = False) -> Iterator[Mapping[str, Any]]:
    """Yield the keys that a version lists of a centre, or of it only when it is active."""
    for member in version["members"]:
        if member["id"] == centre and (not active or member.get("status", "active") == "active"):
            yield from member["keys"]


def usable(key: Mapping[str, Any], at: datetime) -> bool:
    """Return whether a key counts at a moment."""
    revoked = _moment(key.get("revoked_from"))
    start, end = _moment(key["valid_from"]), _moment(key["valid_until"])
    return start is not None and end is not None and start <= at < end and (revoked is None or at < revoked)


def narrows(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether a version does nothing but take rights away."""
    free = {"version", "previous", "issued_at", "reason", "members"}
    old, new = ({member["id"]: member for member in one["members"]} for one in (before, after))
    issued = [_moment(one["issued_at"]) for one in (before, after)]
    return (
        _same(before, after, free)
        and issued[0] is not None
        and issued[1] is not None
        and issued[1] >= issued[0]
        and list(old) == list(new)
        and all(_member_narrows(old[one], new[one]) for one in old)
    )


def _member_narrows(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    was, now = ({**DEFAULTS, **one} for one in (before, after))
    old, new = ({key["id"]: key for key in one["keys"]} for one in (was, now))
    kept = [one for one in old if one in new]
    return (
        _same(was, now, {"status", "keys", "publish", "subscribe"})
        and (was["status"] == now["status"] or now["status"] == "suspended")
        and list(new) == kept
        and not (_has_checkpoint(old) and not _has_checkpoint(new))
        and all(_key_narrows(old[one], new[one]) for one in kept)
        and all(_entitled(was[name], now[name]) for name in ("publish", "subscribe"))
    )


def _key_narrows(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    was, now = _moment(before.get("revoked_from")), _moment(after.get("revoked_from"))
    return _same(before, after, {"revoked_from"}) and (was == now or (now is not None and (was is None or now < was)))


def _entitled(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> bool:
    was, now = ([{"kinds": ["*"], "nominal": False, **one} for one in some] for some in (before, after))
    return all(any(one == other or _within(one, other) for other in was) for one in now)


def _within(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (
        (other["nominal"] or not one["nominal"])
        and ("*" in other["kinds"] or set(one["kinds"]) <= set(other["kinds"]))
        and ("001" in other["regions"] or set(one["regions"]) <= set(other["regions"]))
        and all(
            any(wide in ("*", type_) or type_.startswith(f"{wide}.") for wide in other["crime_types"])
            for type_ in one["crime_types"]
        )
    )


def _has_checkpoint(keys: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(key["use"] == "checkpoint" for key in keys.values())


def _same(before: Mapping[str, Any], after: Mapping[str, Any], but: set[str]) -> bool:
    names = (set(before) | set(after)) - but
    return all(before.get(name) == after.get(name) for name in names)


def _unpack(packed: bytes) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
    _must(packed[:5] == b"ICRD\1" and 9 <= len(packed) <= MAX_BUNDLE)
    roots, versions = int.from_bytes(packed[5:7], "big"), int.from_bytes(packed[7:9], "big")
    _must(roots <= 64 and 1 <= versions <= 65)
    parts, at = [], 9
    for _ in range(2 * (roots + versions)):
        size = int.from_bytes(packed[at : at + 4], "big")
        _must(len(packed) >= at + 4 + size)
        parts.append(packed[at + 4 : at + 4 + size])
        at += 4 + size
    _must(at == len(packed))
    pairs = list(zip(parts[::2], parts[1::2], strict=True))
    return pairs[:roots], pairs[roots:]


def _walk(first: bytes, roots: Sequence[tuple[bytes, bytes]]) -> Keys:
    """Return the authorities of the newest root with their keys."""
    document, held = read(first), _authorities(first)
    _must(document.get("version", 1) == 1)
    before, number = first, 1
    for raw, signatures in roots:
        following, number = read(raw), number + 1
        _must(following.get("version") == number and following.get("previous") == hashlib.sha256(before).hexdigest())
        for which in (held, _authorities(raw)):
            _must(_signers(raw, signatures, which, b"intercentre-relay/1 root\0") == set(which))
        held, before = _authorities(raw), raw
    return held


def _authorities(raw: bytes) -> dict[str, list[bytes]]:
    _must(len(raw) <= MAX_ROOT)
    try:
        return {one["id"]: [_octets(key["public"]) for key in one["keys"]] for one in read(raw)["authorities"]}
    except (KeyError, TypeError, AttributeError):
        raise Failure("bad-root") from None


def _signers(raw: bytes, signatures: bytes, authorities: Keys, prefix: bytes) -> set[str]:
    """Return which authorities signed these bytes with a key of theirs."""
    _must(len(signatures) <= MAX_SIGNATURES)
    given = read(signatures)
    _must(isinstance(given, dict) and set(given) == {"signatures"} and isinstance(given["signatures"], list))
    _must(all(isinstance(one, dict) and set(one) == {"authority", "key", "signature"} for one in given["signatures"]))
    _must(len({(one["authority"], one["key"]) for one in given["signatures"]}) == len(given["signatures"]))
    keys = {(name, key_id("ed25519", key)): key for name, some in authorities.items() for key in some}
    mine = [one for one in given["signatures"] if (one["authority"], one["key"]) in keys]
    return {
        one["authority"] for one in mine if verifies(keys[one["authority"], one["key"]], _octets(one["signature"]), prefix + raw)
    }


def _octets(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (ValueError, TypeError):
        raise Failure("not-base64") from None
    _must(base64.b64encode(raw).decode() == text)
    return raw


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands there twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _must(holds: bool) -> None:
    if not holds:
        raise Failure("bad-directory")
