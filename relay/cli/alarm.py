"""``relay alarm``: which peers are late with what they owe, and whom to call."""

from __future__ import annotations

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, where
from relay.cli.ends import give

app = typer.Typer(help="Which peers are late, and whom to call.", no_args_is_help=True)


@app.callback()
def alarm() -> None:
    """Which peers are late, and whom to call."""


@app.command("list")
def list_(as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """List the alarms that stand: peer, lane, promise, messages, the oldest's time, and the peer's duty contact."""
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", "/v1/alarms")
    if as_json:
        give(answer.text)
        return
    for one in answer.json()["alarms"]:
        contact = one["contact"]
        whom = f"{contact['name']}, {contact['telephone']}, {contact['email']}" if contact else "no member any more"
        give(f"{one['peer']:<17}  {one['precedence']:<9}  {one['promise']:<9}  {one['messages']:>6}  {one['oldest_at']}  {whom}")
