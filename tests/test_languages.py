"""Languages: which one is answered, the code lists over the API and by command, and free text with its translations."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from relay import cli, codes, messages
from relay.errors import Refused
from relay.network import write_network
from relay.settings import load
from relay.web.language import preferred
from tests.test_cli import end, start, until

EXAMPLES = Path(__file__).parent.parent / "schemas" / "examples"
ARABIC_DRUGS = "الاتجار بالمخدرات"
LIST = {"version": "2025-9", "valid_from": "2025-01-01", "about": "Ours."}


def relay(*arguments: object) -> tuple[int, str, str]:
    """Run a command in this process; return status, output and talk."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.run([str(one) for one in arguments])
    return status, out.getvalue(), err.getvalue()


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, since code lists are the whole process's."""
    command = [sys.executable, "-m", "relay", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"),
        ("fr", "fr"),
        ("AR", "ar"),
        ("fr-CA", "fr"),
        ("de, es;q=0.5", "es"),
        ("en;q=0.2, fr;q=0.8, es;q=0.5", "fr"),
        ("es, fr", "es"),
        ("fr;q=0.5, *;q=0.1", "fr"),
        ("de, *;q=0.1", "en"),
        ("en;q=0, *", "fr"),
        ("*;q=0.5, ar;q=0.5", "ar"),
        ("*, en;q=0.1", "fr"),
        ("fr-CA;q=0.9, fr;q=0.1, es;q=0.5", "es"),
        ("fr-CA;q=0.2, fr-FR;q=0.9, es;q=0.5", "fr"),
        ("de", "en"),
        ("fr;q=0", "en"),
        ("*;q=0", "en"),
        ("fr;q=2, es;q=x, ar ; q=0.3", "ar"),
        (";;;, fr;q=0.4,", "fr"),
        ("frr, ess", "en"),
        ("fr;Q=0.4", "fr"),
    ],
)
def test_the_language_that_is_wanted_most_is_answered(accept: str, language: str) -> None:
    """Weights, regional forms, refusals and the wildcard count; what can't be read or had is passed over."""
    assert preferred(accept) == language


def test_every_list_has_a_label_for_every_code_in_every_language() -> None:
    """Nothing is left without words, and what has no own words is in English."""
    for listing in codes.listings():
        for language in codes.LANGUAGES:
            labels = listing.labels(language)
            assert tuple(labels) == listing.codes
            assert all(labels.values()), (listing.name, language)


def test_the_names_of_the_lists_are_those_that_have_labels() -> None:
    """Each list can be asked for by its name, and no other name is one."""
    assert [one.name for one in codes.listings()] == sorted(codes.label_lists())
    with pytest.raises(KeyError):
        codes.listing("rumours")


def test_the_command_shows_a_list_in_a_language() -> None:
    """Plain text in the order of its letters: what turns Arabic around is the terminal's business, not the relay's."""
    status, out, _ = relay("codes", "show", "crime_types", "--lang", "ar")
    assert status == 0
    assert out.splitlines()[0].split("  ")[-1] == ARABIC_DRUGS
    assert not set(out) & {"\u200e", "\u200f", "\u202a", "\u202b", "\u202c", "\u2066", "\u2067", "\u2069"}
    status, out, _ = relay("codes", "show", "countries", "--lang", "fr")
    assert "BE  Belgique" in out.splitlines()


def test_the_command_writes_json() -> None:
    """Name, version, days, language, and each code with label and data, as the API does."""
    status, out, _ = relay("codes", "show", "urgencies", "--lang", "es", "--json")
    found = json.loads(out)
    assert status == 0
    assert {name: found[name] for name in ("name", "language", "valid_until")} == {
        "name": "urgencies",
        "language": "es",
        "valid_until": None,
    }
    assert {one["code"]: one["data"] for one in found["codes"]} == {"urgent-direct": 8, "urgent-indirect": 72, "normal": 168}
    status, out, _ = relay("codes", "list", "--json")
    assert [one["name"] for one in json.loads(out)] == sorted(codes.label_lists())
    assert len(relay("codes", "list")[1].splitlines()) == len(codes.label_lists())


def test_a_list_or_a_language_that_is_none_is_refused() -> None:
    """An unknown list is no such input (66), an unknown language a wrong usage (64)."""
    status, out, err = relay("codes", "show", "rumours")
    assert (status, out) == (66, "")
    assert "[unknown-list]" in err
    assert relay("codes", "show", "units", "--lang", "de")[0] == 64


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Write settings that name a folder of the centre's own code lists, and small attachments."""
    threats: dict[str, Any] = LIST | {"codes": {"drone": "a drone"}, "labels": {"fr": {"drone": "un drone"}}}
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "threats.json").write_text(json.dumps(threats))
    (tmp_path / "lists" / "units.json").write_text(json.dumps(threats | {"valid_from": "2999-01-01", "data": {"drone": "count"}}))
    file = tmp_path / "node.toml"
    broker = '[broker]\nurl = "amqp://AAA@127.0.0.1/"\n'
    limits = "[limits]\nattachment_bytes = 10\n"
    file.write_text(f'centre = "AAA"\nnetwork = "{"0" * 64}"\n{broker}{limits}[codes]\nfolder = "lists"\n')
    return file


