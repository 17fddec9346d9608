"""Settings of what is kept on this machine: the store, its retention, the audit record, code lists, the log."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from relay.settings.section import Section


class StoreSettings(Section):
    """The centre's store."""

    file: Path = Field(Path("store/relay.db"), description="the SQLite file")
    disk_floor_bytes: int = Field(256 * 1024 * 1024, ge=0, description="free disk below which no message is taken (507)")


class CodeSettings(Section):
    """The code lists that this centre's messages are written with."""

    folder: Path | None = Field(
        None,
        description="folder with this centre's own versions of code lists, read at the start; without it those shipped",
        examples=["codes"],
    )


class RetentionSettings(Section):
    """When a node purges what is due; how long a kind is kept is the directory's to say."""

    every_seconds: float = Field(3600, gt=0, description="pause between two runs of retention")


class AuditSettings(Section):
    """The audit record, and how centres watch each other's."""

    checkpoint_seconds: float = Field(60, gt=0, description="pause between two checkpoints, while there is something new")
    verify_seconds: float = Field(3600, gt=0, description="pause between two checks of the whole record")
    comparison_seconds: float = Field(
        3600, gt=0, description="length of the times in which what was sent is compared with what peers hold of it, seconds"
    )
    comparison_grace_seconds: float = Field(
        600, ge=0, description="how long after its end a time is compared first, and a difference looked at again, seconds"
    )


class LogSettings(Section):
    """The node's log: on standard error or output, or in files of its own."""

    format: Literal["auto", "json", "pretty"] = Field("auto", description="auto: pretty on a terminal, else JSON")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe events that are written")
    messages: bool = Field(
        True, description="whether each step of each message is a line; what goes wrong with one is in any case"
    )
    stream: Literal["stderr", "stdout"] = Field("stderr", description="where the log goes when there is no `file`")
    file: Path | None = Field(
        None,
        description="file for the log, readable by its owner alone; it is renamed when it is full",
        examples=["log/relay.jsonl"],
    )
    file_bytes: int = Field(100 * 1024 * 1024, ge=4096, description="size at which the file becomes `.1`, and `.1` becomes `.2`")
    files: int = Field(10, ge=1, le=1000, description="how many such full files are kept")
