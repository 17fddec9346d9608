"""Which of the languages that this node has a caller wants: ``Accept-Language`` (RFC 9110, 12.5.4).

A range stands for a language when it is that language or a regional form of it (``fr-CA`` for ``fr``); ``*`` stands for every
language that no other range names. The highest weight wins; of equal ones the language that is named first, and what ``*``
alone stands for comes last, in the order of this node's languages. Weight 0 refuses. When nothing that is asked for is there
the answer is in English rather than none. What can't be read is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from relay.codes import LANGUAGES

_RANGE = re.compile(r"\s*(\*|[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?\s*")


def preferred(accept: str, languages: Sequence[str] = LANGUAGES) -> str:
    """Return the language to answer in; the first of ``languages`` when nothing else is wanted."""
    wanted = _weights(accept)
    order = list(wanted)
    weights = {language: _weight(language, wanted) for language in languages}

    def rank(language: str) -> tuple[float, int]:
        weight, named = weights[language]
        return -weight, order.index(named) if named != "*" else len(order)

    best = min(languages, key=rank)
    return best if weights[best][0] > 0 else languages[0]


def _weights(accept: str) -> dict[str, float]:
    """Return the weight of each range, in the order in which they are named."""
    found = (_RANGE.fullmatch(part) for part in accept.split(","))
    return {one[1].lower(): float(one[2] or 1) for one in found if one}


def _weight(language: str, wanted: Mapping[str, float]) -> tuple[float, str]:
    """Return a language's weight and the range that gave it: the language itself, else a regional form, else ``*``."""
    if language in wanted:
        return wanted[language], language
    regional = [(weight, one) for one, weight in wanted.items() if one.startswith(f"{language}-")]
    return max(regional, default=(wanted.get("*", 0.0), "*"), key=lambda one: one[0])
