"""The published contract: one JSON Schema (draft 2020-12) per message kind and version, written from the models.

The files under ``schemas/`` are generated and never edited; ``check`` says which of them differ from the code. A
schema says what JSON Schema can say: fields, forms, closed lists, bounds, and which marks need each other. Check
digits, repeated keys and the order of times are beyond it, so a message that fits its schema may still be refused,
never the reverse. ``pages`` writes the same for people: a page per kind, one of the marks and one of the blocks.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from relay import codes, messages

PAGES = "docs/reference/messages"
NOTE = "<!-- Written by `make docs` from the code. Change the code, not this page. -->\n"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_MARK_RULES = [
    {
        "if": {"properties": {"tlp": {"const": "RED"}}, "required": ["tlp"]},
        "then": {"properties": {"to": {"type": "array"}}, "required": ["to"]},
    },
    {
        "if": {"properties": {"handling": {"const": "H3"}}, "required": ["handling"]},
        "then": {"properties": {"handling_text": {"type": "string"}}, "required": ["handling_text"]},
        "else": {"properties": {"handling_text": {"type": "null"}}},
    },
    {
        "if": {"properties": {"translations": {"minItems": 1}}, "required": ["translations"]},
        "then": {"properties": {"language": {"type": "string"}}, "required": ["language"]},
    },
]


def _is(field: str, value: str) -> dict[str, Any]:
    return {"properties": {field: {"const": value}}, "required": [field]}


def _given(field: str) -> dict[str, Any]:
    return {"properties": {field: {"not": {"enum": [None, []]}}}, "required": [field]}


def _only_with(field: str, other: str, value: str) -> dict[str, Any]:
    """Return the rule that a field is given with one value of another, and only then."""
    return {"if": _is(other, value), "then": _given(field), "else": {"properties": {field: {"enum": [None, []]}}}}


_SOMEBODY = {"type": "object", "properties": {"type": {"enum": ["person", "body"]}}, "required": ["type"]}
_NOMINAL = {
    "if": {"properties": {"subject": _SOMEBODY}, "required": ["subject"]},
    "then": {"properties": {"nominal": {"const": True}}},
}
_WARRANT = {"if": _is("colour", "red"), "then": _given("warrants")}
_AWAKE = {"properties": {"contacts": {"contains": {"properties": {"round_the_clock": {"const": True}}}}}}
_KIND_RULES: dict[str, list[dict[str, Any]]] = {
    "notice": [_NOMINAL, _WARRANT],
    "diffusion": [_NOMINAL, _WARRANT, _only_with("to", "addressees", "named")],
    "request": [_NOMINAL, {"if": _is("urgency", "normal"), "else": _given("urgency_reason")}],
    "reply": [
        _NOMINAL,
        _only_with("missing", "outcome", "partial"),
        _only_with("ground", "outcome", "refusal"),
        _only_with("questions", "outcome", "clarification"),
        _only_with("new_date", "outcome", "delay"),
    ],
    "controlled-delivery": [_AWAKE],
    "identification": [_only_with("opinion", "act", "opinion")],
}


def kinds() -> tuple[str, ...]:
    """Return the kinds that have a schema."""
    return tuple(messages.MODELS)


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of a kind in the version this release writes."""
    version = codes.SCHEMA_VERSIONS[-1]
    body = TypeAdapter(messages.MODELS[kind]).json_schema(mode="validation")
    head = {"$schema": DIALECT, "$id": f"urn:intercentre-relay:schema:{kind}@{version}"}
    return head | body | {"allOf": [*_MARK_RULES, *_KIND_RULES.get(kind, [])]}


def documents() -> dict[str, str]:
    """Return every schema file: its name and its text."""
    version = codes.SCHEMA_VERSIONS[-1]
    return {f"{kind}@{version}.schema.json": _text(schema_of(kind)) for kind in messages.MODELS}


