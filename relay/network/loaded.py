"""A network read back from its folder.

Nothing is trusted: the root must have the digest that ``DIR/network.toml`` names, the directory every authority's
signature. A centre's folder may have moved away; then its broker password is not known here, and plans leave it alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

from relay import topology
from relay.directory import Directory, Root, begin, read_bundle
from relay.errors import Misconfigured
from relay.tls import Identity, ServerTls
from relay.topology import Topology

HOST = "127.0.0.1"
SHARED = ("root.json", "directory.json", "directory.signatures.json")


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is, and the account that administers it. ``amqp`` names no account."""

    amqp: str
    management: str
    admin: str
    admin_password: str = field(repr=False)
    tls: ServerTls | None = None
    """The certificates of an encrypted broker, where each centre's certificate proves its account."""

    @property
    def encrypted(self) -> bool:
        """Whether it is reached by TLS."""
        return self.amqp.startswith("amqps:")

    @property
    def host(self) -> str:
        """The host of the AMQP address."""
        return urlsplit(self.amqp).hostname or HOST

    @property
    def port(self) -> int:
        """The port of the AMQP address."""
        parts = urlsplit(self.amqp)
        return parts.port or (5671 if parts.scheme == "amqps" else 5672)

    @property
    def vhost(self) -> str:
        """The virtual host, as RabbitMQ names it."""
        return unquote(urlsplit(self.amqp).path[1:]) or "/"

    @property
    def management_port(self) -> int:
        """The port of the management API."""
        return urlsplit(self.management).port or 15672

    def url(self, centre: str) -> str:
        """Return the AMQP address with a centre's account, without its password."""
        parts = urlsplit(self.amqp)
        return parts._replace(netloc=f"{quote(centre, safe='')}@{parts.netloc}").geturl()


@dataclass(frozen=True, slots=True)
class Network:
    """A network in a folder: its verified directory, its broker, and the broker passwords of the centres kept here."""

    folder: Path
    id: str
    root: Root
    directory: Directory
    broker: Broker
    passwords: Mapping[str, str] = field(repr=False)

    @property
    def broker_folder(self) -> Path:
        """Where a private broker of this network keeps its files."""
        return self.folder / "broker"

    @property
    def topology(self) -> Topology:
        """What must exist on the broker."""
        return topology.topology(self.directory)

    def definitions(self) -> dict[str, Any]:
        """Return the definitions file from which RabbitMQ boots with everything this network needs."""
        admins = {self.broker.admin: self.broker.admin_password}
        return topology.definitions(self.topology, self.passwords, vhost=self.broker.vhost, administrators=admins)

    def centre(self, centre: str) -> Path:
        """Return the folder of a centre."""
        return self.folder / "centres" / centre

    def node_file(self, centre: str) -> Path:
        """Return the settings file of a centre's node."""
        return self.centre(centre) / "node.toml"

    def listen(self, centre: str) -> str:
        """Return ``host:port`` of a centre's API."""
        return str(_read_toml(self.node_file(centre))["api"]["listen"])

    def health(self, centre: str) -> str:
        """Return ``host:port`` at which a centre's node says whether it is ready."""
        return str(_read_toml(self.node_file(centre))["health"]["listen"])

    def console(self, centre: str) -> str:
        """Return ``host:port`` of a centre's console."""
        return str(_read_toml(self.node_file(centre))["console"]["listen"])

    def token(self, centre: str, role: Literal["system", "operator"]) -> str:
        """Return the token of a centre's client ``system`` (submit, receive) or ``operator`` (operate, audit)."""
        return (self.centre(centre) / "tokens" / role).read_text(encoding="utf-8").strip()


def load_network(folder: Path, *, now: datetime | None = None) -> Network:
    """Return the network in this folder, its root and directory verified."""
    try:
        settings = _read_toml(folder / "network.toml")
        network, broker = settings["network"], settings["broker"]
        password = (folder / broker["admin_password_file"]).read_text(encoding="utf-8").strip()
        found = Broker(broker["amqp"], broker["management"], broker["admin"], password, _tls(folder, broker.get("tls")))
        root_file, *_ = [(folder / file).read_bytes() for file in SHARED]
    except OSError as error:
        raise Misconfigured("not-a-network", f"{error.filename} can't be read: {error.strerror}.") from error
    except (KeyError, TypeError) as error:
        raise Misconfigured("not-a-network", f"{folder / 'network.toml'} lacks a key: {error}.") from error
    trusted = begin(network, root_file, read_bundle(folder), now or datetime.now(UTC))
    directory = trusted.directory
    return Network(folder.resolve(), network, trusted.root, directory, found, _passwords(folder, directory, found))


def _tls(folder: Path, given: Mapping[str, str] | None) -> ServerTls | None:
    if given is None:
        return None
    certificate, key, ca = ((folder / given[name]).resolve() for name in ("certificate", "key", "ca"))
    return ServerTls(Identity(certificate, key), ca)


def _passwords(folder: Path, directory: Directory, broker: Broker) -> dict[str, str]:
    """Return the broker passwords of the centres whose folders are still here; where certificates count, that none has any."""
    if broker.tls is not None:
        return dict.fromkeys(directory.active, topology.NO_PASSWORD)
    files = {id_: folder / "centres" / id_ / "keys" / "broker.password" for id_ in directory.active}
    return {id_: file.read_text(encoding="utf-8").strip() for id_, file in files.items() if file.exists()}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured("not-a-network", f"{path} is not TOML: {error}.") from error
