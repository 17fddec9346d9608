"""Passwords of people: what the clients' file holds of one, and whether a given one is right.

A person chooses a password, so what is kept of it must be slow to try: scrypt (RFC 7914) with N = 2**15, r = 8, p = 3, which
takes 32 MiB and some tenths of a second a try, with 128 random bits of salt. It is written ``scrypt$N$r$p$salt$hash``, both in
base64, so that later passwords may cost more. What a file asks for is bounded: it must not let one try take the machine's memory.

Errors raised: ``Refused`` (``weak-password``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import unicodedata

from relay.errors import Refused

PATTERN = r"scrypt\$[0-9]{1,7}\$[0-9]{1,2}\$[0-9]{1,2}\$[A-Za-z0-9+/]{16,86}={0,2}\$[A-Za-z0-9+/]{43}="
"""What stands in the clients' file."""
SHORTEST, LONGEST = 12, 200
"""Characters of a password: no rule but length (NIST SP 800-63B, 3.1.1.2, asks for eight at least and 64 to be taken)."""

_N, _R, _P = 2**15, 8, 3
_SALT_BYTES, _HASH_BYTES = 16, 32
_MOST_MEMORY = 256 * 1024 * 1024
_MOST_P = 16
_FORM = re.compile(PATTERN)


def hashed(password: str) -> str:
    """Return what the file holds of a password; it takes tenths of a second."""
    given = _normal(password)
    if not SHORTEST <= len(given) <= LONGEST:
        raise Refused("weak-password", f"A password has {SHORTEST} to {LONGEST} characters; this one has {len(given)}.")
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"scrypt${_N}${_R}${_P}${_text(salt)}${_text(_scrypt(given, salt, _N, _R, _P))}"


def right(password: str, held: str) -> bool:
    """Return whether a password is the one that a file's text stands for; it takes tenths of a second, right or not."""
    if (parts := _parts(held)) is None:
        return False
    (n, r, p), salt, expected = parts
    return hmac.compare_digest(_scrypt(_normal(password)[: LONGEST + 1], salt, n, r, p), expected)


def usable(held: str) -> bool:
    """Return whether a text is of the right form, and costs no more than a try may."""
    return _parts(held) is not None


def nobodys() -> str:
    """Return what no password stands for, to be tried for a name that is not known: it costs what a known one does."""
    return f"scrypt${_N}${_R}${_P}${_text(secrets.token_bytes(_SALT_BYTES))}${_text(secrets.token_bytes(_HASH_BYTES))}"


def _parts(held: str) -> tuple[tuple[int, int, int], bytes, bytes] | None:
    if not _FORM.fullmatch(held):
        return None
    _, n, r, p, salt, expected = held.split("$")
    cost = int(n), int(r), int(p)
    power = cost[0] > 1 and cost[0] & (cost[0] - 1) == 0
    if not power or cost[1] < 1 or not 1 <= cost[2] <= _MOST_P or 128 * cost[0] * cost[1] > _MOST_MEMORY:
        return None
    try:
        return cost, base64.b64decode(salt, validate=True), base64.b64decode(expected, validate=True)
    except ValueError:
        return None


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    memory = 128 * r * (n + p + 2) + 1024 * 1024  # what OpenSSL counts, and some room
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=_HASH_BYTES)


def _normal(password: str) -> str:
    """Return a password as it is compared: the same whichever way a keyboard composes its characters (NFKC)."""
    return unicodedata.normalize("NFKC", password)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
