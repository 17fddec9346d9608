"""The page of commands, as the command line itself describes them: every command with its arguments and options."""

# ruff: noqa: ANN401 - a command is what the library of the command line makes it

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from relay.cli import app

HEAD = """\
# Commands

`relay NOUN VERB`; `relay NOUN VERB --help` says the same. Data go to standard output, talk to standard error; every read
takes `--json`. The exit status is 0, or one of sysexits: 64 usage, 65 data refused, 66 no such input, 69 unavailable,
70 software, 73 can't create, 77 not allowed, 78 settings; `relay check` ends with its own, see there.
"""


def page(note: str) -> str:
    """Return the page; ``note`` is its first line."""
    lines = [f"{note}\n{HEAD}"]
    for words, command in commands(typer.main.get_command(app)):
        lines += [f"## `{' '.join(words)}`\n", f"{_plain(command.help)}\n", *_parameters(command)]
    return "\n".join(lines).rstrip() + "\n"


def commands(command: Any, words: tuple[str, ...] = ("relay",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Return every command with its words, in the order of the alphabet."""
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, below in sorted(command.commands.items()):
        yield from commands(below, (*words, name))


def _parameters(command: Any) -> list[str]:
    rows = [_row(one) for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
    return ["| | |", "|---|---|", *rows, ""] if rows else []


def _row(one: Any) -> str:
    positional = one.param_type_name == "argument"
    name = (one.metavar or one.name.upper()) if positional else ", ".join([*one.opts, *one.secondary_opts])
    needed = " Required." if one.required and not positional else ""
    variable = f" Or `{one.envvar}` in the environment." if isinstance(one.envvar, str) else ""
    return f"| `{name}` | {_plain(one.help)}{needed}{variable} |"


def _plain(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")
