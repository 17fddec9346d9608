"""The rules of each kind: what it refuses beside the marks, what an update carries, attachments, and what only looks wrong."""

import base64
import copy
import json
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import codes, messages
from relay.errors import Refused, catalogue
from relay.messages import identifiers
from relay.messages.attachments import MAX_ATTACHMENT_BYTES

SCHEMAS = Path(__file__).parent.parent / "schemas"
EXAMPLES = sorted((SCHEMAS / "examples").glob("*.json"))
COUNTER = json.loads((SCHEMAS / "counter-examples" / "index.json").read_bytes())

Document = dict[str, Any]
GONE = object()


def example(name: str, **change: object) -> Document:
    """Return a published example with some fields changed, or gone."""
    document: Document = json.loads((SCHEMAS / "examples" / f"{name}.json").read_bytes()) | change
    return {field: value for field, value in document.items() if value is not GONE}


def put(document: Document, pointer: str, value: object) -> Document:
    """Return a copy with the value at a JSON Pointer."""
    changed = copy.deepcopy(document)
    *parents, last = pointer.split("/")[1:]
    place: Any = changed
    for part in parents:
        place = place[int(part) if isinstance(place, list) else part]
    place[int(last) if isinstance(place, list) else last] = value
    return changed


def parse(document: Document, **options: Any) -> messages.Message:
    """Submit a document."""
    return messages.parse(json.dumps(document).encode(), **options)


def told(document: Document, **options: Any) -> set[tuple[str, str]]:
    """Return the places and codes of a refusal."""
    with pytest.raises(Refused) as refused:
        parse(document, **options)
    return {(problem.pointer, problem.code) for problem in refused.value.problems}


