"""``relay audit``: verify the record, prove what became of a message, check such a proof, say who received it, export."""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, client, where
from relay.cli.ends import REFUSED, Ended, give, give_json, read_input, say
from relay.errors import Misconfigured, RelayError

if TYPE_CHECKING:
    from relay.verifying import Verified

app = typer.Typer(help="The audit record, and what it proves.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="A message's id, sent or received.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="A proof; - is standard input.")]
Out = Annotated[Path | None, typer.Option("--out", help="Write the proof to this new file instead of standard output.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Put the message's content into the proof; needs --why.")]
Why = Annotated[str | None, typer.Option("--why", help="Why the content is revealed; the audit record keeps it.")]
Root = Annotated[Path | None, typer.Option("--root", help="The network's root.json, which you have by another way.")]
Network = Annotated[str | None, typer.Option("--network", help="The network's id: SHA-256 of root.json, hex.")]
AuthorityKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--authority-key", metavar="NAME=KEY", help="An authority's public key, base64; every one named must have signed."
    ),
]
Content = Annotated[Path | None, typer.Option("--content", help="Write the revealed content to this new file.")]
StoreFile = Annotated[Path | None, typer.Option("--store", help="A store's file, instead of asking the node.")]
Offline = Annotated[bool, typer.Option("--offline", help="Look at the store of --config itself, whether or not its node runs.")]
Since = Annotated[str | None, typer.Option("--from", help="Only what is of this time or later, RFC 3339.")]
Until = Annotated[str | None, typer.Option("--to", help="Only what is of before this time, RFC 3339.")]


