"""What somebody can do to the directory who holds the wire, the files or one authority's keys, and what each of it is refused as.

The list mirrors The Update Framework's client tests (``test_updater_top_level_update``, ``test_trusted_metadata_set``, and the
attacks they are named for): arbitrary software, rollback, freeze, mix and match, endless data, key compromise, wrong chains of
roots. Its fast-forward attack needs all authorities here; one moves the number by one only.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.directory import (
    MAX_BUNDLE_BYTES,
    Bundle,
    Signed,
    Trusted,
    advance,
    begin,
    digest,
    read_bundle,
    sign_root,
    write_bundle,
)
from relay.directory.weak import is_weak
from relay.errors import Misconfigured
from tests.authorities import (
    BOTH,
    DAY,
    FIRST,
    KEYS,
    NETWORK,
    NEW_KEYS,
    NEW_NORTH,
    NEW_SOUTH,
    NORTH,
    SOUTH,
    Z,
    after,
    authority,
    bundle,
    document,
    full,
    next_root,
    one,
    rename,
    revoke,
    root,
    started,
    suspend,
    with_signatures,
    written,
)
from tests.make_vectors import NOW, listed, signing

V1 = written(document())
V2 = after(V1)
V3 = after(V2)
V4 = after(V3, rename())
HELD = started(full(V3))
NARROW = after(V3, suspend())
"""Version 4 that one authority may make."""

ROTATED = next_root()
UNDER_ROOT_2 = (NEW_NORTH, NEW_SOUTH)


def code_of(call: Callable[[], object]) -> str:
    """Return the code with which something is refused."""
    with pytest.raises(Misconfigured) as caught:
        call()
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 500
    return caught.value.code


def altered(raw: bytes, **fields: Any) -> bytes:
    """Return a document with fields changed."""
    return written(json.loads(raw) | fields)


def signatures(*given: Any) -> bytes:
    """Return a file of signatures."""
    return json.dumps({"signatures": given}).encode()


def entries(signed: Signed) -> list[dict[str, str]]:
    """Return the signatures of a file."""
    found: list[dict[str, str]] = json.loads(signed.signatures)["signatures"]
    return found


def nested(depth: int) -> bytes:
    """Return a version whose policy is nested without need."""
    return V4.replace(b'"members"', b'"policy": ' + b'{"a":' * depth + b"1" + b"}" * depth + b', "members"', 1)


def many(name: str, count: int) -> bytes:
    """Return a version whose first member has too many of something."""
    made = json.loads(V4)
    made["members"][0][name] = [made["members"][0][name][0]] * count
    return written(made)


def doubled_key(changes: dict[str, Any]) -> bytes:
    """Return a version in which a key stands twice with different times."""
    made = json.loads(V4)
    made["members"][1]["keys"].append(made["members"][0]["keys"][0] | changes)
    return written(made)


def small_order(use: str, algorithm: str) -> bytes:
    """Return a version that lists the neutral point as a key."""
    from relay.keys import key_id

    raw = (1).to_bytes(32, "little")
    made = json.loads(V4)
    made["members"][0]["keys"][0].update(
        id=key_id(algorithm, raw), public=base64.b64encode(raw).decode(), use=use, algorithm=algorithm
    )
    return written(made)


OTHER_NAME = [entry | {"authority": "SOUTH"} for entry in entries(one(V4))]
FORKED = after(V2, rename("Fork"))
LARGE = V4 + b" " * (1024 * 1024)

VERSIONS: dict[str, tuple[Bundle, str]] = {
    # arbitrary software, key compromise
    "nobody signed": (bundle(full(V4, ())), "directory-unsigned"),
    "one of two authorities signed": (bundle(one(V4)), "directory-unsigned"),
    "one authority signed with both its keys": (bundle(full(V4, (NORTH, ("NORTH", "north 2")))), "directory-unsigned"),
    "a stranger's key under a known authority": (bundle(full(V4, (NORTH, ("SOUTH", "stranger")))), "directory-unsigned"),
    "an authority that is none": (bundle(full(V4, (NORTH, ("WEST", "south 1")))), "directory-unsigned"),
    "a key of the other authority": (bundle(full(V4, (NORTH, ("SOUTH", "north 2")))), "directory-unsigned"),
    "signed in the other's name": (bundle(Signed(V4, signatures(*entries(one(V4)), *OTHER_NAME))), "directory-unsigned"),
    "signed as a root": (bundle(with_signatures(V4, BOTH, sign_root)), "directory-unsigned"),
    "a byte changed after signing": (bundle(Signed(V4.replace(b"ALFA", b"ALFB"), full(V4).signatures)), "directory-unsigned"),
    "a space added after signing": (bundle(Signed(V4 + b" ", full(V4).signatures)), "directory-unsigned"),
    "two signatures by one key": (bundle(full(V4, (NORTH, NORTH, SOUTH))), "bad-directory"),
    "a signature cut short": (
        bundle(Signed(V4, signatures(*(entry | {"signature": entry["signature"][:40]} for entry in entries(full(V4)))))),
        "directory-unsigned",
    ),
    "a signature with a second spelling": (
        bundle(Signed(V4, signatures(*(entry | {"signature": entry["signature"] + "\n"} for entry in entries(full(V4)))))),
        "bad-directory",
    ),
    "a signature that is no text": (
        bundle(Signed(V4, signatures({"authority": "NORTH", "key": "x", "signature": 1}))),
        "bad-directory",
    ),
    "signatures that are none": (bundle(Signed(V4, b"")), "bad-directory"),
    "a signature under every name there is": (
        bundle(Signed(V4, signatures(*({"authority": "NORTH", "key": str(n), "signature": "AAAA"} for n in range(65))))),
        "bad-directory",
    ),
    # rollback, forks
    "an older version": (bundle(full(V2)), "directory-rollback"),
    "the first version": (bundle(full(V1)), "directory-rollback"),
    "the same number with other bytes": (bundle(full(FORKED)), "directory-fork"),
    "a next version that follows another": (bundle(full(after(FORKED))), "directory-fork"),
    "a chain around the version held": (bundle(full(V2), full(FORKED), full(after(FORKED))), "directory-fork"),
    "a chain of one authority around it": (bundle(full(V2), one(after(V2, suspend(1)))), "directory-fork"),
    "a longer chain of one authority around it": (
        bundle(full(V2), one(after(V2, suspend(1))), one(after(after(V2, suspend(1)), suspend(2)))),
        "directory-fork",
    ),
    # freeze
    "an expired version": (bundle(full(altered(V4, expires_at=NOW.isoformat()))), "directory-expired"),
    # mix and match
    "the signatures of another version": (bundle(Signed(V4, full(V3).signatures)), "directory-unsigned"),
    "the bytes of another version": (bundle(Signed(V3 + b"\n", full(V4).signatures)), "directory-unsigned"),
    "another network's, by the same authorities": (bundle(full(altered(V4, network=Z))), "bad-directory"),
    # the rule that one authority may narrow
    "a narrowing version alone": (bundle(one(NARROW)), "directory-unsigned"),
    "a narrowing version after another base": (bundle(full(V3), one(altered(NARROW, previous=Z))), "directory-chain"),
    "a narrowing version with a gap": (bundle(full(V3), one(altered(NARROW, version=5))), "directory-chain"),
    "a narrowing version of the same number": (bundle(full(V3), one(altered(NARROW, version=3))), "directory-chain"),
    "a narrowing version twice": (bundle(full(V3), one(NARROW), one(NARROW)), "directory-chain"),
    "widening by one authority": (bundle(full(V3), one(V4)), "directory-unsigned"),
    "widening next to narrowing": (bundle(full(V3), one(after(V3, suspend(), rename()))), "directory-unsigned"),
    "widening after narrowing": (bundle(full(V3), one(NARROW), one(after(NARROW, rename()))), "directory-unsigned"),
    "back to active by one authority": (
        bundle(full(V3), one(NARROW), one(after(NARROW, lambda it: it["members"][0].update(status="active")))),
        "directory-unsigned",
    ),
    "a later expiry by one authority": (
        bundle(full(V3), one(after(V3, lambda it: it.update(expires_at=(NOW + 999 * DAY).isoformat())))),
        "directory-unsigned",
    ),
    "narrowing by nobody": (bundle(full(V3), full(NARROW, ())), "directory-unsigned"),
    "narrowing by a stranger": (bundle(full(V3), full(NARROW, (("WEST", "stranger"),))), "directory-unsigned"),
    # endless data
    "a directory without end": (bundle(full(LARGE)), "directory-too-large"),
    "signatures without end": (bundle(Signed(V4, full(V4).signatures + b" " * 40_000)), "directory-too-large"),
    "too many keys": (bundle(full(many("keys", 65))), "bad-directory"),
    "too many entitlements": (bundle(full(many("publish", 257))), "bad-directory"),
    # what is no directory, though all signed it
    "nesting without bottom": (bundle(full(nested(50_000))), "bad-directory"),
    "some nesting": (bundle(full(nested(3))), "bad-directory"),
    "a duplicate key": (bundle(full(V4.replace(b'"version"', b'"version": 9, "version"', 1))), "bad-directory"),
    "a duplicate key, spelled otherwise": (
        bundle(full(V4.replace(b'"version"', b'"\\u0076ersion": 9, "version"', 1))),
        "bad-directory",
    ),
    "bytes after the end": (bundle(full(V4 + b"{}")), "bad-directory"),
    "a byte order mark": (bundle(full(b"\xef\xbb\xbf" + V4)), "bad-directory"),
    "another encoding": (bundle(full(V4.decode().encode("utf-16"))), "bad-directory"),
    "a version that is text": (bundle(full(altered(V4, version="4"))), "bad-directory"),
    "a version that is a fraction": (bundle(full(altered(V4, version=4.0))), "bad-directory"),
    "a version that is a truth value": (bundle(full(altered(V4, version=True))), "bad-directory"),
    "a version beyond what numbers hold": (bundle(full(altered(V4, version=2**53))), "bad-directory"),
    "a version below zero": (bundle(full(altered(V4, version=-1))), "bad-directory"),
    "not a number": (bundle(full(V4.replace(b'"version": 4', b'"version": NaN', 1))), "bad-directory"),
    "a time that is a number": (bundle(full(altered(V4, expires_at=4_000_000_000))), "bad-directory"),
    "a time without zone": (bundle(full(altered(V4, expires_at="2099-01-01T00:00:00"))), "bad-directory"),
    "members that are none": (bundle(full(altered(V4, members={}))), "bad-directory"),
    "no version before": (bundle(full(altered(V4, previous=None))), "bad-directory"),
    "a link that is none": (bundle(full(altered(V4, previous="\x1b[2J" * 16))), "bad-directory"),
    "another format": (bundle(full(altered(V4, format=2))), "bad-directory"),
    "a root in its place": (bundle(full(FIRST)), "bad-directory"),
    "a witness who is no member": (bundle(full(altered(V4, policy={"witnesses": ["NOBODY"]}))), "bad-directory"),
    "a key of two owners": (bundle(full(doubled_key({}))), "bad-directory"),
    "a key twice, once revoked": (bundle(full(doubled_key({"revoked_from": "2026-01-02T00:00:00Z"}))), "bad-directory"),
    "a key under which anybody signs": (bundle(full(small_order("signing", "ed25519"))), "bad-directory"),
    "a key that anybody opens": (bundle(full(small_order("sealing", "x25519"))), "bad-directory"),
    "no version at all": (bundle(), "bad-bundle"),
}


@pytest.mark.parametrize("name", VERSIONS)
def test_what_is_made_of_versions_is_refused(name: str) -> None:
    """A node that holds version 3 takes none of it; one that starts anew takes none of what is no mere rollback or fork."""
    given, code = VERSIONS[name]
    assert code_of(lambda: advance(HELD, given, NOW)) == code
    if code not in {"directory-rollback", "directory-fork"}:
        assert code_of(lambda: begin(NETWORK, FIRST, given, NOW)) == code


def chained(*roots: Signed) -> Bundle:
    """Return roots with a version that the newest of them would have signed."""
    return bundle(full(V4, UNDER_ROOT_2), roots=roots)


def raw_root(raw: bytes) -> Signed:
    """Return bytes signed as the next root, whatever they are."""
    return with_signatures(raw, (*BOTH, NEW_NORTH, NEW_SOUTH), sign_root)


SHARED = {"NORTH": ("north 3",), "SOUTH": ("north 3",)}
TWICE = root(2, NETWORK, authorities=[authority("NORTH", ["north 3"]), authority("NORTH", ["south 3"])])
MISNAMED = root(2, NETWORK, NEW_KEYS).replace(signing("north 3").id.encode(), b"0" * 32)
NEUTRAL = base64.b64encode((1).to_bytes(32, "little")).decode()
WEAK = root(2, NETWORK, authorities=[{"id": "NORTH", "keys": [{"id": "0" * 32, "public": NEUTRAL}]}])
THIRD = next_root(UNDER_ROOT_2, 3, digest(ROTATED.raw))

ROOTS: dict[str, tuple[Bundle, str]] = {
    "an unsigned root": (chained(next_root(())), "root-unsigned"),
    "signed by the old keys alone": (chained(next_root(BOTH)), "root-unsigned"),
    "signed by the new keys alone": (chained(next_root(UNDER_ROOT_2)), "root-unsigned"),
    "signed by one of the old": (chained(next_root((NORTH, NEW_NORTH, NEW_SOUTH))), "root-unsigned"),
    "signed by one of the new": (chained(next_root((*BOTH, NEW_NORTH))), "root-unsigned"),
    "signed as a directory": (
        chained(with_signatures(ROTATED.raw, (*BOTH, NEW_NORTH, NEW_SOUTH))),
        "root-unsigned",
    ),
    "changed after signing": (
        chained(Signed(ROTATED.raw.replace(b"Attacked", b"Attackes"), ROTATED.signatures)),
        "root-unsigned",
    ),
    "two signatures by one key": (chained(next_root((*BOTH, NORTH, NEW_NORTH, NEW_SOUTH))), "bad-root"),
    "the same number again": (chained(next_root(version=1)), "bad-root"),
    "the first root again": (chained(with_signatures(FIRST, BOTH, sign_root)), "root-chain"),
    "a number left out": (chained(next_root(version=3)), "root-chain"),
    "it follows another": (chained(next_root(previous=Z)), "root-chain"),
    "an intermediate root unsigned": (chained(next_root(()), THIRD), "root-unsigned"),
    "an intermediate root left out": (chained(THIRD), "root-chain"),
    "the wrong order": (chained(THIRD, ROTATED), "root-chain"),
    "the last root unsigned": (chained(ROTATED, next_root((), 3, digest(ROTATED.raw))), "root-unsigned"),
    "the third signed by the first's keys": (
        chained(
            ROTATED,
            next_root((*BOTH, ("NORTH", "n"), ("SOUTH", "s")), 3, digest(ROTATED.raw), {"NORTH": ("n",), "SOUTH": ("s",)}),
        ),
        "root-unsigned",
    ),
    "one key for two authorities": (chained(next_root((*BOTH, NEW_NORTH, ("SOUTH", "north 3")), keys=SHARED)), "bad-root"),
    "an authority twice": (chained(raw_root(TWICE)), "bad-root"),
    "a key named after other bytes": (chained(raw_root(MISNAMED)), "bad-root"),
    "a key under which anybody signs": (chained(raw_root(WEAK)), "bad-root"),
    "no authority": (chained(raw_root(root(2, NETWORK, {}))), "bad-root"),
    "an authority without keys": (chained(raw_root(root(2, NETWORK, {"NORTH": ()}))), "bad-root"),
    "an unknown field": (chained(next_root(threshold=1)), "bad-root"),
    "no JSON": (chained(raw_root(b"")), "bad-root"),
    "a directory in its place": (chained(raw_root(V4)), "bad-root"),
    "a duplicate key": (chained(raw_root(ROTATED.raw.replace(b'"version"', b'"version": 9, "version"'))), "bad-root"),
    "nesting without bottom": (chained(raw_root(b"[" * 60_000)), "bad-root"),
    "a root without end": (chained(raw_root(ROTATED.raw + b" " * 70_000)), "directory-too-large"),
    "signatures without end": (chained(Signed(ROTATED.raw, ROTATED.signatures + b" " * 40_000)), "directory-too-large"),
    "a version signed by the keys that went": (bundle(full(V4), roots=(ROTATED,)), "directory-unsigned"),
    "a version signed by half of each": (bundle(full(V4, (NORTH, NEW_SOUTH)), roots=(ROTATED,)), "directory-unsigned"),
    "a chain that only one of the keys that went signed": (
        bundle(full(V3, UNDER_ROOT_2), one(NARROW), roots=(ROTATED,)),
        "directory-unsigned",
    ),
}


@pytest.mark.parametrize("name", ROOTS)
def test_what_is_made_of_roots_is_refused(name: str) -> None:
    """Neither a node under the first root nor one that starts anew takes any of it."""
    given, code = ROOTS[name]
    assert code_of(lambda: advance(HELD, given, NOW)) == code
    assert code_of(lambda: begin(NETWORK, FIRST, given, NOW)) == code


def test_a_root_is_signed_by_all_of_both_and_followed_in_order() -> None:
    """A node of the first root follows two rotations at once, and arrives where one does that starts anew."""
    third = next_root((NEW_NORTH, NEW_SOUTH), 3, digest(ROTATED.raw), NEW_KEYS, name="Renamed")
    given = bundle(full(V4, UNDER_ROOT_2), roots=(ROTATED, third))
    found = advance(HELD, given, NOW)
    assert (found.root.version, found.root.name, found.directory.version) == (3, "Renamed", 4)
    assert found == begin(NETWORK, FIRST, given, NOW) == advance(started(full(V3)), given, NOW)


def test_a_key_kept_signs_for_both_roots() -> None:
    """An authority that keeps its key needs one signature, not two."""
    kept = next_root((*BOTH, NEW_SOUTH), keys={"NORTH": KEYS["NORTH"], "SOUTH": ("south 3",)})
    given = bundle(full(V4, (NORTH, NEW_SOUTH)), roots=(kept,))
    assert advance(HELD, given, NOW).root.version == 2


def test_an_authority_joins_when_all_say_so_and_then_is_needed() -> None:
    """A root with a third authority is signed by all three; from then on a version of two is not enough."""
    west = ("WEST", "west 1")
    three = next_root((*BOTH, west), keys=KEYS | {"WEST": ("west 1",)})
    assert code_of(lambda: advance(HELD, bundle(full(V4), roots=(three,)), NOW)) == "directory-unsigned"
    assert advance(HELD, bundle(full(V4, (*BOTH, west)), roots=(three,)), NOW).directory.version == 4


def rotated() -> Trusted:
    """Return what a node trusts after a rotation, the version signed anew."""
    return advance(HELD, bundle(full(V3, UNDER_ROOT_2), roots=(ROTATED,)), NOW)


def test_a_rotation_alone_is_news() -> None:
    """The same version with the new root's signatures brings the new root."""
    found = rotated()
    assert (found.root.version, found.directory.version) == (2, 3)
    assert found.directory == HELD.directory


