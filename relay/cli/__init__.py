"""The command ``relay``: noun, then verb.

Data go to standard output, talk to standard error; every read takes ``--json``; colour is never used. A command that fails
says one sentence with a code and how to learn more (``relay explain CODE``), and ends with a status of sysexits: 64 usage, 65
data refused, 66 no such input, 69 unavailable, 70 software, 73 can't create, 77 not allowed, 78 settings. ``relay check``
ends with 0 to 3.

``relay --help`` answers in under 0.3 s: each module of this package imports nothing heavy before one of its commands runs.
"""

from __future__ import annotations

import sys

import typer

from relay.cli import (
    alarm,
    approval,
    audit,
    broker,
    check,
    codes,
    demo,
    directory,
    explain,
    inbox,
    key,
    message,
    network,
    node,
    peer,
    policy,
    quarantine,
    queue,
    recover,
    request,
    retention,
    schema,
    send,
    store,
    tokens,
    top,
)
from relay.cli.client import take_tls
from relay.cli.ends import Ended, status_of, tell
from relay.errors import RelayError

app = typer.Typer(
    name="relay",
    help="Carry sealed messages between customs and police coordination centres.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.callback()(take_tls)
app.command("send")(send.send)
app.add_typer(inbox.app, name="inbox")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(queue.app, name="queue")
app.add_typer(message.app, name="message")
app.add_typer(request.app, name="request")
app.add_typer(alarm.app, name="alarm")
app.add_typer(audit.app, name="audit")
message.app.command("ask-release")(request.ask_release)
app.command("check")(check.check)
app.command("top")(top.top)
app.command("explain")(explain.explain)
app.command("demo")(demo.demo)
app.add_typer(policy.app, name="policy")
app.add_typer(retention.app, name="retention")
app.add_typer(schema.app, name="schema")
app.add_typer(codes.app, name="codes")
app.add_typer(node.app, name="node")
app.add_typer(key.app, name="key")
app.add_typer(peer.app, name="peer")
app.command("recover")(recover.recover)
app.add_typer(store.app, name="store")
app.add_typer(tokens.app, name="token")
app.add_typer(approval.app, name="approval")
app.add_typer(network.app, name="network")
app.add_typer(directory.app, name="directory")
app.add_typer(broker.app, name="broker")

USAGE = 64
INTERRUPTED = 130


def main() -> None:
    """Run the command line and end the process with its status."""
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        app(arguments, prog_name="relay")
    except SystemExit as end:  # what the parser of the command line says: 2 is a wrong usage
        return USAGE if end.code == 2 else int(end.code or 0)
    except Ended as end:
        return end.status
    except RelayError as error:
        tell(error)
        return status_of(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
