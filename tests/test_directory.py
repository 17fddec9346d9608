"""The directory read and asked: which keys count when, what an entitlement covers, and what is refused though it is signed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from relay.directory import Directory, Entitlement, Key, digest, read_directory, read_root, sign
from relay.errors import Misconfigured
from relay.keys import SigningKey
from tests import make_vectors
from tests.make_vectors import END, NETWORK, NOW, START, listed, sealing, signing

ROOT, RAW, SIGNATURES = make_vectors.network()
DIRECTORY = Directory.model_validate_json(RAW)
TICK = timedelta(microseconds=1)


def read(raw: bytes, signatures: bytes | None = None) -> Directory:
    """Read a directory, signed by both authorities unless signatures are given."""
    if signatures is None:
        made = [sign(raw, name, signing(f"authority {name}")) for name in ("NORTH", "SOUTH")]
        signatures = json.dumps({"signatures": [one.model_dump() for one in made]}).encode()
    return read_directory(raw, signatures, read_root(ROOT, NETWORK), NETWORK, NOW)


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return the vectors' directory with something changed."""
    document = json.loads(RAW)
    change(document)
    return json.dumps(document).encode()


def code_of(call: Callable[[], object]) -> str:
    """Return the code with which a directory is refused."""
    with pytest.raises(Misconfigured) as caught:
        call()
    return caught.value.code


def key(**times: Any) -> Key:
    """Return a signing key with times of its own."""
    return listed(signing("ALFA"), **times)


def test_the_vectors_directory_reads() -> None:
    """What the next tests change is accepted as it is, by its own signatures and by new ones."""
    assert read(RAW, SIGNATURES) == read(RAW) == DIRECTORY


def test_a_suspended_centre_is_no_member() -> None:
    """Only active centres are asked about; the register still lists all."""
    assert DIRECTORY.member("ECHO") is None
    assert "ECHO" not in DIRECTORY.active
    assert "ECHO" in {member.id for member in DIRECTORY.members}


def test_a_key_is_usable_within_its_time_and_until_it_is_revoked() -> None:
    """The beginning counts, the end does not, and a revocation ends it at its very moment."""
    assert [key().usable(moment) for moment in (START - TICK, START, END - TICK, END)] == [False, True, True, False]
    revoked = key(revoked_from=NOW)
    assert [revoked.usable(moment) for moment in (NOW - TICK, NOW, NOW + TICK)] == [True, False, False]


def test_the_newest_valid_sealing_key_comes_first() -> None:
    """Signing keys, expired and future keys are none to seal to; of the rest the newest is taken."""
    member = DIRECTORY.active["ALFA"]
    older, newer = listed(sealing("older", "x25519")), listed(sealing("newer", "x25519"), valid_from=NOW - TICK)
    unusable = [
        listed(sealing("past", "x25519"), valid_until=NOW),
        listed(sealing("future", "x25519"), valid_from=NOW + TICK),
        listed(sealing("revoked", "x25519"), revoked_from=NOW),
        key(),
    ]
    held = member.model_copy(update={"keys": (older, newer, *unusable)})
    assert held.sealing_keys(NOW) == [newer, older]


def test_a_key_is_found_by_its_name_whatever_its_time() -> None:
    """Whether it may be used now is another question."""
    member = DIRECTORY.active["ALFA"]
    expired = signing("ALFA expired").id
    found = member.key(expired)
    assert found is not None
    assert not found.usable(NOW)
    assert member.key("0" * 32) is None


