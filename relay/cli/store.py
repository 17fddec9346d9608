"""``relay store``: a copy of a node's store, while the node runs or not."""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from relay.cli.client import AsJson
from relay.cli.ends import give, give_json, say

app = typer.Typer(help="The node's store.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")]
Config = Annotated[Path, typer.Option("--config", envvar="RELAY_CONFIG", help="The node's settings file.")]


@app.callback()
def _group() -> None:
    """Keep `backup` a verb of its own."""


@app.command("backup")
def backup(file: File, config: Config, as_json: AsJson = False) -> None:
    """Write a consistent, checked copy of the store to a new file; the node may go on running."""
    from relay.settings import load
    from relay.store.backup import back_up

    done = back_up(load(config).store.file, file)
    if as_json:
        give_json({"file": str(file), **asdict(done)})
    else:
        give(f"{file}  {done.centre}  epoch {done.epoch}  {done.entries} entries of the record  {done.size} bytes")
    say("Keep it as secret as the store. Its keys are not in it: docs/howto/back-up-and-restore.md")
