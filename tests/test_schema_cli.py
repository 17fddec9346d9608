"""``relay schema``: the kinds, their pages and schemas, and the verdict on a file."""

import json
from pathlib import Path

import pytest

from relay import codes, schema
from relay.cli import run

FOLDER = Path(__file__).parent.parent / "schemas"


def test_list_names_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    """A line per kind with its version, and the same as JSON, in the language asked for."""
    assert run(["schema", "list"]) == 0
    assert [line.split("@")[0] for line in capsys.readouterr().out.splitlines()] == list(codes.KINDS)
    assert run(["schema", "list", "--json", "--lang", "es"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed[-1] == {"kind": "cancel", "version": "1.0", "label": "retirada de un mensaje"}


def test_show_gives_the_page_or_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """For people the page, for programs the JSON Schema."""
    assert run(["schema", "show", "request"]) == 0
    assert capsys.readouterr().out.startswith("# `request`")
    assert run(["schema", "show", "request", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == schema.schema_of("request")


@pytest.mark.parametrize("name", ["rumour", "blocks", "marks", "../errors"])
def test_show_of_no_kind_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no kind is told so, with the kinds there are."""
    assert run(["schema", "show", name]) == 65
    assert "[unknown-kind]" in capsys.readouterr().err


def test_validate_says_valid(capsys: pytest.CaptureFixture[str]) -> None:
    """A valid file ends with 0."""
    path = str(FOLDER / "examples" / "update.full.json")
    assert run(["schema", "validate", path]) == 0
    assert capsys.readouterr().out == "update@1.0 is valid, 0 warnings\n"
    assert run(["schema", "validate", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"valid": True, "kind": "update", "version": "1.0", "warnings": []}


def test_validate_warns_and_still_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A warning is talk; the verdict is data."""
    text = (FOLDER / "examples" / "alert.full.json").read_text(encoding="utf-8").replace('"440349"', '"970610"')
    path = tmp_path / "alert.json"
    path.write_text(text, encoding="utf-8")
    assert run(["schema", "validate", str(path)]) == 0
    said = capsys.readouterr()
    assert said.out == "alert@1.0 is valid, 1 warnings\n"
    assert "/commodities/0/hs" in said.err
    assert run(["schema", "validate", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"][0]["code"] == "doubtful-chapter"


def test_validate_tells_every_problem(capsys: pytest.CaptureFixture[str]) -> None:
    """A refused file ends with 65; as JSON the problems are data."""
    path = str(FOLDER / "counter-examples" / "cancel.reason-in-words.json")
    assert run(["schema", "validate", path]) == 65
    assert "/reason" in capsys.readouterr().err
    assert run(["schema", "validate", path, "--json"]) == 65
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["valid"], verdict["code"], verdict["problems"][0]["pointer"]) == (False, "not-in-list", "/reason")


def test_validate_of_no_file_ends_with_66(tmp_path: Path) -> None:
    """A file that can't be read is no refused message."""
    assert run(["schema", "validate", str(tmp_path / "none.json")]) == 66
