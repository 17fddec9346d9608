"""``relay inbox``: see what arrived, and acknowledge it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from relay.cli import received
from relay.cli.client import AsJson, Config, TokenFile, Url, client, where
from relay.cli.ends import NO_INPUT, REFUSED, Ended, give, say

app = typer.Typer(help="What arrived for the centre's own system.", no_args_is_help=True)

Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most messages to give.")]
Wait = Annotated[float, typer.Option("--wait", min=0, max=60, help="Seconds to wait for the first message.")]
Confirm = Annotated[bool, typer.Option("--confirm-restriction", help="The restrictions of those marked H3 were read.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="A message's id.")]
Code = Annotated[str, typer.Option("--code", help="Why: letters, digits, hyphens; of a final refusal its sender sees it.")]
Words = Annotated[str | None, typer.Option("--reason", help="Why, in words; they stay at this node.")]
RetryAfter = Annotated[int | None, typer.Option("--retry-after", min=1, max=86400, help="Seconds; without it it is final.")]
Why = Annotated[str, typer.Option("--reason", help="Why; the audit record keeps it.")]
InState = Annotated[
    str | None, typer.Option("--state", help="List instead, as operator, what is waiting, handed, deferred, held or dead.")
]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of messages that the system has.")]


@app.command("list")
def list_(
    limit: Limit = 100,
    wait: Wait = 0,
    state: InState = None,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List unacknowledged messages, the oldest of the highest precedence first; with --state those set aside, by age alone."""
    if state is not None:
        received.list_state(state, limit, None, where(config, url, token_file), as_json=as_json)
        return
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


@app.command("nack")
def refuse(
    message_id: Id,
    code: Code,
    reason: Words = None,
    retry_after: RetryAfter = None,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Say that the system does not take a message: with --retry-after now, without it ever."""
    asked = {"id": message_id, "code": code, "reason": reason, "retry_after": retry_after}
    content = json.dumps({key: value for key, value in asked.items() if value is not None}).encode()
    with client(where(config, url, token_file), "system") as node:
        answer = node.ask("POST", "/v1/inbox/nack", content=content)
    done = answer.json()
    again = f"  again at {done['retry_at']}" if done["retry_at"] else ""
    give(answer.text if as_json else f"{message_id}  {done['state']}  {done['code']}{again}")


@app.command("show")
def show(message_id: Id, as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Show where a received message stands here."""
    received.show(message_id, where(config, url, token_file), as_json=as_json)


@app.command("hold")
def hold(message_id: Id, reason: Why, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Park a message: the system is not given it until it is released."""
    received.act("hold", message_id, reason, where(config, url, token_file))


@app.command("release")
def release(message_id: Id, reason: Why, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Let a held message be given out."""
    received.act("release", message_id, reason, where(config, url, token_file))


@app.command("replay")
def replay(message_id: Id, reason: Why, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Give a dead or deferred message out again, at once."""
    received.act("replay", message_id, reason, where(config, url, token_file))


@app.command("discard")
def discard(
    message_id: Id,
    reason: Why,
    yes: received.Yes = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """End a message as rejected and purge its content; its sender is told."""
    received.discard(message_id, reason, where(config, url, token_file), yes=yes)
