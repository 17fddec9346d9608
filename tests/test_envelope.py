"""Sealing and opening: what goes in comes out, and whatever was touched on the way is refused with its code.

Rules of the form that one malformed envelope shows are in the golden vectors (``tests/test_wire_format.py``); here is what needs
many envelopes, or an attacker who is a member and signs what he likes.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import envelope as wire
from relay import seal
from relay.directory import Directory
from relay.envelope import Envelope, NotAuthentic
from relay.errors import CannotOpen, EnvelopeError, NotForUs, Rejected
from relay.keys import SealingKey
from relay.seal import Addressee, Draft, Opened, Sealed, Sealer
from tests import make_vectors
from tests.independent import sealer
from tests.independent.sealer import To
from tests.make_vectors import DEADLINE, NETWORK, NOW, NOW_MS, SUITES, listed, parts, recipients, sealing, signing, to_sign
from tests.spent import spent

DIRECTORY = Directory.model_validate_json(make_vectors.network()[1])
KEYS: dict[str, dict[str, SealingKey]] = {
    centre: {key.id: key} for centre, suite in SUITES.items() for key in [sealing(centre, suite)]
}
PEERS = ("BRAVO", "CHARLIE", "DELTA-XY")
QUICKLY = 0.5  # CPU seconds


def seal_for(contents: list[bytes], to: list[str], first: int = 1) -> Sealed:
    """Seal a batch in the name of ALFA."""
    return make_vectors.sealed("batch", "routine", contents, to, first)


def open_raw(raw: bytes, me: str, now: datetime = NOW, directory: Directory = DIRECTORY) -> Opened:
    """Do all that a receiver does with bytes from the broker."""
    envelope = wire.parse(raw)
    seal.verify(envelope, me, NETWORK, directory, now)
    return seal.unseal(envelope, me, KEYS[me])


def refusal(call: Callable[[], object]) -> EnvelopeError:
    """Return the error with which something is refused."""
    with pytest.raises(EnvelopeError) as caught:
        call()
    return caught.value


def only(opened: Opened) -> bytes | str:
    """Return the only message's content, or the code of what is wrong with it."""
    (content,) = opened.contents
    return content.code if isinstance(content, Rejected) else content


SMALL = {centre: seal_for([b"content"], [centre]) for centre in ("BRAVO", "CHARLIE")}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=6),
    st.lists(st.sampled_from(PEERS), min_size=1, unique=True),
    st.integers(1, 2**53 - 100),
)
def test_what_is_sealed_comes_out_at_every_recipient(contents: list[bytes], to: list[str], first: int) -> None:
    """Any contents, any recipients of either suite, any sequence: bytes and commitments are the same at each of them."""
    raw = seal_for(contents, to, first).raw
    for me in to:
        opened = open_raw(raw, me)
        assert opened.contents == tuple(contents)
        for item, content in zip(opened.envelope.core.messages, contents, strict=True):
            assert item.commitment != hashlib.sha256(content).hexdigest()
    for me in set(PEERS) - set(to):
        assert refusal(lambda me=me: open_raw(raw, me)).code == "not-addressed"


def test_the_largest_batch_opens() -> None:
    """64 messages with every byte value open, in order."""
    contents = [bytes([number]) * 2000 for number in range(wire.MAX_MESSAGES)]
    assert open_raw(seal_for(contents, list(PEERS)).raw, "CHARLIE").contents == tuple(contents)


def test_nothing_repeats_between_two_sealings() -> None:
    """The same content sealed twice has another id, key, salt, commitment and ciphertext."""
    one, two = seal_for([b"same"], ["BRAVO"]), seal_for([b"same"], ["BRAVO"])
    assert one.content_key != two.content_key
    assert one.envelope.core.id != two.envelope.core.id
    assert one.envelope.core.messages[0].commitment != two.envelope.core.messages[0].commitment
    assert one.envelope.ciphertexts != two.envelope.ciphertexts


@pytest.mark.parametrize("me", sorted(SMALL))
def test_no_single_flipped_bit_yields_content(me: str) -> None:
    """Every single bit of an envelope, header and ciphertext, is covered: flipped, it is refused before anything is opened."""
    raw = SMALL[me].raw
    for at, bit in product(range(len(raw)), range(8)):
        flipped = raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
        error = refusal(lambda flipped=flipped: seal.verify(wire.parse(flipped), me, NETWORK, DIRECTORY, NOW))
        assert isinstance(error, NotAuthentic | NotForUs), (at, bit)


