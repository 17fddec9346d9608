"""``relay retention``: purge what is due, and keep what is under legal hold."""

from __future__ import annotations

import json
from typing import Annotated
from urllib.parse import quote

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, waits, where
from relay.cli.ends import give, say

app = typer.Typer(help="Purge what is due; keep what is under legal hold.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="A message's id, received or sent.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would go, and change nothing.")]
Ordered = Annotated[str, typer.Option("--reason", help="Who ordered it and why; the audit record keeps it.")]
Why = Annotated[str | None, typer.Option("--reason", help="Why; needed unless it is a dry run. The audit record keeps it.")]
Ended = Annotated[str, typer.Option("--reason", help="Why it ends; the audit record keeps it.")]


@app.command("run")
def run(
    dry_run: DryRun = False,
    reason: Why = None,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Purge what is due now, as the node does by itself every hour; list each message with its time, state and why."""
    asked = json.dumps({"dry_run": dry_run, "reason": reason}).encode()
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("POST", "/v1/retention/run", content=asked)
    if as_json:
        give(answer.text)
        return
    if waits(answer):
        return
    done = answer.json()
    for one in done["messages"]:
        give(f"{one['id']}  {one['side']:<8}  {one['purge_at']}  {one['state']:<11}  {one['why']}")
    count = done["received"] + done["sent"]
    if count > len(done["messages"]):
        say(f"and {count - len(done['messages'])} more")
    say(f"{count} {'would go' if dry_run else 'purged'}; {done['held']} under legal hold, {done['needed']} still needed")


@app.command("hold")
def hold(
    message_id: Id,
    reason: Ordered,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Put a message under legal hold: neither time nor a recall purges it."""
    asked = json.dumps({"id": message_id, "reason": reason}).encode()
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("POST", "/v1/retention/holds", content=asked)
    give(answer.text if as_json else f"{message_id}  held since {answer.json()['at']}")


@app.command("lift")
def lift(message_id: Id, reason: Ended, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """End a legal hold; a recall that came meanwhile is carried out now."""
    with client(where(config, url, token_file), "operator") as node:
        node.ask("DELETE", f"/v1/retention/holds/{quote(message_id, safe='')}", params={"reason": reason})
    give(f"{message_id}  no longer held")


@app.command("list")
def list_(as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """List the messages under legal hold, the oldest hold first."""
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", "/v1/retention/holds")
    if as_json:
        give(answer.text)
        return
    for one in answer.json()["holds"]:
        give(f"{one['id']}  {one['at']}  {one['actor']}  {one['reason']}")
