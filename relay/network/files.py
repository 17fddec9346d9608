"""What a new network's files say: the two settings files with their prose, and the members that it has by default."""

from __future__ import annotations

import json
import tomllib
from importlib import resources
from typing import Any

NETWORK = """\
# A network: read by `relay broker run | plan | apply | export`. Paths are relative to this file.

# SHA-256 of root.json. Whoever joins gets it by another way than the files, and compares.
network = "{network}"

[broker]
# Where the centres reach RabbitMQ, with its virtual host (%2F is "/").
amqp = {amqp}
# RabbitMQ's management API, for `relay broker plan | apply`.
management = {management}
# The account that administers the broker; no node knows it.
admin = {admin}
# The file with its password.
admin_password_file = "broker/admin.password"
{tls}"""

NETWORK_TLS = """\

# Encrypted: each centre's certificate is its account's proof.
[broker.tls]
# The authority that vouches for the broker and for the centres; its key is ca/key.pem.
ca = "broker/tls/ca.pem"
# The broker's certificate and key, for `relay broker run` or a broker of your own.
certificate = "broker/tls/certificate.pem"
key = "broker/tls/key.pem"
"""

CLEAR_LOGIN = """\
# The file with the account's password.
password_file = "keys/broker.password"
"""

ENCRYPTED_LOGIN = """\

[broker.tls]
# The authority that vouches for the broker.
ca = "tls/ca.pem"
# This centre's certificate and key: they prove the account. Put renewed ones in place; no restart is needed.
certificate = "tls/certificate.pem"
key = "tls/key.pem"
"""

NODE = """\
# One centre's node. Paths are relative to this file; the folder can be moved as a whole.

# This centre's id in the directory.
centre = {centre}
# SHA-256 of root.json, obtained by another way than the file: the node starts from no other root.
network = "{network}"

[directory]
# Who may sign the directory.
root = "root.json"
# The register of centres, their keys and entitlements.
file = "directory.json"
# The authorities' signatures over it.
signatures = "directory.signatures.json"

[keys]
# Ed25519: signs everything this centre sends.
signing = "keys/signing.pem"
# Open what is sealed to this centre; the newest first, older ones until nothing under them is under way.
sealing = ["keys/sealing.pem"]
# Wraps content keys at rest.
storage = "keys/storage.key"

[broker]
# RabbitMQ and this centre's account there.
url = {url}
{login}
[store]
# The SQLite database with everything sent and received; its folder is made when missing.
file = "store/relay.db"

[api]
# host:port of the local API. Loopback, unless [api.tls] gives it a certificate.
listen = "{listen}"
# The clients of the API: their roles, and the digests of their tokens (`relay token add | list | revoke | rotate`).
clients = "clients.json"
# The folder with the tokens `system` and `operator`, for the commands on this machine; the node does not read them.
tokens = "tokens"

[console]
# host:port of the web pages for operators; a client of one person signs in with its name and password (`relay token password`).
listen = "{console}"

[health]
# host:port of /livez and /readyz, which need no token and say yes or no.
listen = "{health}"
"""


def default_centres() -> tuple[str, ...]:
    """Return the ids of the centres that are written when none are named."""
    return tuple(_members()["centres"])


def member(centre: str) -> dict[str, Any]:
    """Return who a centre is and what it may publish and receive, as ``members.toml`` or its generic entry says."""
    members = _members()
    return {"name": f"Centre {centre}", **members["generic"], **members["centres"].get(centre, {})}


def _members() -> dict[str, Any]:
    return tomllib.loads(resources.files("relay.network").joinpath("members.toml").read_text(encoding="utf-8"))


def quoted(text: str) -> str:
    """Return a TOML basic string; JSON's escapes are among TOML's."""
    return json.dumps(text)
