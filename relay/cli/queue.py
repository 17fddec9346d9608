"""``relay queue``: the shape of the queues, peers by age."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, where
from relay.cli.ends import give, say

app = typer.Typer(help="What waits where, and how old it is.", no_args_is_help=True)

ByPrecedence = Annotated[bool, typer.Option("--precedence", help="A row for each lane of a peer.")]

OWN = "(inbox)"
TOTAL = "TOTAL"


@app.callback()
def _group() -> None:
    """Keep `shape` a verb of its own."""


@app.command("shape")
def shape(
    precedence: ByPrecedence = False,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Show how many messages are open at each peer by age, and how many wait for the centre's own system: (inbox)."""
    params = {"precedence": "true"} if precedence else None
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", "/v1/queues", params=params)
    if as_json:
        give(answer.text)
        return
    found = answer.json()
    rows = [*found["outgoing"], *found["inbox"]]
    give(_line("", ["T", *found["ages"]]))
    give(_line(TOTAL, [sum(found["total"]), *found["total"]]))
    for one in rows:
        give(_line(_name(one), [one["messages"], *one["ages"]]) + _of_these(one))
    if found["at"] is None:
        say("What is open at the peers was not counted yet since the node's start; ask again in some seconds.")
    else:
        say(f"What is open at the peers was counted at {found['at']}.")


def _name(one: dict[str, Any]) -> str:
    name = one["centre"] or OWN
    return name if one["precedence"] is None else f"{name} {one['precedence']}"


def _of_these(one: dict[str, Any]) -> str:
    """Return how many of a queue's messages do not go on by themselves, or have little time left."""
    said = [f"{name} {one[name]}" for name in ("dead", "held", "deferred") if one[name]]
    said += [f"little time left: {one['at_risk']}"] if one["at_risk"] else []
    return "".join(f"  {words}" for words in said)


def _line(name: str, numbers: list[Any]) -> str:
    return f"{name:>27}  " + "  ".join(f"{number:>6}" for number in numbers)