def test_the_command_shows_a_centres_own_lists(own: Path) -> None:
    """Named by its settings, a list takes the place of the one shipped, but not before its day."""
    done = process("codes", "show", "threats", "--lang", "fr", "--config", own)
    assert (done.stdout, done.stderr) == ("drone  un drone\n", "")
    assert "KGM" in process("codes", "show", "units", "--config", own).stdout


def test_a_file_is_validated_under_a_centres_own_lists_and_limits(own: Path, tmp_path: Path) -> None:
    """What the centre's node takes is what the command calls valid."""
    alert = json.loads((EXAMPLES / "alert.minimal.json").read_bytes())
    file = tmp_path / "alert.json"
    file.write_text(json.dumps(alert | {"threat": "drone"}))
    assert process("schema", "validate", file).returncode == 65
    assert process("schema", "validate", file, "--config", own).returncode == 0
    with_attachment = next(path for path in sorted(EXAMPLES.glob("*.full.json")) if '"attachments"' in path.read_text())
    assert process("schema", "validate", with_attachment).returncode == 0
    refused = process("schema", "validate", with_attachment, "--config", own)
    assert refused.returncode == 65
    assert "attachment-too-large" in refused.stderr


def test_a_node_takes_its_own_lists_when_it_starts(own: Path, tmp_path: Path) -> None:
    """What it gives, what it validates by, and what it refuses is its own list, in a process as an operator runs it."""
    network = write_network(tmp_path / "net", ("AAA", "BBB"))
    file = network.node_file("AAA")
    file.write_text(f'{file.read_text()}\n[codes]\nfolder = "{own.parent / "lists"}"\n')
    message = tmp_path / "alert.json"
    message.write_text(json.dumps(json.loads((EXAMPLES / "alert.minimal.json").read_bytes()) | {"threat": "drone"}))
    settings = load(file)
    node = start("node", "run", "--config", file)
    try:
        until(lambda: "ok        node" in relay("check", "--config", file)[1])
        assert relay("policy", "explain", message, "--config", file)[0] == 0
        headers = {"Authorization": f"Bearer {network.token('AAA', 'system')}", "Accept-Language": "fr"}
        answer = httpx2.get(f"http://{settings.api.listen}/v1/codes/threats", headers=headers, timeout=60, trust_env=False)
        assert answer.json()["codes"] == [{"code": "drone", "label": "un drone"}]
        assert answer.json()["version"] == "2025-9"
        message.write_bytes((EXAMPLES / "alert.minimal.json").read_bytes())
        assert relay("policy", "explain", message, "--config", file)[0] == 65
    finally:
        assert end(node).status == 0


def test_a_folder_of_lists_that_is_not_there_ends_the_command(own: Path) -> None:
    """A centre never validates by other lists than it means to."""
    own.write_text(own.read_text().replace('"lists"', '"elsewhere"'))
    assert load(own).codes.folder == own.parent / "elsewhere"
    for command in (("codes", "list"), ("node", "run")):
        done = process(*command, "--config", own)
        assert done.returncode == 78
        assert "[bad-code-list]" in done.stderr


HEADLINE = {"field": "/headline", "language": "fr", "text": "Comprimés de nitazène", "by": "human"}


def translated(*translations: dict[str, Any], kind: str = "alert", tier: str = "minimal", **fields: Any) -> bytes:
    """Return an example in English with these translations, and fields changed."""
    document = json.loads((EXAMPLES / f"{kind}.{tier}.json").read_bytes())
    return json.dumps({**document, "language": "en", "translations": translations, **fields}).encode()


def told(raw: bytes) -> list[tuple[str, str]]:
    """Return place and code of everything that is wrong with a message."""
    with pytest.raises(Refused) as refused:
        messages.parse(raw)
    return [(problem.pointer, problem.code) for problem in refused.value.problems]


def test_a_text_carries_its_language_and_its_translations() -> None:
    """Each says what it translates, into which language, and whether a machine made it."""
    message = messages.parse(translated(HEADLINE, HEADLINE | {"by": "machine"}, HEADLINE | {"language": "ar"}))
    assert message.language == "en"
    assert [(one.field, one.language, one.by) for one in message.translations] == [
        ("/headline", "fr", "human"),
        ("/headline", "fr", "machine"),
        ("/headline", "ar", "human"),
    ]


