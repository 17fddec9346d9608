"""``relay demo``: the whole network on this machine, one centre killed in the middle, a story, and the reconciliation."""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli.ends import Ended


def demo(
    messages: Annotated[int, typer.Option(min=1, help="How many messages the six centres submit together.")] = 2000,
    json: Annotated[bool, typer.Option("--json", help="Print the reconciliation as one JSON object.")] = False,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve",
            help="Tell the story, then keep the network up with slow traffic, and say where each console and API is. A node that"
            " you end (kill -9) is started again after --away seconds, or at once when the demonstration gets SIGUSR1.",
        ),
    ] = False,
    away: Annotated[float, typer.Option(min=0, help="With --serve: seconds until a node that ended is started again.")] = 60.0,
    wan: Annotated[
        bool,
        typer.Option(
            "--wan",
            help="Put SIN behind a 250 ms round trip and BUE behind 1 Mbit/s with resets, submit 25 messages a second,"
            " and show p50 and p99 of the seconds per link.",
        ),
    ] = False,
) -> None:
    """Run a network of six centres over a private RabbitMQ, tell a story in every kind, reconcile what each system took.

    It prints the address of each centre's console, and an account for it.
    """
    from relay.demo import Options, run  # noqa: PLC0415 - it loads the whole network

    status = run(Options(messages=messages, json=json, serve=serve, wan=wan, away=away))
    if status:
        raise Ended(status)
