"""Identifiers of goods, vehicles, vessels, places and accounts: form first, then the check digit.

The check digits of GTIN and IBAN come from python-stdnum, imported on first use and asked for the digit alone, since
the form is already known. Its ISO 6346 takes 12 microseconds, a quarter of a message's budget, so containers, ship
numbers and CAS numbers are checked here (tests compare the two); so are VIN, MMSI, UN/LOCODE, HS codes and the
machine-readable zones of travel documents (ICAO Doc 9303), which it does not have. Every identifier is taken in its
compact form only (no spaces, no prefix), so that one number never has two spellings.

A VIN's check digit is mandatory in North America only, so it is checked only there (first character 1 to 5). Whether
a well formed UN/LOCODE is assigned is not checked: no kept package ships the list.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated, TypeAlias

from typing_extensions import TypeAliasType

from relay import codes
from relay.messages.types import Form, refusal

_VIN_VALUES = dict(
    zip("0123456789ABCDEFGHJKLMNPRSTUVWXYZ", (*range(10), *range(1, 9), *range(1, 6), 7, 9, *range(2, 10)), strict=True)
)
# A=10 and so on, leaving out the multiples of 11.
_CONTAINER_VALUES = {c: value for value, c in enumerate("0123456789A BCDEFGHIJK LMNOPQRSTU VWXYZ") if c != " "}
_ICAO_VALUES = {c: value for value, c in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")} | {"<": 0}
# By (lines, characters a line): the stretches that a digit covers, and where the digit stands, in the joined lines.
# An extended document number of TD1 and TD2 (a filler for its digit) is not taken: write the number by hand then.
_Field: TypeAlias = tuple[tuple[tuple[int, int], ...], int]
_ICAO_FIELDS: dict[tuple[int, int], tuple[_Field, ...]] = {
    (2, 44): (
        (((44, 53),), 53),
        (((57, 63),), 63),
        (((65, 71),), 71),
        (((72, 86),), 86),
        (((44, 54), (57, 64), (65, 87)), 87),
    ),
    (2, 36): ((((36, 45),), 45), (((49, 55),), 55), (((57, 63),), 63), (((36, 46), (49, 56), (57, 71)), 71)),
    (3, 30): ((((5, 14),), 14), (((30, 36),), 36), (((38, 44),), 44), (((5, 30), (30, 37), (38, 45), (48, 59)), 59)),
}
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


@cache
def _gtin_digit() -> Callable[[str], str]:
    from stdnum import ean  # noqa: PLC0415 - drags in pydoc and ssl, 60 ms

    found: Callable[[str], str] = ean.calc_check_digit
    return found


def _confirm(name: str, number: str, *, valid: bool) -> str:
    if not valid:
        raise refusal("check-digit", f"the check digit of this {name} is wrong; compare it with the original")
    return number


def _container(number: str) -> str:
    # Written out: a loop takes three times as long, and most messages hold a container or a ship.
    value, (a, b, c, d, e, f, g, h, i, j, digit) = _CONTAINER_VALUES, tuple(number)
    low = value[a] + 2 * value[b] + 4 * value[c] + 8 * value[d] + 16 * value[e]
    high = value[f] + 2 * value[g] + 4 * value[h] + 8 * value[i] + 16 * value[j]
    return _confirm("container number", number, valid=(low + 32 * high) % 11 % 10 == value[digit])


def _imo(number: str) -> str:
    a, b, c, d, e, f, digit = number.encode()
    total = 7 * a + 6 * b + 5 * c + 4 * d + 3 * e + 2 * f - 27 * 48  # 48 is the character 0
    return _confirm("IMO ship number", number, valid=total % 10 == digit - 48)


def _cas(number: str) -> str:
    digits = number[-4:-2].encode()[::-1] + number[:-5].encode()[::-1]  # from the last before the check digit to the first
    total = sum(place * (digit - 48) for place, digit in enumerate(digits, 1))  # 48 is the character 0
    return _confirm("CAS number", number, valid=total % 10 == int(number[-1]))


def _gtin(number: str) -> str:
    return _confirm("GTIN", number, valid=_gtin_digit()(number[:-1]) == number[-1])


def _iban(number: str) -> str:
    from stdnum import iban  # noqa: PLC0415 - reads its table of national forms

    return _confirm("IBAN", number, valid=iban.is_valid(number))


def _vin(number: str) -> str:
    if number[0] in "12345":
        remainder = sum(_VIN_VALUES[c] * weight for c, weight in zip(number, _VIN_WEIGHTS, strict=True)) % 11
        if number[8] != "0123456789X"[remainder]:
            raise refusal("check-digit", "the check digit (ninth character) of this VIN is wrong")
    return number


def _locode(code: str) -> str:
    if not codes.is_country(code[:2]):
        raise refusal("unknown-country", "the first two letters of a UN/LOCODE are an ISO 3166-1 country, as in BEANR")
    return code


def _hs(code: str) -> str:
    if code[:2] not in codes.LISTS["hs_chapters"].codes:
        raise refusal("not-in-list", "the first two digits are no chapter of the Harmonised System")
    return code


def icao_digit(text: str) -> str:
    """Return the check digit of ICAO Doc 9303 for a field of a machine-readable zone."""
    return str(sum(_ICAO_VALUES[c] * (7, 3, 1)[place % 3] for place, c in enumerate(text)) % 10)


def _mrz(zone: str) -> str:
    lines = zone.split("\n")
    shape = (len(lines), len(lines[0]))
    if shape not in _ICAO_FIELDS or len({len(line) for line in lines}) != 1:
        raise refusal("bad-format", "a machine-readable zone has 2 lines of 44 or 36 characters, or 3 of 30")
    whole = "".join(lines)
    for pieces, digit in _ICAO_FIELDS[shape]:
        field = "".join(whole[start:stop] for start, stop in pieces)
        _confirm("machine-readable zone", zone, valid=_icao_agrees(field, whole[digit]))
    return zone


def _icao_agrees(field: str, digit: str) -> bool:
    # An empty optional field may have a filler in the place of its digit.
    return icao_digit(field) == digit or (digit == "<" and not field.strip("<"))


Container = TypeAliasType(
    "Container",
    Annotated[
        str,
        Form(r"^[A-Z]{3}[UJZR][0-9]{7}$", "a container number is four letters and seven digits", 11, _container),
    ],
)
Imo = TypeAliasType("Imo", Annotated[str, Form(r"^[0-9]{7}$", "an IMO ship number is seven digits", 7, _imo)])
Mmsi = TypeAliasType(
    "Mmsi", Annotated[str, Form(r"^[2-79][0-9]{8}$", "an MMSI of a vessel is nine digits starting 2 to 7 or 9", 9)]
)
Vin = TypeAliasType(
    "Vin",
    Annotated[
        str,
        Form(r"^[A-HJ-NPR-Z0-9]{17}$", "a VIN is 17 capital letters and digits without I, O and Q", 17, _vin),
    ],
)
Cas = TypeAliasType("Cas", Annotated[str, Form(r"^[1-9][0-9]{1,6}-[0-9]{2}-[0-9]$", "a CAS number looks like 50-36-2", 12, _cas)])
Gtin = TypeAliasType(
    "Gtin",
    Annotated[str, Form(r"^([0-9]{8}|[0-9]{12,14})$", "a GTIN is 8, 12, 13 or 14 digits", 14, _gtin)],
)
Iban = TypeAliasType(
    "Iban",
    Annotated[
        str,
        Form(r"^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$", "an IBAN is written in capitals without spaces", 34, _iban),
    ],
)
Locode = TypeAliasType(
    "Locode",
    Annotated[
        str,
        Form(r"^[A-Z]{2}[A-Z2-9]{3}$", "a UN/LOCODE is a country and three characters, such as BEANR", 5, _locode),
    ],
)
Hs = TypeAliasType("Hs", Annotated[str, Form(r"^[0-9]{6}$", "an HS code is six digits, such as 440349", 6, _hs)])
Atc = TypeAliasType(
    "Atc",
    Annotated[
        str,
        Form(r"^[A-Z]([0-9]{2}([A-Z]([A-Z]([0-9]{2})?)?)?)?$", "an ATC code looks like J01CA04 or its beginning", 7),
    ],
)
Packaging = TypeAliasType(
    "Packaging",
    Annotated[str, Form(r"^[0-9A-Z]{2}$", "a package type is a UN/ECE Recommendation 21 code, such as CT", 2)],
)
Mrz = TypeAliasType(
    "Mrz",
    Annotated[
        str,
        Form(
            r"^[0-9A-Z<]{30,44}(\n[0-9A-Z<]{30,44}){1,2}$", "a machine-readable zone is 2 or 3 lines of A-Z, 0-9 and <", 92, _mrz
        ),
    ],
)
Phone = TypeAliasType(
    "Phone",
    Annotated[str, Form(r"^[+][1-9][0-9]{6,14}$", "a telephone number is + and up to 15 digits, such as +3225550100", 16)],
)
