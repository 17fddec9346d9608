"""``relay explain``: what a code means, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from relay.cli.client import AsJson
from relay.cli.ends import REFUSED, Ended, give, give_json, say
from relay.errors import Entry, catalogue

Code = Annotated[str | None, typer.Argument(metavar="[CODE]", help="A code; without it all are listed.")]


def explain(code: Code = None, as_json: AsJson = False) -> None:
    """Explain an error's code: what happened, what the node does by itself, what you can do."""
    known = catalogue()
    if code is None:
        _list(known, as_json=as_json)
    elif (entry := known.get(code)) is None:
        _unknown(code, known)
    elif as_json:
        give_json(_shown(entry))
    else:
        give(f"{entry.code}: {entry.title}\n\n{entry.meaning}\n\nWhat to do: {entry.action}")


def _list(known: dict[str, Entry], *, as_json: bool) -> None:
    if as_json:
        give_json([_shown(entry) for entry in known.values()])
        return
    for entry in known.values():
        give(f"{entry.code:<24}  {entry.title}")


def _unknown(code: str, known: dict[str, Entry]) -> None:
    from difflib import get_close_matches  # noqa: PLC0415 - needed here alone

    near = get_close_matches(code, known, n=3)
    say(f"relay: There is no code {code!r}." + (f" Near it: {', '.join(near)}." if near else ""))
    raise Ended(REFUSED)


def _shown(entry: Entry) -> dict[str, Any]:
    return asdict(entry)
