"""``relay directory root``: who may sign the directory, and how that changes.

A root counts when all authorities of the one before and all of its own have signed it; it is published together with a version
of the directory that the new keys signed.
"""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli.authority import (
    Current,
    KeyFile,
    Network,
    Out,
    Proposal,
    current,
    document,
    names_of,
    signatures_of,
    signed,
    write_new,
)
from relay.cli.ends import give, give_json, say
from relay.errors import Misconfigured, Refused, RelayError

if TYPE_CHECKING:
    from relay.directory import Root, Trusted

app = typer.Typer(help="Who may sign the directory.", no_args_is_help=True)

NewKey = Annotated[Path, typer.Argument(metavar="PEM", help="File for the private key; it must not exist.")]
Add = Annotated[
    list[str] | None, typer.Option("--add-key", metavar="AUTHORITY=FILE", help="A public key, as `root key` wrote it.")
]
Remove = Annotated[list[str] | None, typer.Option("--remove-key", metavar="KEY", help="Take a key out; again for each.")]
Edited = Annotated[Path | None, typer.Option("--edited", metavar="FILE", help="The whole root, edited by hand, instead.")]


@app.command("key")
def key(file: NewKey) -> None:
    """Make a key for an authority: the private half into a file, the public half to standard output."""
    import base64

    from relay.keys import SigningKey

    made = SigningKey.generate()
    try:
        made.save(file)
    except OSError as error:
        raise RelayError("cannot-write", f"{file} can't be written: {error.strerror}.") from error
    give_json({"id": made.id, "public": base64.b64encode(made.public).decode()})


@app.command("propose")
def propose(
    out: Out,
    folder: Current = Path(),
    add_key: Add = None,
    remove_key: Remove = None,
    edited: Edited = None,
    network: Network = None,
) -> None:
    """Write the next root, for the authorities of this one and of the next to sign."""
    from relay.directory import proposals
    from relay.directory.roots import parse_root

    trusted = current(folder, network)
    made = document(edited) if edited else json.loads(trusted.root.model_dump_json())
    for pair in add_key or ():
        _add(made, *pair.partition("=")[::2])
    for one in remove_key or ():
        _remove(made, one)
    raw = proposals.next_root(trusted.root, proposals.root_digest(trusted), made)
    write_new(out, raw)
    give(f"{out}  root {parse_root(raw).version}")
    _tell_missing(trusted, parse_root(raw), frozenset(), frozenset())


@app.command("sign")
def sign(file: Proposal, key: KeyFile, folder: Current = Path(), network: Network = None) -> None:
    """Add an authority's signature to the next root: with a key of this root, of the next, or of both."""
    from relay.directory import proposals, sign_root
    from relay.directory.folder import replace
    from relay.directory.roots import parse_root, root_signers
    from relay.directory.signatures import read_signatures
    from relay.keys import SigningKey

    trusted, found, private = current(folder, network), signed(file), SigningKey.load(key)
    root = parse_root(found.raw)
    if root.version != trusted.root.version + 1 or root.previous != proposals.root_digest(trusted):
        raise Misconfigured("root-chain", f"Root {root.version} does not follow root {trusted.root.version}.")
    names = names_of(private, trusted.root, root)
    made = proposals.add_signature(found.signatures, [sign_root(found.raw, name, private) for name in names])
    replace(signatures_of(file), made)
    give(f"{signatures_of(file)}  root {root.version}  signed for {', '.join(names)}")
    held = read_signatures(made, "bad-root")
    _tell_missing(trusted, root, root_signers(found.raw, held, trusted.root), root_signers(found.raw, held, root))


def _tell_missing(trusted: Trusted, root: Root, old: frozenset[str], new: frozenset[str]) -> None:
    from relay.directory.roots import missing_of

    for which, by in ((trusted.root, old), (root, new)):
        missing = missing_of(which, by)
        if missing:
            say(f"Missing, with a key of root {which.version}: {missing}")


def _add(made: dict[str, Any], authority: str, file: str) -> None:
    if not authority or not file:
        raise Refused("bad-proposal", "--add-key takes AUTHORITY=FILE.")
    public = document(Path(file))
    for one in made["authorities"]:
        if one["id"] == authority:
            one["keys"].append(public)
            return
    made["authorities"].append({"id": authority, "keys": [public]})


def _remove(made: dict[str, Any], key: str) -> None:
    """Take a key out; an authority without keys goes with its last."""
    if not any(key == held["id"] for one in made["authorities"] for held in one["keys"]):
        raise Refused("bad-proposal", f"{key!r} is no key of the root in force.")
    for one in made["authorities"]:
        one["keys"] = [held for held in one["keys"] if held["id"] != key]
    made["authorities"] = [one for one in made["authorities"] if one["keys"]]
