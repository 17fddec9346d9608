"""``relay schema``: the kinds of messages, their published form, and whether a file is a valid message.

None of it needs a node or a network: it says what this release takes, or with ``--config`` a centre with its own code lists
and limits. What a network's rules say of a message (who may send it, who gets it) is not looked at here: ``relay policy``.
"""
# ruff: noqa: PLC0415 - the models are imported when a command runs

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import codes
from relay.cli.client import AsJson, Config
from relay.cli.ends import REFUSED, Ended, give, give_json, read_input, say, tell
from relay.errors import Refused

if TYPE_CHECKING:
    from relay.messages import Message

app = typer.Typer(help="Kinds of messages, their schemas, and whether a file is valid.", no_args_is_help=True)

Kind = Annotated[str, typer.Argument(metavar="KIND", help="A kind of message, such as seizure.")]
Source = Annotated[str, typer.Argument(metavar="FILE", help="A message as JSON; - is standard input.")]
Language = Annotated[str, typer.Option("--lang", help="Language of the labels: en, fr, es or ar.")]


@app.command("list")
def list_(lang: Language = "en", as_json: AsJson = False) -> None:
    """List the kinds of messages with their newest version."""
    from relay.codes import KINDS, SCHEMA_VERSIONS, label

    version = SCHEMA_VERSIONS[-1]
    found = [{"kind": kind, "version": version, "label": label("kinds", kind, lang)} for kind in KINDS]
    if as_json:
        give_json(found)
        return
    for one in found:
        give(f"{one['kind'] + '@' + one['version']:<24}  {one['label']}")


@app.command("show")
def show(kind: Kind, as_json: AsJson = False, config: Config = None) -> None:
    """Show a kind: its page, or with --json its JSON Schema."""
    codes.take_of(config)
    from relay import schema

    pages = schema.pages()
    page = pages.get(f"{schema.PAGES}/{kind}.md") if kind in schema.kinds() else None
    if page is None:
        raise Refused("unknown-kind", f"{kind!r} is not one of {', '.join(schema.kinds())}.")
    if as_json:
        give_json(schema.schema_of(kind))
    else:
        give(page.removeprefix(schema.NOTE).strip())


@app.command("validate")
def validate(file: Source, as_json: AsJson = False, config: Config = None) -> None:
    """Say whether a file is a valid message; warnings don't make it invalid."""
    settings = codes.take_of(config)
    from relay import messages

    raw = read_input(file)
    bounds: dict[str, Any] = {}
    if settings is not None:
        bounds = {"limit": settings.limits.message_bytes, "limits": settings.limits.attachments}
    try:
        message = messages.parse(raw, **bounds)
    except Refused as refused:
        if as_json:
            give_json({"valid": False, "code": refused.code, "problems": [asdict(problem) for problem in refused.problems]})
        else:
            tell(refused)
        raise Ended(REFUSED) from None
    if as_json:
        give_json(_judged(message))
    else:
        _say(message)


def _judged(message: Message) -> dict[str, Any]:
    from relay import messages

    doubts = [asdict(problem) for problem in messages.warnings(message)]
    return {"valid": True, "kind": message.kind, "version": message.version, "warnings": doubts}


def _say(message: Message) -> None:
    judged = _judged(message)
    for doubt in judged["warnings"]:
        say(f"warning: {doubt['pointer'] or '(whole)'}: {doubt['detail']} [{doubt['code']}]")
    give(f"{judged['kind']}@{judged['version']} is valid, {len(judged['warnings'])} warnings")
