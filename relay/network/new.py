"""A new network: keys, root, directory, settings, in one call.

Everything secret is a file of mode 0600, made anew and never replaced. In life each centre makes its own keys and each
authority keeps its own apart; here one command makes all of them, for a first network, a demo or a test.
"""

from __future__ import annotations

import base64
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from relay import codes
from relay.clients import Register, Role, make
from relay.directory import (
    Authority,
    AuthorityKey,
    Contact,
    Directory,
    Entitlement,
    Key,
    Member,
    Root,
    Signatures,
    digest,
    sign,
)
from relay.errors import Refused
from relay.keys import SealingKey, SigningKey, StorageKey, write_private
from relay.network import certificates, files
from relay.network.loaded import HOST, SHARED, Broker, Network, load_network
from relay.ports import free_ports
from relay.tls import refuse_clear_amqp, refuse_clear_management

AUTHORITIES = ("WCO", "INTERPOL")
KEYS_PER_AUTHORITY = 2
PORTS = 3  # of a centre: its API, its health, its console
ADMIN = "relay-admin"
CLIENTS: dict[str, tuple[Role, ...]] = {"system": ("submit", "receive"), "operator": ("operate", "audit")}
"""The clients of a new centre's API: its own system, and its operators."""

_CENTRE_ID = re.compile(r"[A-Z0-9]{2,8}(-[A-Z0-9]{2,8})?")
_KEYS_VALID = timedelta(days=730)
_WARN_AFTER = timedelta(days=300)
_DIRECTORY_VALID = timedelta(days=365)
_SKEW = timedelta(minutes=5)  # a key is valid on a machine whose clock is a little behind, too


def write_network(
    folder: Path,
    centres: Sequence[str] = (),
    amqp: str | None = None,
    *,
    management: str | None = None,
    tls: bool = False,
    name: str = "Inter-centre Relay",
    now: datetime | None = None,
) -> Network:
    """Write a complete network into a new or empty folder and return it, read back and verified.

    ``centres`` are ids; none means those of ``members.toml``; an id that is not there becomes a member entitled
    worldwide to the four families of the mission. ``amqp`` is the broker's address; an account in it is taken as the
    broker's administrator; none means a free port of loopback. ``management`` is the URL of its management API (by
    default port 15672 of that host, encrypted 15671). With ``tls``, or an ``amqps`` address, the network gets a certificate
    authority of its own, a certificate for the broker's host, and one per centre that proves its account.

    Raises ``Refused`` and ``Misconfigured`` (``broker-not-encrypted``, ``management-not-encrypted``); nothing is written then.
    """
    ids = _centre_ids(centres)
    ports = free_ports(PORTS * len(ids) + 2)
    broker = _broker(amqp, management, ports[-2:], tls=tls)
    _claim(folder)
    moment = (now or datetime.now(UTC)).replace(microsecond=0)
    authorities = _write_authorities(folder / "authorities")
    root = Root(name=name, authorities=tuple(_authority(id_, keys) for id_, keys in authorities.items()))
    network = _write(folder / "root.json", root.model_dump_json(indent=2))
    members = tuple(_write_keys(folder / "centres" / id_, id_, moment) for id_ in ids)
    (folder / "broker").mkdir(mode=0o700)
    if broker.encrypted:
        certificates.write(folder, name, broker.host, ids, moment)
    _write_directory(folder, _directory(network, members, moment), authorities)
    for index, id_ in enumerate(ids):
        _write_centre(folder, id_, network, broker, ports[PORTS * index : PORTS * (index + 1)])
    _write_broker(folder, network, broker)
    return load_network(folder, now=now)


def _centre_ids(centres: Sequence[str]) -> tuple[str, ...]:
    ids = tuple(dict.fromkeys(centres)) or files.default_centres()
    wrong = [id_ for id_ in ids if not _CENTRE_ID.fullmatch(id_)]
    if wrong:
        raise Refused(
            "bad-centre-id",
            f"{', '.join(map(repr, wrong))}: a centre's id is 2 to 8 capital letters or digits, and may have a second "
            "part of the same form after a hyphen, as in BE-CUS.",
        )
    return ids


