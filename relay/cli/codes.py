"""``relay codes``: the code lists that messages are written with, in four languages.

No node is needed: the lists are those of the package, or with ``--config`` an operator's own where the settings name a folder
of them. :func:`take` is how every command that validates messages gets those.
"""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relay.cli.client import AsJson, Config
from relay.cli.ends import give, give_json
from relay.errors import NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from relay.settings import Settings

app = typer.Typer(help="The code lists that messages are written with.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="LIST", help="A list, such as crime_types.")]
Language = Annotated[Literal["en", "fr", "es", "ar"], typer.Option("--lang", help="Language of the labels.")]


def take(settings: Settings) -> None:
    """Put an operator's own code lists in force, if the settings name any; those not yet or no longer valid are left out.

    For the start of a process, before messages are validated. Raise ``Misconfigured`` (``bad-code-list``).
    """
    if settings.codes.folder is None:
        return
    from relay import codes, messages
    from relay.clock import from_ms, now_ms

    if codes.load(settings.codes.folder, on=from_ms(now_ms()).date()):
        messages.rebuild()


def take_of(config: Path | None) -> Settings | None:
    """Put the code lists of a settings file in force, if one is named; return the settings."""
    if config is None:
        return None
    from relay.settings import load

    settings = load(config)
    take(settings)
    return settings


@app.command("list")
def list_(as_json: AsJson = False, config: Config = None) -> None:
    """List the code lists with their version and the day from which they hold."""
    take_of(config)
    from relay import codes

    found = codes.listings()
    if as_json:
        give_json([{**one.head(), "about": one.about, "codes": len(one.codes)} for one in found])
        return
    for one in found:
        give(f"{one.name:<20}  {one.version:<8}  {one.head()['valid_from'] or '-':<10}  {len(one.codes):>4}  {one.about}")


@app.command("show")
def show(name: Name, lang: Language = "en", as_json: AsJson = False, config: Config = None) -> None:
    """Show the codes of a list with their labels."""
    take_of(config)
    from relay import codes

    if name not in codes.label_lists():
        raise NotFound("unknown-list", f"There is no code list {name!r}; `relay codes list` names those there are.")
    found = codes.listing(name)
    if as_json:
        give_json({**found.head(), "language": lang, "codes": found.entries(lang)})
        return
    labels = found.labels(lang)
    width = max(map(len, labels))
    for code, label in labels.items():
        give(f"{code:<{width}}  {label}")
