"""Messages that are refused: every kind of bad input, with its code, its place and a sentence, all problems at once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay import codes, messages
from relay.errors import Refused, catalogue
from tests.spent import spent

EXAMPLES = Path(__file__).parent.parent / "schemas" / "examples"
FULL = {kind: (EXAMPLES / f"{kind}.full.json").read_bytes() for kind in codes.KINDS}

Document = dict[str, Any]


def refusal(raw: bytes, **options: int) -> Refused:
    """Return the refusal of these bytes; every problem has a known code and a short sentence."""
    with pytest.raises(Refused) as refused:
        messages.parse(raw, **options)
    error = refused.value
    assert error.problems
    for problem in error.problems:
        assert problem.code in catalogue()
        assert 0 < len(problem.detail) < 260
        assert problem.pointer == "" or problem.pointer.startswith("/")
    assert error.code == (error.problems[0].code if len(error.problems) == 1 else "invalid-message")
    return error


def told(raw: bytes) -> set[tuple[str, str]]:
    """Return the places and codes of a refusal."""
    return {(problem.pointer, problem.code) for problem in refusal(raw).problems}


def changed(kind: str, change: Callable[[Document], object]) -> bytes:
    """Return the full example of a kind with one change."""
    document: Document = json.loads(FULL[kind])
    change(document)
    return json.dumps(document).encode()


def put(path: str, value: object) -> Callable[[Document], object]:
    """Return a change that sets the value at a JSON Pointer."""

    def change(document: Document) -> None:
        *parents, last = path.split("/")[1:]
        place: Any = document
        for part in parents:
            place = place[int(part) if isinstance(place, list) else part]
        place[last if isinstance(place, dict) else int(last)] = value

    return change


NOT_A_DOCUMENT = [
    ("empty", b"", "not-json"),
    ("prose", b"Two containers seized this morning.", "not-json"),
    ("XML", b"<alert/>", "not-json"),
    ("truncated", FULL["alert"][:-20], "not-json"),
    ("two documents", b"{} {}", "not-json"),
    ("trailing comma", b'{"kind":"alert",}', "not-json"),
    ("control character", b'{"kind":"a\x01"}', "not-json"),
    ("broken escape", b'{"kind":"\\u12"}', "not-json"),
    ("list", b"[]", "not-an-object"),
    ("list of messages", b"[" + FULL["alert"] + b"]", "not-an-object"),
    ("string", b'"alert"', "not-an-object"),
    ("null", b"null", "not-an-object"),
    ("UTF-16 with a mark", FULL["alert"].decode().encode("utf-16"), "not-utf8"),
    ("UTF-16 without a mark", FULL["alert"].decode().encode("utf-16-le"), "not-utf8"),
    ("UTF-32", FULL["alert"].decode().encode("utf-32-be"), "not-utf8"),
    ("UTF-8 with a mark", b"\xef\xbb\xbf" + FULL["alert"], "not-utf8"),
    ("Latin-1", b'{"kind":"caf\xe9"}', "not-utf8"),
    ("encoded surrogate", b'{"kind":"\xed\xa0\x80"}', "not-utf8"),
    ("duplicate key", b'{"kind":"alert","kind":"seizure"}', "duplicate-key"),
    ("duplicate key, one escaped", b'{"kind":1,"k\\u0069nd":2}', "duplicate-key"),
    ("duplicate key inside", b'{"kind":"alert","a":[{"b":1,"b":1}]}', "duplicate-key"),
    ("NaN", b'{"kind":NaN}', "not-finite"),
    ("Infinity", b'{"kind":[Infinity]}', "not-finite"),
    ("-Infinity", b'{"kind":-Infinity}', "not-finite"),
    ("NUL byte", b'{"kind":"a\x00"}', "nul"),
    ("NUL escaped", b'{"kind":"alert\\u0000"}', "nul"),
    ("NUL in a key", b'{"ki\\u0000nd":"alert"}', "nul"),
    ("NUL in a list", b'["\\u0000"]', "nul"),
    ("high surrogate alone", b'{"kind":"\\ud800"}', "lone-surrogate"),
    ("low surrogate alone", b'{"kind":"\\udc00 x"}', "lone-surrogate"),
    ("surrogate before another escape", b'{"kind":"\\ud83d\\u0041"}', "lone-surrogate"),
    ("lists 10,000 deep", b"[" * 10_000 + b"]" * 10_000, "too-deep"),
    ("objects 10,000 deep", b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "too-deep"),
    ("objects 10,000 deep, never closed", b'{"a":' * 10_000, "too-deep"),
    ("a number of 5,000 digits", b'{"kind":' + b"9" * 5000 + b"}", "out-of-range"),
]


@pytest.mark.parametrize(("raw", "code"), [case[1:] for case in NOT_A_DOCUMENT], ids=[case[0] for case in NOT_A_DOCUMENT])
def test_what_is_not_one_clean_json_object_is_refused(raw: bytes, code: str) -> None:
    """Each way of not being JSON with one meaning has its own code, on both sides."""
    assert refusal(raw).code == code
    with pytest.raises(Refused):
        messages.read(raw)


def test_a_message_over_the_limit_is_refused_unread() -> None:
    """Ten megabytes are refused by their length alone; the limit is the node's to set."""
    assert refusal(b"{" + b" " * 10_000_000).code == "too-large"
    assert refusal(FULL["alert"], limit=1000).code == "too-large"
    assert messages.parse(FULL["alert"], limit=len(FULL["alert"])).kind == "alert"


