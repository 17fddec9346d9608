"""The pulse of a link: whether what the node sends to itself through the broker comes back.

It is a decision about times, so it is tested without waiting. A ping proves the publishing connection by the broker's answer to
its publication (yes or no: both are answers), and the consuming connection by any delivery since: behind a long backlog the ping
itself may be late while deliveries keep coming. Where the broker can't deliver because this node holds all it may take ahead, or
because the ping was refused (a full queue, a missing binding), the consuming connection has to be asked directly.
"""

from __future__ import annotations

from enum import Enum, auto


class Verdict(Enum):
    """What follows from the pulse."""

    WELL = auto()
    PING = auto()  # send one now
    ASK = auto()  # no delivery is to be expected: ask the consuming connection itself
    SILENT = auto()  # it looks alive and is not


class Pulse:
    """Judges a link by what came through it; all times are seconds of one monotonic clock."""

    def __init__(self, every: float, limit: float, now: float) -> None:
        self.proven = False
        self._every = every
        self._limit = limit
        self._next = now
        self._since: float | None = None
        self._answer: bool | None = None
        self._heard = False

    def sent(self, now: float) -> None:
        """Note that a ping is under way; those before it may be still, or may have gone to another process of this centre."""
        self._next = now + self._every
        if self._since is None:
            self._since, self._answer, self._heard = now, None, False

    def answered(self, *, taken: bool) -> None:
        """Note the broker's answer to the publication of a ping: whether it took it."""
        self.proven = True
        self._answer = taken

    def heard(self) -> None:
        """Note a delivery, of whatever it is."""
        self._heard = True

    def rest(self, now: float) -> None:
        """Note that the link is known to be well, or that nothing may be expected of it for now; the next ping is due later."""
        self._since, self._next = None, now + self._every

    def hurry(self, now: float) -> None:
        """Send the next ping at once."""
        self._since, self._next = None, now

    def verdict(self, now: float, *, saturated: bool) -> Verdict:
        """Return what to do; ``saturated`` says that this node holds all that it may take ahead of the ping's lane."""
        if self._answer is not None and self._heard:
            self._since = None
        if self._since is not None:
            if self._answer is False:
                return Verdict.ASK
            if now - self._since > self._limit:
                return Verdict.ASK if self._answer and saturated else Verdict.SILENT
        return Verdict.PING if now >= self._next else Verdict.WELL