@pytest.mark.parametrize(
    ("held", "asked", "covered"),
    [
        ({"crime_types": ["drugs"]}, {}, True),
        ({"crime_types": ["drugs.cocaine"]}, {"crime_type": "drugs"}, False),
        ({"crime_types": ["*"]}, {}, True),
        ({"crime_types": ["medicines"]}, {}, False),
        ({"regions": ["150"]}, {}, True),
        ({"regions": ["142"]}, {}, False),
        ({"regions": ["142"]}, {"regions": ("155", "035")}, True),
        ({"kinds": ["alert"]}, {}, True),
        ({"kinds": ["seizure"]}, {}, False),
        ({}, {"nominal": True}, False),
        ({"nominal": True}, {"nominal": True}, True),
        ({"nominal": True}, {}, True),
        ({}, {"regions": ()}, False),
    ],
)
def test_what_an_entitlement_covers(held: dict[str, Any], asked: dict[str, Any], covered: bool) -> None:
    """A wider crime type or region covers a narrower one, any one region is enough, kind and personal data must be covered."""
    entitlement = Entitlement.model_validate({"crime_types": ["drugs"], "regions": ["001"]} | held)
    question = {"crime_type": "drugs.cocaine", "regions": ("155",), "kind": "alert", "nominal": False} | asked
    assert entitlement.covers(**question) is covered


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "two members of one id": lambda it: it["members"].append(it["members"][0]),
    "a key named after other bytes": lambda it: it["members"][0]["keys"][0].update(id="0" * 32),
    "bytes other than the key's name": lambda it: it["members"][0]["keys"][0].update(public="AAAA"),
    "a sealing key that signs": lambda it: it["members"][0]["keys"][1].update(use="signing"),
    "a key that is no base64": lambda it: it["members"][0]["keys"][0].update(public="A"),
    "an unknown algorithm": lambda it: it["members"][0]["keys"][0].update(algorithm="rsa"),
    "a time without zone": lambda it: it["members"][0]["keys"][0].update(valid_from="2026-01-01T00:00:00"),
    "an id that is none": lambda it: it["members"][0].update(id="alfa"),
    "an unknown field": lambda it: it.update(more=1),
    "an unknown crime type": lambda it: it["members"][0].update(publish=[{"crime_types": ["tax"], "regions": ["001"]}]),
    "an unknown region": lambda it: it["members"][0].update(subscribe=[{"crime_types": ["*"], "regions": ["999"]}]),
    "an entitlement to nothing": lambda it: it["members"][0].update(publish=[{"crime_types": [], "regions": ["001"]}]),
    "another network": lambda it: it.update(network="0" * 64),
    "version 0": lambda it: it.update(version=0),
    "an end beyond the calendar": lambda it: it.update(expires_at="9999-12-31T23:59:59-12:00"),
    "a key from before the calendar": lambda it: it["members"][0]["keys"][0].update(valid_from="0001-01-01T00:00:00+12:00"),
    "deadlines in a thousand years": lambda it: it.update(policy={"max_expiry_hours": 9_000_000}),
    "keeping for a million years": lambda it: it.update(
        policy={"retention": {"other": {"default_days": 1, "most_days": 4 * 10**8}}}
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_directory_that_contradicts_itself_is_refused_though_it_is_signed(name: str) -> None:
    """Signatures show who made it, not that it is right."""
    raw = changed(WRONG[name])
    assert code_of(lambda: read(raw)) == "bad-directory"


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 30_000])
def test_files_that_are_none_are_refused(raw: bytes) -> None:
    """Root, directory and signatures that are no documents of their form are refused with their codes."""
    assert code_of(lambda: read(raw)) == "bad-directory"
    assert code_of(lambda: read(RAW, raw)) == "bad-directory"
    assert code_of(lambda: read_root(raw, digest(raw))) == "bad-root"


def test_an_error_shows_little_of_a_file_and_no_control_character() -> None:
    """A field with a long name of escape sequences reaches the operator's terminal short and escaped."""
    raw = json.dumps({"signatures": [], "\x1b[2J\u202e" * 5000: 1}).encode()
    with pytest.raises(Misconfigured) as refused:
        read(RAW, raw)
    assert len(refused.value.detail) < 400
    assert refused.value.detail.isprintable()


def test_signatures_that_are_none_count_for_nothing() -> None:
    """A signature that is no base64, too short, or over other bytes does not sign."""
    good = json.loads(SIGNATURES)["signatures"]
    for text in ("A", "AAAA", base64.b64encode(bytes(64)).decode()):
        signatures = json.dumps({"signatures": [good[0], good[1] | {"signature": text}]}).encode()
        assert code_of(lambda signatures=signatures: read(RAW, signatures)) in {"bad-directory", "directory-unsigned"}
    assert code_of(lambda: read(RAW + b"\n", SIGNATURES)) == "directory-unsigned"


def test_an_envelopes_signature_signs_no_directory() -> None:
    """The prefix keeps what a key signs for one purpose from serving another."""
    north = SigningKey(signing("authority NORTH")._private)
    made = [sign(RAW, "SOUTH", signing("authority SOUTH")).model_dump()]
    other = base64.b64encode(north.sign(b"intercentre-relay/1 envelope batch\0", RAW)).decode()
    made.append({"authority": "NORTH", "key": north.id, "signature": other})
    assert code_of(lambda: read(RAW, json.dumps({"signatures": made}).encode())) == "directory-unsigned"
