"""A node's settings: read once, from ``node.toml``, the environment and credential files, and refused when unclear.

Precedence: environment (``RELAY_`` and the key, sections joined by two underscores: ``RELAY_API__LISTEN``), then the file. A
secret is always a file, named by a key that ends in ``_file`` or points to a folder; a name that begins with ``credential:`` is
looked up in systemd's ``$CREDENTIALS_DIRECTORY``. Other relative paths start from the settings file's folder. An unknown key, a
missing one or a bad value raises ``Misconfigured`` (``bad-settings``) that names the key and the file.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from relay import tls
from relay.errors import Misconfigured
from relay.settings.api import ApiSettings, ApiTlsSettings, HealthSettings, RateSettings
from relay.settings.bounds import MOST_ATTACHED, LimitSettings, WindowSettings
from relay.settings.broker import BrokerSettings, BrokerTlsSettings
from relay.settings.console import ConsoleSettings, ConsoleTlsSettings
from relay.settings.keeping import AuditSettings, CodeSettings, LogSettings, RetentionSettings, StoreSettings
from relay.settings.patience import AlarmSettings, ClockSettings, DeadlineSettings, HandoverSettings, RepairSettings
from relay.settings.secret import read_secret
from relay.settings.trust import DirectorySettings, KeySettings, WaitingSettings

CREDENTIAL = "credential:"

__all__ = [
    "MOST_ATTACHED",
    "AlarmSettings",
    "ApiSettings",
    "ApiTlsSettings",
    "AuditSettings",
    "BrokerSettings",
    "BrokerTlsSettings",
    "ClockSettings",
    "CodeSettings",
    "ConsoleSettings",
    "ConsoleTlsSettings",
    "DeadlineSettings",
    "DirectorySettings",
    "HandoverSettings",
    "HealthSettings",
    "KeySettings",
    "LimitSettings",
    "LogSettings",
    "RateSettings",
    "RepairSettings",
    "RetentionSettings",
    "Settings",
    "StoreSettings",
    "WaitingSettings",
    "WindowSettings",
    "load",
    "read_secret",
]


class Settings(BaseSettings):
    """Everything a node is told."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_prefix="RELAY_", env_nested_delimiter="__")

    centre: str = Field(description="id of this centre in the directory")
    network: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of root.json in hex, obtained out of band")
    directory: DirectorySettings = DirectorySettings()
    keys: KeySettings = KeySettings()
    broker: BrokerSettings
    store: StoreSettings = StoreSettings()
    api: ApiSettings = ApiSettings()
    console: ConsoleSettings = ConsoleSettings()
    health: HealthSettings = HealthSettings()
    limits: LimitSettings = LimitSettings()
    codes: CodeSettings = CodeSettings()
    repair: RepairSettings = RepairSettings()
    windows: WindowSettings = WindowSettings()
    deadlines: DeadlineSettings = DeadlineSettings()
    clock: ClockSettings = ClockSettings()
    alarms: AlarmSettings = AlarmSettings()
    handover: HandoverSettings = HandoverSettings()
    retention: RetentionSettings = RetentionSettings()
    audit: AuditSettings = AuditSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment, then the file that :func:`load` hands in; no other source."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def load(path: Path) -> Settings:
    """Return the settings of a file and the environment, every path in them made absolute."""
    try:
        given = TomlConfigSettingsSource(Settings, path)() if path.is_file() else None
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise Misconfigured("bad-settings", f"{path} can't be read: {error}.") from error
    if given is None:
        raise Misconfigured("bad-settings", f"There is no settings file {path}.")
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise Misconfigured("bad-settings", f"{path}: {_explain(error)}") from error
    except SettingsError as error:  # a list or a table in the environment that is not JSON
        raise Misconfigured("bad-settings", f"The environment beside {path}: {error}.") from error
    _refuse_clear(settings)
    resolved: Settings = _resolve(settings, path.resolve().parent)
    return resolved


def _refuse_clear(settings: Settings) -> None:
    """Raise ``Misconfigured`` when something would go to another machine, or come from one, in clear."""
    tls.refuse_clear_amqp(settings.broker.url)
    if settings.api.tls.certificate is None:
        tls.refuse_clear_api(settings.api.listen)
    console = settings.console
    if console.listen is not None and not console.encrypted(settings.api.tls):
        tls.refuse_clear_console(console.listen)


def _explain(error: ValidationError) -> str:
    found = [f"`{'.'.join(map(str, one['loc']))}`: {one['msg']}" for one in error.errors()]
    return "; ".join(found) + "."


def _resolve(value: Any, base: Path) -> Any:  # noqa: ANN401 - any value that a setting may have
    if isinstance(value, Path):
        return _locate(value, base)
    if isinstance(value, tuple):
        return tuple(_resolve(item, base) for item in value)
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: _resolve(getattr(value, name), base) for name in type(value).model_fields})
    return value


def _locate(path: Path, base: Path) -> Path:
    text = str(path)
    if not text.startswith(CREDENTIAL):
        return base / path
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise Misconfigured("bad-settings", f"`{text}` needs $CREDENTIALS_DIRECTORY, which is not set.")
    return Path(folder) / text.removeprefix(CREDENTIAL)