REFUSED = [
    ("notice.minimal", "/colour", "pink", "/colour", "not-in-list"),
    ("notice.minimal", "/colour", "yellow", "/subject", "contradiction"),
    ("notice.minimal", "/state", "sleeping", "/state", "not-in-list"),
    ("notice.full", "/colour", "black", "/subject", "contradiction"),
    ("notice.full", "/nominal", False, "/nominal", "contradiction"),
    ("notice.full", "/warrants", [], "/warrants", "contradiction"),
    ("notice.full", "/warrants/0/issued_on", "2026-02-30", "/warrants/0/issued_on", "bad-format"),
    ("notice.full", "/reviewed_at", "2026-03-01T00:00:00Z", "/reviewed_at", "contradiction"),
    ("notice.full", "/valid_until", "2026-03-02T00:00:00Z", "/valid_until", "contradiction"),
    ("notice.full", "/subject", {"type": "ghost"}, "/subject/type", "not-in-list"),
    ("notice.full", "/subject", {}, "/subject/type", "missing-field"),
    ("notice.full", "/subject", "him", "/subject", "wrong-type"),
    ("notice.full", "/subject/sex", "male", "/subject/sex", "not-in-list"),
    ("notice.full", "/subject/born", "1979-13", "/subject/born", "bad-format"),
    ("notice.full", "/subject/height_cm", 1.83, "/subject/height_cm", "wrong-type"),
    ("notice.full", "/subject/documents/0/number", "X 73", "/subject/documents/0/number", "bad-format"),
    ("notice.full", "/subject/documents/0/check_digit", "0", "/subject/documents/0", "check-digit"),
    ("notice.full", "/subject/documents/0/mrz", "P<UTO" + "<" * 39, "/subject/documents/0/mrz", "bad-format"),
    ("notice.full", "/subject/documents/0/mrz", "<" * 44 + "\n" + "<" * 43, "/subject/documents/0/mrz", "bad-format"),
    ("diffusion.minimal", "/reviewed", True, "/reviewed", "contradiction"),
    ("diffusion.minimal", "/reviewed", 0, "/reviewed", "wrong-type"),
    ("diffusion.minimal", "/addressees", "some", "/addressees", "not-in-list"),
    ("diffusion.minimal", "/to", ["BRU"], "/addressees", "contradiction"),
    ("diffusion.full", "/nominal", False, "/nominal", "contradiction"),
    ("diffusion.full", "/subject/iban", "FR7630099000011234567890195", "/subject/iban", "check-digit"),
    ("request.minimal", "/asked", [], "/asked", "empty"),
    ("request.minimal", "/urgency", "very", "/urgency", "not-in-list"),
    ("request.minimal", "/urgency", "urgent-indirect", "/urgency_reason", "contradiction"),
    ("request.minimal", "/answer_by", "2026-01-01T00:00:00Z", "/answer_by", "contradiction"),
    ("request.full", "/nominal", False, "/nominal", "contradiction"),
    ("request.full", "/contact/phone", "02 555 01 00", "/contact/phone", "bad-format"),
    ("reply.minimal", "/references", [], "/references", "empty"),
    ("reply.minimal", "/references/0/relation", "cancels", "/references", "missing-reference"),
    ("reply.minimal", "/outcome", "partial", "/missing", "contradiction"),
    ("reply.minimal", "/outcome", "refusal", "/ground", "contradiction"),
    ("reply.minimal", "/outcome", "clarification", "/questions", "contradiction"),
    ("reply.minimal", "/outcome", "delay", "/new_date", "contradiction"),
    ("reply.minimal", "/ground", "safety", "/ground", "contradiction"),
    ("reply.full", "/nominal", False, "/nominal", "contradiction"),
    ("reply.full.delay", "/new_date", "2026-02-09T09:59:59Z", "/new_date", "contradiction"),
    ("controlled-delivery.minimal", "/consignments/0", {}, "/consignments/0", "missing-field"),
    ("controlled-delivery.minimal", "/consignments/0/containers", ["XQRU2204171"], "/consignments/0/containers/0", "check-digit"),
    ("controlled-delivery.minimal", "/substitution", "maybe", "/substitution", "not-in-list"),
    ("controlled-delivery.minimal", "/waypoints", [], "/waypoints", "empty"),
    ("controlled-delivery.minimal", "/waypoints/0/action", "wave", "/waypoints/0/action", "not-in-list"),
    ("controlled-delivery.minimal", "/waypoints/0/planned_at", "2026-07-01T00:00:00Z", "/waypoints", "contradiction"),
    ("controlled-delivery.minimal", "/waypoints/0/locode", "BEANR", "/waypoints/0", "contradiction"),
    ("controlled-delivery.minimal", "/countries", ["BE"], "/countries", "contradiction"),
    ("controlled-delivery.minimal", "/decisions", [{"country": "FR", "decision": "agreed"}], "/decisions", "contradiction"),
    ("controlled-delivery.minimal", "/contacts/0/round_the_clock", False, "/contacts", "contradiction"),
    ("operation.minimal", "/phase", "party", "/phase", "not-in-list"),
    ("operation.minimal", "/participants/0/role", "fan", "/participants/0/role", "not-in-list"),
    ("operation.full", "/results/0/country", "FR", "/results", "contradiction"),
    ("operation.full", "/results/0/count", -1, "/results/0/count", "out-of-range"),
    ("operation.full", "/ends_on", "2026-08-31", "/ends_on", "contradiction"),
    ("operation.full", "/next_report_at", "2026-09-04T17:59:59Z", "/next_report_at", "contradiction"),
    (
        "operation.full",
        "/commodities/0/details/papers/0/valid_until",
        "2026-01-01",
        "/commodities/0/details/papers/0",
        "contradiction",
    ),
    ("operation.full", "/commodities/0/details/cites_appendix", None, "/commodities/0/details", "contradiction"),
    ("operation.full", "/commodities/0/quantity/amount", 41.5, "/commodities/0/quantity", "contradiction"),
    ("identification.minimal", "/act", "opinion", "/opinion", "contradiction"),
    ("identification.minimal", "/details/object_type", "thing", "/details/object_type", "not-in-list"),
    ("identification.full", "/act", "question", "/opinion", "contradiction"),
    ("identification.full", "/opinion/certainty", "sure", "/opinion/certainty", "not-in-list"),
    ("update.minimal", "/references/0/relation", "answers", "/references", "missing-reference"),
    ("update.minimal", "/message", {}, "/message/kind", "missing-field"),
    ("update.minimal", "/message", [], "/message", "wrong-type"),
    ("update.minimal", "/message/kind", "update", "/message/kind", "unknown-kind"),
    ("update.minimal", "/message/colour", 1, "/message/colour", "unknown-field"),
    ("update.minimal", "/message/version", "1.1", "/message/version", "unknown-version"),
    ("update.minimal", "/message/tlp", "RED", "/message/tlp", "contradiction"),
    ("update.minimal", "/message/exclude", ["SIN"], "/message/exclude", "contradiction"),
    ("update.minimal", "/message/countries", ["BE"], "/message/countries", "contradiction"),
    ("update.minimal", "/status", "test", "/message/status", "contradiction"),
    ("update.minimal", "/message/accounts", ["FR2030099000011234567890195"], "/message/nominal", "contradiction"),
    ("cancel.minimal", "/references/0/relation", "updates", "/references", "missing-reference"),
    ("cancel.minimal", "/reason", "oops", "/reason", "not-in-list"),
    ("cancel.minimal", "/message", {}, "/message", "unknown-field"),
]


