"""Attacks on the signature and on whose it is."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.envelope import Envelope
from relay.keys import RecipientKey, SealingKey, SigningKey, VerifyKey
from tests.attacks.forge import A, B, C, batch, core, directory, judged, raw, signed
from tests.live import Live, message

ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the base point of Ed25519 (RFC 8032)."""
EIGHT = (
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)
"""The points of Ed25519 of small order, and two other spellings of them."""
LOW = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)
"""The points of X25519 of small order (RFC 7748, section 7)."""


def _replaced(envelope: Envelope, signature: bytes) -> bytes:
    return envelope.signed + signature + envelope.body


def _more(envelope: Envelope) -> bytes:
    """Return the signature with the group's order added to S, which a careless verifier takes as well."""
    number = int.from_bytes(envelope.signature[32:], "little") + ORDER
    return _replaced(envelope, envelope.signature[:32] + number.to_bytes(32, "little"))


def _in_the_name(live: Live, origin: str, signer: str) -> bytes:
    """Return a batch that names one centre as its origin and is signed with another's key, under that key's id."""
    return raw(live.seal(origin, [B], [message()], signer=signer).envelope)


SIGNATURES: dict[str, tuple[Callable[[Live, Envelope], bytes], str]] = {
    "none": (lambda _, one: _replaced(one, bytes(64)), "bad-signature"),
    "of another envelope": (lambda live, one: _replaced(one, batch(live, "OTHER").signature), "bad-signature"),
    "with S beyond the order": (lambda _, one: _more(one), "bad-signature"),
    "of a stranger under a member's key id": (lambda _, one: signed(SigningKey.generate(), one), "bad-signature"),
    "of another member under a member's key id": (lambda live, one: signed(live.signing_key(C), one), "bad-signature"),
    "of another member under his own key id": (lambda live, _: _in_the_name(live, A, C), "unknown-key"),
    "of the right key in another's name": (lambda live, _: _in_the_name(live, C, A), "unknown-key"),
    "made for a mark": (lambda live, one: signed(live.signing_key(A), one, purpose="mark"), "bad-signature"),
    "made for a receipt": (lambda live, one: signed(live.signing_key(A), one, purpose="receipt"), "bad-signature"),
    "for another network": (
        lambda live, one: signed(live.signing_key(A), one, core(one, network="ab" * 32)),
        "other-network",
    ),
    "with the id of a sealing key": (
        lambda live, one: signed(live.signing_key(A), one, core(one, key=live[A].centre.sealing_key(A).id)),
        "unknown-key",
    ),
    "of an unknown key and a directory to come": (
        lambda live, one: signed(live.signing_key(A), one, core(one, key="ab" * 16, directory=2**53 - 1)),
        "directory-too-old",
    ),
}


@pytest.mark.parametrize("attack", SIGNATURES)
async def test_a_signature_counts_for_one_key_one_origin_and_one_purpose(live: Live, attack: str) -> None:
    """Any other is refused with its code, and nobody is answered."""
    make, code = SIGNATURES[attack]
    assert judged(live, make(live, batch(live))) == [code]


def _days(count: int) -> str:
    return (datetime.now(UTC) + timedelta(days=count)).isoformat()


REGISTERS: dict[str, tuple[dict[str, Any], str]] = {
    "revoked": ({"revoked_from": _days(-1)}, "unknown-key"),
    "not yet valid": ({"valid_from": _days(1)}, "unknown-key"),
    "expired": ({"valid_until": _days(-1)}, "unknown-key"),
    "of a suspended member": ({"status": "suspended"}, "unknown-centre"),
}


@pytest.mark.parametrize("attack", REGISTERS)
async def test_a_key_counts_while_the_directory_says_so(live: Live, attack: str) -> None:
    """A right signature with a key that is revoked, not yet valid or expired, or of a suspended member, is none."""
    changes, code = REGISTERS[attack]
    one = raw(batch(live))
    with directory(live, **changes):
        assert judged(live, one) == [code]
    assert judged(live, one) == [None]


@pytest.mark.parametrize("point", EIGHT)
async def test_nobody_signs_for_a_point_of_small_order(live: Live, point: str) -> None:
    """The directory takes no such key; if one were listed, a signature that fits it would still not count."""
    public = bytes.fromhex(point)
    with pytest.raises(ValueError, match="small order"):
        VerifyKey(public)
    forged = _replaced(batch(live), bytes.fromhex(EIGHT[0]) + bytes(32))  # R the neutral element, S 0: fits in one of eight cases
    with directory(live, public=base64.b64encode(public).decode()):
        assert judged(live, forged) == ["bad-signature"]


@pytest.mark.parametrize("point", LOW)
def test_nothing_is_sealed_to_a_point_of_small_order(point: str) -> None:
    """A recipient's key of small order would let anybody open what is sealed to it: it is refused, alone or in the hybrid."""
    with pytest.raises(ValueError, match=r"."):
        RecipientKey("x25519", bytes.fromhex(point))
    hybrid = SealingKey.generate().public
    with pytest.raises(ValueError, match=r"."):
        RecipientKey("mlkem768-x25519", hybrid[:-32] + bytes.fromhex(point))
