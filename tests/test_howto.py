"""The how-to pages are executed as they stand: each command in its order, by the real programs."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOWTO = ROOT / "docs" / "howto" / "run-your-own-centre.md"
BACKGROUND = ("relay broker run", "relay node run")


def commands(page: Path) -> list[str]:
    """Return the commands of a page's consoles, in order."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


class Shell:
    """Runs the commands of a page in a folder, those that stay in the background."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[str]] = []
        self.id = ""

    def do(self, command: str) -> str:
        """Run one command; return what it printed."""
        words = [sys.executable, "-m", *shlex.split(command.replace(" ID", f" {self.id}"))]
        if command.startswith(BACKGROUND):
            self._running.append(subprocess.Popen(words, cwd=self._folder, text=True, stderr=subprocess.PIPE))
            return ""
        return self._until_it_works(words)

    def _until_it_works(self, words: list[str], seconds: float = 30) -> str:
        """Run a command that may have to wait for what was just started in the background."""
        limit = time.monotonic() + seconds
        while True:
            done = subprocess.run(words, cwd=self._folder, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return done.stdout
            assert time.monotonic() < limit, f"{words[2:]} ended with {done.returncode}: {done.stderr}{done.stdout}"
            time.sleep(0.5)

    def end(self) -> None:
        """End what runs in the background, the last started first."""
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=30)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Run commands in a folder beside the repository's examples."""
    (tmp_path / "schemas").symlink_to(ROOT / "schemas")
    made = Shell(tmp_path)
    yield made
    made.end()


@pytest.mark.timeout(180)
def test_a_stranger_who_follows_the_page_gets_a_message_through(shell: Shell) -> None:
    """Every command of the page works in its turn, and at the end the sender sees the message delivered."""
    said = ""
    for command in commands(HOWTO):
        said = shell.do(command)
        if command.startswith("relay send"):
            time.sleep(2)  # a person reads the id
        if command.startswith("relay inbox list"):
            shell.id = said.split()[0]
    assert re.search(r"BBB\s+delivered", said), said


def test_the_readme_s_commands_are_those_of_the_page() -> None:
    """What the README shows in short is what the page shows in full."""
    readme = [command.split("  #")[0].strip() for command in commands(ROOT / "README.md") if command.startswith("relay")]
    assert [command for command in readme if command not in commands(HOWTO)] == []


def test_no_setting_of_the_environment_changes_what_the_page_does() -> None:
    """The commands run without help from the environment of whoever runs the tests."""
    assert "RELAY_CONFIG" not in os.environ
