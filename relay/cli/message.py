"""``relay message``: what this centre sent, and where it stands."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, where
from relay.cli.ends import give
from relay.cli.find import find

app = typer.Typer(help="What this centre sent, and where it stands.", no_args_is_help=True)
app.command("find")(find)

Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most messages to list.")]
Before = Annotated[str | None, typer.Option("--before", help="List only older ones than this id.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="A message's id.")]


@app.command("list")
def list_(
    limit: Limit = 100,
    before: Before = None,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List submitted messages, the newest first."""
    params = {"limit": limit} if before is None else {"limit": limit, "before": before}
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", "/v1/messages", params=params)
    if as_json:
        give(answer.text)
        return
    for one in answer.json()["messages"]:
        states = " ".join(f"{to['centre']}:{to['state']}" for to in one["recipients"])
        give(f"{one['id']}  {one['submitted_at']}  {one['lane']}  {states}")


@app.command("show")
def show(message_id: Id, as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Show a message's state at each recipient, with its history."""
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", f"/v1/messages/{quote(message_id, safe='')}")
    if as_json:
        give(answer.text)
        return
    found = answer.json()
    give(f"{found['id']}  submitted {found['submitted_at']}  {found['lane']}")
    for line in _thread(found):
        give(line)
    for to in found["recipients"]:
        for step in to["history"]:
            give(_step(to["centre"], step))


def _thread(found: dict[str, Any]) -> list[str]:
    """Return what there is to say of a message's versions and of how far it is taken back."""
    lines = [f"  versions  {' '.join(found['versions'])}"] if "versions" in found else []
    if "cancelled_by" in found:
        lines.append(f"  cancelled by {found['cancelled_by']}")
    if recall := found.get("recall"):
        lines.append(f"  recalled: {recall['confirmed']} of {recall['of']} confirmed")
        lines += [
            f"  {one['centre']:<17}  {'purged     ' + one['purged_at'] if one['purged_at'] else _unpurged(one)}"
            for one in recall["centres"]
        ]
    return lines


def _unpurged(one: dict[str, Any]) -> str:
    return "asked to purge" if one["by"] else "not reachable"


def _step(centre: str, step: dict[str, Any]) -> str:
    why = f"  {step['code']}" if "code" in step else ""
    return f"  {centre:<17}  {step['state']:<9}  {step['at']}{why}"
