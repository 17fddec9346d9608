"""``relay send``: give a message, or a batch, to the node."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, error_of, where
from relay.cli.ends import REFUSED, Ended, give, read_input, say

if TYPE_CHECKING:
    import httpx2

Source = Annotated[str, typer.Argument(metavar="FILE", help="A message as JSON; - is standard input.")]
Key = Annotated[str | None, typer.Option("--idempotency-key", help="Sending again under the same key sends nothing twice.")]
Batch = Annotated[bool, typer.Option("--batch", help="FILE holds one message a line (NDJSON).")]


def send(
    file: Source,
    idempotency_key: Key = None,
    batch: Batch = False,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Give a message to the node; when this ends with 0 it is committed and will be sent."""
    raw = read_input(file)
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    with client(where(config, url, token_file), "system") as node:
        path = "/v1/messages/batch" if batch else "/v1/messages"
        answer = node.ask("POST", path, content=raw, headers=headers)
    lines = _lines(answer) if batch else [answer.json()]
    for line in lines:
        _show(line, as_json=as_json)
    if refused := sum("problem" in line for line in lines):
        say(f"{refused} of {len(lines)} messages refused.")
        raise Ended(REFUSED)


def _lines(answer: httpx2.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.content.splitlines()]


def _show(line: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        give(json.dumps(line, ensure_ascii=False))
    elif "problem" in line:
        error = error_of(line["problem"])
        say(f"line {line['line']}: {error.detail} [{error.code}]")
    else:
        give(f"{line['id']}  {' '.join(line['recipients'])}")
        for one in line.get("withheld", ()):
            say(f"  not to {one['centre']}: {one['reason']} [{one['code']}]")
        if left_out := line.get("withdrawn_from"):
            say(f"  taken back from {' '.join(left_out)}")
        if gone := line.get("unreachable"):
            say(f"  can't be told now: {' '.join(gone)}")
        for one in line.get("warnings", ()):
            say(f"  warning: {one['pointer']} {one['detail']} [{one['code']}]")
