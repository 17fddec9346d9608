"""``relay quarantine``: received messages that were refused on arrival, and are kept for an operator."""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli import received
from relay.cli.client import AsJson, Config, TokenFile, Url, where

app = typer.Typer(help="Received messages that were refused on arrival.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="A message's id.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most messages to list.")]
After = Annotated[str | None, typer.Option("--after", help="List only what is behind this message.")]
Why = Annotated[str, typer.Option("--reason", help="Why; the audit record keeps it.")]


@app.command("list")
def list_(
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List messages that were refused on arrival, the oldest first, each with why."""
    received.list_state("quarantined", limit, after, where(config, url, token_file), as_json=as_json)


@app.command("show")
def show(message_id: Id, as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Show where such a message stands, and whether its refusal can be overruled."""
    received.show(message_id, where(config, url, token_file), as_json=as_json)


@app.command("release")
def release(message_id: Id, reason: Why, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Overrule the refusal: the system is given the message after all."""
    received.act("release", message_id, reason, where(config, url, token_file))


@app.command("discard")
def discard(
    message_id: Id,
    reason: Why,
    yes: received.Yes = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Purge the content of a message that was refused; its row stays."""
    received.discard(message_id, reason, where(config, url, token_file), yes=yes)
