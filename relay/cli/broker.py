"""``relay broker``: run RabbitMQ for development, or bring an existing one to what the directory asks for."""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.client import AsJson
from relay.cli.ends import SOFTWARE, Ended, give, give_json, say
from relay.errors import BrokerTrouble, Misconfigured, Refused, RelayError

if TYPE_CHECKING:
    from relay.network import Network
    from relay.rabbit import Management, PrivateBroker
    from relay.topology import Change

app = typer.Typer(help="The network's RabbitMQ.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The network's folder.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Discard = Annotated[bool, typer.Option("--discard", help="Remove queues even when they hold messages.")]
Out = Annotated[Path | None, typer.Option("--out", help="File to write; none: standard output.")]


@app.command("run")
def run(folder: Folder) -> None:
    """Run a private RabbitMQ with this network's topology until Ctrl-C or SIGTERM. For development."""
    import signal
    import threading

    from relay.tls import is_loopback

    network = _network(folder)
    if not is_loopback(network.broker.host):
        sentence = f"The broker of this network is at {network.broker.host}; this runs one on loopback only."
        raise Misconfigured("broker-elsewhere", sentence)
    broker = _private(network)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    say("Starting RabbitMQ ...")
    broker.start()
    try:
        _bring(network)
        give(f"{network.broker.amqp}  management {network.broker.management}")
        while broker.running and not ending.wait(0.5):
            pass
        if not ending.is_set():
            say(f"relay: RabbitMQ ended by itself; see {broker.log}.")
            raise Ended(SOFTWARE)
    finally:
        say("Stopping RabbitMQ ...")
        broker.stop()


@app.command("plan")
def plan(folder: Folder, as_json: AsJson = False) -> None:
    """Show what differs between the broker and the directory."""
    network = _network(folder)
    with _management(network) as management:
        changes = management.plan(network.topology, network.passwords)
        strangers = management.strangers()
    if as_json:
        give_json([{"action": one.action, "kind": one.item.kind, "object": str(one.item)} for one in changes])
    else:
        _show(changes)
    for binding in strangers:
        say(f"Not ours, possibly a listener: {binding}")


@app.command("apply")
def apply(folder: Folder, yes: Yes = False, discard: Discard = False) -> None:
    """Bring the broker to what the directory asks for, showing the difference first."""
    network = _network(folder)
    with _management(network) as management:
        changes = management.plan(network.topology, network.passwords)
        _show(changes)
        if changes and (yes or _agreed()):
            management.apply(changes, network.passwords, discard=discard)
            say(f"{len(changes)} changes applied.")


@app.command("export")
def export(folder: Folder, out: Out = None) -> None:
    """Write the definitions file from which RabbitMQ boots with this network's topology."""
    text = json.dumps(_network(folder).definitions(), indent=2)
    if out is None:
        give(text)
        return
    try:
        _write(out, text + "\n")
    except OSError as error:
        raise RelayError("cannot-write", f"{out} can't be written: {error.strerror}.") from error


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner may read: it holds hashes of passwords."""
    import os

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _network(folder: Path) -> Network:
    from relay.network import load_network

    return load_network(folder)


def _management(network: Network) -> Management:
    from relay.rabbit import Management

    broker = network.broker
    ca = broker.tls.ca if broker.tls else None
    return Management(broker.management, broker.admin, broker.admin_password, vhost=broker.vhost, ca=ca)


def _private(network: Network) -> PrivateBroker:
    from relay.rabbit import PrivateBroker

    return PrivateBroker(
        network.broker_folder,
        amqp_port=network.broker.port,
        management_port=network.broker.management_port,
        admin=network.broker.admin,
        password=network.broker.admin_password,
        definitions=network.definitions(),
        tls=network.broker.tls,
    )


def _bring(network: Network) -> None:
    """Mend what the definitions loaded at boot do not: what is there and should not be."""
    with _management(network) as management:
        changes = management.plan(network.topology, network.passwords)
        try:
            management.apply(changes, network.passwords)
        except (BrokerTrouble, Refused) as error:
            say(f"The topology could not be brought in order: {error.detail} See `relay broker plan`.")


def _show(changes: Sequence[Change]) -> None:
    for change in changes:
        give(str(change))
    if not changes:
        say("The broker is as the directory asks.")


def _agreed() -> bool:
    import sys

    if not sys.stdin.isatty():
        raise Refused("needs-yes", "Nothing was changed: there is nobody to ask; give --yes to do it.")
    return typer.confirm("Apply?", err=True)
