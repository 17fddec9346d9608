"""Poison: which envelopes are not opened any more, since they ended the process each time they were.

What the broker delivers again may be what ended the process before. So its attempt is committed before it is opened
(:mod:`relay.store.attempts`) and removed by the transaction that takes it in. After three attempts without that, an envelope is
*shut*: its header is read, its signature verified, and nothing else of it is touched. What the broker gave up on
(``relay.in.<ID>.poison``) has its attempts here, too: were its word enough, whoever runs it could have any message refused.

Of a shut batch the origin is asked to send each message in an envelope of its own; a shut envelope with a single message is
rejected with code ``poison`` and quarantined by its header alone.

:class:`Asking` spaces out what is asked for again and again, such as an envelope that can't be opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass

from relay.broker import Delivery
from relay.store import Connection, attempts

FIRST_MS = 5_000
LONGEST_MS = 900_000
MOST_ASKED = 4096


class Poison:
    """Knows what is shut; each function that has a connection runs in a transaction of its caller's."""

    def __init__(self) -> None:
        self._shut: set[bytes] = set()

    def load(self, connection: Connection) -> set[bytes]:
        """Return what was shut before, for :meth:`know`."""
        return attempts.shut(connection)

    def know(self, digests: set[bytes]) -> None:
        """Take over what was shut before."""
        self._shut |= digests

    def is_shut(self, delivery: Delivery) -> bool:
        """Return whether a delivery must not be opened, as far as is known without the store."""
        return bool(self._shut) and digest(delivery) in self._shut

    def begin(self, connection: Connection, delivery: Delivery, now: int) -> bool:
        """Count a delivery as begun, unless it was too often; return whether it may be opened."""
        return attempts.begin(connection, digest(delivery), now)

    def shut(self, delivery: Delivery) -> None:
        """Remember that a delivery is not opened any more."""
        self._shut.add(digest(delivery))


@dataclass(slots=True)
class _Asked:
    due: int
    pause: int


class Asking:
    """Spaces out requests for the same thing: five seconds after the first, then twice as long each time, up to 15 minutes."""

    def __init__(self) -> None:
        self._asked: dict[Hashable, _Asked] = {}

    def may_ask(self, what: Hashable, now: int) -> bool:
        """Return whether to ask for something now, and note that it was; ``now`` in milliseconds."""
        before = self._asked.get(what)
        if before is not None and now < before.due:
            return False
        pause = FIRST_MS if before is None else min(before.pause * 2, LONGEST_MS)
        self._asked.pop(what, None)
        self._asked[what] = _Asked(now + pause, pause)
        if len(self._asked) > MOST_ASKED:
            del self._asked[next(iter(self._asked))]
        return True


def digest(delivery: Delivery) -> bytes:
    """Return the name of a delivery's bytes: their SHA-256."""
    return hashlib.sha256(delivery.raw).digest()
