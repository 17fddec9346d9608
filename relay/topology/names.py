"""Names on the broker and the routing keys that lead to them.

``relay.out.<ID>`` is the one exchange a centre writes; ``relay.in.<ID>.<lane>`` are the queues it reads: a lane per
precedence for actual traffic, one for exercise and test together, one for control, one for poison. A key by crime type
and region reaches everyone entitled; an addressed key reaches one centre. The node's sender and the bindings both come
from here, so they agree.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay import codes

EXERCISE = "exercise"
CONTROL = "control"
POISON = "poison"
LANES: tuple[str, ...] = (*codes.PRECEDENCES, EXERCISE)
"""The lanes of a centre, the most urgent first; exercise and test traffic after everything actual."""

PREFIX = "relay."
INTEL_EXCHANGE = "relay.intel"
DIRECT_EXCHANGE = "relay.direct"
POISON_EXCHANGE = "relay.poison"


def lane(status: str, precedence: str) -> str:
    """Return the lane of a message: its precedence when actual, else ``exercise``."""
    return precedence if status == "actual" else EXERCISE


def urgency(kind: str, precedence: str) -> str:
    """Return the precedence with which a message travels: a recall overtakes everything, whatever it says of itself."""
    return codes.PRECEDENCES[0] if kind == "cancel" else precedence


def exchange(origin: str) -> str:
    """Return the only exchange that a centre may write."""
    return f"relay.out.{origin}"


def queue(centre: str, lane: str) -> str:
    """Return a centre's queue of a lane, or of ``control`` or ``poison``."""
    return f"relay.in.{centre}.{lane}"


def queues(centre: str) -> tuple[str, ...]:
    """Return all of a centre's queues: the lanes, the most urgent first, then control and poison."""
    return tuple(queue(centre, name) for name in (*LANES, CONTROL, POISON))


def intel_keys(origin: str, status: str, precedence: str, regions: Iterable[str], crime_types: Iterable[str]) -> list[str]:
    """Return the keys of a message by crime type and (leaf) region: the first is the key, the rest go in ``CC``."""
    pairs = sorted({(region, crime_type) for region in regions for crime_type in crime_types})
    return [f"{origin}.intel.{status}.{precedence}.{region}.{crime_type}" for region, crime_type in pairs]


def direct_key(origin: str, recipient: str, status: str, precedence: str) -> str:
    """Return the routing key of a message addressed to one centre."""
    return f"{origin}.to.{recipient}.{status}.{precedence}"


def control_key(origin: str, recipient: str) -> str:
    """Return the routing key of what is not a message: receipts, heartbeats, repair."""
    return f"{origin}.to.{recipient}.{CONTROL}"


def lane_key(origin: str, recipient: str, lane: str) -> str:
    """Return an addressed key that lands in that very lane's queue, behind the messages a mark speaks of."""
    if lane == CONTROL:
        return control_key(origin, recipient)
    status, precedence = (EXERCISE, codes.PRECEDENCES[-1]) if lane == EXERCISE else ("actual", lane)
    return direct_key(origin, recipient, status, precedence)
