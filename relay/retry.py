"""Retry decisions as data: given what failed and how often, whether and when to try again.

A decision is *transient* (try again after a wait) or *permanent* (dead: nobody tries again by itself; an operator can). The
waits are tenacity's exponential back-off with full jitter, so that many who wait for the same thing do not come back at once.
Nothing here sleeps, reads a clock or raises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from tenacity import wait_random_exponential

PERMANENT = frozenset({"recipient-left", "recipient-without-key", "not-an-envelope", "cannot-decrypt", "wrong-storage-key"})
"""Codes of what another try does not change: the directory's word about a peer, or what is damaged in the store."""
OF_ONE_PEER = frozenset({"recipient-left", "recipient-without-key"})
"""Of those, the codes that hold for everything that is open towards the peer."""
REFUSED = frozenset({"not-confirmed", "unroutable"})
"""Codes with which a working broker refuses one envelope: a queue is full or missing. All others are the broker's own trouble."""
RESEND_AGAIN_MS = 5_000
RESEND_LONGEST_MS = 900_000
LEAST_SECONDS = 0.5
LONGEST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a failure: try again ``after`` so many seconds, or with None never by oneself."""

    after: float | None

    @property
    def dead(self) -> bool:
        """Whether nobody tries again by itself."""
        return self.after is None


@dataclass(slots=True)
class Attempt:
    """How often something was tried; it is what tenacity's waits look at."""

    attempt_number: int


Wait = Callable[[Attempt], float]


def backoff(first: float, longest: float) -> Wait:
    """Return waits in seconds: at random between 0 and ``first`` doubled with each attempt, at most ``longest``."""
    return cast("Wait", wait_random_exponential(multiplier=first, max=longest))  # it reads attempt_number alone


_WAIT = backoff(1, LONGEST_SECONDS)


def decide(code: str, attempt: int) -> Decision:
    """Return what to do after the ``attempt``-th failure (from 1) in a row with this code."""
    if code in PERMANENT:
        return Decision(None)
    return Decision(max(_WAIT(Attempt(attempt)), LEAST_SECONDS))


@dataclass(slots=True)
class Allowance:
    """How much a peer may ask for: ``burst`` at once, then ``rate`` a second; times in milliseconds."""

    rate: float
    burst: float
    left: float
    at: int

    def take(self, now: int, count: float = 1) -> bool:
        """Return whether so many more are allowed now, and count them."""
        self.left = min(self.burst, self.left + max(now - self.at, 0) * self.rate / 1000)
        self.at = now
        if self.left < count:
            return False
        self.left -= count
        return True


@dataclass(slots=True)
class Resent:
    """How often an envelope was sent again to a peer for one reason, when it may be again (milliseconds), and behind which mark.

    A nack that answers this mark or an earlier one was said before the peer can have had the copy: behind a slow link that is
    long. Sending once more then would fill the link with copies, which is how a backlog becomes a collapse.
    """

    times: int = 0
    due: int = 0
    mark: int = 0

    def again(self, now: int, answered: int) -> bool:
        """Return whether a nack that answers a mark (0 for none) is reason to send it once more."""
        return self.due <= now and (answered == 0 or answered > self.mark)

    def sent(self, now: int) -> None:
        """Count that it is sent again; each time the pause after it doubles."""
        self.times += 1
        self.due = now + min(RESEND_AGAIN_MS * 2 ** min(self.times - 1, 10), RESEND_LONGEST_MS)