def test_a_root_that_is_held_is_never_left() -> None:
    """After a rotation a bundle without the new root, or with another, brings nothing that the old keys signed."""
    found = rotated()
    other = next_root(name="Other")
    assert code_of(lambda: advance(found, bundle(full(V4)), NOW)) == "directory-unsigned"
    assert code_of(lambda: advance(found, bundle(full(V4, UNDER_ROOT_2), roots=(other,)), NOW)) == "root-fork"
    assert advance(found, bundle(full(V4, UNDER_ROOT_2)), NOW).root.version == 2


def test_one_authority_stops_a_member_and_revokes_a_key() -> None:
    """A suspension by one and, on top of it, a revocation by the other are followed by whoever was away."""
    narrower = after(NARROW, revoke(index=1))
    given = bundle(full(V3), one(NARROW), one(narrower, SOUTH))
    found = advance(HELD, given, NOW)
    assert found.directory.version == 5
    assert found.directory.member("ALFA") is None
    assert not found.full
    assert found == begin(NETWORK, FIRST, given, NOW) == advance(started(full(V1)), given, NOW)
    assert advance(advance(HELD, bundle(full(V3), one(NARROW)), NOW), given, NOW) == found


def test_what_all_sign_takes_the_place_of_what_one_signed() -> None:
    """Whichever of two versions of one number a node took, the next that all authorities sign brings it back to the others."""
    mine = advance(HELD, bundle(full(V3), one(NARROW)), NOW)
    others = after(V3, suspend(1))
    assert code_of(lambda: advance(mine, bundle(full(V3), one(others, SOUTH)), NOW)) == "directory-fork"
    assert code_of(lambda: advance(mine, bundle(full(V4)), NOW)) == "directory-fork"
    mended = full(after(others))
    found = advance(mine, bundle(mended), NOW)
    assert found.full
    assert found == begin(NETWORK, FIRST, bundle(mended), NOW)


