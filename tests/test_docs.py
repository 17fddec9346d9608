"""The documents say what the code does: generated pages, error codes, commands, links, and nothing that does not belong."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from docs import generate
from relay import errors, schema
from relay.cli import app
from relay.log import Event

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "relay").rglob("*.py"))
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
CLASSES = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.RelayError)}


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """Return every source file, parsed."""
    for path in SOURCES:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def literals() -> set[str]:
    """Return every string that stands in the source."""
    return {
        node.value
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def raised() -> set[str]:
    """Return every code that the source gives to an error or a problem."""
    found = set()
    for _, tree in trees():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
            place = 0 if name in CLASSES else 1 if name == "Problem" else None
            if place is not None and len(call.args) > place:
                code = call.args[place]
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    found.add(code.value)
    return found


def test_each_generated_page_is_what_the_code_says() -> None:
    """What `make docs` would write is what is committed."""
    written = generate.pages()
    assert len(written) >= 20
    assert [path for path, text in written.items() if (ROOT / path).read_text(encoding="utf-8") != text] == [], "run `make docs`"


def test_the_schemas_are_what_the_models_say() -> None:
    """The published JSON Schemas equal the models."""
    assert schema.check(ROOT / "schemas") == []


def test_every_code_that_is_raised_is_in_the_catalogue() -> None:
    """No error leaves the relay without a title, a meaning and a remedy."""
    assert raised() - errors.catalogue().keys() == set()


def test_every_code_in_the_catalogue_is_used() -> None:
    """The catalogue explains nothing that can't happen."""
    assert errors.catalogue().keys() - literals() == set()


def test_an_entry_of_the_catalogue_is_complete_and_speaks_in_sentences() -> None:
    """Meaning and remedy are sentences."""
    for entry in errors.catalogue().values():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry.code)
        assert entry.title
        assert entry.meaning.endswith("."), entry.code
        assert entry.action.endswith("."), entry.code


def test_every_event_of_the_log_is_used() -> None:
    """The vocabulary has no word that the node never says."""
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert [event for event in Event if f"Event.{event.name}" not in text] == []


def commands(command: Any, words: tuple[str, ...] = ("relay",)) -> Iterator[tuple[str, ...]]:
    """Return every command as its words."""
    if not hasattr(command, "commands"):
        yield words
        return
    for name, below in command.commands.items():
        yield from commands(below, (*words, name))


def test_every_command_in_the_documents_exists_and_every_command_is_documented() -> None:
    """`relay NOUN VERB` in a page is a command; each command stands in a page that a person wrote."""
    known = set(commands(typer.main.get_command(app)))
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "commands.md")  # which is generated
    written = {tuple(found.split()) for found in re.findall(r"(?:\$ |`)(relay(?: [a-z][a-z-]*)+)", text)}
    unknown = {words for words in written if not {words[:n] for n in (2, 3, 4)} & known and words != ("relay",)}
    assert unknown == set()
    missing = {words for words in known if not any(one[: len(words)] == words for one in written)}
    assert missing == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_leads_somewhere(page: Path) -> None:
    """Every relative link of a page names a file of the repository."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if "://" not in target and not (page.parent / target).exists()] == []


def test_the_readme_is_short() -> None:
    """A stranger reads it in ten minutes."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_a_decision_record_is_of_a_length_to_read() -> None:
    """A record has 20 to 60 lines."""
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "docs" / "adr").glob("*.md")}
    assert {name: length for name, length in lengths.items() if not 20 <= length <= 60} == {}


def test_nothing_committed_names_a_registry_or_somebodys_machine() -> None:
    """No file names a package registry's host or a path of a developer's home or work folder."""
    hosts = r"://[a-z0-9.-]*(py" + r"pi|python" + r"hosted|debi" + r"an|npm" + r"js)"
    paths = r"(^|[^a-z.])/(ro" + r"ot|ho" + r"me)/[a-z]"
    done = subprocess.run(
        ["git", "grep", "-nIE", f"{hosts}|{paths}", "--", "."], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


def test_the_layers_of_the_overview_are_those_that_are_enforced() -> None:
    """Line by line the picture is the contract; a line of many modules may go on below."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    enforced = [line.split(" | ") for line in contracts[0]["layers"] if line != "__main__"]
    drawn = (ROOT / "docs" / "overview.md").read_text(encoding="utf-8").rpartition("## Layers")[2].split("```")[1]
    assert [line.split() for line in drawn.replace("\n    ", "  ").strip().splitlines()] == enforced