@pytest.mark.parametrize(("name", "pointer", "value", "place", "code"), REFUSED)
def test_a_bad_field_is_refused_with_its_code_at_its_place(name: str, pointer: str, value: object, place: str, code: str) -> None:
    """Each rule of each kind has a message that breaks it; the refusal says where and why."""
    assert (place, code) in told(put(example(name), pointer, value))


@pytest.mark.parametrize("entry", COUNTER, ids=[entry["file"] for entry in COUNTER])
def test_every_counter_example_is_refused_as_its_index_says(entry: Document) -> None:
    """What is published as bad is refused, on both sides, with the code and place that the index names."""
    raw = (SCHEMAS / "counter-examples" / entry["file"]).read_bytes()
    for way in (messages.parse, messages.read):
        with pytest.raises(Refused) as refused:
            way(raw)
        assert (refused.value.code, refused.value.problems[0].pointer) == (entry["code"], entry["pointer"])


def test_the_counter_examples_cover_every_kind_and_the_index_every_file() -> None:
    """No kind is without a counter-example, and no file without an entry."""
    assert {entry["file"].partition(".")[0] for entry in COUNTER} == set(codes.KINDS)
    files = {path.name for path in (SCHEMAS / "counter-examples").glob("*.json")}
    assert files == {entry["file"] for entry in COUNTER} | {"index.json"}


def test_everything_wrong_with_an_update_is_told_at_once() -> None:
    """Fields and rules of the update and of the body inside are problems of one refusal, each with its place."""
    document = example("update.minimal", reason="", references=[])
    document["message"] |= {"office": 7, "seized_at": "2026-02-03T00:00:00Z", "reported_at": "2026-02-02T00:00:00Z"}
    document["message"] |= {"tlp": "RED", "commodities": [{"description": "x", "quantity": {"amount": 1, "unit": "kg"}}]}
    assert told(document) == {
        ("/reason", "empty"),
        ("/references", "empty"),
        ("/message/office", "wrong-type"),
        ("/message/commodities/0/quantity/unit", "not-in-list"),
        ("/message/reported_at", "contradiction"),
        ("/message/tlp", "contradiction"),
    }


def test_a_key_too_long_to_show_beside_and_inside_an_update_is_told() -> None:
    """Such a key is told at the object that holds it, and nothing else is lost by it."""
    document = example("update.minimal", **{"k" * 50: 1, "references": []})
    assert told(document) == {("", "unknown-field"), ("/references", "empty")}
    document["message"]["k" * 50] = 1
    assert told(document) == {("", "unknown-field"), ("/message", "unknown-field"), ("/references", "empty")}


def test_an_update_may_say_its_marks_in_another_order_or_by_default() -> None:
    """Countries in another order and a default written out are the same marks."""
    document = example("update.minimal", countries=["EC", "BE"], handling="H0", status="actual", exclude=[])
    assert parse(document).kind == "update"


@pytest.mark.parametrize("kind", [kind for kind in codes.KINDS if kind not in ("update", "cancel")])
def test_every_kind_can_be_updated(kind: str) -> None:
    """The new version of any kind is checked by its own model, and a receiver gets it as that model."""
    body = example(f"{kind}.minimal")
    marks = {name: body[name] for name in ("crime_types", "countries", "tlp", "purpose", "nominal")}
    update = parse(example("update.minimal") | marks | {"message": body})
    assert isinstance(update, messages.Update)
    assert update.message == parse(body)