def test_all_signatures_on_a_version_that_one_signed_are_news() -> None:
    """When the other authority signs later, the bundle gets shorter; the shorter one never gives way to the longer."""
    mine = advance(HELD, bundle(full(V3), one(NARROW)), NOW)
    signed = advance(mine, bundle(full(NARROW)), NOW)
    assert (signed.full, signed.directory) == (True, mine.directory)
    assert advance(signed, mine.bundle, NOW) is signed
    assert advance(HELD, bundle(full(V3), full(NARROW), one(after(NARROW, suspend(1)))), NOW).bundle.versions[0].raw == NARROW


def test_a_chain_of_one_authority_has_an_end() -> None:
    """After 64 versions that not all signed no bundle carries another, until all sign again."""
    chain = [full(V3)]
    for number in range(65):
        chain.append(one(after(chain[-1].raw, lambda it, number=number: it.update(reason=str(number)))))
    assert advance(HELD, Bundle.unpack(bundle(*chain[:65]).pack()), NOW).directory.version == 67
    assert code_of(bundle(*chain).pack) == "directory-too-large"
    assert advance(HELD, bundle(*chain[:65], full(chain[65].raw)), NOW).bundle.pack() == bundle(full(chain[65].raw)).pack()


def test_nothing_newer_changes_nothing() -> None:
    """What is held already, also from its beginning or with other signatures, is the same object as before."""
    assert advance(HELD, HELD.bundle, NOW) is HELD
    assert advance(HELD, bundle(full(V2), full(V3)), NOW) is HELD
    assert advance(HELD, bundle(full(V3, (("NORTH", "north 2"), SOUTH))), NOW) is HELD