def _claim(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Refused("folder-not-empty", f"{folder} is not an empty folder; nothing was written.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _broker(amqp: str | None, management: str | None, ports: Sequence[int], *, tls: bool) -> Broker:
    if amqp is None:
        url = management or f"{'https' if tls else 'http'}://{HOST}:{ports[1]}"
        return Broker(f"{'amqps' if tls else 'amqp'}://{HOST}:{ports[0]}/%2F", url, ADMIN, secrets.token_urlsafe(24))
    try:
        parts = urlsplit(amqp)
        port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
    except ValueError as error:
        raise Refused("bad-amqp-url", f"{amqp!r} is not an address: {error}.") from error
    if parts.scheme not in {"amqp", "amqps"} or not parts.hostname:
        raise Refused("bad-amqp-url", f"{amqp!r} is not of the form amqp://host:port/vhost.")
    if tls and parts.scheme != "amqps":
        raise Refused("bad-amqp-url", f"{amqp!r} is not encrypted: with TLS it begins with amqps://.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    management = management or (f"https://{host}:15671" if parts.scheme == "amqps" else f"http://{host}:15672")
    refuse_clear_amqp(f"{parts.scheme}://{host}:{port}")
    refuse_clear_management(management)
    return Broker(
        amqp=f"{parts.scheme}://{host}:{port}{parts.path if len(parts.path) > 1 else '/%2F'}",
        management=management,
        admin=unquote(parts.username or ADMIN),
        admin_password=unquote(parts.password or "") or secrets.token_urlsafe(24),
    )


def _write_authorities(folder: Path) -> dict[str, list[SigningKey]]:
    made: dict[str, list[SigningKey]] = {}
    for id_ in AUTHORITIES:
        (folder / id_).mkdir(mode=0o700, parents=True)
        made[id_] = [SigningKey.generate() for _ in range(KEYS_PER_AUTHORITY)]
        for number, key in enumerate(made[id_], start=1):
            key.save(folder / id_ / f"key-{number}.pem")
    return made


def _authority(id_: str, keys: Iterable[SigningKey]) -> Authority:
    public = (AuthorityKey(id=key.id, public=base64.b64encode(key.public).decode()) for key in keys)
    return Authority(id=id_, keys=tuple(public))


def _directory(network: str, members: tuple[Member, ...], now: datetime) -> Directory:
    return Directory(
        network=network,
        version=1,
        previous=None,
        issued_at=now,
        warn_after=now + _WARN_AFTER,
        expires_at=now + _DIRECTORY_VALID,
        members=members,
    )


def _write_directory(folder: Path, directory: Directory, authorities: Mapping[str, list[SigningKey]]) -> None:
    _write(folder / "directory.json", directory.model_dump_json(indent=2))
    raw = (folder / "directory.json").read_bytes()
    signatures = Signatures(signatures=tuple(sign(raw, id_, keys[0]) for id_, keys in authorities.items()))
    _write(folder / "directory.signatures.json", signatures.model_dump_json(indent=2))


def _write_keys(folder: Path, id_: str, now: datetime) -> Member:
    """Make a centre's keys and return it as the directory has it."""
    (folder / "keys").mkdir(mode=0o700, parents=True)
    signing, sealing = SigningKey.generate(), SealingKey.generate()
    signing.save(folder / "keys" / "signing.pem")
    sealing.save(folder / "keys" / "sealing.pem")
    StorageKey.generate().save(folder / "keys" / "storage.key")
    keys = (
        _public("signing", "ed25519", signing.id, signing.public, now),
        _public("sealing", sealing.algorithm, sealing.id, sealing.public, now),
    )
    return _member(id_, keys)


def _public(use: str, algorithm: str, id_: str, public: bytes, now: datetime) -> Key:
    return Key.model_validate(
        {
            "id": id_,
            "use": use,
            "algorithm": algorithm,
            "public": base64.b64encode(public).decode(),
            "valid_from": now - _SKEW,
            "valid_until": now + _KEYS_VALID,
        }
    )


def _member(id_: str, keys: tuple[Key, ...]) -> Member:
    known = files.member(id_)
    contact = Contact(name="Duty officer", telephone="+00 0 000 00 00", email=f"duty@{id_.lower()}.example")
    return Member(
        id=id_,
        name=known["name"],
        organisation=known["organisation"],
        seat=known["seat"],
        country=known.get("country"),
        time_zone=known["time_zone"],
        clearance=known["clearance"],
        contact=contact,
        keys=keys,
        publish=tuple(Entitlement.model_validate(item) for item in known["publish"]),
        subscribe=tuple(Entitlement.model_validate(item) for item in known["subscribe"]),
        reads=dict.fromkeys(codes.KINDS, codes.SCHEMA_VERSIONS),
    )


def _write_centre(folder: Path, id_: str, network: str, broker: Broker, ports: Sequence[int]) -> None:
    centre = folder / "centres" / id_
    for file in SHARED:
        shutil.copyfile(folder / file, centre / file)
    (centre / "tokens").mkdir(mode=0o700)
    tokens = {name: _write_secret(centre / "tokens" / name) for name in CLIENTS}
    clients = [make(name, roles, tokens[name], why="made with the network") for name, roles in CLIENTS.items()]
    Register(centre / "clients.json").create(*clients)
    settings = files.NODE.format(
        centre=files.quoted(id_),
        network=network,
        url=files.quoted(broker.url(id_)),
        login=_login(centre, broker),
        listen=f"{HOST}:{ports[0]}",
        health=f"{HOST}:{ports[1]}",
        console=f"{HOST}:{ports[2]}",
    )
    _write(centre / "node.toml", settings)


def _login(centre: Path, broker: Broker) -> str:
    """Return how a centre proves its account, as its settings say it; a password is made."""
    if broker.encrypted:
        return files.ENCRYPTED_LOGIN
    _write_secret(centre / "keys" / "broker.password")
    return files.CLEAR_LOGIN


def _write_broker(folder: Path, network: str, broker: Broker) -> None:
    write_private(folder / "broker" / "admin.password", f"{broker.admin_password}\n".encode())
    amqp, management, admin = map(files.quoted, (broker.amqp, broker.management, broker.admin))
    tls = files.NETWORK_TLS if broker.encrypted else ""
    text = files.NETWORK.format(network=network, amqp=amqp, management=management, admin=admin, tls=tls)
    _write(folder / "network.toml", text)


def _write(path: Path, text: str) -> str:
    """Write a public file and return its digest."""
    raw = (text.rstrip("\n") + "\n").encode()
    path.write_bytes(raw)
    return digest(raw)


def _write_secret(path: Path) -> str:
    """Write a new secret of 256 bits and return it."""
    secret = secrets.token_urlsafe(32)
    write_private(path, f"{secret}\n".encode())
    return secret
