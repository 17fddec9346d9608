"""An operator's own versions of the code lists, taken from a folder at the start of a process.

Each file ``NAME.json`` replaces the list of that name (``crime_types`` too) and has the form of an entry of
``lists.json``: ``version``, ``valid_from``, ``about``, ``codes``, and where the list has it ``valid_until`` and
``data``. It may bring ``labels`` by language; what it does not name is shown in English. A file is taken whole or not
at all, and all files are read before one is taken.

The lists that the software's own rules are written for (kinds, TLP, precedences, handling codes, ...) can't be
replaced. Models that were built before keep the codes they were built with: ``messages.rebuild`` builds them anew.

Errors raised: ``Misconfigured`` with ``bad-code-list``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from relay.codes import crime_types, labels, lists
from relay.errors import Misconfigured

FIXED = frozenset(
    {
        "kinds",
        "schema_versions",
        "precedences",
        "statuses",
        "tlp",
        "handling_codes",
        "classifications",
        "grading_sources",
        "grading_information",
        "relations",
        "reply_outcomes",
        "subject_types",
        "addressees",
        "notice_colours",
        "identification_acts",
        "substitutions",
        "families",
        "translators",
    }
)


def load(folder: Path, *, on: date | None = None) -> tuple[str, ...]:
    """Replace lists by the files of a folder and return their names; a day leaves out what is not in force on it."""
    if not folder.is_dir():
        raise Misconfigured("bad-code-list", f"The folder of code lists {folder} is not there.")
    taken = [_read(path) for path in sorted(folder.glob("*.json"))]
    taken = [(new, entry) for new, entry in taken if on is None or new.in_force(on)]
    for new, entry in taken:
        if new.name == "crime_types":
            crime_types.replace_crime_types(new, _labelled(entry))
        else:
            lists.replace_list(new)
            labels.replace_labels(new.name, entry.get("labels", {}))
    return tuple(new.name for new, _ in taken)


def _read(path: Path) -> tuple[lists.CodeList, dict[str, Any]]:
    name = path.stem
    if name != "crime_types" and name not in lists.LISTS:
        raise _bad(path, "no list has this name")
    if name in FIXED:
        raise _bad(path, "the rules of the software are written for this list, so it can't be replaced")
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        _check_form(entry)
        new = lists.list_of(name, entry)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise _bad(path, f"it has not the form of a list: {error}") from error
    _check_data(path, new)
    return new, entry


def _check_form(entry: Mapping[str, Any]) -> None:
    codes, labelled = entry["codes"], entry.get("labels", {})
    texts = [entry["version"], entry["about"], *codes, *codes.values()]
    for language, known in labelled.items():
        if language not in crime_types.LANGUAGES:
            raise ValueError(f"labels in {language!r} are not shown; the languages are {', '.join(crime_types.LANGUAGES)}")
        if unknown := known.keys() - codes.keys():
            raise ValueError(f"a label of a code that is not in the list: {min(unknown)}")
        texts += known.values()
    if not codes or not all(isinstance(text, str) and 0 < len(text) <= 1000 for text in texts):
        raise ValueError("version, about, codes and labels are texts, and at least one code is needed")


def _check_data(path: Path, new: lists.CodeList) -> None:
    """Refuse a list that lacks the data which the shipped one has for each of its codes."""
    if new.name == "crime_types":
        orphans = [code for code in new.codes if "." in code and code.rpartition(".")[0] not in new.codes]
        if orphans:
            raise _bad(path, f"{orphans[0]} stands below a code that is not in the list")
        return
    shipped = lists.LISTS[new.name].data
    types = {type(value) for value in shipped.values()}
    if shipped and not all(type(new.data.get(code)) in types for code in new.codes):
        raise _bad(path, "each code needs its entry in data, of the same type as in the list shipped")


def _labelled(entry: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    by_language: Mapping[str, Mapping[str, str]] = entry.get("labels", {})
    return {
        code: {"en": meaning, **{language: known[code] for language, known in by_language.items() if code in known}}
        for code, meaning in entry["codes"].items()
    }


def _bad(path: Path, why: str) -> Misconfigured:
    return Misconfigured("bad-code-list", f"The code list {path.name} is not taken: {why}.")
