"""What the commands of an authority share: the directory in force, the files that are signed, and whose key signs.

The network's id is never taken from the files it is to judge: ``--network`` names it, or the settings file (``network.toml``,
``node.toml``) beside them, which whoever joined wrote down from elsewhere.
"""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.errors import Refused, RelayError

if TYPE_CHECKING:
    from relay.directory import Directory, Root, Signed, Trusted
    from relay.keys import SigningKey

Current = Annotated[Path, typer.Option("--current", metavar="DIR", help="Folder with the directory in force.")]
Network = Annotated[str | None, typer.Option("--network", help="SHA-256 of root.json; none: as network.toml or node.toml says.")]
Proposal = Annotated[Path, typer.Argument(metavar="FILE", help="A proposal; its signatures stand beside it.")]
KeyFile = Annotated[Path, typer.Option("--key", metavar="PEM", help="The authority's private key.")]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write; it must not exist.")]

ANY_TIME = datetime.min.replace(tzinfo=UTC)
"""An authority goes on from an expired version, too."""


def current(folder: Path, network: str | None) -> Trusted:
    """Return what is in force in a folder, verified from the network's id on; it may be expired."""
    from relay.directory import Paths, begin, read_bundle

    if not folder.is_dir():
        raise RelayError("no-input", f"{folder} is no folder.")
    return begin(network_id(folder, network), Paths.of(folder).first_root(), read_bundle(folder), ANY_TIME)


def network_id(folder: Path, given: str | None) -> str:
    """Return the network's id, as given or as the settings file in the folder says."""
    import tomllib

    if given:
        return given
    for name in ("network.toml", "node.toml"):
        if (folder / name).exists():
            found = tomllib.loads((folder / name).read_text(encoding="utf-8")).get("network")
            if isinstance(found, str):
                return found
    sentence = f"{folder} has no settings that name the network: give its id with --network, as you were told it."
    raise Refused("no-network", sentence)


def signatures_of(file: Path) -> Path:
    """Return the file in which the signatures of another stand."""
    return file.with_name(f"{file.stem}.signatures.json")


def signed(file: Path) -> Signed:
    """Return a proposal with whatever signatures it has so far."""
    from relay.directory import Signed

    beside = signatures_of(file)
    return Signed(capped(file), capped(beside) if beside.exists() else b'{"signatures": []}')


def capped(file: Path) -> bytes:
    """Return a file's bytes; one that is larger than any directory is refused."""
    from relay.directory.folder import read_capped
    from relay.directory.strict import MAX_DIRECTORY_BYTES

    if not file.is_file():
        raise RelayError("no-input", f"{file} can't be read: there is no such file.")
    return read_capped(file, MAX_DIRECTORY_BYTES)


def document(file: Path) -> dict[str, Any]:
    """Return a TOML or JSON file as a document."""
    import tomllib

    try:
        text = capped(file).decode()
        found = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused("bad-proposal", f"{file} is neither TOML nor JSON as its name says: {str(error)[:200]}.") from error
    if not isinstance(found, dict):
        raise Refused("bad-proposal", f"{file} is no document with named fields.")
    return found


def write_new(file: Path, content: bytes) -> None:
    """Write a file that is not there yet."""
    try:
        with file.open("xb") as opened:
            opened.write(content)
    except OSError as error:
        raise RelayError("cannot-write", f"{file} can't be written: {error.strerror}.") from error


def names_of(key: SigningKey, *roots: Root) -> list[str]:
    """Return the authorities for which a key signs under any of these roots."""
    found = {one.id for root in roots for one in root.authorities if key.id in {held.id for held in one.keys}}
    if not found:
        raise Refused("no-authority-key", f"Key {key.id} is no key of an authority of this network.")
    return sorted(found)


def moment(text: str) -> datetime:
    """Return the time that a text names; it must say its zone."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused("bad-proposal", f"{text!r} is no time of the form 2026-01-31T12:00:00Z.") from error
    if found.tzinfo is None:
        raise Refused("bad-proposal", f"{text!r} does not say its time zone; end it with Z or +01:00.")
    return found


def read_either(path: Path, network: str | None) -> Directory:
    """Return the version in force in a folder, verified, or the one in a file as it stands there."""
    from relay.directory import parse_directory

    return current(path, network).directory if path.is_dir() else parse_directory(capped(path))