def test_no_shortened_or_lengthened_envelope_parses() -> None:
    """An envelope cut anywhere, or with anything behind it, is none."""
    raw = seal_for([b"content", b"another"], ["CHARLIE"]).raw
    for length in range(len(raw)):
        assert refusal(lambda length=length: wire.parse(raw[:length])).code == "not-an-envelope"
    for more in (b"\0", b"\0" * 4, raw):
        assert refusal(lambda more=more: wire.parse(raw + more)).code == "not-an-envelope"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", b"ICR1", b"ICR1\0\0\0\x02{}", b"ICR1\0\0\0\x10"]))
def test_random_bytes_are_never_anything_but_not_authentic(tail: bytes, head: bytes) -> None:
    """Whatever the bytes, the parser raises one error and no other."""
    assert isinstance(refusal(lambda: wire.parse(head + tail)), NotAuthentic)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
CORE = SMALL["CHARLIE"].envelope.core.model_dump(mode="json")
PLACES = [(name,) for name in CORE] + [("to", 0, name) for name in CORE["to"][0]]
PLACES += [("messages", 0, name) for name in CORE["messages"][0]]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PLACES), JSON)
def test_any_json_in_any_place_of_the_core_is_refused(place: tuple[Any, ...], value: Any) -> None:
    """No value that was not sealed passes: it is of the wrong form, or the signature does not cover it."""
    core = json.loads(json.dumps(CORE))
    target = core
    for step in place[:-1]:
        target = target[step]
    if target[place[-1]] == value:
        return
    target[place[-1]] = value
    raw = with_core(json.dumps(core, separators=(",", ":")).encode())
    assert isinstance(refusal(lambda: open_raw(raw, "CHARLIE")), NotAuthentic | NotForUs)


def with_core(core_bytes: bytes) -> bytes:
    """Return the small envelope with another core, everything else as it was."""
    envelope = SMALL["CHARLIE"].envelope
    rest = SMALL["CHARLIE"].raw[8 + len(envelope.core_bytes) :]
    return b"ICR1" + struct.pack(">I", len(core_bytes)) + core_bytes + rest


