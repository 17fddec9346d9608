"""Translations of a message's free text, each marked as made by a human or by a machine.

The text itself stays as it was written, in the language that ``language`` names (BCP 47); a translation names it by JSON Pointer
and stands beside it, so nobody takes a machine's words for the origin's. ``faults`` is only called for a message that has
translations: each points to a free text of this message (no code, number or time, no file, no other translation), is in another
language than the text, and stands there once.

Codes of what it finds: ``no-such-text``, ``contradiction``, ``missing-field``, ``repeated-item``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import Field
from pydantic.fields import FieldInfo

from relay.errors import Problem
from relay.messages.part import Part
from relay.messages.types import Form, Language, Listed, Prose, listed

MOST = 32

Pointer = Annotated[
    str,
    Form(r"^(/([^/~]|~[01])+)+$", "a place is a JSON Pointer (RFC 6901) to a text of this message, such as /headline", 200),
]
Path = tuple[str, ...]


class Translation(Part):
    """A translation of one of the message's texts."""

    field: Pointer = Field(description="JSON Pointer to the text of this message that is translated")
    language: Language = Field(description="language of the translation, BCP 47")
    text: Prose = Field(description="the translation")
    by: Annotated[str, listed("translators")] = Field(description="whether a person or a machine translated it")


def faults(
    translations: Sequence[Any],
    language: str | None,
    message: Mapping[str, Any],
    model: type[Part],
    faulty: Collection[str] = (),
) -> list[Problem]:
    """Return what is wrong with the translations of a message, given as models or as parsed JSON.

    ``message`` are its fields by name; what points into a field that is ``faulty`` is not looked at.
    """
    found = []
    if language is None and "language" not in faulty:
        sentence = "translations need the language of what was translated: give language"
        found.append(Problem("/language", "missing-field", sentence))
    seen: set[tuple[str, ...]] = set()
    for index, one in enumerate(translations):
        fields = one if isinstance(one, Mapping) else one.__dict__
        found += _faults(fields, language, f"/translations/{index}")
        path = _steps(fields["field"])
        if path[0] not in faulty and not _points_to_text(path, message, model):
            sentence = "no free text of this message stands at this place: point to one that is written in words"
            found.append(Problem(f"/translations/{index}/field", "no-such-text", sentence))
        key = (*path, fields["language"], fields["by"])
        if key in seen:
            found.append(Problem(f"/translations/{index}", "repeated-item", "the same translation stands twice; give it once"))
        seen.add(key)
    return found


def _faults(fields: Mapping[str, Any], language: str | None, place: str) -> Iterable[Problem]:
    if fields["language"] == language:
        sentence = f"the message itself is in {language}: a translation is in another language"
        yield Problem(f"{place}/language", "contradiction", sentence)


def _steps(pointer: str) -> Path:
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])


def _points_to_text(path: Path, message: Mapping[str, Any], model: type[Part]) -> bool:
    """Return whether a place of a message holds free text."""
    field = model.model_fields.get(path[0])
    value: Any = message.get(path[0])
    if path[0] == "translations":
        return False
    for step in path[1:]:
        if isinstance(value, Sequence) and not isinstance(value, str):
            value = value[int(step)] if step in map(str, range(len(value))) else None
        elif isinstance(value, Part):
            field, value = type(value).model_fields.get(step), value.__dict__.get(step)
        else:  # parsed JSON, of a message that has other problems: a string is taken for a text
            field, value = None, value.get(step) if isinstance(value, Mapping) else None
    return isinstance(value, str) and (field is None or is_text(field))


def is_text(field: FieldInfo) -> bool:
    """Return whether a field holds free text, or a list of texts: no code, fixed form, or file."""
    return not field.json_schema_extra and _is_text(field.annotation, field.metadata)


def _is_text(annotation: object, metadata: Iterable[object]) -> bool:
    if annotation is str:
        return not any(isinstance(one, Listed | Form) for one in metadata)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _is_text(arguments[0], arguments[1:])
    if origin in (Union, UnionType, tuple):
        return any(_is_text(one, ()) for one in arguments)
    return False  # numbers, blocks, and the named types, which are all of a fixed form
