"""``relay inbox``: see what arrived, and acknowledge it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, where
from relay.cli.ends import NO_INPUT, REFUSED, Ended, give, say

app = typer.Typer(help="What arrived for the centre's own system.", no_args_is_help=True)

Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most messages to give.")]
Wait = Annotated[float, typer.Option("--wait", min=0, max=60, help="Seconds to wait for the first message.")]
Confirm = Annotated[bool, typer.Option("--confirm-restriction", help="The restrictions of those marked H3 were read.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of messages that the system has.")]


@app.command("list")
def list_(
    limit: Limit = 100,
    wait: Wait = 0,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List unacknowledged messages, the oldest of the highest precedence first."""
    with client(where(config, url, token_file), "system") as node:
        answer = node.ask("GET", "/v1/inbox", params={"limit": limit, "wait": wait})
    if as_json:
        give(answer.text)
        return
    for one in answer.json()["messages"]:
        message = one["message"]
        mark = f"{message['kind']} {message.get('precedence', 'routine')} {','.join(message['crime_types'])}"
        give(f"{one['id']}  {one['origin']}  {one['received_at']}  {one['handling']}  {mark}")
        if restriction := message.get("handling_text"):
            give(f"  restriction: {restriction}")
        for doubt in one.get("warnings", ()):
            give(f"  warning: {doubt['pointer']} {doubt['detail']}")


@app.command("ack")
def acknowledge(
    ids: Ids,
    confirm: Confirm = False,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Say that the centre's system has these messages; their senders will see `delivered`."""
    with client(where(config, url, token_file), "system") as node:
        answer = node.ask("POST", "/v1/inbox/ack", content=json.dumps({"ids": ids, "confirmed": ids if confirm else []}).encode())
    done = answer.json()
    give(answer.text if as_json else f"{done['delivered']} delivered")
    if done["unknown"]:
        say(f"never given out: {' '.join(done['unknown'])}")
        raise Ended(NO_INPUT)
    if done["unconfirmed"]:
        say(f"restricted (H3), not confirmed: {' '.join(done['unconfirmed'])}")
        raise Ended(REFUSED)
