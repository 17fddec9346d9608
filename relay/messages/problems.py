"""What pydantic found wrong, told as problems of the catalogue: a pointer, a stable code and a sentence.

Types of this package raise the catalogue's codes themselves (``types``); the rest of pydantic's vocabulary is
translated here, so that no caller ever sees a library's words and an upgrade of the library can't change a code. A
sentence never shows more than 40 characters of the message. A message with more than a thousand problems gets one
that says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from relay.errors import Problem
from relay.messages.strict import MAX_PROBLEMS, shown, step

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SET_BY_NODE = frozenset({"id", "regions", "received_at"})
# The fields whose errors carry the tag of their block in the location, and where a block has its tag.
_TAGS = {"details": "family", "message": "kind", "subject": "type"}

# pydantic's word for what is wrong -> our code and our sentence, filled in from the bounds pydantic names.
_TOLD = {
    "missing": ("missing-field", "this field is required"),
    "string_too_long": ("too-long", "longer than the {max_length} characters this field takes"),
    "too_long": ("too-long", "longer than the {max_length} entries this field takes"),
    "string_too_short": ("empty", "empty: give at least one character, or leave an optional field out"),
    "too_short": ("empty", "empty: give at least one entry, or leave an optional field out"),
    "finite_number": ("not-finite", "the number is too large for a double; write a finite one"),
    "greater_than": ("out-of-range", "the number must be above {gt}"),
    "greater_than_equal": ("out-of-range", "the number must be at least {ge}"),
    "less_than": ("out-of-range", "the number must be below {lt}"),
    "less_than_equal": ("out-of-range", "the number must be at most {le}"),
    "int_parsing_size": ("out-of-range", "the number is larger than this field takes"),
    "int_from_float": ("wrong-type", "the value must be a whole number"),
    "int_type": ("wrong-type", "the value must be a whole number"),
    "float_type": ("wrong-type", "the value must be a number"),
    "string_type": ("wrong-type", "the value must be a string"),
    "bool_type": ("wrong-type", "the value must be true or false"),
    "tuple_type": ("wrong-type", "the value must be a list"),
    "model_type": ("wrong-type", "the value must be an object"),
    "model_attributes_type": ("wrong-type", "the value must be an object"),
    "dict_type": ("wrong-type", "the value must be an object"),
}
_OTHERWISE = ("bad-format", "the value has not the form of this field; see the schema of its kind")


def problems_of(error: ValidationError, document: dict[str, Any]) -> tuple[list[Problem], frozenset[str]]:
    """Return every problem of a message that its model refused, and the top-level fields they stand in.

    No field is named when the kind itself is wrong, or when there is too much wrong to look at.
    """
    if error.error_count() > MAX_PROBLEMS:
        sentence = f"{error.error_count()} places are wrong, too many to list; compare the message with its schema"
        return [Problem("", "invalid-message", sentence)], frozenset()
    details = [detail for detail in error.errors(include_url=False, include_input=False) if not _is_echo(detail, document)]
    fields = frozenset(str(part) for detail in details for part in detail["loc"][1:2])
    return [_problem(detail, document) for detail in details], fields


def _is_echo(detail: ErrorDetails, document: dict[str, Any]) -> bool:
    """Return whether a list is called too short only because pydantic does not count its faulty entries."""
    return detail["type"] == "too_short" and bool(_at(document, _path(detail["loc"])))


def _problem(detail: ErrorDetails, document: dict[str, Any]) -> Problem:
    kind, path = detail["type"], _path(detail["loc"])
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return _of_union(kind, path, document, detail.get("ctx", {}))
    if kind == "extra_forbidden":
        return _unknown_field(path)
    context = detail.get("ctx", {})
    code, sentence = _told(kind, context)
    if "text" in context and not isinstance(_at(document, path), str):
        code, sentence = _TOLD["string_type"]
    elif code in ("not-in-list", "unknown-crime-type"):
        sentence = f"{shown(str(_at(document, path)))}: {sentence}"
    return Problem(_pointer(path), code, sentence)


def _told(kind: str, context: dict[str, Any]) -> tuple[str, str]:
    """Return our code and sentence; types of this package bring both with them."""
    if "sentence" in context:
        return kind, context["sentence"]
    code, sentence = _TOLD.get(kind, _OTHERWISE)
    return code, sentence.format(**context)


def _path(loc: tuple[int | str, ...]) -> list[int | str]:
    """Return a location without the tags of unions: the kind in front, a block's tag behind its field."""
    inner = loc[1:]
    return [part for before, part in zip((None, *inner), inner, strict=False) if before not in _TAGS]


def _pointer(path: list[int | str]) -> str:
    pointer = ""
    for part in path:
        pointer = step(pointer, part)
    return pointer


def _at(document: dict[str, Any], path: list[int | str]) -> object:
    value: Any = document
    for part in path:
        value = value[part]
    return value


def _of_union(kind: str, path: list[int | str], document: dict[str, Any], context: dict[str, Any]) -> Problem:
    tag = _TAGS[str(path[-1])] if path else "kind"
    pointer = _pointer([*path, tag])
    if kind == "union_tag_not_found":
        return Problem(pointer, "missing-field", f"the field {tag} is required")
    found = _at(document, [*path, tag])
    if not isinstance(found, str):
        return Problem(pointer, *_TOLD["string_type"])
    code = "unknown-kind" if tag == "kind" else "not-in-list"
    tags = context["expected_tags"].replace("'", "")
    return Problem(pointer, code, f"{shown(found)} is not one of {tags}")


def _unknown_field(path: list[int | str]) -> Problem:
    name = str(path[-1])
    if len(path) == 1 and name in SET_BY_NODE:
        return Problem(_pointer(path), "set-by-node", f"the node sets {name} itself: leave it out")
    return Problem(_pointer(path), "unknown-field", f"there is no field {shown(name)} here; see the schema of the kind")
