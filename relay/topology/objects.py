"""What a broker's virtual host holds, as records that compare, sort and print.

Every record has a ``kind`` (the word for people) and an ``identity``: two records with the same kind and identity speak
of the same object, whatever else they say of it. A :class:`Topology` is a set of them: the desired state and the actual
one have the same type, which is what makes their difference a plain comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

ACCOUNT_TAG = "relay-centre"
"""The tag that marks an account as the relay's; RabbitMQ gives it no meaning."""

Arguments = tuple[tuple[str, str | int], ...]


def arguments(raw: Mapping[str, Any]) -> Arguments:
    """Return an object's arguments as a sorted tuple, which can be compared and hashed."""
    return tuple(sorted((name, value if isinstance(value, int) else str(value)) for name, value in raw.items()))


@dataclass(frozen=True, slots=True, order=True)
class User:
    """An account. Its password is never part of the topology."""

    kind: ClassVar[str] = "account"
    name: str
    tags: tuple[str, ...] = (ACCOUNT_TAG,)

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes two records speak of the same object."""
        return (self.name,)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """What an account may configure, write and read: regular expressions over names."""

    kind: ClassVar[str] = "permission"
    user: str
    configure: str
    write: str
    read: str

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes two records speak of the same object."""
        return (self.user,)

    def __str__(self) -> str:
        return f"{self.user}: configure {self.configure} write {self.write} read {self.read}"


@dataclass(frozen=True, slots=True, order=True)
class TopicPermission:
    """With which routing keys an account may write a topic exchange (the ``CC`` header is covered from 4.0.3)."""

    kind: ClassVar[str] = "topic permission"
    user: str
    exchange: str
    write: str
    read: str

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes two records speak of the same object."""
        return (self.user, self.exchange)

    def __str__(self) -> str:
        return f"{self.user} on {self.exchange}: write {self.write} read {self.read}"


@dataclass(frozen=True, slots=True, order=True)
class Exchange:
    """An exchange."""

    kind: ClassVar[str] = "exchange"
    name: str
    type: str = "topic"
    durable: bool = True
    auto_delete: bool = False

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes two records speak of the same object."""
        return (self.name,)

    def __str__(self) -> str:
        return f"{self.name} ({self.type})"


@dataclass(frozen=True, slots=True, order=True)
class Queue:
    """A queue with its arguments, sorted by name."""

    kind: ClassVar[str] = "queue"
    name: str
    arguments: Arguments
    durable: bool = True
    auto_delete: bool = False

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes two records speak of the same object."""
        return (self.name,)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(f'{name}={value}' for name, value in self.arguments)})"


@dataclass(frozen=True, slots=True, order=True)
class Binding:
    """A binding from an exchange to a queue or another exchange."""

    kind: ClassVar[str] = "binding"
    source: str
    destination: str
    key: str
    destination_type: str = "queue"
    arguments: Arguments = ()

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes two records speak of the same object."""
        return (self.source, self.destination, self.key, self.destination_type, repr(self.arguments))

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination} ({self.key})"


Item = User | Permission | TopicPermission | Exchange | Queue | Binding


@dataclass(frozen=True, slots=True)
class Topology:
    """A state of a broker's virtual host. ``known`` names every centre of the directory, suspended ones too."""

    users: frozenset[User] = frozenset()
    permissions: frozenset[Permission] = frozenset()
    topic_permissions: frozenset[TopicPermission] = frozenset()
    exchanges: frozenset[Exchange] = frozenset()
    queues: frozenset[Queue] = frozenset()
    bindings: frozenset[Binding] = frozenset()
    known: frozenset[str] = frozenset()

    def items(self) -> list[Item]:
        """Return everything, in the order in which it must be created."""
        groups: list[frozenset[Any]] = [getattr(self, field.name) for field in fields(self) if field.name != "known"]
        return [item for group in groups for item in sorted(group)]


def of_items(items: Iterable[Item]) -> Topology:
    """Return a state that holds just these records."""
    every = list(items)
    return Topology(
        users=frozenset(item for item in every if isinstance(item, User)),
        permissions=frozenset(item for item in every if isinstance(item, Permission)),
        topic_permissions=frozenset(item for item in every if isinstance(item, TopicPermission)),
        exchanges=frozenset(item for item in every if isinstance(item, Exchange)),
        queues=frozenset(item for item in every if isinstance(item, Queue)),
        bindings=frozenset(item for item in every if isinstance(item, Binding)),
    )
