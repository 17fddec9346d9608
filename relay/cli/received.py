"""What ``relay inbox`` and ``relay quarantine`` share: received messages as an operator sees them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from relay.cli.client import Where, client
from relay.cli.ends import give, say


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
    give(f"{message_id}  {answer.json()['state']}")


def _line(one: dict[str, Any]) -> str:
    again = f"again at {one['retry_at']}" if one["retry_at"] else ""
    words = (one["id"], one["origin"], one["lane"], one["state"], f"since {one['since']}", one["code"], again, one["reason"])
    return "  ".join(word for word in words if word)
