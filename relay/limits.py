"""Limits: what a valid member may cost this centre, whatever it signs, each with its reason.

A member's envelopes verify, so every one of them costs a transaction and may cost rows. These bounds let a node that is broken or
hostile slow down itself alone. What is beyond one is counted under the sender and the code, and neither kept nor answered; an
honest sender's marks bring it again once there is room. So no bound decides a message's fate, except that a centre whose
messages are refused by the thousand has the later ones rejected without their content being kept.

Rates are allowances (:class:`relay.retry.Allowance`): so many at once, then so many a second, per sender. An honest node stays
far below them; ``docs/reference/limits.md`` has the table. They live in memory and begin anew with the process.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.envelope import Core
from relay.errors import OverLimit
from relay.keeping import DAY_MS
from relay.retry import Allowance

STRANGERS = ""
"""Whose allowance they share who are not known to be members: no centre has this id."""

TOO_OFTEN = "too-often"
TOO_MANY_EPOCHS = "too-many-epochs"
TOO_MANY_GAPS = "too-many-gaps"
TOO_MANY_REFUSED = "too-many-refused"

MOST_RANGES = 10_000
"""Closed ranges kept of a sender's lane. Each gap is a row; gaps are mended from below, so an honest sender never has as many."""
MOST_EPOCHS, EPOCHS_WITHIN_MS = 32, 30 * DAY_MS
"""New epochs of a sender taken within 30 days. An epoch is an operator's recovery; each keeps rows of its own for good."""
MOST_QUARANTINED = 10_000
"""Refused messages of a sender that wait for an operator here. Of any more the row and the header are kept, not the content."""
MOST_VOID_RANGES, VOIDS_TRIMMED_EVERY = 100_000, 1_000
"""Ranges of a sender kept as void, the newest; an older one is still closed, and what comes under it late is a fork instead."""
MOST_UNKNOWN = 256
"""Claims of a peer kept that it holds what this store does not know: an operator reads the list."""
MOST_DIFFERENCES = 1_000
"""Lanes of hours kept of a peer in which it counts otherwise than this centre, the newest: whoever claims more loses its own."""
QUARANTINE_COUNTED_EVERY_MS = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, then so many a second."""

    burst: float
    a_second: float


ENVELOPES: dict[str, Rate] = {
    "receipt": Rate(5_000, 200),  # a group of up to 64 envelopes is one receipt; a peer that returns brings thousands
    "mark": Rate(100, 10),  # five lanes, at most one a second each
    "nack": Rate(500, 20),  # one a mark, one a part of an envelope that can't be opened
    "void": Rate(2_000, 100),  # one with each envelope sent again that has lost content
    "heartbeat": Rate(60, 10),  # two a minute, and answers
    "epoch": Rate(10, 1),  # one a start
    "directory": Rate(20, 1),
    "checkpoint": Rate(100, 10),  # one a minute, and countersignatures
}
"""Control envelopes of a sender, by type. Batches have none: a valid message is what the network is for."""
OTHER = Rate(100, 10)
CONTROL_BYTES = Rate(64 * 1024 * 1024, 512 * 1024)
"""Bytes of a sender's control envelopes: a statement takes a hundred, and each costs a query."""
COPIES = Rate(500, 50)
"""Copies of what is known that are answered with the receipts kept; marks bring the receipts of the others."""
REFUSED = Rate(5_000, 50)
"""Refused messages of a sender: each costs a row, a receipt and a leaf."""
COMPARED = Rate(200, 0.1)
"""Summaries of a peer that are counted against: one an hour; after a week's outage its 168 hours at once."""
SAMPLES = Rate(200, 10)
"""Samples and lines of the log, per verified sender; all bytes without one share theirs, so a flood of them costs no disk."""


class Gate:
    """Knows how much each sender may still cost; times are elapsed milliseconds."""

    def __init__(self) -> None:
        self._allowances: dict[tuple[str, str], Allowance] = {}
        self._quarantined: dict[str, tuple[int, int]] = {}
        self._epochs: set[tuple[str, int]] = set()

    def admit(self, core: Core, size: int, now: int, *, known: bool = True) -> None:
        """Let a verified control envelope in, or raise ``OverLimit``; a batch is let in always.

        All whose signer is not ``known`` share one allowance, so a stranger takes nothing of the member that he claims to be.
        """
        if core.type == "batch":
            return
        sender = core.origin if known else STRANGERS
        within = self.may(sender, core.type, ENVELOPES.get(core.type, OTHER), now)
        if not within or not self.may(sender, "bytes", CONTROL_BYTES, now, size):
            raise OverLimit(TOO_OFTEN, f"{core.origin} sends envelopes of type {core.type} faster than this node takes them.")

    def may(self, peer: str, what: str, rate: Rate, now: int, count: float = 1) -> bool:
        """Return whether a peer may have so many more of something now, and count them."""
        allowance = self._allowances.get((peer, what))
        if allowance is None:
            allowance = self._allowances[peer, what] = Allowance(rate.a_second, rate.burst, rate.burst, now)
        return allowance.take(now, count)

    def knows_epoch(self, origin: str, epoch: int) -> bool:
        """Return whether an epoch of a sender is known to have been let in."""
        return (origin, epoch) in self._epochs

    def know_epoch(self, origin: str, epoch: int) -> None:
        """Remember an epoch that the store has."""
        self._epochs.add((origin, epoch))

    def quarantined(self, origin: str, now: int) -> int | None:
        """Return how many messages of a sender are in quarantine, or None when it must be counted anew."""
        count, at = self._quarantined.get(origin, (0, -QUARANTINE_COUNTED_EVERY_MS))
        return count if now - at < QUARANTINE_COUNTED_EVERY_MS else None

    def note_quarantined(self, origin: str, count: int, now: int | None = None) -> None:
        """Remember a count that was made ``now``, or without it add to the last one."""
        before, at = self._quarantined.get(origin, (0, 0))
        self._quarantined[origin] = (before + count, at) if now is None else (count, now)