@pytest.mark.parametrize("kind", codes.KINDS)
@pytest.mark.parametrize("mark", ["crime_types", "countries", "tlp", "purpose", "nominal", "grading", "kind"])
def test_a_missing_mark_is_refused(kind: str, mark: str) -> None:
    """Every required mark is named where it is missing; grading is required of intelligence alone."""
    if mark == "grading" and not issubclass(messages.MODELS[kind], messages.base.Intelligence):
        assert messages.parse(changed(kind, lambda document: document.pop(mark, None)))
        return
    assert told(changed(kind, lambda document: document.pop(mark))) == {(f"/{mark}", "missing-field")}


MARKS_REFUSED = [
    ("/kind", "rumour", "unknown-kind"),
    ("/kind", 5, "wrong-type"),
    ("/version", "2.0", "unknown-version"),
    ("/version", "1.1", "unknown-version"),
    ("/crime_types/0", "drugs.tea", "unknown-crime-type"),
    ("/crime_types/0", "*", "unknown-crime-type"),
    ("/crime_types", [], "empty"),
    ("/crime_types", "drugs", "wrong-type"),
    ("/crime_types", ["drugs", "drugs"], "repeated-item"),
    ("/countries/0", "ZZ", "unknown-country"),
    ("/countries/0", "be", "unknown-country"),
    ("/countries/0", 56, "wrong-type"),
    ("/tlp", "WHITE", "not-in-list"),
    ("/tlp", None, "wrong-type"),
    ("/purpose", "curiosity", "not-in-list"),
    ("/nominal", "false", "wrong-type"),
    ("/nominal", 0, "wrong-type"),
    ("/grading", "D1", "not-in-list"),
    ("/precedence", "urgent", "not-in-list"),
    ("/status", "drill", "not-in-list"),
    ("/handling", "H4", "not-in-list"),
    ("/classification", "top-secret", "not-in-list"),
    ("/to", [], "empty"),
    ("/to", ["BRU", "BRU"], "repeated-item"),
    ("/to", ["brussels"], "bad-format"),
    ("/to", "BRU", "wrong-type"),
    ("/exclude", ["B", "BRU"], "bad-format"),
    ("/references/0/digest", "abc", "bad-format"),
    ("/references/0/id", "17", "bad-format"),
    ("/references/0/relation", "likes", "not-in-list"),
    ("/expires_at", "2026-02-03T04:05:06", "bad-format"),
    ("/expires_at", "2026-02-03 04:05:06Z", "bad-format"),
    ("/expires_at", "2026-02-30T04:05:06Z", "bad-format"),
    ("/expires_at", "0001-01-01T00:00:00+23:00", "bad-format"),
    ("/expires_at", 1770000000, "wrong-type"),
    ("/language", "English", "bad-format"),
    ("/id", "019c2a51-7e00-7a30-9d11-2f6f0f1c8a01", "set-by-node"),
    ("/regions", ["155"], "set-by-node"),
    ("/weather", "red", "unknown-field"),
    ("/TLP", "GREEN", "unknown-field"),
    ("/a~1b", 1, "unknown-field"),
]


@pytest.mark.parametrize("kind", codes.KINDS)
@pytest.mark.parametrize(("pointer", "value", "code"), MARKS_REFUSED)
def test_a_bad_mark_is_refused(kind: str, pointer: str, value: object, code: str) -> None:
    """Each bad mark of each kind is one problem, at its place, with its code."""
    if pointer == "/grading" and "grading" not in messages.MODELS[kind].model_fields:
        code = "unknown-field"
    (problem,) = refusal(changed(kind, put(pointer, value))).problems
    assert problem.code == code
    assert problem.pointer.startswith(pointer.replace("~1", "~01"))


