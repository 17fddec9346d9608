"""Crime types: the closed, hierarchical list that messages are routed and entitlements are granted by.

A code is dotted: ``drugs.cocaine`` is a kind of ``drugs``. The list (``crime_types.json`` beside this file, with
labels in English, French, Spanish and Arabic) carries a version. An entitlement to a code covers everything below it;
``*`` covers all. The reverse does not hold: who is entitled to ``drugs.cocaine`` does not get what is only marked
``drugs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from relay.codes.lists import CodeList, list_of, read_data

ALL_CRIME_TYPES = "*"
LANGUAGES = ("en", "fr", "es", "ar")

_data = read_data("crime_types.json")
CRIME_TYPES_VERSION: str = _data["version"]
_labels: dict[str, Mapping[str, str]] = _data["codes"]
CRIME_TYPE_LABELS: Mapping[str, Mapping[str, str]] = MappingProxyType(_labels)
CRIME_TYPES: tuple[str, ...] = tuple(CRIME_TYPE_LABELS)  # as shipped; known_crime_types() has an operator's version


def known_crime_types() -> tuple[str, ...]:
    """Return the crime types in force."""
    return tuple(CRIME_TYPE_LABELS)


def crime_types_version() -> str:
    """Return the version of the list in force."""
    version: str = _data["version"]
    return version


def crime_types() -> CodeList:
    """Return the list in force, each code with its English label as meaning."""
    return list_of("crime_types", _data | {"codes": {code: labels["en"] for code, labels in _labels.items()}})


def replace_crime_types(new: CodeList, labels: Mapping[str, Mapping[str, str]]) -> None:
    """Put an operator's version in the place of the list shipped."""
    until = new.valid_until.isoformat() if new.valid_until else None
    _data.update(version=new.version, valid_from=new.valid_from.isoformat(), valid_until=until, about=new.about)
    _labels.clear()
    _labels.update(labels)


def is_crime_type(code: str) -> bool:
    """Return whether the list has this code (``*`` is no crime type)."""
    return code in CRIME_TYPE_LABELS


def covers_crime_type(entitled: str, actual: str) -> bool:
    """Return whether an entitlement to one code covers another: the same, one above it, or ``*``."""
    return entitled in (actual, ALL_CRIME_TYPES) or actual.startswith(entitled + ".")


def crime_family(code: str) -> str:
    """Return the first level of a crime type: ``drugs`` of ``drugs.cocaine``."""
    return code.partition(".")[0]


def crime_type_label(code: str, language: str = "en") -> str:
    """Return a code's label in a language, in English where the list has no other."""
    labels = CRIME_TYPE_LABELS[code]
    return labels.get(language, labels["en"])
