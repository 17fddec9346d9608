"""How long to wait before the next attempt: exponential, capped, with full jitter, and never next to nothing."""

from __future__ import annotations

from tenacity import wait_random_exponential

FIRST_SECONDS = 0.25
LEAST_SECONDS = 0.05


class Backoff:
    """The pauses between attempts of one kind, in seconds; none is longer than ``longest``."""

    def __init__(self, longest: float) -> None:
        self.attempt_number = 0  # tenacity's waits look at it
        self._wait = wait_random_exponential(multiplier=FIRST_SECONDS, max=longest, min=min(LEAST_SECONDS, longest))

    def pause(self) -> float:
        """Return the pause after one more attempt that failed."""
        self.attempt_number += 1
        return self._wait(self)  # type: ignore[arg-type]  # it reads attempt_number alone

    def reset(self) -> None:
        """Begin with short pauses again."""
        self.attempt_number = 0
