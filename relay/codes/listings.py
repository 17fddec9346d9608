"""Every list as a person asks for it: its version, the days it holds, and its codes with their labels in a language.

Takes in what the other modules keep apart: the closed lists, the crime types, the countries and regions, and the currencies
and languages that Babel ships with its CLDR data (which say from no day on; their version is CLDR's). It reads what is in
force, so an operator's own versions once they were loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from relay.codes import crime_types, labels, lists, regions


@dataclass(frozen=True, slots=True)
class Listing:
    """A list: its name, version, days in force, what it is (in English), its codes in order, and data by code."""

    name: str
    version: str
    about: str
    codes: tuple[str, ...]
    valid_from: date | None = None
    valid_until: date | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def head(self) -> dict[str, str | None]:
        """Return name, version and days as they are published."""
        since, until = (None if day is None else day.isoformat() for day in (self.valid_from, self.valid_until))
        return {"name": self.name, "version": self.version, "valid_from": since, "valid_until": until}

    def entries(self, language: str) -> list[dict[str, Any]]:
        """Return each code with its label in a language, and its data if it has any, as they are published."""
        return [
            {"code": code, "label": label, **({"data": self.data[code]} if code in self.data else {})}
            for code, label in self.labels(language).items()
        ]

    def labels(self, language: str) -> dict[str, str]:
        """Return each code's label in a language, in English where the list has no other."""
        return {code: labels.label(self.name, code, language) for code in self.codes}


def listings() -> tuple[Listing, ...]:
    """Return all lists, in the order of their names."""
    return tuple(map(listing, sorted(labels.label_lists())))


def listing(name: str) -> Listing:
    """Return a list in force; ``KeyError`` for no such list."""
    return _OTHERS[name]() if name in _OTHERS else _of(lists.LISTS[name])


def _of(found: lists.CodeList) -> Listing:
    return Listing(
        found.name, found.version, found.about, tuple(found.codes), found.valid_from, found.valid_until, dict(found.data)
    )


def _places(name: str, about: str, codes: Iterable[str]) -> Listing:
    return Listing(name, regions.REGIONS_VERSION, about, tuple(codes), regions.REGIONS_VALID_FROM)


def _shipped(name: str, about: str, codes: Iterable[str]) -> Listing:
    return Listing(name, lists.cldr_version(), about, tuple(sorted(codes)))


_OTHERS: dict[str, Callable[[], Listing]] = {
    "crime_types": lambda: _of(crime_types.crime_types()),
    "countries": lambda: _places("countries", "ISO 3166-1 alpha-2 codes of countries, and XK.", regions.COUNTRIES),
    "regions": lambda: _places("regions", "UN M49 codes of the regions of every level.", regions.REGIONS),
    "currencies": lambda: _shipped("currencies", "ISO 4217 codes of currencies in use.", lists.currencies()),
    "languages": lambda: _shipped(
        "languages", "Languages that have a name in CLDR; any BCP 47 tag is taken.", labels.languages()
    ),
}
