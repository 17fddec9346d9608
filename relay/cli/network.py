"""``relay network``: write a network."""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relay.cli.client import AsJson
from relay.cli.ends import give, give_json, say
from relay.errors import Misconfigured

app = typer.Typer(help="A network of centres.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")]
NetworkFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The network's folder.")]
Centre = Annotated[list[str] | None, typer.Option("--centre", help="A centre's id; again for each. None: the default six.")]
Member = Annotated[list[str] | None, typer.Option("--centre", help="A centre's certificate; again for each.")]
Amqp = Annotated[str | None, typer.Option("--amqp", help="The broker's address; none: a free one on loopback.")]
Broker = Annotated[bool, typer.Option("--broker", help="The broker's certificate.")]
Api = Annotated[
    list[str] | None,
    typer.Option("--api", metavar="HOST", help="A host of its API and console, which get a certificate, too; again for each."),
]
Tls = Annotated[bool, typer.Option("--tls", help="Encrypt the way to the broker; an amqps:// address does, too.")]


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


@app.command("renew")
def renew(folder: NetworkFolder, centre: Member = None, broker: Broker = False, api: Api = None, as_json: AsJson = False) -> None:
    """Make new certificates by the network's own authority: of the centres named, of the broker, or of all; for 397 days."""
    from datetime import UTC, datetime

    from relay import network as networks

    network = networks.load_network(folder)
    if strangers := sorted(set(centre or ()) - set(network.directory.active)):
        raise Misconfigured("not-a-member", f"{', '.join(strangers)}: no active member of this network's directory.")
    if api and len(centre or ()) != 1:
        raise typer.BadParameter("--api is of one centre: say which with --centre")
    every = not centre and not broker
    names = tuple(network.directory.active) if every else tuple(centre or ())
    host = network.broker.host if every or broker else None
    now = datetime.now(UTC)
    places = networks.renew(network.folder, names, now, host=host)
    places += [networks.serve(network.folder, one, api, now) for one in names if api]
    if as_json:
        give_json([str(place) for place in places])
        return
    for place in places:
        give(str(place))
    say("Move each to where its owner reads it; no node needs a restart.")
