"""Messages that are taken: both tiers of each kind, all detail families, and what a reader gets from the model."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from stdnum import casrn, ean, imo, iso6346

from relay import codes, messages
from relay.errors import Refused
from relay.messages import identifiers

EXAMPLES = Path(__file__).parent.parent / "schemas" / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.json"))
MARKS = set(messages.base.Marks.model_fields) | {"grading"}


def example(name: str) -> dict[str, Any]:
    """Return a published example, parsed."""
    document: dict[str, Any] = json.loads((EXAMPLES / name).read_bytes())
    return document


def parse(document: dict[str, Any]) -> messages.Message:
    """Submit a document."""
    return messages.parse(json.dumps(document).encode())


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_taken(name: str) -> None:
    """What is published as valid is valid, on both sides."""
    raw = (EXAMPLES / name).read_bytes()
    assert messages.parse(raw) == messages.read(raw)
    assert messages.parse(raw).kind == name.partition(".")[0]


@pytest.mark.parametrize("name", NAMES)
def test_no_example_can_expire(name: str) -> None:
    """Examples stay valid for ever: none has a deadline."""
    assert "expires_at" not in example(name)


@pytest.mark.parametrize("kind", codes.KINDS)
def test_the_minimal_tier_is_the_required_fields_and_at_most_ten(kind: str) -> None:
    """A member with little time fills at most ten fields besides the marks; the minimal example is exactly those."""
    fields = messages.MODELS[kind].model_fields
    required = {name for name, field in fields.items() if field.is_required()}
    assert len(required - MARKS) <= 10
    assert set(example(f"{kind}.minimal.json")) == required


@pytest.mark.parametrize("kind", codes.KINDS)
def test_the_full_examples_fill_every_field(kind: str) -> None:
    """Taken together the full examples of a kind leave no field out.

    But the deadline, which would expire, and the trace id of a system that is not there.
    """
    filled = set().union(*(example(name) for name in NAMES if name.startswith(f"{kind}.full")))
    assert set(messages.MODELS[kind].model_fields) - filled <= MARKS
    assert set().union(*map(example, NAMES)) >= MARKS - {"expires_at", "correlation"}


def test_the_examples_show_every_family_of_details() -> None:
    """Drugs, medicines, timber, wildlife and cultural goods each have an example with all their fields."""
    holders = [goods for name in NAMES for goods in (example(name), *example(name).get("commodities", ()))]
    blocks = [goods["details"] for goods in holders if "details" in goods]
    details = messages.details
    for model in (details.Drugs, details.Medicines, details.CulturalGoods, details.Generic):
        family = model.model_fields["family"].annotation.__args__[0]  # type: ignore[union-attr]
        filled = set().union(*(block for block in blocks if block["family"] == family))
        assert filled == set(model.model_fields)
    assert {"timber", "wildlife"} <= {block["family"] for block in blocks}


def test_kinds_models_and_union_agree() -> None:
    """The list of kinds, the models and the union name the same kinds."""
    assert tuple(messages.MODELS) == codes.KINDS
    assert set(messages.MODELS.values()) == set(messages.Message.__args__)


@pytest.mark.parametrize("kind", codes.KINDS)
def test_marks_left_out_have_their_defaults(kind: str) -> None:
    """A minimal message is routine, actual, unrestricted, unclassified, for everyone entitled."""
    message = messages.parse((EXAMPLES / f"{kind}.minimal.json").read_bytes())
    assert (message.version, message.precedence, message.status) == ("1.0", "routine", "actual")
    assert (message.handling, message.classification) == ("H0", "unclassified")
    assert (message.to, message.exclude, message.attachments, message.origin) == (None, (), (), None)
    assert len(message.references) == (kind in ("reply", "update", "cancel"))
    assert (message.expires_at, message.retention_until) == (None, None)


def test_regions_are_derived_from_countries() -> None:
    """A seizure in Belgium with goods from Ecuador concerns Western Europe and South America."""
    assert messages.parse((EXAMPLES / "seizure.minimal.json").read_bytes()).regions == ("005", "155")


def test_times_are_aware() -> None:
    """A time keeps its zone, so that two centres compare the same instant."""
    message = parse(example("seizure.minimal.json") | {"expires_at": "2026-02-03T04:05:06.25+09:00"})
    assert message.expires_at == datetime(2026, 2, 2, 19, 5, 6, 250_000, tzinfo=UTC)


def test_null_means_absent() -> None:
    """An optional field may be null: systems that write all their columns need not change."""
    assert parse(example("alert.minimal.json") | {"to": None, "links": []}).to is None


def test_an_escaped_backslash_is_no_nul() -> None:
    r"""The six characters \u0000 as text are taken; only the character itself is not."""
    message = parse(example("seizure.minimal.json") | {"remarks": r"label reads \u0000"})
    assert isinstance(message, messages.Seizure)
    assert message.remarks == r"label reads \u0000"


def test_any_script_is_kept() -> None:
    """Arabic, Chinese and characters beyond the basic plane pass unchanged, escaped or not."""
    text = "تنبيه 警报 𐍈"
    for ascii_only in (True, False):
        raw = json.dumps(example("alert.minimal.json") | {"headline": text}, ensure_ascii=ascii_only).encode()
        message = messages.parse(raw)
        assert isinstance(message, messages.Alert)
        assert message.headline == text


def test_a_message_cannot_be_changed() -> None:
    """The model only reads: what was validated is what is sent."""
    message = messages.parse((EXAMPLES / "alert.minimal.json").read_bytes())
    with pytest.raises(ValidationError):
        message.tlp = "CLEAR"  # type: ignore[misc]


def test_a_receiver_tolerates_fields_of_a_newer_minor_version() -> None:
    """Fields added by version 1.7, at the top or inside a block, are ignored by the model and stay in the bytes."""
    document = example("seizure.full.json") | {"version": "1.7", "weather": "fog"}
    document["commodities"][0]["details"]["isotope_ratio"] = {"carbon": -34.1}
    message = messages.read(json.dumps(document).encode())
    assert message.version == "1.7"
    assert not hasattr(message, "weather")


def test_a_receiver_still_checks_a_newer_message() -> None:
    """A newer minor version does not switch the checks off: known fields, marks and numbers count."""
    base = example("seizure.full.json") | {"version": "1.7"}
    for change, code in (
        ({"tlp": "RED"}, "contradiction"),
        ({"purpose": "curiosity"}, "not-in-list"),
        ({"weather": float("inf")}, "not-finite"),
    ):
        raw = json.dumps(base | change).replace("Infinity", "1e999").encode()
        with pytest.raises(Refused) as refused:
            messages.read(raw)
        assert refused.value.code == code


@pytest.mark.parametrize("version", ["2.0", "1", "1.01", "0.9"])
def test_another_major_version_is_refused_everywhere(version: str) -> None:
    """Nobody guesses at a message of another major version."""
    raw = json.dumps(example("alert.minimal.json") | {"version": version}).encode()
    for way in (messages.parse, messages.read):
        with pytest.raises(Refused) as refused:
            way(raw)
        assert refused.value.code == "unknown-version"


def test_a_receiver_refuses_unknown_fields_of_its_own_version() -> None:
    """A field that no version has is a fault of the sender, not news."""
    with pytest.raises(Refused) as refused:
        messages.read(json.dumps(example("alert.minimal.json") | {"weather": "fog"}).encode())
    assert refused.value.code == "unknown-field"


def accepts(identifier: Any, number: str) -> bool:
    """Return whether a type of identifier takes a number."""
    try:
        TypeAdapter(identifier).validate_python(number)
    except ValidationError:
        return False
    return True


@given(st.from_regex(r"[A-Z]{3}[UJZR][0-9]{7}", fullmatch=True))
def test_container_numbers_agree_with_stdnum(number: str) -> None:
    """Our faster ISO 6346 check says what python-stdnum's says."""
    assert accepts(identifiers.Container, number) is iso6346.is_valid(number)


