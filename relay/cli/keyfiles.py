"""The files of a centre's private keys, and the lines of ``node.toml`` that name them.

A key is written beside the older ones of its use, under a name that carries the day and the start of its id. The list in the
settings is changed only where it stands on a line of its own and reads back as it should; else the caller is told the line.

Errors raised: ``NotFound`` (``no-such-key``), ``RelayError`` (``cannot-write``) and those of the keys.
"""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relay.errors import NotFound, RelayError

if TYPE_CHECKING:
    from datetime import datetime

    from relay.keyring import Use
    from relay.keys import SealingKey, SigningKey
    from relay.settings import Settings

CREDENTIAL = "credential:"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A private key of a centre and where it lies."""

    use: Use
    path: Path
    key: SigningKey | SealingKey


def read_all(settings: Settings) -> list[KeyFile]:
    """Return every signing, sealing and checkpoint key that the settings name."""
    from relay.keys import SealingKey, SigningKey

    files = settings.keys
    found = [KeyFile("signing", path, SigningKey.load(path)) for path in files.signing]
    found += [KeyFile("sealing", path, SealingKey.load(path)) for path in files.sealing]
    return found + [KeyFile("checkpoint", path, SigningKey.load(path)) for path in files.checkpoint]


def find(files: Sequence[KeyFile], id_: str) -> KeyFile:
    """Return the file of a key, named by its id or the beginning of it."""
    found = [one for one in files if one.key.id.startswith(id_)] if id_ else []
    if len(found) != 1:
        raise NotFound("no-such-key", f"{len(found) or 'No'} keys of this node begin with {id_!r}; `relay key list` shows all.")
    return found[0]


def make(settings: Settings, use: Use, at: datetime) -> KeyFile:
    """Make a new key of a use and write it beside the newest older one, readable for its owner alone."""
    from relay.keys import SealingKey, SigningKey

    key = SealingKey.generate() if use == "sealing" else SigningKey.generate()
    older = getattr(settings.keys, use) or settings.keys.signing
    path = older[0].parent / f"{use}-{at:%Y%m%d}-{key.id[:8]}.pem"
    try:
        key.save(path)
    except OSError as error:
        raise RelayError("cannot-write", f"The key file {path} can't be written: {error.strerror}.") from error
    return KeyFile(use, path, key)


def destroy(path: Path) -> None:
    """Overwrite a key file and remove it; what the file system or a backup keeps of it is out of reach."""
    try:
        with path.open("r+b") as file:
            file.write(os.urandom(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    except OSError as error:
        raise RelayError("cannot-write", f"The key file {path} can't be destroyed: {error.strerror}.") from error


def line(config: Path, use: Use, paths: Sequence[Path]) -> str:
    """Return the line of the settings that names these files, relative to the settings file where they lie under it."""
    return f"{use} = [{', '.join(json.dumps(_shown(config, path)) for path in paths)}]"


def rewrite(config: Path, use: Use, paths: Sequence[Path]) -> bool:
    """Let the settings name these files for a use; return False when that has to be done by hand, and nothing was changed."""
    from relay.directory.folder import replace

    before, new = config.read_text(encoding="utf-8"), line(config, use, paths)
    section = re.search(r"^\[keys\][^\n]*\n(?:(?!\[).*(?:\n|\Z))*", before, re.MULTILINE)
    if section is None:
        return False
    body, count = re.subn(rf"^{use}\s*=.*$", lambda _: new, section.group(), count=1, flags=re.MULTILINE)
    if not count:
        body = section.group().rstrip("\n") + f"\n{new}\n" + ("\n" if section.end() < len(before) else "")
    after = before[: section.start()] + body + before[section.end() :]
    if not _reads_as(before, after, use, [_shown(config, path) for path in paths]):
        return False
    mode = config.stat().st_mode & 0o777
    replace(config, after.encode())
    config.chmod(mode)
    return True


def _reads_as(before: str, after: str, use: Use, paths: list[str]) -> bool:
    """Return whether a settings file says the same as before but for one list of keys."""
    expected = tomllib.loads(before)
    expected.setdefault("keys", {})[use] = paths
    try:
        return tomllib.loads(after) == expected
    except tomllib.TOMLDecodeError:
        return False


def _shown(config: Path, path: Path) -> str:
    """Return a path as the settings say it."""
    from relay.private import CREDENTIALS

    folder = os.environ.get(CREDENTIALS)
    if folder and path.is_relative_to(folder):
        return f"{CREDENTIAL}{path.relative_to(folder)}"
    base = config.resolve().parent
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