@pytest.mark.parametrize(
    "place",
    [
        "/tlp",
        "/nominal",
        "/countries/0",
        "/issued_at",
        "/absent",
        "/case_number",
        "/headline/0",
        "/risk_indicators",
        "/risk_indicators/9",
        "/risk_indicators/00",
        "/risk_indicators/-1",
        "/commodities/0/hs",
        "/commodities/0/details/family",
        "/commodities/0/details/volume_m3",
        "/commodities/0/absent",
        "/commodities/0/description/x",
        "/translations/0/text",
        "/a~1b",
    ],
)
def test_what_is_no_text_of_the_message_is_not_translated(place: str) -> None:
    """Codes, numbers, times, what is not there and another translation are refused by their place."""
    raw = translated(HEADLINE | {"field": place}, tier="full", case_number=None)
    assert told(raw) == [("/translations/0/field", "no-such-text")]


def test_the_content_of_a_file_is_no_text() -> None:
    """An attachment's caption may be translated, its bytes not."""
    for place, code in (("caption", None), ("content", "no-such-text")):
        raw = translated(HEADLINE | {"field": f"/attachments/0/{place}"}, kind="cancel", tier="full")
        assert code is None or told(raw) == [("/translations/0/field", code)]
        assert code or messages.parse(raw).translations


@pytest.mark.parametrize("place", ["/headline", "/risk_indicators/2", "/commodities/0/details/common_name", "/links/0/note"])
def test_every_text_may_be_translated(place: str) -> None:
    """At the top, in a list, and in a block of a block."""
    assert messages.parse(translated(HEADLINE | {"field": place}, tier="full")).translations


def test_a_translation_is_in_another_language_than_a_text_whose_language_is_given() -> None:
    """Without the language of the original nobody knows what was translated."""
    assert told(translated(HEADLINE, language=None)) == [("/language", "missing-field")]
    assert told(translated(HEADLINE, language="fr")) == [("/translations/0/language", "contradiction")]
    assert told(translated(HEADLINE, HEADLINE | {"text": "Autre"})) == [("/translations/1", "repeated-item")]


@pytest.mark.parametrize(
    ("change", "place", "code"),
    [
        ({"field": "headline"}, "field", "bad-format"),
        ({"field": ""}, "field", "bad-format"),
        ({"field": "/a~2"}, "field", "bad-format"),
        ({"language": "French"}, "language", "bad-format"),
        ({"text": ""}, "text", "empty"),
        ({"by": "somebody"}, "by", "not-in-list"),
        ({"by": None}, "by", "wrong-type"),
    ],
)
def test_a_translation_has_a_form(change: dict[str, Any], place: str, code: str) -> None:
    """Each field of it is checked like any other."""
    assert told(translated(HEADLINE | change)) == [(f"/translations/0/{place}", code)]


def test_there_are_at_most_thirty_two() -> None:
    """A translator's whole work belongs into another message."""
    many = [HEADLINE | {"language": f"x{chr(97 + n // 26)}{chr(97 + n % 26)}"} for n in range(33)]
    assert messages.parse(translated(*many[:32])).translations
    assert told(translated(*many)) == [("/translations", "too-long")]


def test_a_bad_translation_is_told_with_everything_else() -> None:
    """All problems at once; what points into a field that is wrong itself is not told twice."""
    raw = translated(HEADLINE, HEADLINE | {"field": "/absent"}, headline=7, tlp="MAUVE")
    assert set(told(raw)) == {
        ("/headline", "wrong-type"),
        ("/tlp", "not-in-list"),
        ("/translations/1/field", "no-such-text"),
    }


def test_an_update_may_translate_what_is_inside() -> None:
    """On the outside a place begins with /message; the body's own translations point into the body."""
    document = json.loads((EXAMPLES / "update.full.json").read_bytes())
    text = next(name for name in ("headline", "remarks", "text", "office", "summary") if name in document["message"])
    outside = document | {"language": "en", "translations": [HEADLINE | {"field": f"/message/{text}"}]}
    assert messages.parse(json.dumps(outside).encode()).translations
    inside = {**document["message"], "language": "en", "translations": [HEADLINE | {"field": f"/{text}"}]}
    assert messages.parse(json.dumps(document | {"message": inside}).encode())
    inside["translations"] = [HEADLINE | {"field": "/tlp"}]
    assert told(json.dumps(document | {"message": inside}).encode()) == [("/message/translations/0/field", "no-such-text")]


def test_a_receiver_takes_a_translation_of_a_text_that_it_does_not_know_yet() -> None:
    """A newer minor version may have more texts."""
    raw = translated(HEADLINE | {"field": "/novelty"}, version="1.7", novelty="A text of tomorrow")
    assert messages.read(raw).translations