CORE_BYTES = SMALL["CHARLIE"].envelope.core_bytes
HOSTILE = {
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"to":' * 40_000,
    "a number without end": b'{"version":' + b"1" * 200_000 + b"}",
    "an exponent without end": CORE_BYTES.replace(b'"epoch":1780000000', b'"epoch":1e999999999'),
    "many wrong recipients": b'{"to":[' + b"1," * 130_000 + b"1]}",
    "many empty recipients": CORE_BYTES.replace(b'"to":[', b'"to":[' + b"{}," * 80_000),
    "many unknown fields": b"{" + b",".join(b'"a%d":1' % number for number in range(20_000)) + b"}",
    "the same field often": b"{" + b",".join([b'"version":1'] * 20_000) + b"}",
    "a list": b"[]",
    "null": b"null",
    "nothing": b"",
    "a zero byte": CORE_BYTES + b"\0",
    "a lone surrogate": CORE_BYTES.replace(b"ALFA", b"AL\\ud800"),
    "bytes that are no text": CORE_BYTES.replace(b"ALFA", b"AL\xff\xfe"),
    "UTF-16": CORE_BYTES.decode().encode("utf-16"),
    "minus zero": CORE_BYTES.replace(b'"epoch":1780000000', b'"epoch":-0'),
    "a number in quotes": CORE_BYTES.replace(b'"epoch":1780000000', b'"epoch":"1780000000"'),
    "a line break behind an id": CORE_BYTES.replace(b"ALFA", b"ALFA\\n"),
    "other digits": CORE_BYTES.replace(b'"key":"', '"key":"\u0661'.encode(), 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_core_is_refused_quickly(name: str) -> None:
    """Neither depth, size nor strangeness of the JSON costs time or raises anything else."""
    raw = with_core(HOSTILE[name])
    error, seconds = spent(lambda: refusal(lambda: wire.parse(raw)))
    assert (type(error), error.code) == (NotAuthentic, "not-an-envelope")
    assert seconds < QUICKLY


def test_lengths_that_lie_are_refused_without_reserving_memory() -> None:
    """A length of four gigabytes, or of nothing, is only a number that does not fit."""
    raw, header = SMALL["CHARLIE"].raw, SMALL["CHARLIE"].envelope.header
    wraps = 8 + len(CORE_BYTES)
    lies = [(4, ">I", 2**32 - 1), (4, ">I", 0), (wraps, ">H", 2**16 - 1), (wraps, ">H", 0), (len(header), ">I", 2**32 - 1)]
    for at, form, value in lies:
        changed = raw[:at] + struct.pack(form, value) + raw[at + struct.calcsize(form) :]
        assert refusal(lambda changed=changed: wire.parse(changed)).code == "not-an-envelope"
    assert refusal(lambda: wire.parse(bytes(wire.MAX_ENVELOPE_BYTES + 1))).code == "not-an-envelope"


def test_a_header_does_not_serve_for_another_body() -> None:
    """The signature covers a digest of each ciphertext, so a header that was seen once carries nothing else."""
    one, two = seal_for([b"content"], ["CHARLIE"]), seal_for([b"another"], ["CHARLIE"])
    assert refusal(lambda: open_raw(one.envelope.header + two.envelope.body, "CHARLIE")).code == "altered"


def test_a_members_header_around_anothers_ciphertext_opens_nothing() -> None:
    """Who copies digest and ciphertext of an envelope that he can't open into one that he signs gives them to nobody."""
    stolen = SMALL["CHARLIE"].envelope
    made = parts(recipients("CHARLIE"), messages=[stolen.core.model_dump(mode="json")["messages"][0]])
    made.ciphertexts = list(stolen.ciphertexts)
    assert only(open_raw(to_sign(made), "CHARLIE")) == "cannot-decrypt"


def test_two_recipients_cannot_be_shown_two_contents() -> None:
    """A sender that wraps another key for the second recipient gives him nothing to take for the content."""
    made = parts(recipients("CHARLIE", "BRAVO"))
    made.wraps[1] = sealer.wrap(bytes(32), hashlib.sha256(made.core_bytes).digest(), recipients("BRAVO")[0])
    raw = to_sign(made)
    assert only(open_raw(raw, "CHARLIE")) == b"content"
    assert only(open_raw(raw, "BRAVO")) == "cannot-decrypt"


def test_a_message_that_is_damaged_harms_no_neighbour() -> None:
    """In an authentic envelope one message that does not decrypt is refused alone."""
    made = parts(recipients("CHARLIE"), [b"first", b"second", b"third"])
    made.ciphertexts[1] = bytes(len(made.ciphertexts[1]))
    opened = open_raw(to_sign(made), "CHARLIE")
    assert [one.code if isinstance(one, Rejected) else one for one in opened.contents] == [b"first", "cannot-decrypt", b"third"]


def test_ciphertexts_do_not_change_places_even_when_signed() -> None:
    """A message is bound to its position: swapped and signed again, both are refused."""
    made = parts(recipients("CHARLIE"), [b"first", b"other"])
    made.ciphertexts.reverse()
    opened = open_raw(to_sign(made), "CHARLIE")
    assert [one.code for one in opened.contents if isinstance(one, Rejected)] == ["cannot-decrypt"] * 2


def test_a_key_of_another_suite_is_not_tried() -> None:
    """The suite in the header must be the key's own, whatever the key id says."""
    made = parts([To("BRAVO", "x25519", sealing("CHARLIE", "x25519").public)])
    core = made.core | {"to": [made.core["to"][0] | {"key": sealing("BRAVO", SUITES["BRAVO"]).id}]}
    again = sealer.enclose(core, [bytes(32)], recipients("CHARLIE"))
    error = refusal(lambda: open_raw(to_sign(again), "BRAVO"))
    assert (type(error), error.code) == (CannotOpen, "cannot-unwrap")


def test_a_centre_opens_only_what_names_it() -> None:
    """Asked to open without a check before, it refuses and does not fail otherwise."""
    envelope = SMALL["CHARLIE"].envelope
    error = refusal(lambda: seal.unseal(envelope, "BRAVO", KEYS["BRAVO"]))
    assert (type(error), error.code) == (NotForUs, "not-addressed")


def test_a_purged_message_leaves_the_others_readable() -> None:
    """At rest, a message's bytes can go: its place says so, the signature and the neighbours still hold."""
    made = seal_for([b"first", b"second"], ["CHARLIE"])
    envelope = wire.parse(made.envelope.header + wire.join_ciphertexts([b"", made.envelope.ciphertexts[1]]))
    purged, kept = seal.contents(envelope, made.content_key)
    assert isinstance(purged, Rejected)
    assert (purged.code, kept) == ("purged", b"second")
    assert [envelope.intact(index) for index in (0, 1)] == [False, True]


def test_a_key_counts_from_its_first_moment_to_before_its_last() -> None:
    """Validity includes its beginning, excludes its end, and a revocation ends it at once, on the receiver's clock."""
    raw = seal_for([b"content"], ["CHARLIE"]).raw
    tick = timedelta(milliseconds=1)
    assert only(open_raw(raw, "CHARLIE", make_vectors.START)) == b"content"
    assert only(open_raw(raw, "CHARLIE", make_vectors.END - tick)) == b"content"
    for moment in (make_vectors.START - tick, make_vectors.END):
        assert refusal(lambda moment=moment: open_raw(raw, "CHARLIE", moment)).code == "unknown-key"
    revoked = with_signing_key(revoked_from=NOW)
    assert only(open_raw(raw, "CHARLIE", NOW - tick, revoked)) == b"content"
    assert refusal(lambda: open_raw(raw, "CHARLIE", NOW, revoked)).code == "unknown-key"


def with_signing_key(**changes: Any) -> Directory:
    """Return the directory with ALFA's signing key changed."""
    members = []
    for member in DIRECTORY.members:
        keys = [key.model_copy(update=changes) if key.id == signing("ALFA").id else key for key in member.keys]
        members.append(member.model_copy(update={"keys": tuple(keys)}))
    return Directory.model_validate(DIRECTORY.model_copy(update={"members": tuple(members)}).model_dump())


def test_a_key_that_is_no_key_signs_nothing() -> None:
    """Bytes in the directory that are no Ed25519 key lead to a refusal, not to a crash."""
    raw = seal_for([b"content"], ["CHARLIE"]).raw
    for public in ("", "AAAA", "A" * 44):
        broken = with_signing_key(public=public)
        assert isinstance(refusal(lambda broken=broken: open_raw(raw, "CHARLIE", NOW, broken)), NotAuthentic)


def test_a_newer_directory_is_no_excuse_for_a_wrong_signature() -> None:
    """The number of the directory is the sender's word: it excuses an unknown signer, and only until he is known."""
    known = parts(recipients("CHARLIE"), directory=2**53 - 1)
    assert only(open_raw(to_sign(known), "CHARLIE")) == b"content"
    assert refusal(lambda: open_raw(to_sign(known, "BRAVO"), "CHARLIE")).code == "bad-signature"
    older = parts(recipients("CHARLIE"), key="0" * 32, directory=7)
    assert refusal(lambda: open_raw(to_sign(older), "CHARLIE")).code == "unknown-key"


def test_the_type_is_part_of_what_is_signed() -> None:
    """A signature under one type's prefix never holds for another type."""
    for kind in ("receipt", "mark", "nack", "directory", "batch\0"):
        raw = to_sign(parts(recipients("CHARLIE")), prefix=kind)
        assert refusal(lambda raw=raw: open_raw(raw, "CHARLIE")).code == "bad-signature"
    prefixes = [wire.signature_prefix(kind) for kind in ("batch", "receipt", "mark", "nack")]
    prefixes += [seal.WRAP_PREFIX, seal.COMMITMENT_PREFIX]
    assert not any(one != other and one.startswith(other) for one in prefixes for other in prefixes)


BAD_DRAFTS: dict[str, dict[str, Any]] = {
    "a batch without deadline": {"deadline": 0},
    "a batch in the lane for control": {"lane": "control"},
    "a mark in the lane for control": {"kind": "mark", "lane": "control", "deadline": 0},
    "a nack in a lane for messages": {"kind": "nack", "deadline": 0},
    "a batch from sequence 0": {"first": 0},
    "a message to its own origin": {"to": "ALFA"},
    "sequences beyond the end": {"first": 2**53},
    "a message with the id of another origin": {"origin": "CHARLIE"},
}


@pytest.mark.parametrize("name", BAD_DRAFTS)
def test_what_no_receiver_would_take_is_never_sealed(name: str) -> None:
    """A sealer that is asked for what breaks a rule fails at once, at home."""
    how = {"kind": "batch", "lane": "routine", "deadline": DEADLINE, "first": 1, "to": "CHARLIE", "origin": "ALFA"} | BAD_DRAFTS[
        name
    ]
    key = listed(sealing("CHARLIE", "x25519"))
    with pytest.raises(ValueError, match=r"."):
        Sealer("ALFA", NETWORK, signing("ALFA")).seal(
            how["kind"],
            how["lane"],
            [Draft(wire.new_id(how["origin"]), b"content", how["deadline"])],
            [Addressee(how["to"], key, how["first"])],
            epoch=1,
            directory=7,
            now=NOW_MS,
        )


def test_shuffled_parts_of_many_envelopes_never_open() -> None:
    """Header of one, wraps of another, body of a third: no mixture of authentic parts is authentic."""
    made = [seal_for([b"content %d" % number], ["CHARLIE"]) for number in range(4)]
    dice = random.Random(1)  # noqa: S311  not a secret
    for _ in range(200):
        core, wraps, signature, body = (dice.choice(made).envelope for _ in range(4))
        if core is wraps is signature is body:
            continue
        raw = wire.encode_signed(core.core_bytes, wraps.wraps, wraps.digests) + signature.signature + body.body
        assert isinstance(refusal(lambda raw=raw: open_raw(raw, "CHARLIE")), NotAuthentic)


def test_a_header_at_rest_reads_as_it_was_sealed() -> None:
    """What the store keeps of an envelope is enough to read its core again."""
    envelope: Envelope = SMALL["BRAVO"].envelope
    assert wire.read_core(envelope.header) == envelope.core
    assert wire.parse(SMALL["BRAVO"].raw) == replace(envelope)
