"""Whether this machine's clock may decide what can't be undone: a clock that ran ahead must neither purge nor expire anything.

A clock can be wrong at the start (a machine without its time service) or be set while the node runs. :class:`Timekeeper` doubts
it when it is ahead by more than ``most_ms``

- of most peers that were heard lately: their heartbeats say what time they have, and from then on the machine's monotonic clock,
  which nobody can set, carries that time forward; or
- where none was heard lately, of itself: of what it showed when it was last right, carried forward alike; or
- for ``most_ms`` after the start, of the time at which a peer was last heard in an earlier run, until a peer says its time.
  While the directory's time seems to be over that is so for as long as it lasts: then even a peer's word might not be believed.

Doubt ends by itself when the clock is right again or the peers confirm it. Where no peer is heard a restart ends it: a clock that
nobody contradicts counts. A clock that is behind is not doubted: it purges late. Times are milliseconds, ``elapsed`` those that
only go on; nothing here reads a clock, and no error is raised.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Timekeeper:
    """Compares a clock with others; ``most_ms`` of 0 trusts it always. A peer was heard *lately* for ``lately_ms``."""

    most_ms: int
    lately_ms: int
    _began: int | None = None
    _away: int = 0
    _own: int = 0
    _confirmed: bool = False
    _peers: dict[str, tuple[int, int]] = field(default_factory=dict)  # when it was heard, its time less that; both by `elapsed`

    def begin(self, now: int, elapsed: int, last_heard: int) -> None:
        """Begin with the clock as it is; a peer was ``last_heard`` in an earlier run, 0 for never."""
        self._began, self._own = elapsed, now - elapsed
        self._away = now - last_heard if last_heard else 0

    def hear(self, peer: str, time: int, elapsed: int) -> None:
        """Take a peer's word for what time it is."""
        self._peers[peer] = elapsed, time - elapsed

    def doubt(self, now: int, elapsed: int, *, expired: bool) -> str | None:
        """Return why the clock is not to be trusted, as a sentence, or None; ``expired``: the directory's time seems over."""
        if not self.most_ms or self._began is None:
            return None
        shown = now - elapsed
        lately = [time for heard, time in list(self._peers.values()) if elapsed - heard <= self.lately_ms]
        fast = sorted(shown - time for time in lately if shown - time > self.most_ms)
        if 2 * len(fast) > len(lately):
            return f"By {len(fast)} of {len(lately)} peers heard lately this machine's clock is {fast[0] // 1000} s ahead."
        if lately:
            self._own, self._confirmed = shown, True
            return None
        self._own = min(self._own, shown)
        if shown - self._own > self.most_ms:
            return f"This machine's clock was set {(shown - self._own) // 1000} s ahead, and no peer is heard that confirms it."
        waits = elapsed - self._began <= self.most_ms or expired
        if not self._confirmed and self._away > self.most_ms and waits:
            away = self._away // 1000
            return f"By this machine's clock no peer was heard for {away} s before the start, and none confirms it yet."
        return None
