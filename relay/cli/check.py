"""``relay check``: is this node fit to work? One line a check: ok, warning, critical or unknown, and what to do.

With ``--config`` it looks at settings, keys, directory and certificates too, which works while the node is down; with ``--url``
it asks the node alone. It ends as monitoring systems expect it: 0 when all is well, 1 when something needs attention, 2 when
something does not work, 3 when it can't be told. What does not work counts most, then what can't be told.

``--format prometheus`` writes metrics, for the folder that a node exporter reads (``--collector.textfile.directory``).
"""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relay.cli.client import AsJson, Config, TokenFile, Url, Where, client, of_settings, where
from relay.cli.ends import Ended, give, give_json
from relay.errors import RelayError, catalogue

if TYPE_CHECKING:
    from pathlib import Path

    from relay.settings import Settings

State = Literal["ok", "warning", "critical", "unknown"]
STATUS: dict[State, int] = {"ok": 0, "warning": 1, "critical": 2, "unknown": 3}
"""Exit statuses, and values of the metric."""
WORST: tuple[State, ...] = ("critical", "unknown", "warning", "ok")


class Format(StrEnum):
    """How findings are written."""

    TEXT = "text"
    JSON = "json"
    PROMETHEUS = "prometheus"


As = Annotated[Format, typer.Option("--format", help="How to write what was found.")]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; ``action`` says what to do when it is not well."""

    check: str
    state: State
    detail: str
    action: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What all checks found, of which centre, if that could be told."""

    centre: str | None
    findings: list[Finding]

    @property
    def worst(self) -> State:
        """The state that decides how the command ends."""
        return next(state for state in WORST if any(one.state == state for one in self.findings))


def check(
    form: As = Format.TEXT, as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None
) -> None:
    """Check settings, keys, directory, node and peers; end with 0 (ok), 1 (warning), 2 (critical) or 3 (unknown)."""
    found = _find(config, url, token_file)
    write = {Format.TEXT: _as_text, Format.JSON: _as_json, Format.PROMETHEUS: _as_metrics}
    write[Format.JSON if as_json else form](found)
    raise Ended(STATUS[found.worst])


def _as_text(found: Found) -> None:
    for one in found.findings:
        give(f"{one.state:<8}  {one.check:<12}  {one.detail}" + (f" {one.action}" if one.action else ""))


def _as_json(found: Found) -> None:
    give_json([asdict(one) for one in found.findings])


def _as_metrics(found: Found) -> None:
    centre = f',centre="{found.centre}"' if found.centre is not None else ""
    give("# HELP relay_check_status What `relay check` found: 0 ok, 1 warning, 2 critical, 3 unknown.")
    give("# TYPE relay_check_status gauge")
    for one in found.findings:
        give(f'relay_check_status{{check="{one.check}"{centre}}} {STATUS[one.state]}')
    give("# HELP relay_check_timestamp_seconds Unix time of the check: what is old was not checked lately.")
    give("# TYPE relay_check_timestamp_seconds gauge")
    give(f"relay_check_timestamp_seconds{{{centre[1:]}}} {time.time():.3f}")


def _find(config: Config, url: Url, token_file: TokenFile) -> Found:
    """Do every check that can be done, from the settings outwards."""
    if url is not None and token_file is not None:
        return _of_node(where(None, url, token_file), None)
    try:
        settings = _load(config)
    except RelayError as error:
        return Found(None, [_failed("settings", error)])
    here = [Finding("settings", "ok", f"{config} is valid; centre {settings.centre}."), *_of_files(settings)]
    there = _of_node(of_settings(settings), settings.centre)
    return Found(settings.centre, merged(here, there.findings))


def merged(here: Sequence[Finding], there: Sequence[Finding]) -> list[Finding]:
    """Return every check once: of what the files say and the node says, the worse, the node's when they agree."""
    said = {one.check: one for one in there}
    worse = [one for one in here if one.check not in said or _rank(one) < _rank(said[one.check])]
    named = {one.check for one in worse}
    return [*worse, *(one for one in there if one.check not in named)]


def _rank(one: Finding) -> int:
    return WORST.index(one.state)


def _load(config: Config) -> Settings:
    from relay.settings import load

    if config is None:
        where(None, None, None)  # says which options name a node
    return load(config)  # type: ignore[arg-type]


def _of_files(settings: Settings) -> Iterator[Finding]:
    """Look at what the node is given."""
    yield _tried("keys", lambda: _keys(settings))
    yield _tried("directory", lambda: _directory(settings))
    if any(_served_by(settings)):
        yield _tried("certificates", lambda: _certificates(settings))


def _tried(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except RelayError as error:
        return _failed(name, error)


def _failed(name: str, error: RelayError, state: State = "critical") -> Finding:
    entry = catalogue().get(error.code)
    return Finding(name, state, f"{error.detail} [{error.code}]", entry.action if entry else "")


def _keys(settings: Settings) -> Finding:
    from relay.clock import now_ms
    from relay.keyring import check_usable, warnings
    from relay.node import open_keyring, read_register

    keyring, register, now = open_keyring(settings), read_register(settings), now_ms()
    keyring.follow(lambda: register)
    check_usable(keyring, now)
    found = keyring.standings(now)
    said = warnings(found, datetime.now(UTC))
    text = f"{sum(one.state == 'valid' for one in found)} keys are held and listed as valid."
    return Finding("keys", "warning" if said else "ok", " ".join([text, *said]), "See `relay key list`." if said else "")


def _served_by(settings: Settings) -> tuple[Path | None, ...]:
    return settings.broker.tls.certificate, settings.api.tls.certificate, settings.console.tls.certificate


def _certificates(settings: Settings) -> Finding:
    from relay.certificates import read_certificate
    from relay.keyring import WARN_DAYS

    settings.broker.context(settings.centre)
    settings.api.tls.context()
    settings.console.context(settings.api.tls)
    held = [file for file in _served_by(settings) if file is not None]
    ends = min(read_certificate(file).valid_until for file in held)
    said = f"Certificates held: {len(held)}"
    return _expiring("certificates", said, ends, max(WARN_DAYS), "Put a renewed one in place; nothing restarts.")


def _directory(settings: Settings) -> Finding:
    from relay.node import read_register

    register = read_register(settings)
    left = (register.expires_at - register.warn_after).days
    text = f"Version {register.version} of the files, signed by every authority"
    return _expiring("directory", text, register.expires_at, left, "Get a newer directory from the authorities.")


def _expiring(name: str, text: str, ends: datetime, warn_days: int, action: str) -> Finding:
    left = ends - datetime.now(UTC)
    late = left.days < warn_days
    return Finding(name, "warning" if late else "ok", f"{text}; until {ends:%Y-%m-%d}.", action if late else "")


def _of_node(node: Where, centre: str | None) -> Found:
    """Ask the node itself; one that answers something else than its checks can't be judged."""
    try:
        with client(node, "operator") as asking:
            answer = asking.ask("GET", "/v1/checks").json()
    except RelayError as error:
        down = error.code == "node-unreachable"
        return Found(centre, [_failed("node", error, "critical" if down else "unknown")])
    said = [Finding(**one) for one in answer["checks"]]
    return Found(answer["centre"], [Finding("node", "ok", f"It answers at {node.url}."), *said])