def test_a_restart_is_no_way_back() -> None:
    """A node that starts again names what it held: nothing lower and nothing else of that number is taken."""
    raw, given = V3, bundle(full(V3))
    assert begin(NETWORK, FIRST, given, NOW, held=3, held_digest=digest(raw)) == HELD
    assert code_of(lambda: begin(NETWORK, FIRST, bundle(full(V2)), NOW, held=3, held_digest=digest(raw))) == "directory-rollback"
    assert code_of(lambda: begin(NETWORK, FIRST, bundle(full(FORKED)), NOW, held=3, held_digest=digest(raw))) == "directory-fork"
    around = bundle(full(FORKED), one(after(FORKED, suspend())))
    assert code_of(lambda: begin(NETWORK, FIRST, around, NOW, held=3, held_digest=digest(raw))) == "directory-fork"
    assert begin(NETWORK, FIRST, bundle(full(V4)), NOW, held=3, held_digest=digest(raw)).directory.version == 4


def test_a_node_starts_from_the_root_it_was_told() -> None:
    """Another first root is refused, and so is a later root in its place."""
    assert code_of(lambda: begin(NETWORK, root(name="Other"), bundle(full(V3)), NOW)) == "root-mismatch"
    assert code_of(lambda: begin(digest(ROTATED.raw), ROTATED.raw, bundle(full(V3)), NOW)) == "bad-root"
    assert code_of(lambda: begin(NETWORK, ROTATED.raw, bundle(full(V3)), NOW)) == "root-mismatch"


