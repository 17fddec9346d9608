"""``relay message``: what this centre sent, and where it stands; the whole way of any message that is known here."""

from __future__ import annotations

import json
import sys
from typing import Annotated
from urllib.parse import quote

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, Where, client, waits, where
from relay.cli.ends import give
from relay.cli.find import find
from relay.cli.way import show
from relay.errors import Refused

app = typer.Typer(help="What this centre sent, and where it stands.", no_args_is_help=True)
app.command("find")(find)
app.command("show")(show)

Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most messages to list.")]
Before = Annotated[str | None, typer.Option("--before", help="List only older ones than this id.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="A message's id.")]
State = Annotated[
    str | None,
    typer.Option("--state", help="Only what is deferred, held, dead, open, expired or cancelled at some recipient."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Reason = Annotated[str, typer.Option("--reason", help="Who ordered it and why; the audit record keeps it.")]


@app.command("list")
def list_(
    limit: Limit = 100,
    before: Before = None,
    state: State = None,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List submitted messages, the newest first."""
    given = {"limit": limit, "before": before, "state": state}
    params = {name: value for name, value in given.items() if value is not None}
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", "/v1/messages", params=params)
    if as_json:
        give(answer.text)
        return
    for one in answer.json()["messages"]:
        states = " ".join(f"{to['centre']}:{to['state']}" for to in one["recipients"])
        give(f"{one['id']}  {one['submitted_at']}  {one['lane']}  {states}")


@app.command("hold")
def hold(message_id: Id, reason: Reason, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Keep a message from being sent until it is released."""
    _steer("hold", "held", message_id, reason, where(config, url, token_file))


@app.command("release")
def release(message_id: Id, reason: Reason, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Let a held message go on."""
    _steer("release", "released", message_id, reason, where(config, url, token_file))


@app.command("replay")
def replay(message_id: Id, reason: Reason, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Send a message again now to whoever has not ended it."""
    _steer("replay", "goes again", message_id, reason, where(config, url, token_file))


@app.command("discard")
def discard(
    message_id: Id,
    reason: Reason,
    yes: Yes = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """End a message as cancelled wherever it has not ended; what a peer holds already stays there."""
    node = where(config, url, token_file)
    if not yes and not sys.stdin.isatty():
        raise Refused("needs-yes", "Nothing was changed: there is nobody to ask; give --yes to do it.")
    if yes or typer.confirm(f"Discard {message_id} for good?", err=True):
        _steer("discard", "discarded", message_id, reason, node)


def _steer(action: str, done: str, message_id: str, reason: str, node: Where) -> None:
    asked = json.dumps({"reason": reason}).encode()
    with client(node, "operator") as asking:
        answer = asking.ask("POST", f"/v1/messages/{quote(message_id, safe='')}/{action}", content=asked)
    if not waits(answer):
        give(f"{message_id}  {done}")
