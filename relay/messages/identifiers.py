"""Identifiers of goods, vehicles, vessels, places and accounts: form first, then the check digit.

The check digits come from python-stdnum (IMO ship numbers, CAS, GTIN, IBAN), imported on first use and asked for the
digit alone, since the form is already known. Its ISO 6346 takes 12 microseconds, a quarter of a message's budget, so
containers are checked here (a test compares the two); so are VIN, MMSI, UN/LOCODE and HS codes, which it does not
have. Every identifier is taken in its compact form only (no spaces, no prefix), so that one number never has two
spellings.

A VIN's check digit is mandatory in North America only, so it is checked only there (first character 1 to 5). Whether
a well formed UN/LOCODE is assigned is not checked: no kept package ships the list.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated

from typing_extensions import TypeAliasType

from relay import codes
from relay.messages.types import Form, refusal

_VIN_VALUES = dict(
    zip("0123456789ABCDEFGHJKLMNPRSTUVWXYZ", (*range(10), *range(1, 9), *range(1, 6), 7, 9, *range(2, 10)), strict=True)
)
# A=10 and so on, leaving out the multiples of 11.
_CONTAINER_VALUES = {c: value for value, c in enumerate("0123456789A BCDEFGHIJK LMNOPQRSTU VWXYZ") if c != " "}
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


@cache
def _check_digit(name: str) -> Callable[[str], str]:
    from stdnum import casrn, ean, imo  # noqa: PLC0415 - drags in pydoc and ssl, 60 ms

    of: dict[str, Callable[[str], str]] = {
        "cas": casrn.calc_check_digit,
        "gtin": ean.calc_check_digit,
        "imo": imo.calc_check_digit,
    }
    return of[name]


def _confirm(name: str, number: str, *, valid: bool) -> str:
    if not valid:
        raise refusal("check-digit", f"the check digit of this {name} is wrong; compare it with the original")
    return number


def _container(number: str) -> str:
    total = sum(_CONTAINER_VALUES[c] << place for place, c in enumerate(number[:10]))
    return _confirm("container number", number, valid=number[10] == str(total % 11 % 10))


def _imo(number: str) -> str:
    return _confirm("IMO ship number", number, valid=_check_digit("imo")(number[:6]) == number[6])


def _cas(number: str) -> str:
    return _confirm("CAS number", number, valid=_check_digit("cas")(number[:-1]) == number[-1])


def _gtin(number: str) -> str:
    return _confirm("GTIN", number, valid=_check_digit("gtin")(number[:-1]) == number[-1])


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
    if code[:2] not in codes.HS_CHAPTERS:
        raise refusal("not-in-list", "the first two digits are no chapter of the Harmonised System")
    return code


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
