"""``relay approval``: acts that the directory's policy wants two people for, as the second one sees them.

The token must be one person's own: ``--token-file`` names it.
"""

from __future__ import annotations

import json
from typing import Annotated
from urllib.parse import quote

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, Where, client, where
from relay.cli.ends import give

app = typer.Typer(help="Acts that wait for a second person.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="The approval's id.")]
Everything = Annotated[bool, typer.Option("--all", help="Also what is decided or over.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most approvals to list.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; the audit record keeps it.")]


@app.command("list")
def list_(
    everything: Everything = False,
    limit: Limit = 100,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List what waits for a second person, the newest first: id, state, act, message, who asked and why."""
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", "/v1/approvals", params={"all": "true" if everything else "false", "limit": limit})
    if as_json:
        give(answer.text)
        return
    for one in answer.json()["approvals"]:
        words = (
            one["id"],
            one["state"],
            one["action"],
            one["subject"],
            one["asked_by"],
            f"until {one['expires_at']}",
            one["reason"],
        )
        give("  ".join(words))


@app.command("approve")
def approve(approval_id: Id, reason: Reason, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Approve what another person asked for; it is done at once."""
    _decide("approve", approval_id, reason, where(config, url, token_file))


@app.command("refuse")
def refuse(approval_id: Id, reason: Reason, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Say no to it, or take back what you asked for yourself."""
    _decide("refuse", approval_id, reason, where(config, url, token_file))


def _decide(verb: str, approval_id: str, reason: str, node: Where) -> None:
    content = json.dumps({"reason": reason}).encode()
    with client(node, "operator") as asking:
        answer = asking.ask("POST", f"/v1/approvals/{quote(approval_id, safe='')}/{verb}", content=content)
    give(f"{approval_id}  {answer.json()['state']}")
