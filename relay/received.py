"""What an operator does with received messages: see those set aside, hold, release, replay, discard.

A message that is *held* is not given out until it is released. A *dead* one is given out again when it is replayed, whatever its
deadline says; so is a *deferred* one before its time. A *quarantined* one was refused on arrival: to release it overrules the
refusal, which makes sense only where a policy refused what is otherwise sound, and only while its content is here. To discard a
message ends it as rejected (code ``discarded``, told to its origin) and purges its content; the row stays. Each is an act with an
actor and a reason, in the record.

Errors raised: ``NotFound`` (``not-received``), ``Conflict`` (``wrong-state``, ``not-releasable``, ``already-purged``,
``taken-back``, ``under-legal-hold``), ``Misconfigured`` and ``StoreTrouble``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from relay import messages, points, recalls, seal
from relay.audit import AuditStep
from relay.centre import Centre
from relay.control import Control, statements
from relay.envelope import parse
from relay.errors import Conflict, EnvelopeError, NotFound, Refused, Rejected, StoreTrouble
from relay.keeping import Kept
from relay.log import Event
from relay.points import Point
from relay.recalls import CarriedOut
from relay.receipts import Statement
from relay.store import Connection, aside, flags, incoming, recalled
from relay.store.aside import Placed, Received
from relay.store.common import Resting
from relay.store.incoming import Place

RELEASABLE = frozenset({"sender-not-entitled", "recipient-not-entitled", "recipient-not-named"})
"""Codes of refusals that an operator may overrule: the message is authentic and sound, and a policy said no."""
DISCARDED = "discarded"

FROM = {
    "hold": ("waiting", "handed", "deferred"),
    "release": ("held", "quarantined"),
    "replay": ("dead", "deferred"),
    "discard": ("waiting", "handed", "deferred", "held", "dead", "quarantined"),
}
"""From which states a received message can be held, released, replayed and discarded."""

Posted = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Act:
    """What an operator asks for: the message, who asks, and why."""

    message: str
    actor: str
    reason: str


@dataclass(slots=True)
class _Done:
    """What a transaction did, to be acted on after its commit."""

    posted: Posted
    carried: CarriedOut | None = None


class ReceivedMessages:
    """Looks after received messages for an operator."""

    def __init__(self, centre: Centre, control: Control) -> None:
        self._centre = centre
        self._control = control

    async def listed(self, state: str, after: str | None, limit: int) -> list[Received]:
        """Return received messages in a state, the oldest first, behind the message ``after``."""

        def read(connection: Connection) -> list[Received]:
            last = _find(connection, after).n if after is not None else 0
            return aside.listed(connection, state, last, limit)

        return await self._centre.store.read(read)

    async def find(self, message: str) -> Received:
        """Return where a received message stands."""
        return await self._centre.store.read(partial(_find, message=message))

    def reason(self, one: Received) -> str | None:
        """Return the words of who put a message where it stands."""
        return None if one.reason is None else self._centre.storage_key.text_key().open(one.reason, one.id)

    async def hold(self, act: Act) -> Received:
        """Park a message that is still to be given out, or that the system has not acknowledged."""
        sealed = self._centre.storage_key.text_key().seal(act.reason, act.message)

        def hold(connection: Connection, one: Placed, now: int) -> _Done:
            aside.hold(connection, one.row, sealed, now)
            return self._note(connection, AuditStep.HELD, one.place, act, now)

        return await self._do("hold", act, hold, Event.RECEIVED_HELD)

    async def replay(self, act: Act) -> Received:
        """Give a dead or deferred message out again, at once."""

        def replay(connection: Connection, one: Placed, now: int) -> _Done:
            aside.give_again(connection, one.row, now, anew=True)
            return self._note(connection, AuditStep.REPLAYED, one.place, act, now)

        return await self._do("replay", act, replay, Event.RECEIVED_REPLAYED)

    async def release(self, act: Act) -> Received:
        """End the hold of a message; or overrule the refusal of a quarantined one, which its origin is told."""
        found = await self.find(act.message)
        kept = await self._sound(found) if found.state == "quarantined" else None

        def release(connection: Connection, one: Placed, now: int) -> _Done:
            if one.row.state == "held":
                aside.give_again(connection, one.row, now)
                return self._note(connection, AuditStep.UNHELD, one.place, act, now)
            if kept is None or one.row.purged_at is not None:
                raise _purged(act.message)
            return self._overrule(connection, one, kept, act, now, found.envelope)

        return await self._do("release", act, release, Event.RECEIVED_RELEASED)

    async def discard(self, act: Act) -> Received:
        """End a message as rejected and purge its content; its origin is told, unless it was by the refusal before."""

        def discard(connection: Connection, one: Placed, now: int) -> _Done:
            if aside.is_on_legal_hold(connection, act.message):
                raise Conflict("under-legal-hold", f"Message {act.message} is under legal hold: its content must stay.")
            row, place = one.row, one.place
            known = row.state == "quarantined"
            gone = aside.discard(connection, row, None if known else DISCARDED, now)
            done = self._note(connection, AuditStep.DISCARDED, place, act, now, row.code if known else DISCARDED)
            leaf = self._centre.audit.leaf(AuditStep.PURGED, now, peer=place.origin, commitments=gone, code=DISCARDED)
            self._centre.audit.append(connection, [leaf] if gone else [])
            if not known:
                done.posted += self._control.tell(connection, place.origin, self._rejected(connection, place, now), now)
            return done

        discarded = await self._do("discard", act, discard, Event.RECEIVED_DISCARDED)
        self._centre.metrics.purged.labels(DISCARDED).inc()
        with contextlib.suppress(StoreTrouble):  # what is left in the log goes with the next purge
            await self._centre.store.scrub()
            points.reach(Point.RECEIVED_SCRUBBED)
        return discarded

    async def _do(self, verb: str, act: Act, change: Callable[[Connection, Placed, int], _Done], event: Event) -> Received:
        """Change one message in a transaction, if its state allows it; return where it stands then."""

        def job(connection: Connection) -> tuple[Received, _Done]:
            found = _find(connection, act.message)
            if found.state not in FROM[verb]:
                allowed = ", ".join(FROM[verb])
                sentence = f"Message {act.message} is {found.state}; to {verb} one, it must be one of: {allowed}."
                raise Conflict("wrong-state", sentence)
            done = change(connection, aside.place(connection, found.n), self._centre.now())
            return _find(connection, act.message), done

        points.reach(Point.RECEIVED_COMMIT_BEFORE)
        now_, done = await self._centre.store.write(job)
        points.reach(Point.RECEIVED_COMMIT_AFTER)
        for recipient, raw in done.posted:
            self._control.post(recipient, raw)
        points.reach(Point.RECEIVED_POSTED)
        if done.carried is not None:
            recalls.say(self._centre, now_.origin, now_.envelope, done.carried.buried)
        self._centre.log.warning(event, message=now_.id, peer=now_.origin, state=now_.state, actor=act.actor)
        self._centre.store.inbox_changed.fire()
        self._centre.metrics.acts.labels(verb).inc()
        return now_

    def _note(self, connection: Connection, step: AuditStep, place: Place, act: Act, now: int, code: str | None = None) -> _Done:
        leaf = self._centre.audit.leaf(
            step, now, peer=place.origin, commitments=[place.commitment], code=code, actor=act.actor, why=act.reason
        )
        self._centre.audit.append(connection, [leaf])
        return _Done([])

    async def _sound(self, found: Received) -> Kept:
        """Return what is to be kept of a quarantined message; raise ``Conflict`` when its refusal can't be overruled."""
        if found.purged_at is not None:
            raise _purged(found.id)
        if found.code not in RELEASABLE:
            sentence = f"Message {found.id} was refused with {found.code}; that is no judgement that an operator can overrule."
            raise Conflict("not-releasable", sentence)
        read = partial(_content, message=found)
        resting, position = await self._centre.store.read(read)
        return await self._centre.work(partial(self._open, found, resting.header + resting.body, resting.content_key, position))

    def _open(self, found: Received, raw: bytes, wrapped: bytes, position: int) -> Kept:
        try:
            content = seal.content(parse(raw), self._centre.storage_key.unwrap(wrapped), position)
            if isinstance(content, Rejected):
                raise content
            return self._centre.keeper.keep(messages.read(content), found.origin, found.received_at)
        except (EnvelopeError, Refused) as error:
            raise Conflict("not-releasable", f"Message {found.id} can't be read any more: {error.detail}") from error

    def _overrule(self, connection: Connection, one: Placed, kept: Kept, act: Act, now: int, envelope: str) -> _Done:
        """Take a quarantined message after all; an update or cancel is carried out."""
        row, place = one.row, one.place
        if recalled.dead(connection, place.origin, {place.id: kept}):
            raise Conflict("taken-back", f"The origin took message {place.id} back since it came; discard it.")
        aside.overrule(connection, row, kept, flags.of(kept), now)
        done = self._note(connection, AuditStep.OVERRULED, place, act, now, row.code)
        said = statements([place], "accepted", now)[place.origin]
        if kept.recall is not None:
            done.carried = recalls.carry_out(connection, self._centre, place, kept.recall, envelope, now)
            said += done.carried.said
            self._centre.audit.append(connection, done.carried.leaves)
        done.posted += self._control.tell(connection, place.origin, said, now)
        return done

    def _rejected(self, connection: Connection, place: Place, now: int) -> list[Statement]:
        """Return what the last receipt about a message says that is discarded; of a recall, once more that it is carried out."""
        said = statements([place], "rejected", now, DISCARDED)[place.origin]
        if place.recall and recalled.complete(connection, place.origin, place.id):
            said += statements([place], "purged", now)[place.origin]
        return said


def _find(connection: Connection, message: str) -> Received:
    found = aside.find(connection, message)
    if found is None:
        raise NotFound("not-received", f"No message {message} was received here.")
    return found


def _content(connection: Connection, message: Received) -> tuple[Resting, int]:
    """Return the envelope at rest that holds a message, and its position."""
    row = aside.place(connection, message.n).row
    return incoming.envelopes(connection, [row.envelope])[row.envelope], row.position


def _purged(message: str) -> Conflict:
    return Conflict("already-purged", f"The content of message {message} is not here (any more): there is nothing to give out.")
