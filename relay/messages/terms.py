"""Search terms: the words under which a message can be found, as the index and a query both write them.

A term is ``facet:value``. Marks give ``kind``, ``status``, ``origin``, ``crime_type`` (with those above it), ``country`` and
``region`` (every M49 level below the world); content gives ``identifier`` and ``thread`` (the id of each message it refers to).
Identifiers are normalised so that ``mscu 123456-7`` finds ``MSCU1234567``; see :func:`normal`.

Which fields hold identifiers is said once, in ``_HELD``: numbers of things, papers, accounts, cases and operations, and digests
of files. Names, descriptions, telephone numbers, the machine-readable zone (it holds a name) and codes of closed lists are none:
persons are not found by name. How to reach the fields is worked out once per model, so that looking at a message costs a few
microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, TypeAlias, get_args
from unicodedata import decimal, normalize

from relay import codes
from relay.messages.attachments import Attachment
from relay.messages.base import Marks
from relay.messages.controlled_delivery import Consignment, ControlledDelivery
from relay.messages.details import Drugs, Generic, Image, Medicines, Permit, Species
from relay.messages.notice import Notice
from relay.messages.operation import Operation
from relay.messages.part import Part
from relay.messages.parts import Conveyance, Link
from relay.messages.seizure import Seizure
from relay.messages.subjects import Document, Organisation, Thing, Warrant

_HELD: dict[type[Part], tuple[str, ...]] = {
    Attachment: ("digest",),
    Consignment: ("number", "containers", "seals", "tracker"),
    ControlledDelivery: ("code_name",),
    Conveyance: ("imo", "mmsi", "vin", "registration", "journey", "containers"),
    Document: ("number",),
    Drugs: ("cas", "laboratory_profile"),
    Generic: ("serials",),
    Image: ("digest",),
    Link: ("case_number",),
    Medicines: ("batch", "serial"),
    Notice: ("notice_number",),
    Operation: ("code_name",),
    Organisation: ("registration", "sanctions_reference"),
    Permit: ("number",),
    Seizure: ("accounts",),
    Species: ("permits",),
    Thing: ("vin", "imo", "iban"),
    Warrant: ("number",),
}
_OF_EVERY_KIND = ("case_number",)  # wherever a kind has it

_NOISE = {code: None for code in range(128) if not chr(code).isalnum()}
_PREFIXES = ("IMO", "MMSI", "VIN", "IBAN", "GTIN")
_PREFIX = re.compile(
    r"IMO(?=[0-9]{7}$)|MMSI(?=[0-9]{9}$)|VIN(?=[0-9A-Z]{17}$)|IBAN(?=[A-Z]{2}[0-9]{2}[0-9A-Z]{11,30}$)|GTIN(?=[0-9]{8,14}$)"
)
_GTIN_DIGITS = 14

Take: TypeAlias = Callable[[Any, list[str]], None]
Plan: TypeAlias = tuple[tuple[str, Take], ...]


def of_marks(
    origin: str, kinds: Iterable[str], status: str, crime_types: Iterable[str], countries: Iterable[str]
) -> Iterator[str]:
    """Return the terms of a message's marks."""
    countries = tuple(countries)
    yield f"origin:{origin}"
    yield f"status:{status}"
    yield from (f"kind:{kind}" for kind in kinds)
    yield from (f"country:{country}" for country in countries)
    yield from (f"region:{region}" for region in _regions(countries))
    for crime_type in crime_types:
        parts = crime_type.split(".")
        yield from (f"crime_type:{'.'.join(parts[:end])}" for end in range(1, len(parts) + 1))


def of_content(message: Part) -> list[str]:
    """Return the terms of a message's content: its identifiers and the messages it refers to, also inside an update."""
    found: list[str] = []
    _take_part(message, found)
    return found


def identifier(text: str) -> str | None:
    """Return the term of an identifier as anybody may write it, or None when nothing of it is a letter or digit."""
    written = normal(text)
    return f"identifier:{written}" if written else None


def thread(message: str) -> str:
    """Return the term of the messages that refer to this one."""
    return f"thread:{message}"


def normal(text: str) -> str:
    """Return an identifier in its one spelling: NFKC, letters and digits alone, in capitals; digits of any script as 0 to 9.

    The name of a numbering before a number of its form (``IMO``, ``MMSI``, ``VIN``, ``IBAN``, ``GTIN``) is left out.
    """
    plain = _ascii(text) if text.isascii() else _plain(text)
    return _PREFIX.sub("", plain, count=1) if plain.startswith(_PREFIXES) else plain


def _ascii(text: str) -> str:
    return text.upper() if text.isalnum() else text.upper().translate(_NOISE)


def _plain(text: str) -> str:
    """Return the letters and digits of a text, until writing it so once more changes nothing."""
    while True:
        kept = (character for character in normalize("NFKC", text).upper() if character.isalnum())
        plain = "".join(str(decimal(character, character)) for character in kept)
        if plain == text:
            return plain
        text = plain


def _regions(countries: tuple[str, ...]) -> Iterator[str]:
    """Return the regions of every level but the world that a message about these countries lies in."""
    leaves = codes.sub_regions(countries)
    for region in codes.REGIONS:
        if region != codes.WORLD and any(codes.region_covers(region, leaf) for leaf in leaves):
            yield region


def _take_part(part: Part, found: list[str]) -> None:
    fields = part.__dict__
    for name, take in _plan(type(part)):
        if value := fields[name]:
            take(value, found)


def _take_parts(parts: Iterable[Part], found: list[str]) -> None:
    for part in parts:
        fields = part.__dict__
        for name, take in _plan(type(part)):
            if value := fields[name]:
                take(value, found)


def _take_text(text: str, found: list[str]) -> None:
    if written := normal(text):
        found.append(f"identifier:{written}")


def _take_texts(texts: Iterable[str], found: list[str]) -> None:
    for text in texts:
        _take_text(text, found)


def _take_gtin(number: str, found: list[str]) -> None:
    """Take a trade item number with and without the zeros that longer forms of it begin with."""
    padded = number.zfill(_GTIN_DIGITS)
    found.extend(f"identifier:{one}" for one in dict.fromkeys((number, padded, padded.lstrip("0"))))


def _take_references(references: Iterable[Any], found: list[str]) -> None:
    found += [thread(one.id) for one in references]


@cache
def _plan(model: type[Part]) -> Plan:
    """Return the fields of a model that lead to terms, each with what takes them."""
    names = {name for one in model.__mro__ for name in _HELD.get(one, ())}
    if issubclass(model, Marks):
        names.update(name for name in _OF_EVERY_KIND if name in model.model_fields)
    plan: list[tuple[str, Take]] = []
    for name, field in model.model_fields.items():
        if name == "references":
            plan.append((name, _take_references))
        elif name == "gtin":
            plan.append((name, _take_gtin))
        elif name in names:
            plan.append((name, _take_texts if _is_many(field.annotation) else _take_text))
        elif any(map(_plan, _parts(field.annotation))):
            plan.append((name, _take_parts if _is_many(field.annotation) else _take_part))
    return tuple(plan)


def _parts(annotation: Any) -> Iterator[type[Part]]:  # noqa: ANN401 - whatever a field is annotated with
    """Return the models that stand anywhere in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for inner in (*get_args(annotation), getattr(annotation, "__value__", None)):
        if inner is not None:
            yield from _parts(inner)


def _is_many(annotation: Any) -> bool:  # noqa: ANN401 - whatever a field is annotated with
    """Return whether a field holds a tuple."""
    return getattr(annotation, "__origin__", None) is tuple or any(_is_many(one) for one in get_args(annotation))
