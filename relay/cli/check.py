"""``relay check``: is this node fit to work? One line a check: ok, warn or fail, and what to do.

With ``--config`` it looks at settings, keys and directory too, which works while the node is down; with ``--url`` it asks the
node alone. It ends with 0 when all is well, 1 when something needs attention, 2 when something fails.
"""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from relay.cli.client import AsJson, Client, Config, TokenFile, Url, Where, client, of_settings, where
from relay.cli.ends import Ended, give, give_json
from relay.errors import RelayError, catalogue

if TYPE_CHECKING:
    from relay.settings import Settings

State = Literal["ok", "warn", "fail"]
WORST: dict[State, int] = {"ok": 0, "warn": 1, "fail": 2}
INBOX_ATTENTION = 10_000
FREE_ATTENTION = 4  # times the disk floor


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; ``action`` says what to do when it is not well."""

    check: str
    state: State
    detail: str
    action: str = ""


def check(as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None) -> None:
    """Check settings, keys, directory, node, broker, store and backlog; end with 0 (ok), 1 (warn) or 2 (fail)."""
    found = list(_findings(config, url, token_file))
    if as_json:
        give_json([asdict(one) for one in found])
    else:
        for one in found:
            give(f"{one.state:<4}  {one.check:<10}  {one.detail}" + (f" {one.action}" if one.action else ""))
    raise Ended(max(WORST[one.state] for one in found))


def _findings(config: Config, url: Url, token_file: TokenFile) -> Iterator[Finding]:
    """Do every check that can be done, from the settings outwards."""
    if url is not None and token_file is not None:
        yield from _of_node(where(None, url, token_file))
        return
    try:
        settings = _load(config)
    except RelayError as error:
        yield _failed("settings", error)
        return
    yield Finding("settings", "ok", f"{config} is valid; centre {settings.centre}.")
    yield _tried("keys", lambda: _keys(settings))
    yield _tried("directory", lambda: _directory(settings))
    if settings.broker.tls.certificate or settings.api.tls.certificate:
        yield _tried("tls", lambda: _certificates(settings))
    yield from _of_node(of_settings(settings))


def _load(config: Config) -> Settings:
    from relay.settings import load

    if config is None:
        where(None, None, None)  # says which options name a node
    return load(config)  # type: ignore[arg-type]


def _tried(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except RelayError as error:
        return _failed(name, error)


def _failed(name: str, error: RelayError) -> Finding:
    entry = catalogue().get(error.code)
    return Finding(name, "fail", f"{error.detail} [{error.code}]", entry.action if entry else "")


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
    return Finding("keys", "warn" if said else "ok", " ".join([text, *said]), "See `relay key list`." if said else "")


def _certificates(settings: Settings) -> Finding:
    from relay.certificates import read_certificate
    from relay.keyring import WARN_DAYS

    settings.broker.context(settings.centre)
    settings.api.tls.context()
    held = [file for file in (settings.broker.tls.certificate, settings.api.tls.certificate) if file is not None]
    ends = min(read_certificate(file).valid_until for file in held)
    return _expiring(
        "tls", f"certificates held: {len(held)}", ends, max(WARN_DAYS), "Put a renewed one in place; nothing restarts."
    )


def _directory(settings: Settings) -> Finding:
    from relay.node import read_register

    register = read_register(settings)
    left = (register.expires_at - register.warn_after).days
    text = f"version {register.version}, signed by every authority"
    return _expiring("directory", text, register.expires_at, left, "Get a newer directory from the authorities.")


def _expiring(name: str, text: str, ends: datetime, warn_days: int, action: str) -> Finding:
    left = ends - datetime.now(UTC)
    late = left.days < warn_days
    return Finding(name, "warn" if late else "ok", f"{text}; until {ends:%Y-%m-%d}.", action if late else "")


def _of_node(node: Where) -> Iterator[Finding]:
    """Ask the node itself."""
    try:
        with client(node, "operator") as asking:
            health = _health(asking)
    except RelayError as error:
        yield _failed("node", error)
        return
    yield Finding("node", "ok", f"It answers at {node.url}.")
    yield from _of_health(health)


def _health(asking: Client) -> dict[str, Any]:
    found: dict[str, Any] = asking.ask("GET", "/v1/health").json()
    return found


def _of_health(health: dict[str, Any]) -> Iterator[Finding]:
    problems = " ".join(health["problems"])
    yield Finding("ready", "fail" if problems else "ok", problems or "It can sign, write its store and reach its broker.")
    action = "" if health["broker_connected"] else "See that RabbitMQ runs and has the topology: `relay broker plan DIR`."
    yield Finding("broker", "fail" if action else "ok", "not connected." if action else "connected.", action)
    yield _disk(health["disk_free_bytes"], health["disk_floor_bytes"])
    yield _backlog(health)
    yield _quarantine(health["quarantined_messages"])


def _disk(free: int, floor: int) -> Finding:
    state: State = "fail" if free < floor else "warn" if free < FREE_ATTENTION * floor else "ok"
    text = f"{free // 2**20} MiB free; below {floor // 2**20} MiB no message is taken."
    return Finding("disk", state, text, "" if state == "ok" else "Free some disk where the store lies.")


def _backlog(health: dict[str, Any]) -> Finding:
    unsent, limit, waiting = health["unsent_envelopes"], health["queued_envelopes_limit"], health["waiting_messages"]
    if unsent is None or waiting is None:
        return Finding("backlog", "fail", "The store can't be read.", "See the node's log.")
    text = f"{unsent} envelopes to send (limit {limit}), {waiting} messages for the centre's system."
    if unsent > limit:
        return Finding("backlog", "fail", text, "Nothing more is taken until the broker takes some: see `broker`.")
    if unsent > limit // 2 or waiting > INBOX_ATTENTION:
        return Finding("backlog", "warn", text, "See that the broker takes envelopes and the system acknowledges messages.")
    return Finding("backlog", "ok", text)


def _quarantine(count: int | None) -> Finding:
    if not count:
        return Finding("quarantine", "ok", "Nothing authentic was refused.")
    return Finding(
        "quarantine", "warn", f"{count} authentic messages were refused on arrival.", "Ask their origins; the log names them."
    )