def test_expiry_ends_a_version_to_the_microsecond_and_warns_before() -> None:
    """A frozen network is noticed: by the soft expiry first, then nothing counts any more."""
    end = HELD.directory.expires_at
    tick = timedelta(microseconds=1)
    assert begin(NETWORK, FIRST, HELD.bundle, end - tick).directory.version == 3
    assert code_of(lambda: begin(NETWORK, FIRST, HELD.bundle, end)) == "directory-expired"
    assert code_of(lambda: advance(HELD, bundle(full(V4)), end)) == "directory-expired"
    moments: list[datetime] = [HELD.directory.warn_after - tick, HELD.directory.warn_after, end - tick, end]
    assert [HELD.directory.age(moment) for moment in moments] == ["valid", "due", "due", "expired"]


def test_an_expired_version_is_left_for_a_renewed_one() -> None:
    """A node that slept through the expiry goes on with the next version."""
    late = HELD.directory.expires_at + DAY
    renewed = after(V3, lambda it: it.update(warn_after=(late + DAY).isoformat(), expires_at=(late + 2 * DAY).isoformat()))
    assert advance(HELD, bundle(full(renewed)), late).directory.version == 4
    assert advance(HELD, bundle(full(V3), full(renewed)), late).directory.version == 4


PACKED = bundle(full(V3), one(NARROW), roots=(ROTATED,)).pack()