def write(folder: Path) -> None:
    """Write every schema file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (folder / name).write_text(text, encoding="utf-8")


def check(folder: Path) -> list[str]:
    """Return a sentence per schema file that is missing, differs from the code, or is of no kind."""
    expected = documents()
    present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.schema.json")}
    return [
        *(f"{name} is missing" for name in sorted(expected.keys() - present.keys())),
        *(f"{name} belongs to no kind" for name in sorted(present.keys() - expected.keys())),
        *(f"{name} differs from the models" for name, text in expected.items() if present.get(name, text) != text),
    ]


def pages() -> dict[str, str]:
    """Return the pages about messages for people: path in the repository and text."""
    schemas = {kind: schema_of(kind) for kind in messages.MODELS}
    blocks = {name: part for schema in schemas.values() for name, part in schema["$defs"].items() if part.get("type") == "object"}
    kinds = {model.__name__ for model in messages.MODELS.values()}
    return {
        f"{PAGES}/marks.md": _marks_page(schemas["cancel"]),
        f"{PAGES}/blocks.md": _blocks_page({name: blocks[name] for name in sorted(blocks.keys() - kinds)}, schemas["update"]),
        **{f"{PAGES}/{kind}.md": _kind_page(kind, schema) for kind, schema in schemas.items()},
    }


def _marks_page(schema: dict[str, Any]) -> str:
    names = messages.base.Marks.model_fields
    fields = {name: schema["properties"][name] for name in names if name not in ("kind", "references")}
    fields["references"] = messages.base.Marks.model_json_schema()["properties"]["references"]
    required = [name for name in schema["required"] if name in fields and name != "references"]
    text = "Every message has them, whatever its kind. They don't count among the required fields of a kind."
    return f"{NOTE}\n# Marks\n\n{text}\n\n{_table(fields, required, schema)}"


def _blocks_page(blocks: dict[str, Any], schema: dict[str, Any]) -> str:
    text = "What the fields of messages are made of. Only the required fields of a block must be filled."
    parts = [f"{NOTE}\n# Blocks\n\n{text}\n"]
    for name, block in blocks.items():
        table = _table(block["properties"], block.get("required", []), schema)
        parts.append(f"## {name}\n\n{block.get('description', '')}\n\n{table}")
    return "\n".join(parts)


def _kind_page(kind: str, schema: dict[str, Any]) -> str:
    own = {name: field for name, field in schema["properties"].items() if _is_own(kind, name)}
    required = {name: field for name, field in own.items() if name in schema["required"]}
    optional = {name: field for name, field in own.items() if name not in required}
    about = inspect.getdoc(inspect.getmodule(messages.MODELS[kind])) or ""
    version = codes.SCHEMA_VERSIONS[-1]
    return "\n".join(
        [
            f"{NOTE}\n# `{kind}`\n",
            f"{about}\n\nBeside these fields it has the [marks](marks.md).\n".replace("``", "`"),
            f"JSON Schema: [`{kind}@{version}`](../../../schemas/{kind}@{version}.schema.json). Examples:"
            f" [minimal](../../../schemas/examples/{kind}.minimal.json), [full](../../../schemas/examples/{kind}.full.json).\n",
            f"## Required: the minimal tier\n\n{_table(required, list(required), schema)}",
            f"## Optional: the full tier\n\n{_table(optional, [], schema)}",
        ]
    )


def _is_own(kind: str, name: str) -> bool:
    """Return whether a field belongs to the kind, or is a mark that the kind alone requires or has."""
    if name == "kind":
        return False
    if name in messages.base.Marks.model_fields:
        return messages.MODELS[kind].model_fields[name].is_required() and not messages.base.Marks.model_fields[name].is_required()
    return True


def _table(fields: dict[str, Any], required: list[str], schema: dict[str, Any]) -> str:
    lines = ["| field | required | content | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        needed = "yes" if name in required else ""
        lines.append(f"| `{name}` | {needed} | {_content(field, schema)} | {field.get('description', '')} |")
    return "\n".join(lines) + "\n"


def _content(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return what a field holds, in words."""
    if "anyOf" in field or "oneOf" in field:
        options = [part for part in field.get("anyOf") or field["oneOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(_content(part, schema) for part in options))
    if "$ref" in field:
        return _referred(field["$ref"].rpartition("/")[2], schema)
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return _listing(field["enum"])
    if field.get("type") == "array":
        return f"list of at most {field['maxItems']}: {_content(field['items'], schema)}"
    return _plain(field)


def _referred(name: str, schema: dict[str, Any]) -> str:
    part = schema["$defs"].get(name, {"type": "object"})
    kind = next((kind for kind, model in messages.MODELS.items() if model.__name__ == name), None)
    if kind:
        return f"[{kind}]({kind}.md)"
    return f"[{name}](blocks.md#{name.lower()})" if part.get("type") == "object" else _content(part, schema)


def _listing(values: list[str]) -> str:
    shown = ", ".join(f"`{value}`" for value in values[:12])
    return shown if len(values) <= 12 else f"{shown} and {len(values) - 12} more codes"


def _plain(field: dict[str, Any]) -> str:
    word = {"string": "text", "boolean": "true or false", "integer": "whole number", "number": "number"}[field["type"]]
    if field.get("format") == "date-time":
        return "time, RFC 3339 with its zone"
    if "pattern" in field:
        return f"{word} of a fixed form"
    return f"{word} of at most {field['maxLength']} characters" if "maxLength" in field else word


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