@app.command("verify")
def verify(
    store: StoreFile = None,
    root: Root = None,
    offline: Offline = False,
    as_json: AsJson = False,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Hash every entry of the record anew and compare it with what was signed; end with 65 at the first that does not fit."""
    if store is not None or offline:
        found = _offline(store, root, config)
        body, said = _verified(found)
    else:
        with client(where(config, url, token_file), "operator") as node:
            body = node.ask("POST", "/v1/audit/verify").json()
        said = _lines(body)
    if as_json:
        give_json(body)
    else:
        for line in said:
            give(line)
    if body["fault"]:
        say("relay: The record is not what was signed for. [audit-fault]")
        raise Ended(REFUSED)


@app.command("proof")
def proof(
    message_id: Id,
    out: Out = None,
    reveal: Reveal = False,
    why: Why = None,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Write a file that proves what became of a message to anybody who knows the authorities' keys."""
    asked = json.dumps({"id": message_id, "reveal": reveal, **({"reason": why} if why else {})}).encode()
    with client(where(config, url, token_file), "operator") as node:
        made = node.ask("POST", "/v1/audit/proofs", content=asked).content
    if out is None:
        sys.stdout.buffer.write(made + b"\n")
        return
    _write(out, made + b"\n")
    say(f"{out}: {len(made) + 1} bytes. To check it: relay audit check-proof {out} --root root.json")


@app.command("check-proof")
def check_proof(
    file: File,
    root: Root = None,
    network: Network = None,
    authority_key: AuthorityKeys = None,
    content: Content = None,
    as_json: AsJson = False,
) -> None:
    """Verify a proof with nothing but the authorities' keys, and say what it proves and what not."""
    from relay import proofs

    authorities = _authorities(root, network, authority_key)
    verdict = proofs.check(read_input(file), authorities)
    if content is not None and verdict.content is not None:
        _write(content, verdict.content)
    if as_json:
        give_json(proofs.as_json(verdict))
        return
    give("Proved:")
    for sentence in proofs.proved(verdict):
        give(f"  {sentence}")
    give("Not proved:")
    for sentence in proofs.unproved(verdict):
        give(f"  {sentence}")


@app.command("who-received")
def who_received(
    message_id: Id, as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None
) -> None:
    """Say who was sent a message, accepted it, delivered it to its system and purged it, and when."""
    with client(where(config, url, token_file), "operator") as node:
        answer = node.ask("GET", f"/v1/audit/who-received/{quote(message_id, safe='')}")
    if as_json:
        give(answer.text)
        return
    found = answer.json()
    give(f"{found['id']}  from {found['origin']}  {found['submitted_at']}")
    for one in found["recipients"]:
        give(f"  {one['centre']:<17}  {_steps(one)}")


@app.command("export")
def export(
    since: Since = None,
    until: Until = None,
    store: StoreFile = None,
    config: Config = None,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Write the record as JSON lines: entries in order, each checkpoint behind the last entry that it covers."""
    if store is not None:
        _export(store, since, until)
        return
    params = {name: value for name, value in (("from", since), ("to", until)) if value is not None}
    with client(where(config, url, token_file), "operator") as node:
        for some in node.stream("GET", "/v1/audit/export", params=params):
            sys.stdout.buffer.write(some)


def _offline(store: Path | None, root: Path | None, config: Path | None) -> Verified:
    from relay.settings import load
    from relay.store import traces
    from relay.store.offline import reading
    from relay.verifying import Verification, registers

    settings = load(config) if config is not None else None
    file = store if store is not None else settings.store.file if settings else None
    if file is None:
        raise Misconfigured("no-node-named", "Which store? Give --store FILE, or --config FILE with --offline.")
    root = root if root is not None else settings.directory.root if settings else None
    with reading(file) as connection:
        _, network = traces.centre_of(connection)
        known = registers(_bytes(root), network, traces.directories(connection)) if root is not None else []
        return Verification(network, known).at_once(connection)


def _verified(found: Verified) -> tuple[dict[str, Any], list[str]]:
    """Return what an offline verification found, as the API says it, and in words."""
    from dataclasses import asdict

    from relay.verifying import words

    fault = found.fault
    shown = None
    if fault is not None:
        shown = {"epoch": fault.epoch, "first": fault.first, "last": fault.last, "detail": fault.detail, "says": found.says}
    return {"entries": found.entries, "epochs": [asdict(one) for one in found.epochs], "fault": shown}, words(found)


def _lines(body: dict[str, Any]) -> list[str]:
    """Return in words what the node found."""
    from relay.store.trees import Fault
    from relay.verifying import EpochFound, Verified, words

    fault = body["fault"]
    found = Verified([EpochFound(**one) for one in body["epochs"]])
    if fault:
        found.fault, found.says = Fault(fault["epoch"], fault["first"], fault["last"], fault["detail"]), fault["says"]
    return words(found)


def _export(store: Path, since: str | None, until: str | None) -> None:
    from relay.exporting import Span, lines
    from relay.store.offline import reading

    with reading(store) as connection:
        for some in lines(connection, Span(_ms(since), _ms(until))):
            sys.stdout.buffer.write(some)


def _authorities(root: Path | None, network: str | None, keys: list[str] | None) -> Any:  # noqa: ANN401 - imported when it runs
    from relay.proofs import Authorities

    if (root is None) == (not keys):
        raise Misconfigured(
            "no-authorities", "Whose word counts? Give --root FILE, or --authority-key NAME=KEY for each authority."
        )
    return Authorities.of_root(_bytes(root), network) if root is not None else Authorities.of_keys(keys or [])


def _steps(one: dict[str, Any]) -> str:
    names = ("sent_at", "accepted_at", "delivered_at", "rejected_at", "purged_at", "ended_at")
    steps = [f"{name.removesuffix('_at')} {one[name]}" for name in names if one[name] is not None]
    return "  ".join(steps) + (f"  ({one['code']})" if one["code"] else "") if steps else "nothing is known of it here"


def _ms(given: str | None) -> int | None:
    from datetime import datetime

    from relay.clock import to_ms

    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise RelayError("bad-request", f"{given} is no time with its offset from UTC, such as 2026-01-31T08:15:00Z.")
    return to_ms(at)


def _bytes(path: Path | None) -> bytes:
    return read_input(str(path))


def _write(path: Path, content: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise RelayError("cannot-write", f"{path} can't be written: {error.strerror}.") from error