@given(st.from_regex(r"[0-9]{6}", fullmatch=True), st.from_regex(r"[0-9]", fullmatch=True))
def test_ship_numbers_agree_with_stdnum(number: str, digit: str) -> None:
    """An IMO number passes with its check digit and with no other."""
    assert accepts(identifiers.Imo, number + digit) is imo.is_valid(number + digit)


@given(st.from_regex(r"([0-9]{8}|[0-9]{12,14})", fullmatch=True))
def test_trade_item_numbers_agree_with_stdnum(number: str) -> None:
    """A GTIN of each length passes with its check digit only."""
    assert accepts(identifiers.Gtin, number) is ean.is_valid(number)


@given(st.from_regex(r"[1-9][0-9]{1,6}-[0-9]{2}-[0-9]", fullmatch=True))
def test_cas_numbers_agree_with_stdnum(number: str) -> None:
    """A CAS number passes with its check digit only."""
    assert accepts(identifiers.Cas, number) is casrn.is_valid(number)


@pytest.mark.parametrize(
    ("number", "valid"),
    [
        ("1M8GDM9AXKP042788", True),
        ("11111111111111111", True),
        ("1M8GDM9A1KP042788", False),
        ("WVWZZZ1JZXW000001", True),  # European: the ninth character is no check digit
    ],
)
def test_a_vin_has_a_check_digit_in_north_america_only(number: str, valid: bool) -> None:
    """The check digit is mandatory there, and means nothing elsewhere."""
    assert accepts(identifiers.Vin, number) is valid
