"""What every section of the settings is made of: the model, kinds of values, and files that belong together.

What a section's fields say of themselves is what the reference and the example say (``docs/reference/settings.md``,
``config/node.toml``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import NoDecode

from relay.tls import Identity


def listed(value: object) -> object:
    """Return a single path as the list that it stands for; in the environment a list is JSON."""
    if isinstance(value, str) and value.startswith("["):
        return json.loads(value)
    return [value] if isinstance(value, str | Path) else value


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("an address is host:port")
    return value


Address = Annotated[str, AfterValidator(_address)]
"""``host:port``."""

KeyFiles = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(listed), Field(min_length=1)]
"""One file or more."""


class Section(BaseModel):
    """A section: it knows its keys and no other, and nothing changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def paired(certificate: Path | None, key: Path | None) -> Identity | None:
    """Return a certificate with its key, or None where there is none."""
    return Identity(certificate, key) if certificate is not None and key is not None else None


def check_pair(certificate: Path | None, key: Path | None) -> None:
    """Raise ``ValueError`` when one of them is named without the other."""
    if (certificate is None) != (key is None):
        raise ValueError("certificate and key belong together")
