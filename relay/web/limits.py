"""How much a caller may ask for: token buckets per client and role, and per address of those who bring no right token.

A bucket holds some seconds' worth of its rate and fills steadily. Who finds it too empty is told after how many seconds it is not
(429, ``Retry-After``). A batch larger than the bucket is taken when the bucket is full, and paid off afterwards.

A right token is never turned away for the failures of others at its address: nobody guesses 256 bits, so what is bounded is the
work and the noise of those who try. The number of buckets is bounded, too; the one that was not used for longest goes first.

Errors raised: ``TooMany`` with ``too-many-requests``, ``too-many-messages``, ``too-many-failures`` and ``too-many-sign-ins``.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable

from relay.clients import Client, Role
from relay.errors import TooMany
from relay.settings import RateSettings

MOST_BUCKETS = 4096
MINUTE = 60.0


class Bucket:
    """A number of tokens that grows with time up to a size; times are monotonic seconds."""

    __slots__ = ("_at", "_level", "_rate", "_size")

    def __init__(self, rate: float, size: float, now: float) -> None:
        self._rate = rate
        self._size = size
        self._level = size
        self._at = now

    def take(self, cost: float, now: float) -> float:
        """Take tokens and return 0, or take none and return the seconds after which there are enough."""
        self._fill(now)
        wanted = min(cost, self._size)
        if self._level < wanted:
            return (wanted - self._level) / self._rate
        self._level -= cost
        return 0.0

    def owe(self, cost: float, now: float) -> None:
        """Take tokens also when there are too few: what was given out is paid off."""
        self._fill(now)
        self._level -= cost

    def _fill(self, now: float) -> None:
        self._level = min(self._size, self._level + self._rate * (now - self._at))
        self._at = now


class Limits:
    """The buckets of a node's API."""

    def __init__(self, settings: RateSettings) -> None:
        self._settings = settings
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def request(self, client: Client, role: Role, now: float) -> None:
        """Count a request of a client under a role."""
        rate = float(getattr(self._settings, role))
        if wait := self._bucket(("requests", client.name, role), rate, self._settings.burst_seconds, now).take(1, now):
            sentence = f"The client {client.name} asks more often than {rate:g} times a second under the role {role}."
            raise TooMany("too-many-requests", sentence, wait)

    def messages(self, client: Client, count: int, now: float) -> None:
        """Count messages that a client wants to submit or take; with 0, only see whether there is room."""
        if wait := self._messages(client, now).take(max(count, 1) if count else 0, now):
            sentence = f"The client {client.name} submits or takes more than {self._settings.messages:g} messages a second."
            raise TooMany("too-many-messages", sentence, wait)

    def given(self, client: Client, count: int, now: float) -> None:
        """Count messages that a client was given."""
        self._messages(client, now).owe(count, now)

    def failure(self, address: str, now: float) -> None:
        """Count a request without a right token; raise when there were too many of this address."""
        most = self._settings.failures_per_minute
        if wait := self._bucket(("failures", address), most / MINUTE, MINUTE, now).take(1, now):
            sentence = "Too many requests without a right token came from this address."
            raise TooMany("too-many-failures", sentence, wait)

    def sign_in(self, name: str, address: str, most: float, now: float) -> None:
        """Count a sign-in that is tried; raise when there were too many.

        That is ``most`` a minute with one name from one address, three times as many from one address, and ten times as many
        with one name: who tries from many addresses does not shut its owner out as easily as who tries from one.
        """
        for what, per_minute in (((name, address), most), ((address,), 3 * most), ((name, None), 10 * most)):
            key = ("sign-ins", *what)
            if wait := self._bucket(key, per_minute / MINUTE, MINUTE, now).take(1, now):
                sentence = f"Too many sign-ins were tried; try again in {whole_seconds(wait)} s."
                raise TooMany("too-many-sign-ins", sentence, wait)

    def _messages(self, client: Client, now: float) -> Bucket:
        return self._bucket(("messages", client.name), self._settings.messages, self._settings.burst_seconds, now)

    def _bucket(self, key: Hashable, rate: float, seconds: float, now: float) -> Bucket:
        found = self._buckets.get(key)
        if found is None:
            found = self._buckets[key] = Bucket(rate, max(rate * seconds, 1.0), now)
            if len(self._buckets) > MOST_BUCKETS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return found


def whole_seconds(seconds: float) -> str:
    """Return what ``Retry-After`` says: whole seconds, at least one."""
    return str(max(1, math.ceil(seconds)))
