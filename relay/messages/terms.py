"""Search terms: the words under which a message can be found, as the index and a query both write them.

A term is ``facet:value``. Marks give ``kind``, ``status``, ``origin``, ``crime_type`` (with those above it), ``country`` and
``region`` (every M49 level); content gives ``identifier`` and ``thread``. Identifiers are normalised so that ``MSCU 123456-7``
finds ``MSCU1234567``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from unicodedata import normalize

from relay.messages.part import Part


def of_marks(
    origin: str, kinds: Iterable[str], status: str, crime_types: Iterable[str], countries: Iterable[str]
) -> Iterator[str]:
    """Return the terms of a message's marks."""
    yield f"origin:{origin}"
    yield f"status:{status}"
    yield from (f"kind:{kind}" for kind in kinds)
    yield from (f"country:{country}" for country in countries)
    for crime_type in crime_types:
        parts = crime_type.split(".")
        yield from (f"crime_type:{'.'.join(parts[:end])}" for end in range(1, len(parts) + 1))


def of_content(message: Part) -> Iterator[str]:
    """Return the terms of a message's content: its identifiers and the messages it refers to."""
    yield from ()


def identifier(text: str) -> str:
    """Return the term of an identifier as anybody may write it: letters and digits alone, in capitals."""
    return "identifier:" + "".join(character for character in normalize("NFKC", text).upper() if character.isalnum())
