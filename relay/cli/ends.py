"""How commands end and what they say: exit statuses, errors in one sentence, data on standard output."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import typer

from relay.errors import (
    BrokerTrouble,
    Busy,
    Misconfigured,
    NotAllowed,
    NotFound,
    Refused,
    RelayError,
    StoreTrouble,
)

OK, REFUSED, NO_INPUT, UNAVAILABLE, SOFTWARE, CANT_CREATE, NO_PERMISSION, SETTINGS = 0, 65, 66, 69, 70, 73, 77, 78

_BY_CODE = {
    "no-input": NO_INPUT,
    "cannot-write": CANT_CREATE,
    "folder-not-empty": CANT_CREATE,
    "internal-error": SOFTWARE,
    "needs-yes": 64,
}
_BY_KIND: tuple[tuple[type[RelayError], int], ...] = (
    (Misconfigured, SETTINGS),
    (NotAllowed, NO_PERMISSION),
    (NotFound, NO_INPUT),
    (Refused, REFUSED),
    (Busy, UNAVAILABLE),
    (BrokerTrouble, UNAVAILABLE),
    (StoreTrouble, UNAVAILABLE),
)
LISTED = 20


class Ended(Exception):
    """A command ended with this status and has said why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def status_of(error: RelayError) -> int:
    """Return the exit status for an error."""
    by_kind = (status for kind, status in _BY_KIND if isinstance(error, kind))
    return _BY_CODE.get(error.code) or next(by_kind, UNAVAILABLE)


def tell(error: RelayError) -> None:
    """Say on standard error what went wrong, where, and how to learn more."""
    say(f"relay: {error.detail} [{error.code}]")
    more = [one for one in error.problems if one.pointer or one.detail != error.detail]
    for problem in more[:LISTED]:
        say(f"  {problem.pointer or '(whole)'}: {problem.detail} [{problem.code}]")
    if len(more) > LISTED:
        say(f"  and {len(more) - LISTED} more")
    say(f"`relay explain {error.code}` says what it means and what to do.")


def say(text: str) -> None:
    """Write talk: a line on standard error."""
    typer.echo(text, err=True)


def give(text: str) -> None:
    """Write data: a line on standard output."""
    try:
        typer.echo(text)
    except BrokenPipeError:  # whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Ended(OK) from None


def give_json(value: object) -> None:
    """Write data as one JSON document."""
    give(json.dumps(value, ensure_ascii=False, indent=2))


def read_input(source: str) -> bytes:
    """Return the bytes of a file, or of standard input for ``-``."""
    if source == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise RelayError("no-input", f"{source} can't be read: {error.strerror}.") from error