def test_a_receiver_tolerates_a_newer_body_in_an_update() -> None:
    """A body of a newer minor version passes as it would by itself; a submitter may not send it."""
    document = put(example("update.minimal"), "/message/version", "1.7")
    document["message"]["weather"] = "fog"
    assert messages.read(json.dumps(document).encode()).kind == "update"
    assert ("/message/weather", "unknown-field") in told(document)


def attached(*contents: bytes, **fields: object) -> Document:
    """Return an alert with these attachments."""
    files = [
        {
            "media_type": "image/png",
            "digest": sha256(content).hexdigest(),
            "content": base64.b64encode(content).decode(),
            **fields,
        }
        for content in contents
    ]
    return example("alert.minimal", attachments=files)


def test_attachments_up_to_the_limits_are_taken() -> None:
    """Four files of one MiB each are a message; their digests are compared."""
    message = parse(attached(*(bytes([n]) * MAX_ATTACHMENT_BYTES for n in range(4))))
    assert len(message.attachments) == 4


def test_attachments_over_the_limits_are_refused() -> None:
    """One byte more than a MiB in one, or more than a node takes together, is told with its place."""
    assert told(attached(b"x" * (MAX_ATTACHMENT_BYTES + 1))) == {("/attachments/0/content", "attachment-too-large")}
    larger = json.dumps(attached(b"x" * (MAX_ATTACHMENT_BYTES + 1))).encode()
    assert messages.read(larger).kind == "alert"  # its origin may be set to take more
    limits = messages.Limits(each=10, together=15)
    assert told(attached(b"x" * 8, b"y" * 8), limits=limits) == {("/attachments", "attachment-too-large")}
    assert parse(attached(b"x" * 8, b"y" * 7), limits=limits).kind == "alert"


@pytest.mark.parametrize(
    ("fields", "place", "code"),
    [
        ({"digest": "0" * 64}, "digest", "digest-mismatch"),
        ({"content": "eA="}, "content", "empty"),
        ({"content": "eA==="}, "content", "bad-format"),
        ({"content": "eA\n==x"}, "content", "bad-format"),
        ({"content": "ééééé"}, "content", "bad-format"),
        ({"content": "eHh4\\u"}, "content", "bad-format"),
        ({"handling": "H1"}, "handling", "contradiction"),
        ({"media_type": "text/html"}, "media_type", "not-in-list"),
    ],
)
def test_a_bad_attachment_is_refused(fields: Document, place: str, code: str) -> None:
    """A digest of other bytes, a broken encoding, a mark above the message's and a strange type, also beside another fault."""
    document = attached(b"a photograph", **fields)
    assert told(document) == {(f"/attachments/0/{place}", code)}
    assert (f"/attachments/0/{place}", code) in told(document | {"headline": ""})


def test_an_attachment_of_the_body_inside_an_update_is_checked() -> None:
    """A damaged file can't hide in the new version."""
    document = example("update.minimal")
    document["message"]["attachments"] = attached(b"x", digest="0" * 64)["attachments"]
    assert told(document) == {("/message/attachments/0/digest", "digest-mismatch")}


def seized(goods: Document, **change: object) -> tuple[messages.Message, Document]:
    """Return a seizure of these goods."""
    document = example("seizure.minimal", commodities=[{"description": "goods", **goods}], **change)
    return parse(document), document


TIMBER = {"family": "timber", "scientific_name": "Dalbergia sp.", "specimen": "LOG", "cites_appendix": "II"}
PAPER = {"number": "EX-1", "type": "cites-export", "valid_from": "2026-01-01", "valid_until": "2026-01-31"}
MEDICINE = {"family": "medicines", "product_name": "Examplavir", "who_class": "falsified"}


