"""Any input at all: whatever happens to a message's bytes or fields, it is taken or refused, and nothing else leaves."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import codes, messages
from relay.errors import Refused, catalogue

EXAMPLES = Path(__file__).parent.parent / "schemas" / "examples"
COMPACT = [json.dumps(json.loads(p.read_bytes()), ensure_ascii=False).encode() for p in sorted(EXAMPLES.glob("*.json"))]

Document = dict[str, Any]


def only_refused(raw: bytes) -> None:
    """Both sides take the bytes or refuse them; nothing else leaves."""
    for way in (messages.parse, messages.read):
        try:
            way(raw)
        except Refused as error:
            refused = error
        else:
            continue
        assert refused.problems
        assert all(problem.code in catalogue() for problem in refused.problems)


@settings(max_examples=500)
@given(st.sampled_from(COMPACT), st.data())
def test_one_changed_byte_is_taken_or_refused(raw: bytes, data: st.DataObject) -> None:
    """Whatever single byte of a valid message changes, it is a message or a refusal, never another error."""
    place = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.integers(0, 255))
    only_refused(raw[:place] + bytes([byte]) + raw[place + 1 :])


@settings(max_examples=300)
@given(st.sampled_from(COMPACT), st.data())
def test_a_cut_or_doubled_piece_is_taken_or_refused(raw: bytes, data: st.DataObject) -> None:
    """Losing or repeating any stretch of bytes never causes another error."""
    start, stop = sorted((data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, len(raw)))))
    only_refused(raw[:start] + raw[stop:])
    only_refused(raw[:stop] + raw[start:])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(raw: bytes) -> None:
    """Random bytes are never a message and never another error."""
    with pytest.raises(Refused):
        messages.parse(raw)
    only_refused(raw)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.sampled_from(COMPACT), st.data())
def test_any_value_in_any_field_is_taken_or_refused(raw: bytes, data: st.DataObject) -> None:
    """A field with any JSON value at all, beside a missing one, never causes another error."""
    document: Document = json.loads(raw)
    fields = [*sorted(set(messages.MODELS[document["kind"]].model_fields) - {"kind"}), "details", "~/"]
    document[data.draw(st.sampled_from(fields))] = data.draw(JSON_VALUES)
    document.pop(data.draw(st.sampled_from(fields)), None)
    only_refused(json.dumps(document).encode())


@pytest.mark.parametrize("kind", codes.KINDS)
def test_a_newer_field_with_the_name_of_anothers_time_is_not_read(kind: str) -> None:
    """A later minor version may give any meaning to a name that only other kinds have: beside a fault it is passed over too."""
    document: Document = json.loads((EXAMPLES / f"{kind}.minimal.json").read_bytes()) | {"version": "1.1", "tlp": "PINK"}
    for name in sorted(set(messages.rules.TIMES) - set(messages.MODELS[kind].model_fields)):
        with pytest.raises(Refused) as refused:
            messages.read(json.dumps(document | {name: "no time"}).encode())
        assert ("/tlp", "not-in-list") in {(problem.pointer, problem.code) for problem in refused.value.problems}


@pytest.mark.parametrize("kind", sorted(set(codes.KINDS) - {"update"}))
def test_only_an_update_is_newer_by_the_message_inside(kind: str) -> None:
    """An unknown field that looks like a newer message does not make a receiver lenient about the message around it."""
    document: Document = json.loads((EXAMPLES / f"{kind}.minimal.json").read_bytes())
    with pytest.raises(Refused) as refused:
        messages.read(json.dumps(document | {"message": {"version": "1.9"}}).encode())
    assert (refused.value.code, refused.value.problems[0].pointer) == ("unknown-field", "/message")


@settings(max_examples=200)
@given(st.sampled_from(codes.KINDS), st.data())
def test_every_removed_required_field_is_told(kind: str, data: st.DataObject) -> None:
    """However many required fields are missing, each is a problem of the same refusal."""
    fields = messages.MODELS[kind].model_fields
    required = sorted(name for name, field in fields.items() if field.is_required() and name != "kind")
    missing = data.draw(st.sets(st.sampled_from(required), min_size=1))
    document: Document = json.loads((EXAMPLES / f"{kind}.minimal.json").read_bytes())
    raw = json.dumps({name: value for name, value in document.items() if name not in missing}).encode()
    with pytest.raises(Refused) as refused:
        messages.parse(raw)
    told = {(problem.pointer, problem.code) for problem in refused.value.problems}
    assert told == {(f"/{name}", "missing-field") for name in missing}
