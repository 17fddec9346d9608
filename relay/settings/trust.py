"""Settings of whom the node trusts, and with what it is trusted: the directory, and its own private keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from relay.settings.section import KeyFiles, Section, listed


class WaitingSettings(Section):
    """What waits at most for a newer directory that it names; beyond it the directory in force decides, and marks repair."""

    seconds: float = Field(60, ge=0, description="how long an envelope waits for the directory that it names")
    envelopes: int = Field(512, ge=0, description="most envelopes that wait at once")
    bytes: int = Field(64 * 1024 * 1024, ge=0, description="most bytes of them together")


class DirectorySettings(Section):
    """Where the network's register lies."""

    root: Path = Field(Path("root.json"), description="the authorities' public keys")
    file: Path = Field(Path("directory.json"), description="the signed register of centres")
    signatures: Path = Field(Path("directory.signatures.json"), description="the authorities' signatures over it")
    poll_seconds: float = Field(5, gt=0, description="pause between two looks at these files for a new version")
    url: str | None = Field(
        None,
        pattern=r"^https?://[^@\s]+$",
        description="where a `directory.bundle` may be had over HTTP; without it files and peers bring new versions",
        examples=["https://directory.example/directory.bundle"],
    )
    url_seconds: float = Field(300, gt=0, description="pause between two requests to that URL")
    waiting: WaitingSettings = WaitingSettings()


class KeySettings(Section):
    """Where the centre's private keys lie."""

    signing: KeyFiles = Field(
        (Path("keys/signing.pem"),), description="Ed25519 keys: the newest that the directory lists as valid signs"
    )
    sealing: KeyFiles = Field((Path("keys/sealing.pem"),), description="keys that open what is sealed to this centre")
    checkpoint: Annotated[tuple[Path, ...], BeforeValidator(listed)] = Field(
        (), description="Ed25519 keys that sign checkpoints of the audit record; without one a signing key does"
    )
    storage: Path = Field(Path("keys/storage.key"), description="key under which content rests in the store")
