"""Witnesses: this centre watches the logs of its peers, so that none of them can have two histories unseen.

A peer gives its newest checkpoint with a proof from the one that this centre countersigned last. What continues everything that
is held of that log is kept and then countersigned, both in one transaction; the answer leaves after its commit. Without the proof
the peer is asked for it. Every answer passes on the newest checkpoints held of third centres, so that witnesses to whom a peer
shows different histories learn of it: what they heard has to be proved by its origin like the rest.

Caught is a peer that signed two roots for one size or gives a proof that does not hold (``audit-split-view``), whose log is
shorter than it was (``audit-shrunk``), or who does not prove what it signed though it was asked for it again and again
(``audit-unproved``). Each is an alarm about that peer; its signed checkpoints are kept for good as evidence.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from relay import merkle, receipts, witnessed
from relay.centre import Centre
from relay.clock import from_ms
from relay.control import Control, content
from relay.errors import Refused, Rejected
from relay.log import Event
from relay.seal import Opened
from relay.store import Connection, incoming, peers
from relay.store import witnessed as store
from relay.store.witnessed import Evidence, Held
from relay.witnessed import MOST_PROOFS, Countersignature, Exchange, Note, Proof, Read

SPLIT = "audit-split-view"
SHRUNK = "audit-shrunk"
UNPROVED = "audit-unproved"
DAMAGED = "audit-damaged"
ASKED_TIMES = 3
ASKED_MS = 30_000
"""A peer that was asked so often, for the first time so long ago, and still gives checkpoints without the proof, won't prove."""
MOST_ASKED = 1_000

Later = Callable[[], None]


class Own(Protocol):
    """Who takes what a witness says of this centre's own log."""

    def hear(self, connection: Connection, sender: str, body: Exchange, now: int) -> Later | None:
        """Take its countersignature and what it asks for."""

    def shown(self, connection: Connection, note: Note, now: int) -> Later | None:
        """Take a checkpoint of this centre that a third one holds."""


class Watch(Protocol):
    """Who raises alarms about peers; it writes in the transaction that it is given, and returns what follows it."""

    def alarm(self, connection: Connection, peer: str, code: str, now: int) -> Later:
        """Raise an alarm about a peer."""


@dataclass(slots=True)
class _Answer:
    """What follows from a peer's checkpoint: the countersignature, what it has to prove, what is done after the commit."""

    countersignature: Note | None = None
    asks: list[Note] = field(default_factory=list)
    later: list[Later] = field(default_factory=list)


@dataclass(slots=True)
class _Asked:
    since: int
    times: int = 0


