"""``relay request``: which answers are awaited or owed, and until when; and the word on a release that is asked for."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, where
from relay.cli.ends import give

app = typer.Typer(help="Which answers are awaited or owed, and until when.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="A request's id.")]
MessageId = Annotated[str, typer.Argument(metavar="ID", help="Id of a received message.")]
Overdue = Annotated[bool, typer.Option("--overdue", help="Only those of which an answer is late.")]
Every = Annotated[bool, typer.Option("--all", help="Also those that are answered, or were taken back.")]
Side = Annotated[str | None, typer.Option("--side", metavar="asked|received", help="Asked by this centre, or received by it.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most requests to list.")]
Before = Annotated[str | None, typer.Option("--before", help="List only older ones than this id.")]
To = Annotated[list[str], typer.Option("--to", metavar="CENTRE", help="A centre that is to get the message; may be repeated.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, in words; it is sent along and stands in the audit record.")]
Urgency = Annotated[str, typer.Option("--urgency", help="How soon the answer is needed: a code of the list urgencies.")]
Grant = Annotated[bool, typer.Option("--grant", help="Permit the release.")]
Deny = Annotated[bool, typer.Option("--deny", help="Refuse it.")]
Ground = Annotated[str | None, typer.Option("--ground", help="With --deny: a code of the list refusal_grounds.")]


@app.command("list")
def list_(
    overdue: Overdue = False,
    every: Every = False,
    side: Side = None,
    limit: Limit = 100,
    before: Before = None,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List the requests of which an answer is awaited or owed, the newest first."""
    state = "overdue" if overdue else "all" if every else "open"
    given = {"state": state, "side": side, "limit": limit, "before": before}
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", "/v1/requests", params={key: value for key, value in given.items() if value is not None})
    if as_json:
        give(answer.text)
        return
    for one in answer.json()["requests"]:
        for peer in one["peers"]:
            give(f"{one['id']}  {one['side']:<8}  {_peer(peer)}")


@app.command("show")
def show(request_id: Id, as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Show a request's clock at each peer, and which messages answered it."""
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", f"/v1/requests/{quote(request_id, safe='')}")
    if as_json:
        give(answer.text)
        return
    found = answer.json()
    give(f"{found['id']}  {found['side']}")
    for peer in found["peers"]:
        give(f"  {_peer(peer)}")
    for one in found["answers"]:
        give(f"  answer {one['id']} of {one['centre']}")


@app.command("answer")
def answer(
    request_id: Id,
    reason: Reason,
    grant: Grant = False,
    deny: Deny = False,
    ground: Ground = None,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Permit or refuse the release of a message that a received request asks for."""
    if grant == deny:
        raise typer.BadParameter("say either --grant or --deny")
    if deny and ground is None:
        raise typer.BadParameter("--deny needs --ground, a code of the list refusal_grounds")
    body = {"outcome": "full" if grant else "refusal", "ground": ground, "text": reason}
    _send(f"/v1/requests/{quote(request_id, safe='')}/answer", body, config, url, token_file, as_json=as_json)


def ask_release(
    message_id: MessageId,
    to: To,
    reason: Reason,
    urgency: Urgency = "normal",
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Ask the origin of a received message whether it may be released to other centres; a full reply permits it."""
    body = {"to": to, "reason": reason, "urgency": urgency}
    _send(f"/v1/messages/{quote(message_id, safe='')}/ask-release", body, config, url, token_file, as_json=as_json)


def _send(path: str, body: dict[str, Any], config: Config, url: Url, token_file: TokenFile, *, as_json: bool) -> None:
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("POST", path, content=json.dumps(body).encode())
    done = answer.json()
    give(answer.text if as_json else f"{done['id']}  {' '.join(done['recipients'])}")


def _peer(peer: dict[str, Any]) -> str:
    """Return a peer's clock in one line."""
    if peer["answered_at"] is not None:
        when = f"answered {peer['answered_at']}{' late' if peer['answered_late'] else ''}"
    elif peer["overdue"]:
        when = f"overdue since {peer['due_at']}"
    else:
        when = f"due {peer['due_at']}" if peer["due_at"] is not None else "not yet taken"
    reminded = "".join(f"  {percent} %" for percent in peer["reminders"][-1:]) if not peer["answered_at"] else ""
    return f"{peer['centre']:<17}  {peer['state']:<13}  {when}{reminded}"
