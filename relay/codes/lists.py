"""The closed code lists: each a version and its codes, in a fixed order, with a short meaning.

The lists are data (``lists.json`` beside this file): adding a code is an edit of the data and a new list version,
never of the code. Order carries meaning where the list says so: precedences run from the most urgent, TLP from the
narrowest, classifications from the lowest. A list says from which day it holds, and until when if that is known; some
carry ``data`` by code, such as the hours that an answer may take. This module owns reading them; nothing changes them
at run time but ``load``, at the start of a process.

Where a list is modelled on public descriptions of somebody's list, or is a useful part of a longer one, its ``about``
says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class CodeList:
    """A closed list of codes: its name, version, days in force, what it is, and each code with its meaning."""

    name: str
    version: str
    valid_from: date
    about: str
    codes: Mapping[str, str]
    valid_until: date | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def in_force(self, day: date) -> bool:
        """Return whether the list holds on a day."""
        return self.valid_from <= day and (self.valid_until is None or day <= self.valid_until)


def read_data(name: str) -> dict[str, Any]:
    """Return a data file of this package, parsed."""
    document: dict[str, Any] = json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return document


def list_of(name: str, entry: Mapping[str, Any]) -> CodeList:
    """Return a list from its form in a file."""
    until = entry.get("valid_until")
    return CodeList(
        name,
        entry["version"],
        date.fromisoformat(entry["valid_from"]),
        entry["about"],
        MappingProxyType(entry["codes"]),
        date.fromisoformat(until) if until else None,
        MappingProxyType(entry.get("data", {})),
    )


_lists: dict[str, CodeList] = {name: list_of(name, entry) for name, entry in read_data("lists.json").items()}
LISTS: Mapping[str, CodeList] = MappingProxyType(_lists)


def replace_list(new: CodeList) -> None:
    """Put another version of a list in the place of the one shipped."""
    _lists[new.name] = new


def codes_of(name: str) -> tuple[str, ...]:
    """Return the codes of a list, in its order."""
    return tuple(LISTS[name].codes)


KINDS = codes_of("kinds")
SCHEMA_VERSIONS = codes_of("schema_versions")
PRECEDENCES = codes_of("precedences")
STATUSES = codes_of("statuses")
TLP = codes_of("tlp")
HANDLING_CODES = codes_of("handling_codes")
CLASSIFICATIONS = codes_of("classifications")
PURPOSES = codes_of("purposes")
GRADINGS = tuple(f"{source}{rating}" for source in codes_of("grading_sources") for rating in codes_of("grading_information"))
HS_CHAPTERS = codes_of("hs_chapters")


def precedence_rank(precedence: str) -> int:
    """Return 0 for the most urgent precedence, counting up."""
    return PRECEDENCES.index(precedence)


def clearance_covers(clearance: str, classification: str) -> bool:
    """Return whether a clearance is at or above a classification."""
    return CLASSIFICATIONS.index(classification) <= CLASSIFICATIONS.index(clearance)


def reply_hours(urgency: str) -> int:
    """Return the hours within which a request of this urgency is to be answered, counted from receipt."""
    hours: int = LISTS["urgencies"].data[urgency]
    return hours


@cache
def cldr_version() -> str:
    """Return the version of the CLDR data that Babel ships, such as ``CLDR 47``."""
    from babel.core import get_global  # noqa: PLC0415 - as in currencies

    return f"CLDR {get_global('cldr')['version']}"


@cache
def currencies() -> frozenset[str]:
    """Return the ISO 4217 codes in use as tender today, from the CLDR data that Babel ships."""
    from babel.core import get_global  # noqa: PLC0415 - costs 60 ms; a node that never sees a value never pays

    by_territory: Mapping[str, list[tuple[str, object, object, bool]]] = get_global("territory_currencies")
    return frozenset(code for used in by_territory.values() for code, _since, until, tender in used if until is None and tender)


def is_currency(code: str) -> bool:
    """Return whether this is an ISO 4217 code in use today."""
    return code in currencies()