class Witnesses:
    """Watches the logs of the peers."""

    def __init__(self, centre: Centre, control: Control, own: Own, watch: Watch) -> None:
        self._centre = centre
        self._control = control
        self._own = own
        self._watch = watch
        self._asked: dict[Note, _Asked] = {}

    def take(self, connection: Connection, sender: str, opened: Opened, now: int) -> Later | None:
        """Take a peer's envelope about logs: its own, this centre's, those of third centres."""
        body, core = receipts.read(Exchange, content(opened)), opened.envelope.core
        given = self._read(body.checkpoint, now) if body.checkpoint is not None else None
        if given is not None and (given.said.centre, given.said.epoch) != (sender, core.epoch):
            raise Rejected("bad-checkpoint", f"{sender} gives a checkpoint of another centre or epoch as its own.")
        if not incoming.is_news(connection, sender, core.epoch, "checkpoint", core.to[0].first):
            return None
        later = [self._own.hear(connection, sender, body, now)]
        if body.damaged:
            raised = peers.alarms(connection).get(sender)
            if raised is None or raised.code != DAMAGED:
                later.append(self._watch.alarm(connection, sender, DAMAGED, now))
        for note in body.seen:
            with contextlib.suppress(Rejected):  # the word of a third party about a fourth: a bad one is nobody's fault here
                later.append(self._hear_of(connection, note, sender, now))
        if given is not None:
            later += self._answer(connection, sender, given, body.proofs, now)
        return partial(_all, [one for one in later if one is not None])

    def _answer(self, connection: Connection, sender: str, given: Read, proofs: Sequence[Proof], now: int) -> list[Later]:
        """Judge a peer's checkpoint and seal the answer, in this transaction; return what follows the commit."""
        answer = self._judge(connection, sender, given, {proof.size: proof for proof in proofs}, now)
        if answer.countersignature is None and not answer.asks:
            return answer.later
        body = Exchange(
            countersignature=answer.countersignature,
            asks=tuple(answer.asks[:MOST_PROOFS]),
            seen=tuple(store.newest(connection, (self._centre.id, sender))),
        )
        with contextlib.suppress(Refused):  # it has no key that is valid now
            raw = self._control.numbered(connection, "checkpoint", sender, receipts.write(body))
            answer.later.append(partial(self._control.post, sender, raw))
        return answer.later

    def _judge(self, connection: Connection, sender: str, given: Read, proofs: dict[int, Proof], now: int) -> _Answer:
        answer, said = _Answer(), given.said
        held = store.latest(connection, sender)
        if held is not None and said.epoch < held.said.epoch:
            return answer
        for one in store.of_size(connection, sender, said.epoch, said.size):
            if one.said.root != said.root:
                answer.later += self._catch(connection, SPLIT, one, given, sender, now)
                answer.asks.append(one.note)
        if answer.asks:
            return answer
        if held is not None and held.said.epoch == said.epoch:
            if said.size < held.said.size:
                return self._judge_shorter(connection, held, given, now)
            if not self._is_proved(connection, held, given, proofs.get(held.said.size), answer, now):
                return answer
        for one in store.heard(connection, sender, said.epoch):
            if one.said.size < said.size and self._is_proved(connection, one, given, proofs.get(one.said.size), answer, now):
                store.prove(connection, Read(one.note, one.said), one.at)
        store.prove(connection, given, now)
        answer.countersignature = self._countersign(given, now)
        answer.later.append(partial(self._count, sender, said.size))
        return answer

    def _judge_shorter(self, connection: Connection, held: Held, given: Read, now: int) -> _Answer:
        """Catch a log whose time went on and whose size went back; an older checkpoint is a copy come late and of no meaning."""
        answer = _Answer()
        if given.said.time > held.said.time:
            answer.later += self._catch(connection, SHRUNK, held, given, given.said.centre, now)
            answer.asks.append(held.note)
        return answer

    def _is_proved(self, connection: Connection, held: Held, given: Read, proof: Proof | None, answer: _Answer, now: int) -> bool:
        """Return whether a checkpoint is shown to continue what is held; else ask for a proof, or catch who can't have one."""
        old, new = held.said, given.said
        if old.size == new.size:
            return old.root == new.root
        if proof is None:
            answer.asks.append(held.note)
            if self._asks_in_vain(held.note):
                answer.later += self._catch(connection, UNPROVED, held, given, new.centre, now)
            return False
        hashes = [bytes.fromhex(one) for one in proof.hashes]
        if not merkle.extends(old.size, new.size, hashes, held.root, bytes.fromhex(new.root)):
            answer.later += self._catch(connection, SPLIT, held, given, new.centre, now, proof)
            return False
        self._asked.pop(held.note, None)
        return True

    def _hear_of(self, connection: Connection, note: Note, source: str, now: int) -> Later | None:
        """Take a checkpoint that a peer holds of a third centre, or of this one."""
        read = self._read(note, now)
        said = read.said
        if said.centre == self._centre.id:
            return self._own.shown(connection, note, now)
        if said.centre == source:
            return None
        known = store.of_size(connection, said.centre, said.epoch, said.size)
        other = next((one for one in known if one.said.root != said.root), None)
        if other is not None:
            return partial(_all, self._catch(connection, SPLIT, other, read, source, now))
        held = store.latest(connection, said.centre)
        if not known and (held is None or said.epoch >= held.said.epoch):
            store.hear(connection, read, source, now)
        return None

    def _read(self, note: Note, now: int) -> Read:
        moment = from_ms(now)
        return witnessed.checkpoint(note, self._centre.settings.network, self._centre.directory, lambda key: key.usable(moment))

    def _countersign(self, given: Read, now: int) -> Note:
        centre = self._centre
        said = Countersignature(
            network=centre.settings.network, witness=centre.id, checkpoint=given.note.digest, time=centre.now()
        )
        return witnessed.countersign(centre.keyring.checkpoint(now), said)

    def _catch(
        self,
        connection: Connection,
        code: str,
        held: Held,
        given: Read,
        source: str,
        now: int,
        proof: Proof | None = None,
    ) -> list[Later]:
        """Keep the evidence and raise an alarm, once for each epoch of a peer and each kind of fault."""
        origin = given.said.centre
        found = Evidence(origin, code, now, held.note, given.note, source, proof)
        if not store.add_evidence(connection, found):
            return []
        return [self._watch.alarm(connection, origin, code, now), partial(self._say_caught, found, held, given)]

    def _asks_in_vain(self, note: Note) -> bool:
        """Count that a peer is asked for a proof; return whether it was asked for long enough."""
        now = self._centre.elapsed()
        if len(self._asked) >= MOST_ASKED:
            self._asked.clear()
        asked = self._asked.setdefault(note, _Asked(now))
        asked.times += 1
        return asked.times > ASKED_TIMES and now - asked.since >= ASKED_MS

    def _count(self, peer: str, size: int) -> None:
        self._centre.metrics.witnessed.labels(peer).set(size)
        self._centre.log.debug(Event.AUDIT_WITNESSED, peer=peer, size=size)

    def _say_caught(self, found: Evidence, held: Held, given: Read) -> None:
        sizes = {"epoch": given.said.epoch, "held": held.said.size, "given": given.said.size}
        self._centre.log.error(Event.PEER_CAUGHT, peer=found.origin, code=found.code, source=found.source, **sizes)


def _all(acts: Sequence[Later]) -> None:
    for act in acts:
        act()
