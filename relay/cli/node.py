"""``relay node``: the process of a centre."""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import codes
from relay.cli.ends import SOFTWARE, Ended, say
from relay.errors import Misconfigured, RelayError, StoreTrouble

if TYPE_CHECKING:
    import asyncio

    from relay.settings import Settings

app = typer.Typer(help="The process of a centre.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", envvar="RELAY_CONFIG", help="The node's settings file.")]


@app.callback()
def _group() -> None:
    """Keep `run` a verb of its own."""


@app.command("run")
def run(config: Config) -> None:
    """Run the node of a centre until SIGTERM or Ctrl-C; outside a terminal SIGHUP makes it read its key files anew."""
    import asyncio

    from relay import log
    from relay.settings import load

    settings = load(config)
    codes.take(settings)
    _import_what_runs()
    said = settings.log
    output = log.Rotating(said.file, said.file_bytes, said.files) if said.file is not None else log.standard(said.stream)
    log.configure(said.format, said.level, output, messages=said.messages)
    try:
        asyncio.run(_serve(settings, config))
    except* (Misconfigured, StoreTrouble) as group:
        raise _first(group) from None
    except* Exception as group:
        error = _first(group)
        log.Log(settings.centre).error(log.Event.NODE_FAILED, error=type(error).__name__, detail=str(error))
        say("relay: The node stopped because a part of it failed; its log says which. Nothing it promised is lost.")
        raise Ended(SOFTWARE) from None


def _import_what_runs() -> None:
    """Import all that a node is made of, with the collector of cycles off: it looks for garbage where none is made.

    It took a sixth of the CPU of a start. What was imported stays for good, so that it is left alone from here on.
    """
    import gc

    gc.disable()
    try:
        import relay.api
        import relay.console
        import relay.node
        import relay.web.served  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


async def _serve(settings: Settings, config: Path) -> None:
    """Run the node; when it can't, say why at the console's address for a while, and then raise that."""
    import asyncio
    import signal

    from relay.console import last_words

    stopping = asyncio.Event()
    try:
        await _run(settings, config, stopping)
    except* (Misconfigured, StoreTrouble) as group:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        if isinstance(error := _first(group), RelayError):
            await last_words.say(settings, error, stopping)
        raise


async def _run(settings: Settings, config: Path, stopping: asyncio.Event) -> None:
    import asyncio
    import signal

    from relay.api import Api
    from relay.console import Console
    from relay.node import open_keyring, open_node
    from relay.settings import load
    from relay.web.served import make_here

    node = await open_node(settings)

    def stop() -> None:
        stopping.set()
        node.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    if not sys.stdin.isatty():  # one that runs in a terminal ends with it
        reload = partial(node.custody.reload, lambda: open_keyring(load(config)))
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
    try:
        here = make_here(node)
    except BaseException:
        await node.centre.store.close()
        raise
    await node.run(Api(here), Console(here))


def _first(error: BaseException) -> BaseException:
    """Return the first error inside a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
