"""The published JSON Schemas: equal to the code, described throughout, and never stricter than the models."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import check_jsonschema
import jsonschema_rs
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import codes, messages, schema
from relay.errors import Refused

FOLDER = Path(__file__).parent.parent / "schemas"
EXAMPLES = sorted((FOLDER / "examples").glob("*.json"))
COUNTER = json.loads((FOLDER / "counter-examples" / "index.json").read_bytes())


def test_the_published_schemas_are_those_of_the_code() -> None:
    """Whoever changes a model publishes its schema in the same commit."""
    assert schema.check(FOLDER) == []


def test_write_and_check_agree_and_check_names_what_differs(tmp_path: Path) -> None:
    """A missing, a foreign and an edited file are each told by name."""
    schema.write(tmp_path / "new")
    folder = tmp_path / "new"
    assert schema.check(folder) == []
    (folder / "alert@1.0.schema.json").unlink()
    (folder / "seizure@1.0.schema.json").write_text("{}")
    (folder / "rumour@1.0.schema.json").write_text("{}")
    assert schema.check(folder) == [
        "alert@1.0.schema.json is missing",
        "rumour@1.0.schema.json belongs to no kind",
        "seizure@1.0.schema.json differs from the models",
    ]


def properties(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every property of every object of a schema."""
    if isinstance(value, dict):
        if value.get("type") == "object":
            yield from value["properties"].items()
        for inner in value.values():
            yield from properties(inner)


@pytest.mark.parametrize("kind", codes.KINDS)
def test_every_field_is_described(kind: str) -> None:
    """A reader of the schema alone learns what each field holds, with its unit."""
    found = [(name, field) for name, field in properties(schema.schema_of(kind)) if field.keys() != {"const"}]
    assert len(found) > 30
    assert [name for name, field in found if not field.get("description")] == []
    for name, field in found:
        if name.endswith(("_kg", "_m3", "_percent")):
            assert any(unit in field["description"] for unit in ("kg", "cubic metres", "percent"))


def unbounded(value: Any, path: str = "") -> Iterator[str]:
    """Yield the place of every string and list of a schema that may be of any length."""
    if isinstance(value, dict):
        kind = value.get("type")
        if kind == "string" and not value.keys() & {"maxLength", "enum", "const", "pattern"}:
            yield path
        if kind == "array" and "maxItems" not in value and path:
            yield path
        for key, inner in value.items():
            yield from unbounded(inner, f"{path}/{key}")
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from unbounded(inner, f"{path}/{index}")


@pytest.mark.parametrize("kind", codes.KINDS)
def test_every_string_and_list_is_bounded(kind: str) -> None:
    """No field takes a text or list of any length."""
    body = {key: value for key, value in schema.schema_of(kind).items() if key != "allOf"}
    assert list(unbounded(body)) == []


@pytest.mark.parametrize("kind", codes.KINDS)
def test_unknown_fields_are_refused_by_the_schema_too(kind: str) -> None:
    """Every object of the schema is closed."""
    document = schema.schema_of(kind)
    objects = [document, *(part for part in document["$defs"].values() if part.get("type") == "object")]
    assert all(part["additionalProperties"] is False for part in objects)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["$id"] == f"urn:intercentre-relay:schema:{kind}@1.0"


@cache
def validator(kind: str) -> Any:
    """Return a validator of another maker for a kind's schema."""
    return jsonschema_rs.validator_for(schema.schema_of(kind))


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_the_examples_fit_their_schemas(path: Path) -> None:
    """Another implementation that has only the schema takes every example."""
    document = json.loads(path.read_bytes())
    assert list(validator(document["kind"]).iter_errors(document)) == []


@pytest.mark.parametrize("entry", COUNTER, ids=[entry["file"] for entry in COUNTER])
def test_the_index_says_which_counter_examples_the_schema_refuses(entry: dict[str, Any]) -> None:
    """Another implementation knows what its validator finds, and what only the parser does."""
    document = json.loads((FOLDER / "counter-examples" / entry["file"]).read_bytes())
    assert validator(document["kind"]).is_valid(document) is not entry["refused_by_schema"]


@pytest.mark.parametrize("kind", codes.KINDS)
def test_check_jsonschema_agrees(kind: str) -> None:
    """The tool that partners use takes every example and refuses the counter-examples that a schema can refuse."""
    schema_file = ["--schemafile", str(FOLDER / f"{kind}@1.0.schema.json")]
    good = [str(path) for path in EXAMPLES if path.name.startswith(f"{kind}.")]
    bad = [entry["file"] for entry in COUNTER if entry["file"].startswith(f"{kind}.") and entry["refused_by_schema"]]
    done = CliRunner().invoke(check_jsonschema.main, [*schema_file, *good])
    assert (done.exit_code, done.stdout) == (0, "ok -- validation done\n")
    files = [str(FOLDER / "counter-examples" / name) for name in bad]
    done = CliRunner().invoke(check_jsonschema.main, [*schema_file, "--output-format", "json", *files])
    assert done.exit_code == 1
    assert {Path(error["filename"]).name for error in json.loads(done.stdout)["errors"]} == set(bad)


def test_the_published_pages_are_those_of_the_code() -> None:
    """Whoever changes a model publishes its page in the same commit."""
    folder = FOLDER.parent
    written = {str(path.relative_to(folder)) for path in (folder / schema.PAGES).glob("*.md")}
    assert written == schema.pages().keys()
    assert [path for path, text in schema.pages().items() if (folder / path).read_text(encoding="utf-8") != text] == []


@pytest.mark.parametrize("kind", codes.KINDS)
def test_the_page_of_a_kind_names_every_field_of_it(kind: str) -> None:
    """A reader of the page learns each field beside the marks, and what is required."""
    page = schema.pages()[f"{schema.PAGES}/{kind}.md"]
    for name, field in messages.MODELS[kind].model_fields.items():
        if name not in messages.base.Marks.model_fields:
            assert f"| `{name}` | {'yes' if field.is_required() else ''} |" in page


@pytest.mark.parametrize(
    "change",
    [
        {"tlp": "RED", "to": None},
        {"handling": "H3", "handling_text": None},
        {"handling": "H0", "handling_text": "x"},
        {"to": []},
        {"crime_types": ["tea"]},
        {"colour": 1},
        {"issued_at": "2026-02-03 04:05:06Z"},
    ],
)
def test_the_schema_refuses_what_it_can_say(change: dict[str, Any]) -> None:
    """Marks that need each other, closed lists, forms and unknown fields are in the schema, not only in the code."""
    document = json.loads((FOLDER / "examples" / "alert.full.json").read_bytes()) | change
    assert list(validator("alert").iter_errors(document))
    with pytest.raises(Refused):
        messages.parse(json.dumps(document).encode())


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(EXAMPLES), st.data())
def test_what_the_code_takes_fits_the_schema(path: Path, data: st.DataObject) -> None:
    """The schema is never stricter than the models: whatever is accepted fits it."""
    document = json.loads(path.read_bytes())
    field = data.draw(st.sampled_from(sorted(messages.MODELS[document["kind"]].model_fields.keys() - {"kind"})))
    document[field] = data.draw(VALUES | st.lists(VALUES, max_size=2) | st.sampled_from(list(document.values())))
    try:
        messages.parse(json.dumps(document).encode())
    except Refused:
        return
    assert list(validator(document["kind"]).iter_errors(document)) == []
