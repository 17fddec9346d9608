"""The difference between two states of a broker, as a list of changes that print one line each.

The order of the list is the order in which it can be applied: first what must go before something else can come (a
topic permission, since RabbitMQ removes all of an account's at once; an exchange or queue that exists with other
properties, since these can't be changed in place), then everything to create or change, then what is left over, in
reverse.

Only what is the relay's is ever named: ``relay.*``, bindings with both ends there, accounts that are tagged or named as
centres. Bindings with one foreign end are nobody's to remove; :func:`strangers` lists them, because whoever made one
may be listening.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from relay.topology.names import PREFIX
from relay.topology.objects import (
    ACCOUNT_TAG,
    Binding,
    Exchange,
    Item,
    Permission,
    Queue,
    TopicPermission,
    Topology,
    User,
)

Action = Literal["create", "change", "remove"]
Identity = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do on the broker; ``was`` is what it replaces."""

    action: Action
    item: Item
    was: Item | None = None

    @property
    def destroys(self) -> bool:
        """Whether a queue goes: refused while it holds messages."""
        return isinstance(self.item, Queue) and self.action != "create"

    @property
    def replaces(self) -> bool:
        """Whether the object must be removed and made anew, because RabbitMQ can't change it in place."""
        return self.action == "change" and isinstance(self.item, Exchange | Queue)

    def __str__(self) -> str:
        line = f"{self.action} {self.item.kind} {self.item}"
        if self.was == self.item:
            return f"{line}: set its password"
        return f"{line}, was {self.was}" if self.was else line


def difference(desired: Topology, actual: Topology, *, stale: Collection[str] = ()) -> list[Change]:
    """Return what to do, in this order, so that ``actual`` becomes ``desired``; nothing when they agree.

    ``stale`` names the accounts whose password on the broker is not the one it should be.
    """
    accounts = _accounts(desired, actual)
    have = {_identity(item): item for item in actual.items() if is_ours(item, accounts)}
    want = {_identity(item): item for item in desired.items()}
    surplus = [item for identity, item in have.items() if identity not in want]
    first = [Change("remove", item) for item in surplus if isinstance(item, TopicPermission)]
    last = [Change("remove", item) for item in reversed(surplus) if not isinstance(item, TopicPermission)]
    gone = _gone(first, want, have)
    kept = {identity: item for identity, item in have.items() if not _falls(item, gone)}
    return [*first, *_upserts(want, kept, stale), *last]


def is_ours(item: Item, accounts: Collection[str]) -> bool:
    """Return whether an object belongs to the relay, given the names of its accounts."""
    match item:
        case User():
            return item.name in accounts
        case Permission() | TopicPermission():
            return item.user in accounts
        case Binding():
            return item.source.startswith(PREFIX) and item.destination.startswith(PREFIX)
        case Exchange() | Queue():
            return item.name.startswith(PREFIX)


def strangers(actual: Topology) -> list[Binding]:
    """Return the bindings that join something of the relay's with something that is not: possibly a listener."""
    return sorted(
        binding
        for binding in actual.bindings
        if binding.source and binding.source.startswith(PREFIX) != binding.destination.startswith(PREFIX)
    )


def _accounts(desired: Topology, actual: Topology) -> frozenset[str]:
    """Return the names of the relay's accounts: members of the directory, and former ones by their tag."""
    return desired.known | {user.name for user in actual.users if ACCOUNT_TAG in user.tags}


def _identity(item: Item) -> Identity:
    return (item.kind, *item.identity)


def _gone(first: Iterable[Change], want: dict[Identity, Item], have: dict[Identity, Item]) -> frozenset[Identity]:
    """Return what else vanishes: all topic permissions of an account, all bindings of an object made anew."""
    owners = {("account", change.item.user) for change in first if isinstance(change.item, TopicPermission)}
    remade = {
        (item.kind, item.name)
        for identity, item in have.items()
        if isinstance(item, Exchange | Queue) and want.get(identity, item) != item
    }
    return frozenset(owners | remade)


def _falls(item: Item, gone: frozenset[Identity]) -> bool:
    match item:
        case TopicPermission():
            return ("account", item.user) in gone
        case Binding():
            return not gone.isdisjoint({("exchange", item.source), (item.destination_type, item.destination)})
        case _:
            return False


def _upserts(want: dict[Identity, Item], kept: dict[Identity, Item], stale: Collection[str]) -> Iterable[Change]:
    for identity, item in want.items():
        was = kept.get(identity)
        if was is None:
            yield Change("create", item)
        elif was != item or (isinstance(item, User) and item.name in stale):
            yield Change("change", item, was)
