"""Attacks on the envelope's form: whatever is not exactly one possible spelling of an envelope has no sender and no effect."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random

import pytest

from relay import envelope as wire
from relay.envelope import Envelope
from tests.attacks.forge import A, B, C, batch, core, item, judged, raw, recipient, signed, spelled
from tests.live import Live

HIGHEST = 2**53 - 1


def _again(envelope: Envelope, name: str) -> bytes:
    """Return the core with one of its members written twice."""
    document = json.loads(envelope.core_bytes)
    return envelope.core_bytes[:-1] + b"," + spelled({name: document[name]})[1:]


FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "nothing at all": lambda _: b"",
    "another magic": lambda good: b"ICR2" + good[4:],
    "a core of four gigabytes": lambda good: good[:4] + b"\xff" * 4 + good[8:],
    "a core of no bytes": lambda good: good[:4] + bytes(4) + good[8:],
    "a byte too many": lambda good: good + b"\0",
    "a byte too few": lambda good: good[:-1],
    "two of them": lambda good: good + good,
    "more than the largest": lambda good: good + bytes(wire.MAX_ENVELOPE_BYTES),
    "a ciphertext of four gigabytes": lambda good: good[: good.rindex(b"\0\0\x0b") if b"\0\0\x0b" in good else 90] + b"\xff" * 4,
    "deep nesting": lambda _: wire.MAGIC + struct.pack(">I", 200_000) + b"[" * 200_000,
}

CORES: dict[str, Callable[[Envelope], bytes]] = {
    "white space": lambda one: one.core_bytes.replace(b",", b", ", 1),
    "a line end behind": lambda one: one.core_bytes + b"\n",
    "members in another order": lambda one: spelled(dict(reversed(json.loads(one.core_bytes).items()))),
    "a member twice": lambda one: _again(one, "origin"),
    "an unknown member": lambda one: core(one, priority="flash"),
    "a member left out": lambda one: spelled({k: v for k, v in json.loads(one.core_bytes).items() if k != "time"}),
    "an escaped letter": lambda one: one.core_bytes.replace(b'"origin":"F', b'"origin":"\\u0046'),
    "a number with a point": lambda one: one.core_bytes.replace(b'"version":1', b'"version":1.0'),
    "a number with an exponent": lambda one: one.core_bytes.replace(b'"version":1', b'"version":1e0'),
    "a number as text": lambda one: core(one, epoch="1"),
    "a boolean for a number": lambda one: core(one, version=True),
    "a lone surrogate": lambda one: one.core_bytes.replace(b'"FOEA"', b'"\\ud800"'),
    "a byte order mark": lambda one: b"\xef\xbb\xbf" + one.core_bytes,
    "a version before the first": lambda one: core(one, version=0),
    "a version that is not known": lambda one: core(one, version=2),
    "a suite of nobody": lambda one: recipient(one, suite="none"),
    "an unknown type": lambda one: core(one, type="proof"),
    "an unknown lane": lambda one: core(one, lane="express"),
    "the lane of control": lambda one: core(one, lane="control"),
    "a line end in an id": lambda one: core(one, id=one.core.id[:-1] + "\r\n"),
    "a path for an id": lambda one: core(one, id="../../../../etc/passwd"),
    "a path for a centre": lambda one: core(one, origin="../FOEA"),
    "a letter of another script in a centre": lambda one: core(one, origin="FОEA"),  # noqa: RUF001 - that is the attack
    "an id in capitals": lambda one: core(one, id=one.core.id.upper()),
    "an id of another origin": lambda one: core(one, id=wire.new_id(C)),
    "a message id of another origin": lambda one: item(one, id=wire.new_id(C)),
    "no recipient": lambda one: core(one, to=[]),
    "the origin as recipient": lambda one: recipient(one, centre=A),
    "a recipient twice": lambda one: core(one, to=json.loads(one.core_bytes)["to"] * 2),
    "no message": lambda one: core(one, messages=[]),
    "a message twice": lambda one: core(one, messages=json.loads(one.core_bytes)["messages"] * 2),
    "sixty-five messages": lambda one: core(one, messages=json.loads(one.core_bytes)["messages"] * 65),
    "no deadline": lambda one: item(one, deadline=0),
    "a deadline beyond the calendar": lambda one: item(one, deadline=wire.TIME_END),
    "sequence 0": lambda one: recipient(one, first=0, last=0),
    "a negative sequence": lambda one: recipient(one, first=-1, last=-1),
    "sequence 2^53": lambda one: recipient(one, first=2**53, last=2**53),
    "sequence 2^63": lambda one: recipient(one, first=2**63, last=2**63),
    "a number of a thousand digits": lambda one: one.core_bytes.replace(b'"epoch":1', b'"epoch":' + b"9" * 1000),
    "sequences that do not count the messages": lambda one: recipient(one, last=one.core.to[0].last + 1),
    "epoch 0": lambda one: core(one, epoch=0),
    "directory 0": lambda one: core(one, directory=0),
}


@pytest.mark.parametrize("attack", FRAMES)
async def test_what_is_not_framed_as_an_envelope_is_none(live: Live, attack: str) -> None:
    """Lengths that lie, bytes too many or too few, and junk: `not-an-envelope`, whatever is inside."""
    assert judged(live, FRAMES[attack](raw(batch(live)))) == ["not-an-envelope"]


@pytest.mark.parametrize("attack", CORES)
async def test_a_core_has_one_spelling_and_is_refused_in_any_other(live: Live, attack: str) -> None:
    """Also when the member who made it signed it with his right key: his word does not make it an envelope."""
    good = batch(live)
    made = CORES[attack](good)
    assert made != good.core_bytes
    assert judged(live, signed(live.signing_key(A), good, made)) == ["not-an-envelope"]


async def test_the_highest_numbers_are_numbers(live: Live) -> None:
    """What is just within the bounds is an envelope: its signature alone decides."""
    good = batch(live)
    whole = recipient(good, first=HIGHEST, last=HIGHEST)
    assert judged(live, signed(live.signing_key(A), good, whole)) == ["cannot-unwrap"]  # its wrap is bound to another core


async def test_a_flipped_bit_anywhere_is_seen(live: Live) -> None:
    """In every field of the framing, core, wraps, digests, signature and ciphertexts: nothing of it is taken."""
    good = raw(batch(live, "BIT-1", "BIT-2", to=(B, C)))
    dice, found = Random(2016), set()  # noqa: S311 - which bits
    places = {*range(0, len(good), 7), *range(8), *range(len(good) - 8, len(good))}
    for place in sorted(places):
        bad = bytearray(good)
        bad[place] ^= 1 << dice.randrange(8)
        (code,) = judged(live, bytes(bad))
        found.add(code)
    assert found <= {
        "not-an-envelope", "other-network", "not-addressed", "unknown-centre", "unknown-key", "bad-signature", "altered",
        "wrong-queue", "directory-too-old",
    }  # fmt: skip
    assert {"not-an-envelope", "bad-signature", "altered"} <= found
    assert judged(live, good) == [None, None]