BUNDLES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "bad-bundle"),
    "another beginning": (b"ICRE" + PACKED[4:], "bad-bundle"),
    "another format": (PACKED[:4] + b"\x02" + PACKED[5:], "bad-bundle"),
    "cut in a document": (PACKED[:-1], "bad-bundle"),
    "cut in a length": (PACKED[:11], "bad-bundle"),
    "the head alone": (PACKED[:9], "bad-bundle"),
    "bytes after the end": (PACKED + b"\0", "bad-bundle"),
    "no version": (b"ICRD\x01\0\0\0\0", "bad-bundle"),
    "a length of four gigabytes": (PACKED[:9] + b"\xff" * 4 + PACKED[13:], "bad-bundle"),
    "more versions than it has": (PACKED[:7] + b"\0\x03" + PACKED[9:], "bad-bundle"),
    "more versions than anybody makes": (PACKED[:7] + b"\xff\xff" + PACKED[9:], "directory-too-large"),
    "more roots than anybody makes": (PACKED[:5] + b"\xff\xff" + PACKED[7:], "directory-too-large"),
    "bytes without end": (PACKED + bytes(MAX_BUNDLE_BYTES), "directory-too-large"),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_bytes_that_are_no_bundle_are_refused(name: str) -> None:
    """They are refused before any signature is looked at."""
    raw, code = BUNDLES[name]
    assert code_of(lambda: Bundle.unpack(raw)) == code


