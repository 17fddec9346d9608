"""Languages: which one is answered, the code lists over the API and by command, and free text with its translations."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relay import cli, codes
from relay.api.language import preferred
from relay.settings import load

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
    return subprocess.run(command, capture_output=True, text=True, check=False)


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
    examples = Path(__file__).parent.parent / "schemas" / "examples"
    alert = json.loads((examples / "alert.minimal.json").read_bytes())
    file = tmp_path / "alert.json"
    file.write_text(json.dumps(alert | {"threat": "drone"}))
    assert process("schema", "validate", file).returncode == 65
    assert process("schema", "validate", file, "--config", own).returncode == 0
    with_attachment = next(path for path in sorted(examples.glob("*.full.json")) if '"attachments"' in path.read_text())
    assert process("schema", "validate", with_attachment).returncode == 0
    refused = process("schema", "validate", with_attachment, "--config", own)
    assert refused.returncode == 65
    assert "attachment-too-large" in refused.stderr


def test_a_folder_of_lists_that_is_not_there_ends_the_command(own: Path) -> None:
    """A centre never validates by other lists than it means to."""
    own.write_text(own.read_text().replace('"lists"', '"elsewhere"'))
    assert load(own).codes.folder == own.parent / "elsewhere"
    for command in (("codes", "list"), ("node", "run")):
        done = process(*command, "--config", own)
        assert done.returncode == 78
        assert "[bad-code-list]" in done.stderr
