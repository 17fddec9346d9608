"""``relay recover``: bring a centre forward whose store is an older copy."""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, where
from relay.cli.ends import give, give_json, say
from relay.errors import Misconfigured

Status = Annotated[bool, typer.Option("--status", help="Ask the running node where the recovery stands.")]
Yes = Annotated[bool, typer.Option("--yes", help="Begin a new epoch though no peer showed that it is needed.")]
Reason = Annotated[
    str | None, typer.Option("--reason", help="Who ordered it and why; the audit record keeps it. Required without --status.")
]


def recover(
    status: Status = False,
    yes: Yes = False,
    reason: Reason = None,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Let the next start of a stopped node begin a new epoch; with --status, list what peers hold that its store lost."""
    if status:
        _status(as_json, config, url, token_file)
        return
    import asyncio
    import getpass

    from relay.recovery import prepare
    from relay.settings import load
    from relay.store.epochs import Ordered

    if config is None:
        raise Misconfigured("no-node-named", "Which node? Give --config FILE: this works on the store of a node that is stopped.")
    if not reason:
        raise typer.BadParameter("give a reason; it goes on record", param_hint="--reason")
    order = Ordered(f"{getpass.getuser()} on the node's machine", reason)
    done = asyncio.run(prepare(load(config), anyway=yes, order=order))
    if as_json:
        give_json({"epoch": done.epoch, "following": done.following})
    else:
        give(f"epoch {done.epoch} ends; epoch {done.following} begins with the node's next start")
    say("Next: relay node run --config FILE, then relay recover --status --config FILE")


def _status(as_json: bool, config: Config, url: Url, token_file: TokenFile) -> None:
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", "/v1/recovery")
    if as_json:
        give(answer.text)
        return
    found = answer.json()
    if one := found["needed"]:
        give(f"needed: {one['peer']} holds {one['lane']} {one['theirs']} of epoch {one['epoch']}; here it is {one['ours']}")
    since = f", since {found['begun_at']} after epoch {found['before']}" if found["begun_at"] else ""
    give(f"epoch {found['epoch']}{since}")
    for one in found["unknown"]:
        where_ = f"epoch {one['epoch']} lane {one['lane']} ({one['first']}-{one['last']})"
        give(f"{one['count']} messages of {where_} sent to {one['peer']} are not known here")
