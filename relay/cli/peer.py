"""``relay peer``: which peers live, and what is wrong with one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, where
from relay.cli.ends import give
from relay.cli.top import clean

app = typer.Typer(help="The other centres, as this one hears them.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `list` a verb of its own."""


@app.command("list")
def list_(as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """List the peers: when each was heard, its clock, its directory, what is wrong with it, and whom to call."""
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", "/v1/peers")
    if as_json:
        give(answer.text)
        return
    for one in answer.json()["peers"]:
        give(_line(one))
        if alarm := one["alarm"]:
            give(f"  alarm: {alarm['code']} since {alarm['at']}")
        for other in one["differences"]:
            give(f"  {_differs(other)}")


def _differs(one: dict[str, Any]) -> str:
    what = "sent and signed for" if one["side"] == "sent" else "held"
    return (
        f"{one['side']}, lane {one['lane']}, {one['first']} to {one['until']}: {one['ours']} {what} here, "
        f"{one['theirs']} counted there; seen {one['times']} times"
    )


@app.command("show")
def show(
    centre: Annotated[str, typer.Argument(help="id of the centre")],
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Show how far this node countersigned a peer's audit log, and the evidence that it has two histories, if any."""
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", f"/v1/peers/{centre}")
    if as_json:
        give(answer.text)
        return
    found = answer.json()
    countersigned = f"{found['size']} entries of epoch {found['epoch']}, {found['at']}" if found["size"] else "nothing"
    give(f"{centre}: {countersigned} countersigned here")
    for one in found["evidence"]:
        give(f"{one['code']} {one['at']}, from {one['source']}; both are signed by {centre}:")
        give(f"  held:  {one['held']['statement']}\n  given: {one['given']['statement']}")


def _line(one: dict[str, Any]) -> str:
    offset = "" if one["clock_offset_seconds"] is None else f"{one['clock_offset_seconds']:+.1f} s"
    version = f"directory {one['directory_version'] or '?'}"
    duty = one["duty"]
    contact = clean(f"{duty['name']}, {duty['telephone']}, {duty['email']}")
    return (
        f"{one['centre']:<17}  {one['state']:<6}  {one['heard_at'] or '-':<24}  {offset:>8}  {version}  {one['release'] or '-'}"
        f"  {contact}"
    )
