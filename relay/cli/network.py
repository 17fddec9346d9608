"""``relay network``: write a network."""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relay.cli.client import AsJson
from relay.cli.ends import give, give_json, say

app = typer.Typer(help="A network of centres.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")]
Centre = Annotated[list[str] | None, typer.Option("--centre", help="A centre's id; again for each. None: the default six.")]
Amqp = Annotated[str | None, typer.Option("--amqp", help="The broker's address; none: a free one on loopback.")]
Tls = Annotated[bool, typer.Option("--tls", help="Encrypt the way to the broker; an amqps:// address does, too.")]


@app.callback()
def _group() -> None:
    """Keep `new` a verb of its own."""


@app.command("new")
def new(folder: Folder, centre: Centre = None, amqp: Amqp = None, tls: Tls = False, as_json: AsJson = False) -> None:
    """Write a complete network: authorities, signed directory, and per centre settings, keys and tokens."""
    from relay.network import write_network

    network = write_network(folder, tuple(centre or ()), amqp, tls=tls)
    centres = {id_: network.listen(id_) for id_ in network.directory.active}
    if as_json:
        files = {id_: str(network.node_file(id_)) for id_ in centres}
        listed = [{"id": id_, "listen": listen, "config": files[id_]} for id_, listen in centres.items()]
        give_json({"network": network.id, "folder": str(network.folder), "amqp": network.broker.amqp, "centres": listed})
        return
    give(f"{network.folder}  network {network.id[:16]}  broker {network.broker.amqp}")
    for id_, listen in centres.items():
        give(f"  {id_:<17}  http://{listen}  {network.node_file(id_)}")
    say(f"Next: relay broker run {folder}, then per centre: relay node run --config FILE")
