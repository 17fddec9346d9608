"""The how-to pages are executed as they stand: each command in its order, by the real programs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay import cli

ROOT = Path(__file__).resolve().parent.parent
HOWTO = ROOT / "docs" / "howto" / "run-your-own-centre.md"
PROVE = ROOT / "docs" / "howto" / "prove-what-happened.md"
EXAMPLE = ROOT / "schemas" / "examples" / "seizure.minimal.json"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
BACKGROUND = ("relay broker run", "relay node run")
SAID = {"relay inbox list": r"\S", "relay message show": r"BBB\s+delivered"}
"""What a person waits to see before going on."""


def commands(page: Path) -> list[str]:
    """Return the commands of a page's consoles, in order."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


class Shell:
    """Runs the commands of a page in a folder, those that stay in the background."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self.id = ""

    def do(self, command: str) -> str:
        """Run one command, again until it says what it must in the end; return what it printed."""
        said = next((said for begun, said in SAID.items() if command.startswith(begun)), "")
        words = shlex.split(re.sub(r"(\w+)=BASE64", self._key, command.replace(" ID", f" {self.id}")))
        if command.startswith(BACKGROUND):
            started = [sys.executable, "-m", *words]
            with (self.folder / f"background-{len(self._running)}.log").open("wb") as log:  # a pipe would be full some day
                self._running.append(subprocess.Popen(started, cwd=self.folder, stderr=log))
            return ""
        return self._until_it_works(words, said)

    def _key(self, named: re.Match[str]) -> str:
        """Return an authority with a key of it as it stands in the root, where a page has BASE64."""
        root = json.loads((self.folder / "net" / "root.json").read_bytes())
        [keys] = [one["keys"] for one in root["authorities"] if one["id"] == named[1]]
        return f"{named[1]}={keys[0]['public']}"

    def _until_it_works(self, words: list[str], said: str, seconds: float = 60) -> str:
        """Run a command that may have to wait for what was just started in the background, or is under way.

        It runs in this process, as that saves a second each.
        """
        assert words[0] == "relay", words
        limit = time.monotonic() + seconds
        while True:
            status, out = self._run(words[1:])
            if status == 0 and re.search(said, out):
                return out
            assert time.monotonic() < limit, f"{words} ended with {status}: {out}"
            time.sleep(0.5)

    def _run(self, words: list[str]) -> tuple[int, str]:
        """Run a command of the relay; return its status, and what it printed, or else what was wrong."""
        out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.run(words)
        out.seek(0)
        return status, out.read() if status == 0 else err.getvalue()

    def end(self) -> None:
        """End what runs in the background, the last started first."""
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Run commands in a folder beside the repository's examples."""
    made = Shell(tmp_path_factory.mktemp("howto"))
    (made.folder / "schemas").symlink_to(ROOT / "schemas")
    yield made
    made.end()


@pytest.fixture(scope="module")
def delivered(shell: Shell) -> str:
    """Follow the page on a centre of one's own to its end; return what the last command printed."""
    said = ""
    for command in commands(HOWTO):
        said = shell.do(command)
        if command.startswith("relay inbox list"):
            shell.id = said.split()[0]
    return said


@pytest.mark.timeout(180)
def test_a_stranger_who_follows_the_page_gets_a_message_through(delivered: str) -> None:
    """Every command of the page works in its turn, and at the end the sender sees the message delivered."""
    assert re.search(r"BBB\s+delivered", delivered), delivered


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("delivered")
def test_whoever_must_prove_what_happened_finds_all_of_it_on_the_page(shell: Shell) -> None:
    """Every command works on the message that the other page sent, and says what the page shows."""
    said = {command: shell.do(command) for command in commands(PROVE)}
    received, _, by_root, by_keys, _, opened, verified, offline, exported, peers = said.values()
    assert re.match(rf"{shell.id}  from AAA  {TIME}\n  BBB +sent {TIME}  accepted {TIME}  delivered {TIME}\n", received), received
    for checked in (by_root, by_keys):
        assert checked.startswith("Proved:\n  The authorities signed directory version 1 of network "), checked
        assert f"  AAA sealed message {shell.id} for BBB and signed that, at " in checked
        assert "\n  BBB signed `delivered` at " in checked
        assert "\nNot proved:\n  What the message says: the proof has only its commitment, " in checked
    assert "What the message says" not in opened
    assert (shell.folder / "message.json").read_bytes() == EXAMPLE.read_bytes()
    assert "entries fit" in verified
    assert "entries fit" in offline
    assert '"step":"proved"' in exported.replace("\\", "")
    assert "court order 17/2026" in exported
    assert re.match(rf"BBB +heard +{TIME} ", peers), peers


def test_the_readme_s_commands_are_those_of_the_page() -> None:
    """What the README shows in short is what the page shows in full."""
    readme = [command.split("  #")[0].strip() for command in commands(ROOT / "README.md") if command.startswith("relay")]
    assert [command for command in readme if command not in commands(HOWTO)] == []


def test_no_setting_of_the_environment_changes_what_the_page_does() -> None:
    """The commands run without help from the environment of whoever runs the tests."""
    assert "RELAY_CONFIG" not in os.environ
