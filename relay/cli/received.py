"""What ``relay inbox`` and ``relay quarantine`` share: received messages as an operator sees them."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from relay.cli.client import Where, client, waits
from relay.cli.ends import give, say
from relay.errors import Refused

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def list_state(state: str, limit: int, after: str | None, node: Where, *, as_json: bool) -> None:
    """List received messages in a state, the oldest first."""
    params = {"state": state, "limit": limit} if after is None else {"state": state, "limit": limit, "after": after}
    with client(node, "operator") as asking:
        answer = asking.ask("GET", "/v1/received", params=params)
    if as_json:
        give(answer.text)
        return
    found = answer.json()
    for one in found["messages"]:
        give(_line(one))
    if found["next"]:
        say(f"there are more, behind {found['next']}")


def show(message_id: str, node: Where, *, as_json: bool) -> None:
    """Show where a received message stands."""
    with client(node, "operator") as asking:
        answer = asking.ask("GET", f"/v1/received/{quote(message_id, safe='')}")
    if as_json:
        give(answer.text)
        return
    for name, value in answer.json().items():
        if value is not None:
            give(f"{name:<12}  {value}")


def act(verb: str, message_id: str, reason: str, node: Where) -> None:
    """Do something with a received message, and say where it stands then."""
    content = json.dumps({"reason": reason}).encode()
    with client(node, "operator") as asking:
        answer = asking.ask("POST", f"/v1/received/{quote(message_id, safe='')}/{verb}", content=content)
    if not waits(answer):
        give(f"{message_id}  {answer.json()['state']}")


def discard(message_id: str, reason: str, node: Where, *, yes: bool) -> None:
    """Discard a received message, after asking."""
    if not yes and not sys.stdin.isatty():
        raise Refused("needs-yes", "Nothing was changed: there is nobody to ask; give --yes to do it.")
    if yes or typer.confirm(f"Discard {message_id} for good?", err=True):
        act("discard", message_id, reason, node)


def _line(one: dict[str, Any]) -> str:
    again = f"again at {one['retry_at']}" if one["retry_at"] else ""
    words = (one["id"], one["origin"], one["lane"], one["state"], f"since {one['since']}", one["code"], again, one["reason"])
    return "  ".join(word for word in words if word)