SEIZURE_REFUSED = [
    ("/seized_at", "yesterday", "bad-format"),
    ("/case_number", "", "empty"),
    ("/case_number", "x" * 101, "too-long"),
    ("/office", 7, "wrong-type"),
    ("/location_type", "moon", "not-in-list"),
    ("/direction", "sideways", "not-in-list"),
    ("/transport_mode", 1, "wrong-type"),
    ("/transport_mode", "77", "not-in-list"),
    ("/commodities", [], "empty"),
    ("/commodities/0", "cocaine", "wrong-type"),
    ("/commodities/0/quantity", None, "wrong-type"),
    ("/commodities/0/quantity/amount", "412.6", "wrong-type"),
    ("/commodities/0/quantity/amount", 0, "out-of-range"),
    ("/commodities/0/quantity/amount", -3, "out-of-range"),
    ("/commodities/0/quantity/unit", "kg", "not-in-list"),
    ("/commodities/0/hs", "770000", "not-in-list"),
    ("/commodities/0/hs", "2939", "bad-format"),
    ("/commodities/0/value/currency", "DEM", "not-in-list"),
    ("/commodities/0/packages", 1.5, "wrong-type"),
    ("/commodities/0/packages", 10**30, "out-of-range"),
    ("/commodities/0/details", {"family": "jokes"}, "not-in-list"),
    ("/commodities/0/details", {}, "missing-field"),
    ("/commodities/0/details", [], "wrong-type"),
    ("/commodities/0/details/cas", "53-21-5", "check-digit"),
    ("/commodities/0/details/purity_percent", 101, "out-of-range"),
    ("/commodities/0/details/net_kg", 500, "contradiction"),
    ("/commodities/0/details/colour", "white", "unknown-field"),
    ("/commodities/0/details", {"family": "medicines", "product_name": "X", "who_class": "bad"}, "not-in-list"),
    ("/locode", "ZZANR", "unknown-country"),
    ("/locode", "BE ANR", "bad-format"),
    ("/conveyances/0/imo", "9700111", "check-digit"),
    ("/conveyances/0/imo", "IMO9700", "bad-format"),
    ("/conveyances/0/containers/0", "XQRU2204171", "check-digit"),
    ("/conveyances/0/vin", "1M8GDM9A1KP042788", "check-digit"),
    ("/conveyances/0/mmsi", "111111111", "bad-format"),
    ("/route/departure/country", "PA", "contradiction"),
    ("/persons/0/count", 0, "out-of-range"),
    ("/persons/0/age_band", "young", "not-in-list"),
    ("/persons", [{"count": 1}] * 51, "too-long"),
    ("/accounts", ["FR7630099000011234567890195"], "check-digit"),
    ("/reported_at", "2026-02-02T04:39:59Z", "contradiction"),
    ("/images/0/digest", "A" * 64, "bad-format"),
]


@pytest.mark.parametrize(("pointer", "value", "code"), SEIZURE_REFUSED)
def test_a_bad_field_of_a_seizure_is_refused(pointer: str, value: object, code: str) -> None:
    """Each bad field is one problem with its code, at or around its place."""
    (problem,) = refusal(changed("seizure", put(pointer, value))).problems
    assert problem.code == code
    assert pointer.startswith(problem.pointer) or problem.pointer.startswith(pointer)


ALERT_REFUSED = [
    ("/headline", "", "empty"),
    ("/headline", "x" * 201, "too-long"),
    ("/threat", "boredom", "not-in-list"),
    ("/text", 1, "wrong-type"),
    ("/issued_at", "2026-02-03", "bad-format"),
    ("/valid_until", "2026-02-02T23:59:59Z", "contradiction"),
    ("/risk_indicators", ["x"] * 101, "too-long"),
    ("/commodities/0/details/scientific_name", "", "empty"),
    ("/commodities/0/details/cites_appendix", "IV", "not-in-list"),
    ("/routes/0/transit/0/locode", "MYPKG", "contradiction"),
    ("/conveyances/0/containers/1", "XQTU1044820", "check-digit"),
    ("/retention_until", "not yet", "bad-format"),
]


@pytest.mark.parametrize(("pointer", "value", "code"), ALERT_REFUSED)
def test_a_bad_field_of_an_alert_is_refused(pointer: str, value: object, code: str) -> None:
    """Each bad field is one problem with its code, at or around its place."""
    (problem,) = refusal(changed("alert", put(pointer, value))).problems
    assert problem.code == code
    assert pointer.startswith(problem.pointer)


CONTRADICTIONS = [
    ({"tlp": "RED", "to": None}, "/tlp"),
    ({"to": ["BRU", "LYO"], "exclude": ["LYO"]}, "/exclude"),
    ({"handling": "H3", "handling_text": None}, "/handling_text"),
    ({"handling": "H1", "handling_text": "not for the press"}, "/handling_text"),
    ({"expires_at": "2026-02-03T00:00:00Z", "retention_until": "2026-02-02T23:59:59Z"}, "/retention_until"),
]


