"""What people call the codes, in English, French, Spanish and Arabic.

The English label of a code is its meaning in the list; the other languages stand beside the lists in
``labels.fr.json`` and so on, by list and code, read when first asked for. Names of countries, M49 regions, currencies
and languages come from the CLDR data that Babel ships, and of crime types from their own file. A language that a list
does not have falls back to English: a label is for people, and never decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial

from relay.codes.crime_types import LANGUAGES, crime_type_label
from relay.codes.lists import LISTS, read_data
from relay.codes.regions import is_country, is_region

_replaced: dict[tuple[str, str], Mapping[str, str]] = {}


def label(name: str, code: str, language: str = "en") -> str:
    """Return the label of a code of a list in a language; ``KeyError`` for no such list or code."""
    language = language if language in LANGUAGES else "en"
    if name == "crime_types":
        return crime_type_label(code, language)
    if name in _FROM_CLDR:
        return _FROM_CLDR[name](code, language)
    meaning = LISTS[name].codes[code]
    return meaning if language == "en" else _labels(name, language).get(code, meaning)


def label_lists() -> tuple[str, ...]:
    """Return the names of all lists that have labels."""
    return (*LISTS, "crime_types", *_FROM_CLDR)


def languages() -> tuple[str, ...]:
    """Return the codes of the languages that have a name."""
    return tuple(_cldr("en")["languages"])


def replace_labels(name: str, by_language: Mapping[str, Mapping[str, str]]) -> None:
    """Take an operator's labels for a list that was replaced; the shipped ones are of another version."""
    for language in LANGUAGES:
        _replaced[name, language] = by_language.get(language, {})


def _labels(name: str, language: str) -> Mapping[str, str]:
    if (name, language) in _replaced:
        return _replaced[name, language]
    return _shipped(language).get(name, {})


@cache
def _shipped(language: str) -> Mapping[str, Mapping[str, str]]:
    labels: Mapping[str, Mapping[str, str]] = read_data(f"labels.{language}.json")
    return labels


@cache
def _cldr(language: str) -> Mapping[str, Mapping[str, str]]:
    from babel import Locale  # noqa: PLC0415 - costs 60 ms; who never shows a name never pays

    locale = Locale(language)
    return {"territories": locale.territories, "currencies": locale.currencies, "languages": locale.languages}


def _name(table: str, code: str, language: str) -> str:
    names = _cldr(language)[table]
    return names[code] if code in names else _cldr("en")[table][code]


def _country(code: str, language: str) -> str:
    if not is_country(code):  # CLDR also names what is none, such as ZZ
        raise KeyError(code)
    return _name("territories", code, language)


def _region(code: str, language: str) -> str:
    if not is_region(code):
        raise KeyError(code)
    return _name("territories", "AQ" if code == "010" else code, language)  # CLDR names Antarctica by its letters alone


_FROM_CLDR: dict[str, Callable[[str, str], str]] = {
    "countries": _country,
    "regions": _region,
    "currencies": partial(_name, "currencies"),
    "languages": partial(_name, "languages"),
}