@pytest.mark.parametrize(
    ("goods", "place", "code"),
    [
        ({"quantity": {"amount": 3, "unit": "MTQ"}, "hs": "970610", "details": TIMBER}, "hs", "doubtful-chapter"),
        ({"quantity": {"amount": 3, "unit": "KGM"}, "hs": "440349", "details": MEDICINE}, "hs", "doubtful-chapter"),
        ({"quantity": {"amount": 3, "unit": "MTR"}, "details": MEDICINE}, "quantity/unit", "doubtful-unit"),
        ({"quantity": {"amount": 3, "unit": "C62"}, "details": MEDICINE | {"units": 4}}, "quantity/amount", "doubtful-quantity"),
        (
            {"quantity": {"amount": 3, "unit": "MTQ"}, "details": TIMBER | {"volume_m3": 4.0}},
            "quantity/amount",
            "doubtful-quantity",
        ),
        (
            {"quantity": {"amount": 3, "unit": "MTQ"}, "details": TIMBER | {"papers": [PAPER]}},
            "details/papers/0",
            "permit-not-valid",
        ),
        (
            {
                "quantity": {"amount": 1, "unit": "C62"},
                "details": {"family": "cultural-goods", "object_type": "coin", "description": "Coin", "theft_date": "2026-03"},
            },
            "details/theft_date",
            "doubtful-date",
        ),
    ],
)
def test_what_only_looks_wrong_is_a_warning(goods: Document, place: str, code: str) -> None:
    """The message is valid, and its warning has a place, a code of the catalogue and a sentence."""
    message, document = seized(goods)
    (warning,) = messages.warnings(message)
    assert (warning.pointer, warning.code) == (f"/commodities/0/{place}", code)
    assert warning.code in catalogue()
    marks = {name: document[name] for name in ("crime_types", "countries", "tlp", "purpose", "nominal")}
    update = parse(example("update.minimal") | marks | {"message": document})
    assert messages.warnings(update)[0].pointer == f"/message/commodities/0/{place}"


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_no_example_has_a_warning(path: Path) -> None:
    """What is published as good also looks good."""
    assert messages.warnings(messages.parse(path.read_bytes())) == ()


def test_the_check_digit_of_travel_documents_is_that_of_icao() -> None:
    """The worked examples of ICAO Doc 9303: a date and a document number."""
    assert identifiers.icao_digit("520727") == "3"
    assert identifiers.icao_digit("AB2134<<<") == "5"


def leaves(value: Any, place: str = "") -> Iterator[str]:
    """Yield the JSON Pointer of everything inside a document."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield f"{place}/{key}"
        yield from leaves(inner, f"{place}/{key}")


def same(one: Any, other: Any) -> bool:
    """Return whether a dumped value is the one of the document; times may be spelled differently."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, str) and isinstance(other, str) and one != other:
        return datetime.fromisoformat(one) == datetime.fromisoformat(other)
    return bool(one == other)


DOCUMENTS = [json.loads(path.read_bytes()) for path in EXAMPLES]
OPTIONAL = {
    kind: sorted(name for name, field in model.model_fields.items() if not field.is_required())
    for kind, model in messages.MODELS.items()
}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(DOCUMENTS), st.data())
def test_a_valid_message_of_any_kind_survives_unchanged(document: Document, data: st.DataObject) -> None:
    """Whatever optional fields are left out, and in whatever order, the model holds exactly what was sent."""
    left_out = data.draw(st.sets(st.sampled_from(OPTIONAL[document["kind"]])))
    kept = {name: document[name] for name in data.draw(st.permutations(sorted(document.keys() - left_out)))}
    found = None
    try:
        message = parse(kept)
    except Refused as refused:
        found = {problem.code for problem in refused.problems}
    assert found is None or found <= {"contradiction", "missing-field", "no-such-text"}
    assert found or same(message.model_dump(mode="json", exclude_unset=True), kept)


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9) | st.just([]) | st.just({})


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(DOCUMENTS), st.data())
def test_a_changed_place_is_taken_or_refused(document: Document, data: st.DataObject) -> None:
    """Any value at any depth of a message of any kind is valid or refused with codes of the catalogue, never a crash."""
    pointer = data.draw(st.sampled_from(sorted(leaves(document))))
    value = data.draw(VALUES | st.sampled_from(list(document.values())))
    raw = json.dumps(put(document, pointer, value)).replace("-Infinity", "-1e999").replace("Infinity", "1e999").encode()
    found: set[str] = set()
    for way in (messages.parse, messages.read):
        try:
            found |= {problem.code for problem in messages.warnings(way(raw))}
        except Refused as refused:
            found |= {problem.code for problem in refused.problems}
    assert found <= catalogue().keys()
