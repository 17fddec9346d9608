"""Echoes: what a peer says to hold of this centre, and what that proves: whose store, or whose directory, is not what it was.

Ahead of what this store knows to have sent: this store is an older copy (:mod:`relay.recovery`), if the peer also *shows* an
envelope that this centre signed; a claim alone would let any member stop this node, so after some heartbeats without proof it
raises an alarm about the peer and changes nothing. Behind what the peer signed receipts for: the peer's store is, and it is sent
again whatever is still kept of what it lost. A heartbeat of a later epoch, or of the same version of the directory with other
bytes, raises an alarm as well. Each is told once, until it is over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from relay.audit import AuditStep
from relay.centre import Centre
from relay.log import Event
from relay.receipts import Echo, Heartbeat
from relay.store import Connection, epochs, peers

MARGIN_MS = 1_000
WENT_BACK = "peer-went-back"
UNPROVEN = "peer-echo-unproven"
ASKED = 3
"""Heartbeats with a claim and without its proof until the claim counts as unproven."""
NEW_EPOCH = "peer-new-epoch"
MISMATCH = "directory-mismatch"

After = Callable[[], None]
"""What follows from a heartbeat, after the commit."""


class Watch(Protocol):
    """Who acts when a store is not what it was; both write in the transaction that they are given, and return what follows it."""

    def stop(self, connection: Connection, peer: str, held: Echo, known: int, now: int) -> After | None:
        """Take note that a peer holds more of this centre than its own store knows."""

    def proof(self, peer: str, shown: str | None, known: int, claimed: Echo) -> Echo | None:
        """Return what a peer proved to hold beyond the highest sequence known here, or None."""

    def alarm(self, connection: Connection, peer: str, code: str, now: int) -> After:
        """Raise an alarm about a peer."""


@dataclass(slots=True)
class _Judged:
    """What a peer's last heartbeat showed, in this run of the node."""

    behind: bool = False
    mismatch: bool = False
    claim: Echo | None = None
    claims: int = 0


class Echoes:
    """Judges what peers echo; ``resend`` sends a peer envelopes that it lost."""

    def __init__(self, centre: Centre, watch: Watch, resend: Callable[[str, Sequence[int]], None]) -> None:
        self._centre = centre
        self._watch = watch
        self._resend = resend
        self._peers: dict[str, _Judged] = {}
        self._since: int | None = None

    def claim(self, peer: str) -> Echo | None:
        """Return what a peer claims to hold beyond this store and has not proved, or None."""
        return self._of(peer).claim

    def is_claiming(self, peer: str) -> bool:
        """Whether a peer may still prove what it claims to hold."""
        judged = self._of(peer)
        return judged.claim is not None and judged.claims < ASKED

    def keep(self, members: Collection[str]) -> None:
        """Forget everybody else."""
        self._peers = {peer: judged for peer, judged in list(self._peers.items()) if peer in members}

    def judge(self, connection: Connection, sender: str, body: Heartbeat, now: int) -> list[After]:
        """Return what follows from a heartbeat after the commit; everything but the first few lines is for rare days."""
        later: list[After | None] = []
        mine, theirs = self._centre.store.epoch, peers.epoch_of(connection, sender)
        judged = self._of(sender)
        if 0 < theirs < body.epoch:
            later.append(self._watch.alarm(connection, sender, NEW_EPOCH, now))
        mismatch = body.directory == self._centre.directory.version and body.digest != self._centre.directory.digest
        if mismatch and not judged.mismatch:
            later.append(self._watch.alarm(connection, sender, MISMATCH, now))
        judged.mismatch = mismatch
        if (proven := self._weigh(connection, sender, body, later, now)) is not None:
            later.append(self._watch.stop(connection, sender, *proven, now))
            return [one for one in later if one is not None]
        lost = peers.lost(connection, sender, body.echo, body.time - MARGIN_MS, mine, self._renewed_after(connection))
        if (lost or body.epoch < theirs) and not judged.behind:
            later.append(self._watch.alarm(connection, sender, WENT_BACK, now))
        judged.behind = bool(lost) or body.epoch < theirs
        if lost:
            leaf = self._centre.audit.leaf(AuditStep.RETRIED, now, peer=sender, code=WENT_BACK)
            self._centre.audit.append(connection, [leaf])
            later.append(partial(self._resend, sender, lost))
        later += [partial(self._say_unknown, one) for one in epochs.note_unknown(connection, mine, sender, body.echo)]
        return [one for one in later if one is not None]

    def _weigh(
        self, connection: Connection, sender: str, body: Heartbeat, later: list[After | None], now: int
    ) -> tuple[Echo, int] | None:
        """Return what a peer proved to hold beyond this store; of a claim without proof ask for it, and after a while alarm."""
        judged, found = self._of(sender), peers.ahead(connection, sender, self._centre.store.epoch, body.echo)
        if found is None:
            judged.claim, judged.claims = None, 0
            return None
        claimed, known = found
        if (proven := self._watch.proof(sender, body.shown, known, claimed)) is not None:
            return proven, known
        judged.claims = min(judged.claims + 1, ASKED + 1)
        judged.claim = claimed
        if judged.claims == ASKED:
            later.append(self._watch.alarm(connection, sender, UNPROVEN, now))
        return None

    def _of(self, peer: str) -> _Judged:
        return self._peers.setdefault(peer, _Judged())

    def _renewed_after(self, connection: Connection) -> int:
        if self._since is None:
            turn = epochs.turned(connection)
            self._since = turn.step if turn else 0
        return self._since

    def _say_unknown(self, unknown: epochs.Unknown) -> None:
        fields = {"epoch": unknown.epoch, "lane": unknown.lane, "first": unknown.first, "last": unknown.last}
        self._centre.log.error(Event.STORE_LACKS, peer=unknown.peer, **fields)