@pytest.mark.parametrize("kind", codes.KINDS)
@pytest.mark.parametrize(("change", "pointer"), CONTRADICTIONS)
def test_marks_that_contradict_each_other_are_refused(kind: str, change: Document, pointer: str) -> None:
    """RED without recipients, a centre named and excluded, H3 without its restriction, purge before delivery."""
    raw = changed(kind, lambda document: document.update(change))
    also = ("/message/", "/addressees", "/attachments")  # what these kinds compare with the mark that was changed
    assert {place for place in told(raw) if not place[0].startswith(also)} == {(pointer, "contradiction")}
    assert (pointer, "contradiction") in told(changed(kind, lambda document: document.update(change, weather=1)))


def test_accounts_make_a_message_nominal() -> None:
    """An account number identifies its holder, so the message can't be marked as free of personal data."""
    raw = (EXAMPLES / "seizure.full.cultural-goods.json").read_bytes()
    assert messages.parse(raw).nominal
    assert told(raw.replace(b'"nominal": true', b'"nominal": false')) == {("/nominal", "contradiction")}


def test_red_with_recipients_is_taken() -> None:
    """The contradiction is the broadcast, not the mark."""
    raw = changed("alert", lambda document: document.update(tlp="RED", to=["BRU"], exclude=[]))
    assert messages.parse(raw).to == ("BRU",)


def test_all_problems_are_told_at_once() -> None:
    """Eight things wrong, in marks, fields, blocks and between fields, are eight problems of one refusal."""
    document: Document = json.loads(FULL["seizure"])
    del document["purpose"]
    document |= {"tlp": "RED", "colour": 1, "id": "1", "crime_types": ["drugs", "tea"], "office": 7}
    document["commodities"][0]["details"]["cas"] = "53-21-5"
    document["conveyances"][0]["imo"] = "9700111"
    assert told(json.dumps(document).encode()) == {
        ("/purpose", "missing-field"),
        ("/tlp", "contradiction"),
        ("/colour", "unknown-field"),
        ("/id", "set-by-node"),
        ("/crime_types/1", "unknown-crime-type"),
        ("/office", "wrong-type"),
        ("/commodities/0/details/cas", "check-digit"),
        ("/conveyances/0/imo", "check-digit"),
    }


def test_a_number_that_overflows_is_not_finite() -> None:
    """1e999 is refused wherever it stands, also in a field that takes no number."""
    raw = FULL["seizure"].replace(b"396.1", b"1e999").replace(b'"Corvina Trader"', b"-1e999")
    assert told(raw) == {
        ("/commodities/0/details/net_kg", "not-finite"),
        ("/conveyances/0/name", "not-finite"),
    }


def test_every_nul_is_told_with_its_place() -> None:
    """A NUL in a value is told at the value, a NUL in a key at its object."""
    raw = changed("alert", lambda document: document.update({"headline": "a\0", "b\0": 1, "links": ["\0"]}))
    assert told(raw) == {("/headline", "nul"), ("", "nul"), ("/links/0", "nul")}


def test_a_sentence_shows_at_most_forty_characters_of_content() -> None:
    """Neither a long key nor a long value comes back whole, nor as characters that move a terminal's cursor."""
    secret = "\x1b[2J\u202e" + "informant " * 500
    for change in (put("/tlp", secret), put("/kind", secret), lambda document: document.update({secret: 1})):
        raw = changed("alert", change)
        for problem in refusal(raw).problems:
            assert problem.detail.count("informant") <= 4
            assert (problem.detail + problem.pointer).isprintable()
    twice = json.dumps({"k" * 500: 1})[:-1] + ', "' + "k" * 500 + '": 2}'
    assert refusal(twice.encode()).detail.count("k") < 60


@pytest.mark.parametrize(
    "body",
    [
        b'"kind":"alert",' + b",".join(b'"%x":1' % number for number in range(300_000)),
        b'"kind":"seizure","persons":[' + b",".join([b'{"a":1}'] * 300_000) + b"]",
        b'"kind":"seizure","remarks":"' + b"x" * 5_000_000 + b'"',
        b'"kind":"alert","headline":[' + b",".join([b'"\\u0000"'] * 300_000) + b"]",
    ],
    ids=["fields", "entries", "text", "NULs"],
)
def test_a_huge_bad_message_is_refused_quickly_and_briefly(body: bytes) -> None:
    """Megabytes of nonsense cost neither seconds of the node's time nor a refusal of megabytes."""
    error, seconds = spent(lambda: refusal(b"{" + body + b"}"))
    assert seconds < 5
    assert len(error.problems) <= 1000


def test_more_problems_than_anyone_reads_are_one() -> None:
    """Below the size where the shape is looked at first, thousands of unknown fields become one problem."""
    raw = b'{"kind":"alert",' + b",".join(b'"%x":1' % number for number in range(5000)) + b"}"
    (problem,) = refusal(raw).problems
    assert problem.code == "invalid-message"
