"""Attacks on the encryption: by a member who signs whatever he likes, or by one who has old parts of good envelopes."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from relay.envelope import Envelope
from tests.attacks.forge import A, B, C, batch, directory, item, judged, raw, recipient, signed
from tests.attacks.test_signature import LOW
from tests.live import Live

ENC = 32
"""Bytes of the X25519 part: at the end of the hybrid's encapsulation, before 48 bytes of key and tag."""


def _with_point(wrap: bytes, point: str) -> bytes:
    return wrap[: -48 - ENC] + bytes.fromhex(point) + wrap[-48:]


WRAPS: dict[str, Callable[[Live, Envelope], bytes]] = {
    "swapped between the recipients": lambda live, one: signed(live.signing_key(A), one, wraps=one.wraps[::-1]),
    "of another envelope": lambda live, one: signed(live.signing_key(A), one, wraps=batch(live, "W", to=(B, C)).wraps),
    "of junk": lambda live, one: signed(live.signing_key(A), one, wraps=[os.urandom(len(wrap)) for wrap in one.wraps]),
    "to a key of another centre": lambda live, one: signed(
        live.signing_key(A), one, recipient(one, key=live[A].centre.sealing_key(C).id)
    ),
    "bound to another deadline": lambda live, one: signed(live.signing_key(A), one, item(one, deadline=2**43)),
}


@pytest.mark.parametrize("attack", WRAPS)
async def test_a_wrapped_key_opens_for_one_recipient_of_one_core(live: Live, attack: str) -> None:
    """Any other does not unwrap: nothing is opened, and the origin is asked for it once more."""
    good = batch(live, "WRAP", to=(B, C))
    assert judged(live, WRAPS[attack](live, good)) == ["cannot-unwrap"]


@pytest.mark.parametrize("point", LOW)
async def test_an_encapsulation_of_small_order_opens_nothing(live: Live, point: str) -> None:
    """A member who sends a point of small order learns nothing of our key: it does not unwrap."""
    good = batch(live)
    forged = [_with_point(wrap, point) for wrap in good.wraps]
    assert judged(live, signed(live.signing_key(A), good, wraps=forged)) == ["cannot-unwrap"]


CIPHERTEXTS: dict[str, tuple[Callable[[Live, Envelope], bytes], list[str | None]]] = {
    "swapped between the messages": (
        lambda live, one: signed(live.signing_key(A), one, ciphertexts=one.ciphertexts[::-1]),
        ["cannot-decrypt", "cannot-decrypt"],
    ),
    "one of junk": (
        lambda live, one: signed(live.signing_key(A), one, ciphertexts=[one.ciphertexts[0], os.urandom(99)]),
        [None, "cannot-decrypt"],
    ),
    "of another envelope": (
        lambda live, one: signed(live.signing_key(A), one, ciphertexts=batch(live, "X", "Y").ciphertexts),
        ["cannot-decrypt", "cannot-decrypt"],
    ),
    "cut by a byte": (
        lambda live, one: signed(live.signing_key(A), one, ciphertexts=[part[:-1] for part in one.ciphertexts]),
        ["cannot-decrypt", "cannot-decrypt"],
    ),
    "left empty, as at rest": (
        lambda live, one: signed(live.signing_key(A), one, ciphertexts=[b"", one.ciphertexts[1]]),
        ["altered"],
    ),
    "not those that were signed": (lambda live, one: one.header + batch(live, "X", "Y").body, ["altered"]),
}


@pytest.mark.parametrize("attack", CIPHERTEXTS)
async def test_a_ciphertext_opens_in_its_place_alone(live: Live, attack: str) -> None:
    """A message that is not what was sealed there is refused alone, or the whole when nobody signed for it."""
    make, codes = CIPHERTEXTS[attack]
    assert judged(live, make(live, batch(live, "ONE", "TWO"))) == codes


async def test_another_content_under_a_commitment_is_refused(live: Live) -> None:
    """A member who commits to one content and seals another shows nobody two contents."""
    sealed = live.seal(A, [B], [b"anything"])
    other = "ab" * 32
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relay.seal.commit", lambda _salt, _content: other)
        forged = live.seal(A, [B], [b"anything"]).raw
    assert judged(live, forged) == ["commitment-mismatch"]
    assert sealed.envelope.core.messages[0].commitment != other


async def test_a_suite_that_the_directory_does_not_allow_is_not_opened(live: Live) -> None:
    """What is sealed with another suite than policy allows now is asked for in another form; allowed again it is opened."""
    one = raw(batch(live))
    with directory(live, suites=["x25519"]):
        assert judged(live, one) == ["suite-not-allowed"]
    assert judged(live, one) == [None]
