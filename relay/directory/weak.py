"""Public keys that are no secret's public half: points of small order.

Under such a point anybody makes signatures that verify, and what is sealed to it anybody opens. Curve25519 and Ed25519 have eight
of them each (RFC 7748 section 7, RFC 8032 section 8.9); coordinates that are not reduced are other spellings of the same points.
"""

from __future__ import annotations

_PRIME = 2**255 - 19
_COORDINATE = 2**255 - 1
_EDWARDS_Y = frozenset(
    {
        0,
        1,
        _PRIME - 1,
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
    }
)
_MONTGOMERY_U = frozenset(
    {
        0,
        1,
        _PRIME - 1,
        int.from_bytes(bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"), "little"),
        int.from_bytes(bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"), "little"),
    }
)


def is_weak(algorithm: str, raw: bytes) -> bool:
    """Return whether the elliptic part of a public key (its last 32 bytes) has small order or is not reduced."""
    coordinate = int.from_bytes(raw[-32:], "little") & _COORDINATE
    points = _EDWARDS_Y if algorithm == "ed25519" else _MONTGOMERY_U
    return coordinate >= _PRIME or coordinate in points
