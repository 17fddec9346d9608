"""The published contract: one JSON Schema (draft 2020-12) per message kind and version, written from the models.

The files under ``schemas/`` are generated and never edited; ``check`` says which of them differ from the code. A
schema says what JSON Schema can say: fields, forms, closed lists, bounds, and which marks need each other. Check
digits, repeated keys and the order of times are beyond it, so a message that fits its schema may still be refused,
never the reverse.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from relay import codes, messages

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
]


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of a kind in the version this release writes."""
    version = codes.SCHEMA_VERSIONS[-1]
    body = TypeAdapter(messages.MODELS[kind]).json_schema(mode="validation")
    head = {"$schema": DIALECT, "$id": f"urn:intercentre-relay:schema:{kind}@{version}"}
    return head | body | {"allOf": _MARK_RULES}


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


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
