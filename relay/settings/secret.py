"""A secret is a file, read when it is needed, so that it may be replaced."""

from __future__ import annotations

from pathlib import Path

from relay.errors import Misconfigured


def read_secret(path: Path) -> str:
    """Return the content of a secret's file without its line end; raise ``Misconfigured`` when it can't be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured("bad-settings", f"The file {path} can't be read: {error}.") from error
