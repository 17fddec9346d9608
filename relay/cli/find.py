"""``relay message find``: find messages that this centre sent or received, by their marks, time, thread or any identifier."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, where
from relay.cli.ends import give, say

Kind = Annotated[str | None, typer.Option("--kind", help="Kind of message; finds its updates, too.")]
CrimeType = Annotated[str | None, typer.Option("--crime-type", help="Crime type; finds those below it, too.")]
Region = Annotated[str | None, typer.Option("--region", help="M49 region of any level, such as 150.")]
Country = Annotated[str | None, typer.Option("--country", help="Country, ISO 3166-1, such as BE.")]
Origin = Annotated[str | None, typer.Option("--origin", help="Id of the centre that sent it.")]
Status = Annotated[str | None, typer.Option("--status", help="actual, exercise or test.")]
Thread = Annotated[str | None, typer.Option("--thread", help="A message's id: finds it and everything that refers to it.")]
Identifiers = Annotated[
    list[str] | None,
    typer.Option("--identifier", help="Container, ship, vehicle, document, case number or any other; several must all be there."),
]
Since = Annotated[str | None, typer.Option("--since", help="Submitted or received at this time or later, RFC 3339.")]
Until = Annotated[str | None, typer.Option("--until", help="Submitted or received before this time, RFC 3339.")]
Direction = Annotated[str, typer.Option("--direction", help="sent, received or any.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; the audit record keeps it.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most messages to show.")]
Before = Annotated[str | None, typer.Option("--before", help="Go on where an earlier search said so.")]


def find(
    reason: Reason,
    kind: Kind = None,
    crime_type: CrimeType = None,
    region: Region = None,
    country: Country = None,
    origin: Origin = None,
    status: Status = None,
    thread: Thread = None,
    identifier: Identifiers = None,
    since: Since = None,
    until: Until = None,
    direction: Direction = "any",
    limit: Limit = 100,
    before: Before = None,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Find messages sent or received, the newest first; whatever is given must hold. The search goes on record."""
    asked = {
        "kind": kind,
        "crime_type": crime_type,
        "region": region,
        "country": country,
        "origin": origin,
        "status": status,
        "thread": thread,
        "identifier": identifier or None,
        "since": since,
        "until": until,
        "direction": direction,
        "limit": limit,
        "before": before,
        "reason": reason,
    }
    params = {name: value for name, value in asked.items() if value is not None}
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", "/v1/messages", params=params)
    if as_json:
        give(answer.text)
        return
    found = answer.json()
    for one in found["messages"]:
        give("  ".join(_columns(one)))
    if found["next"]:
        say(f"There are more: the same with --before {found['next']}")


def _columns(one: dict[str, Any]) -> list[str]:
    """Return what a line says: id, direction, time, origin, marks, states; a handling code above H0 is always shown."""
    if "damaged" in one:
        marks = [f"damaged in the store ({one['damaged']})"]
    else:
        marks = [one["kind"], ",".join(one["crime_types"]), *([] if one["handling"] == "H0" else [one["handling"]])]
    return [one["id"], one["direction"], one["at"], one["origin"], *marks, _states(one)]


def _states(one: dict[str, Any]) -> str:
    if "recipients" in one:
        return " ".join(f"{to['centre']}:{to['state']}" for to in one["recipients"])
    return str(one["state"])