def test_a_bundle_has_one_form() -> None:
    """What is packed comes back, and what was unpacked packs to the same bytes."""
    made = Bundle.unpack(PACKED)
    assert made == bundle(full(V3), one(NARROW), roots=(ROTATED,))
    assert made.pack() == PACKED
    big = bundle(*(Signed(bytes(1024 * 1024), b"") for _ in range(9)))
    assert code_of(big.pack) == "directory-too-large"


def test_files_are_read_as_they_were_put(tmp_path: Path) -> None:
    """A bundle put into a folder is read from it whole, and loose files that are newer or older don't mix with it."""
    given = bundle(full(V3), one(NARROW), roots=(ROTATED,))
    write_bundle(given, tmp_path)
    assert read_bundle(tmp_path) == given
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "directory.bundle",
        "directory.json",
        "directory.signatures.json",
        "root.2.json",
        "root.2.signatures.json",
    ]
    (tmp_path / "directory.json").write_bytes(V3)
    assert read_bundle(tmp_path) == given
    newer = full(after(NARROW))
    (tmp_path / "directory.json").write_bytes(newer.raw)
    (tmp_path / "directory.signatures.json").write_bytes(newer.signatures)
    assert read_bundle(tmp_path) == bundle(newer, roots=(ROTATED,))
    (tmp_path / "directory.bundle").unlink()
    assert read_bundle(tmp_path) == bundle(newer, roots=(ROTATED,))
    (tmp_path / "directory.json").write_bytes(b"[" * 100_000)
    assert read_bundle(tmp_path).versions[0].raw == b"[" * 100_000
    (tmp_path / "directory.json").unlink()
    assert code_of(lambda: read_bundle(tmp_path)) == "bad-directory"


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    """A file is never read further than it may be long."""
    write_bundle(bundle(full(V3)), tmp_path)
    with (tmp_path / "directory.bundle").open("r+b") as file:
        file.truncate(2**40)
    assert code_of(lambda: read_bundle(tmp_path)) == "directory-too-large"


def test_points_of_small_order_are_known() -> None:
    """All encodings of them, and no key that somebody made."""
    prime = 2**255 - 19
    for number in (0, 1, prime - 1, prime, prime + 1):
        raw = number.to_bytes(32, "little")
        assert is_weak("ed25519", raw)
        assert is_weak("x25519", raw)
        assert is_weak("mlkem768-x25519", bytes(1184) + raw)
    assert not any(is_weak("ed25519", listed(signing(str(number))).raw) for number in range(50))
