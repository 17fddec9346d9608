"""The messages that this centre sent or received, the newest first, in pages whose cost is bounded whatever the store holds.

A side (:mod:`~relay.store.listed.sent`, :mod:`~relay.store.listed.received`) counts its messages by *key*: a page goes on below
the last key of the one before. What has an index of its own (a peer; what is held, deferred, dead, quarantined or open, as long
as it is not too much; the beginning of an id) is found by it. Everything else is looked for among the newest messages below a
key, :data:`LOOKED` envelopes or messages at most; the page then says to when it looked, and the next one goes on there.

Nothing is opened here, and nothing of a message's content is known: rows hold its id, its way, and where it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

LOOKED = 50_000
"""How many envelopes (sent) or messages (received) a page looks through."""
MOST = 20_000
"""Up to how many rows of a partial index are sorted for a page; of more, the newest are looked through."""
_TIME_SHIFT = 21


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked for; what is given must all hold. Times in milliseconds, ``prefix`` at least eight characters of an id."""

    peer: str | None = None
    lane: str | None = None
    state: str | None = None
    since: int | None = None
    until: int | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A message's row: its way and where it stands.

    Of a sent one ``peers`` are its recipients and ``states`` says how many of them stand where; of a received one ``peers`` is
    its origin and ``states`` its state here. ``code`` says why it was refused or put off. ``found`` is its number in the index.
    """

    id: str
    key: int
    at: int
    lane: str
    peers: tuple[str, ...]
    states: dict[str, int]
    code: str | None
    purged: bool
    found: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page of one side; ``below`` is where the next one begins, None when there is none.

    ``looked_to`` (milliseconds) says how far was looked when that was not to the end.
    """

    rows: list[Listed] = field(default_factory=list)
    below: int | None = None
    looked_to: int | None = None


def stored_at(found: int) -> int:
    """Return when a message was stored, in milliseconds, from its number in the index."""
    return found >> _TIME_SHIFT


def first_at(time_of: Callable[[int], int | None], low: int, high: int, time: int) -> int:
    """Return the lowest number from ``low`` to ``high`` whose time is not before ``time``; ``high`` + 1 when none is.

    ``time_of`` gives the time of the first row from a number on, None behind the last; times rise with numbers.
    """
    while low <= high:
        middle = (low + high) // 2
        at = time_of(middle)
        if at is not None and at < time:
            low = middle + 1
        else:
            high = middle - 1
    return low
