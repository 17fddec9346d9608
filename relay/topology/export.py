"""A state of the broker as RabbitMQ's definitions file, and back.

:func:`definitions` writes what RabbitMQ loads at boot or imports while it runs (importing creates and updates, it never
removes); :func:`from_definitions` reads such a file, or what a running broker exports, so the two are inverse but for
passwords. Passwords go in as salted hashes only (RabbitMQ's ``rabbit_password_hashing_sha256``).

Errors raised: ``Misconfigured`` with the code ``no-broker-password``.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from relay.errors import Misconfigured
from relay.topology.objects import (
    ACCOUNT_TAG,
    Binding,
    Exchange,
    Permission,
    Queue,
    TopicPermission,
    Topology,
    User,
    arguments,
)

ADMINISTRATOR = "administrator"
NO_PASSWORD = ""
"""Stands for the password of an account that is proven by its certificate alone."""


def definitions(
    state: Topology, passwords: Mapping[str, str], *, vhost: str = "/", administrators: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return a definitions file that brings a broker to this state.

    ``administrators`` (name to password) get every right; a broker that boots from a file has no other account than the
    file's, so an exported one needs at least one.
    """
    admins = administrators or {}
    users = [_user(user, passwords) for user in sorted(state.users)]
    everything = [_permission(Permission(name, ".*", ".*", ".*"), vhost) for name in sorted(admins)]
    return {
        "vhosts": [{"name": vhost}],
        "users": [*(account(name, admins[name], [ADMINISTRATOR]) for name in sorted(admins)), *users],
        "permissions": [*everything, *(_permission(item, vhost) for item in sorted(state.permissions))],
        "topic_permissions": [_topic_permission(item, vhost) for item in sorted(state.topic_permissions)],
        "exchanges": [_exchange(item, vhost) for item in sorted(state.exchanges)],
        "queues": [_queue(item, vhost) for item in sorted(state.queues)],
        "bindings": [_binding(item, vhost) for item in sorted(state.bindings)],
    }


def account(name: str, password: str, tags: Iterable[str]) -> dict[str, Any]:
    """Return an account as a definitions file has it; :data:`NO_PASSWORD` makes one that no password opens."""
    return {
        "name": name,
        "password_hash": password_hash(password) if password != NO_PASSWORD else "",
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": list(tags),
    }


def from_definitions(raw: Mapping[str, Any], *, vhost: str = "/") -> Topology:
    """Return the state that a definitions file, or a broker's export, describes for one virtual host."""

    def of(group: str) -> list[dict[str, Any]]:
        return [item for item in raw.get(group, ()) if item.get("vhost", vhost) == vhost]

    elsewhere = {item["user"] for item in raw.get("permissions", ())} - {item["user"] for item in of("permissions")}
    users = (User(user["name"], _tags(user["tags"])) for user in of("users"))
    return Topology(
        # Accounts belong to the whole broker; a centre's that has rights only in other virtual hosts is another network's.
        users=frozenset(user for user in users if ACCOUNT_TAG not in user.tags or user.name not in elsewhere),
        permissions=frozenset(
            Permission(item["user"], item["configure"], item["write"], item["read"]) for item in of("permissions")
        ),
        topic_permissions=frozenset(
            TopicPermission(item["user"], item["exchange"], item["write"], item["read"]) for item in of("topic_permissions")
        ),
        exchanges=frozenset(
            Exchange(item["name"], item["type"], item["durable"], item["auto_delete"]) for item in of("exchanges")
        ),
        queues=frozenset(
            Queue(item["name"], arguments(item["arguments"]), item["durable"], item["auto_delete"]) for item in of("queues")
        ),
        bindings=frozenset(
            Binding(
                item["source"],
                item["destination"],
                item["routing_key"],
                item["destination_type"],
                arguments(item["arguments"]),
            )
            for item in of("bindings")
        ),
    )


def password_hash(password: str, salt: bytes | None = None) -> str:
    """Return a password as RabbitMQ keeps it: base64 of a 4-byte salt and SHA-256 over salt and password."""
    salt = secrets.token_bytes(4) if salt is None else salt
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def password_matches(password: str, hashed: str) -> bool:
    """Return whether a hash that RabbitMQ keeps belongs to this password; an empty one belongs to :data:`NO_PASSWORD`."""
    if password == NO_PASSWORD or not hashed:
        return password == hashed
    salt = base64.b64decode(hashed)[:4]
    return secrets.compare_digest(password_hash(password, salt), hashed)


def _tags(raw: str | list[str]) -> tuple[str, ...]:
    parts = raw.split(",") if isinstance(raw, str) else raw
    return tuple(sorted(part.strip() for part in parts if part.strip()))


def _user(user: User, passwords: Mapping[str, str]) -> dict[str, Any]:
    if user.name not in passwords:
        raise Misconfigured("no-broker-password", f"The password of account {user.name} is not known here.")
    return account(user.name, passwords[user.name], user.tags)


def _permission(item: Permission, vhost: str) -> dict[str, Any]:
    return {
        "user": item.user,
        "vhost": vhost,
        "configure": item.configure,
        "write": item.write,
        "read": item.read,
    }


def _topic_permission(item: TopicPermission, vhost: str) -> dict[str, Any]:
    return {"user": item.user, "vhost": vhost, "exchange": item.exchange, "write": item.write, "read": item.read}


def _exchange(item: Exchange, vhost: str) -> dict[str, Any]:
    return {
        "name": item.name,
        "vhost": vhost,
        "type": item.type,
        "durable": item.durable,
        "auto_delete": item.auto_delete,
        "internal": False,
        "arguments": {},
    }


def _queue(item: Queue, vhost: str) -> dict[str, Any]:
    return {
        "name": item.name,
        "vhost": vhost,
        "durable": item.durable,
        "auto_delete": item.auto_delete,
        "arguments": dict(item.arguments),
    }


def _binding(item: Binding, vhost: str) -> dict[str, Any]:
    return {
        "source": item.source,
        "vhost": vhost,
        "destination": item.destination,
        "destination_type": item.destination_type,
        "routing_key": item.key,
        "arguments": dict(item.arguments),
    }
