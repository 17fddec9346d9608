"""``relay policy``: who would get a message, and which rule decides for each centre."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, where
from relay.cli.ends import REFUSED, Ended, give, read_input, say

app = typer.Typer(help="Who would get a message, and why.", no_args_is_help=True)

Source = Annotated[str, typer.Argument(metavar="FILE", help="A message as JSON; - is standard input.")]


@app.callback()
def _group() -> None:
    """Keep `explain` a verb of its own."""


@app.command("explain")
def explain(file: Source, as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Say for every centre whether it would get a message, and by which rule; nothing is sent.

    Ends with 65 when the message is not valid, or when policy would refuse it as it stands.
    """
    raw = read_input(file)
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("POST", "/v1/policy/explain", content=raw)
    found = answer.json()
    if as_json:
        give(answer.text)
    else:
        _show(found)
    if found["refused"]:
        raise Ended(REFUSED)


def _show(found: dict[str, Any]) -> None:
    for one in found["warnings"]:
        say(f"warning: {_place(one)}")
    width = max(len(one["centre"]) for one in found["centres"])
    for one in found["centres"]:
        give(f"{one['centre']:<{width}}  {'yes' if one['gets'] else 'no':<3}  {one['rule']:<18}  {one['sentence']}")
    if found["note"]:
        say(found["note"])
    if found["refused"]:
        say("The message would be refused as it stands, so nobody would get it:")
        for one in found["refused"]:
            say(f"  {_place(one)}")


def _place(one: dict[str, str]) -> str:
    return f"{one['pointer'] or '(whole)'}: {one['detail']} [{one['code']}]"
