"""The desired state: what the signed directory says must exist on the broker, and whom its bindings reach.

Per active member an account with the least rights, its exchange, its queues, and bindings that enumerate crime type and
region (a region is spelled out as its leaves, the world as one wildcard; a crime type covers its sub-types). Suspended
members have nothing.

Bindings know neither kind nor nominal, so policy compares its recipients with :func:`bound` before it takes this route,
and every receiver decides again: the broker carries, it does not decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from relay import codes
from relay.directory import Directory, Entitlement, Member
from relay.topology.names import (
    CONTROL,
    DIRECT_EXCHANGE,
    EXERCISE,
    INTEL_EXCHANGE,
    LANES,
    POISON,
    POISON_EXCHANGE,
    exchange,
    queue,
)
from relay.topology.objects import Binding, Exchange, Permission, Queue, TopicPermission, Topology, User, arguments

DELIVERY_LIMIT = 20
MAX_LENGTH_BYTES = 1 << 30
_NO_LIMIT = 1_000_000_000  # 3.10 drops at the first requeue when told -1, 4.x drops after 20 when told nothing
_NOTHING = "^$"  # matches no name


def topology(directory: Directory, *, max_length_bytes: int = MAX_LENGTH_BYTES) -> Topology:
    """Return what must exist on the broker for this directory. Suspended members have nothing on it."""
    members = list(directory.active.values())
    shared = {Exchange(INTEL_EXCHANGE), Exchange(DIRECT_EXCHANGE), Exchange(POISON_EXCHANGE, type="direct")}
    return Topology(
        users=frozenset(User(member.id) for member in members),
        permissions=frozenset(_permission(member.id) for member in members),
        topic_permissions=frozenset(_topic_permission(member.id) for member in members),
        exchanges=frozenset(shared | {Exchange(exchange(member.id)) for member in members}),
        queues=frozenset(item for member in members for item in _queues(member.id, max_length_bytes)),
        bindings=frozenset(item for member in members for item in _bindings(member)),
        known=frozenset(member.id for member in directory.members),
    )


def _permission(centre: str) -> Permission:
    names = "|".join((*LANES, CONTROL, POISON))
    return Permission(
        user=centre,
        configure=_NOTHING,
        write=rf"^relay\.out\.{re.escape(centre)}$",
        read=rf"^relay\.in\.{re.escape(centre)}\.({names})$",
    )


def _topic_permission(centre: str) -> TopicPermission:
    return TopicPermission(user=centre, exchange=exchange(centre), write=rf"^{re.escape(centre)}\.", read=_NOTHING)


def _queues(centre: str, max_length_bytes: int) -> Iterable[Queue]:
    common: dict[str, str | int] = {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-max-length-bytes": max_length_bytes,
        "x-delivery-limit": DELIVERY_LIMIT,
    }
    poison_target = {
        "x-dead-letter-exchange": POISON_EXCHANGE,
        "x-dead-letter-routing-key": centre,
        "x-dead-letter-strategy": "at-least-once",
    }
    for name in (*LANES, CONTROL):
        yield Queue(queue(centre, name), arguments(common | poison_target))
    yield Queue(queue(centre, POISON), arguments(common | {"x-delivery-limit": _NO_LIMIT}))


def _bindings(member: Member) -> Iterable[Binding]:
    centre = member.id
    yield Binding(exchange(centre), INTEL_EXCHANGE, f"{centre}.intel.#", "exchange")
    yield Binding(exchange(centre), DIRECT_EXCHANGE, f"{centre}.to.#", "exchange")
    yield Binding(POISON_EXCHANGE, queue(centre, POISON), centre)
    yield Binding(DIRECT_EXCHANGE, queue(centre, CONTROL), f"*.to.{centre}.{CONTROL}")
    for name, route in _lane_routes():
        yield Binding(DIRECT_EXCHANGE, queue(centre, name), f"*.to.{centre}.{route}")
        for region, crime_type in sorted(_patterns(member.subscribe)):
            yield Binding(INTEL_EXCHANGE, queue(centre, name), f"*.intel.{route}.{region}.{crime_type}")


def _lane_routes() -> list[tuple[str, str]]:
    """Return which ``<status>.<precedence>`` lands in which lane."""
    actual = [(precedence, f"actual.{precedence}") for precedence in codes.PRECEDENCES]
    return [*actual, *((EXERCISE, f"{status}.*") for status in codes.STATUSES if status != "actual")]


def _patterns(entitlements: Sequence[Entitlement]) -> set[tuple[str, str]]:
    """Return the entitled (region, crime type) as binding patterns: ``*`` is the world, ``.#`` takes in sub-types."""
    return {
        (region, "#" if crime_type == codes.ALL_CRIME_TYPES else f"{crime_type}.#")
        for entitlement in entitlements
        for entitled in entitlement.regions
        for region in (["*"] if entitled == codes.WORLD else codes.leaves(entitled))
        for crime_type in entitlement.crime_types
    }


class _Reach:
    """Which centres each (region, crime type) reaches, remembered for one directory."""

    def __init__(self, directory: Directory) -> None:
        self._members = list(directory.active.values())
        self.of = lru_cache(maxsize=4096)(self._of)

    def _of(self, regions: frozenset[str], crime_types: frozenset[str]) -> frozenset[str]:
        return frozenset(member.id for member in self._members if _entitled(member, regions, crime_types))


class _Same:
    """A directory as a cache key: equal to itself alone, since hashing its content would cost more than the answer."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.directory is other.directory

    def __hash__(self) -> int:
        return id(self.directory)


@lru_cache(maxsize=4)
def _reach(same: _Same) -> _Reach:
    return _Reach(same.directory)


def bound(directory: Directory, regions: Iterable[str], crime_types: Iterable[str]) -> frozenset[str]:
    """Return the centres whose queues the intelligence bindings reach for these (leaf) regions and crime types.

    Remembered per directory object, so it may be asked for every message.
    """
    return _reach(_Same(directory)).of(frozenset(regions), frozenset(crime_types))


def _entitled(member: Member, regions: frozenset[str], crime_types: frozenset[str]) -> bool:
    return any(
        any(codes.region_covers(entitled, region) for entitled in entitlement.regions for region in regions)
        and any(codes.covers_crime_type(held, actual) for held in entitlement.crime_types for actual in crime_types)
        for entitlement in member.subscribe
    )
