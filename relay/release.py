"""Releases that need their originator's word (H2): the question that asks for it, and the decision that answers it.

A question is an ordinary request to the origin of a message. It refers to the message (relation ``releases``) and asks, for each
centre, :func:`relay.versions.release_question`; a full reply permits the release to all of them, a refusal denies it. An operator
says whom it concerns and why; the marks come from the message that is to be released, so that the question is no less guarded.

The bodies are composed here and then go the way of every message: validated by :mod:`relay.messages`, submitted to the outbox.
:meth:`Releases.record` writes who decided and why.

Errors raised: ``NotFound`` (``unknown-reference``, ``unknown-request``), ``Refused`` (``purged``, ``release-forbidden``,
``unknown-recipient``, ``not-a-release-question``), ``Conflict`` (``request-stopped``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from relay import messages, points
from relay.audit import AuditStep
from relay.centre import Centre
from relay.clock import iso
from relay.envelope import is_of, read_core
from relay.errors import Conflict, NotFound, Problem, Refused
from relay.messages import Message, Request
from relay.points import Point
from relay.policy import release_rule
from relay.store import Connection, clocks, outgoing, threads
from relay.store.threads import Received
from relay.versions import content, release_question

Outcome = Literal["full", "refusal"]

_MARKS = ("crime_types", "countries", "tlp", "purpose", "nominal", "status", "precedence", "classification")


@dataclass(frozen=True, slots=True)
class Source:
    """A received message, open: its bytes, and what they say."""

    id: str
    origin: str
    raw: bytes
    message: Message

    def reference(self, relation: str) -> dict[str, str]:
        """Return a reference to it."""
        return {"id": self.id, "digest": hashlib.sha256(self.raw).hexdigest(), "relation": relation}


@dataclass(frozen=True, slots=True)
class Done:
    """An operator's action that became a message of this centre, for the audit record."""

    step: AuditStep
    message: str
    peer: str
    code: str | None
    actor: str
    why: str


def question(source: Source, to: Sequence[str], reason: str, urgency: str, now: int) -> bytes:
    """Return the request that asks the origin of a message whether it may be released to these centres."""
    body = {
        "kind": "request",
        **_marks(source.message),
        "to": [source.origin],
        "references": [source.reference("releases")],
        "headline": f"Release of message {source.id}",
        "asked": [release_question(source.id, centre) for centre in to],
        "offence": f"As in message {source.id}.",
        "reason": reason,
        "availability": "The message is the addressee's own.",
        "urgency": urgency,
        "asked_at": iso(now),
    }
    return _written(body if urgency == "normal" else {**body, "urgency_reason": reason})


def decision(request: Source, outcome: Outcome, ground: str | None, text: str, now: int) -> bytes:
    """Return the reply that permits what a release question asks (``full``) or denies it (``refusal``, with its ground)."""
    body = {
        "kind": "reply",
        **_marks(request.message),
        "to": [request.origin],
        "references": [request.reference("answers")],
        "outcome": outcome,
        "text": text,
        "answered_at": iso(now),
    }
    return _written(body if ground is None else {**body, "ground": ground})


class Releases:
    """Composes questions and decisions of one centre out of what its store holds."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    async def ask(self, message: str, to: Sequence[str], reason: str, urgency: str) -> tuple[bytes, str]:
        """Return the question whether a received message may be released to these centres, and whom it goes to."""
        source = await self._centre.store.read(partial(self._source, message=message))
        if release_rule(source.message.tlp, source.message.handling) == "forbidden":
            sentence = f"Message {message} is marked TLP:{source.message.tlp}: it goes to no other centre."
            raise Refused("release-forbidden", sentence)
        self._check_centres(to, source.origin)
        return question(source, list(dict.fromkeys(to)), reason, urgency, self._centre.now()), source.origin

    async def answer(self, request: str, outcome: Outcome, ground: str | None, text: str) -> tuple[bytes, str]:
        """Return the reply to a release question that this centre received, and whom it goes to."""
        asked = await self._centre.store.read(partial(self._question, request=request))
        return decision(asked, outcome, ground, text, self._centre.now()), asked.origin

    async def record(self, done: Done) -> None:
        """Write into the audit record who decided and why, next to the message that came of it."""
        points.reach(Point.RELEASE_COMMIT_BEFORE)
        await self._centre.store.write(partial(self._record, done=done))
        points.reach(Point.RELEASE_COMMIT_AFTER)

    def _source(self, connection: Connection, message: str) -> Source:
        found = threads.received(connection, message)
        if found is None or found.state not in ("handed", "delivered"):
            raise NotFound("unknown-reference", f"This centre was given no message {message} that it could release.")
        return self._open(found)

    def _question(self, connection: Connection, request: str) -> Source:
        clock = next((one for one in clocks.of(connection, request) if not one.asked), None)
        found = threads.received(connection, request)
        if clock is None or found is None:
            raise NotFound("unknown-request", "This centre received no request with this id.")
        if clock.stopped_at is not None:
            raise Conflict("request-stopped", f"Request {request} was answered or taken back before: {clock.state}.")
        source = self._open(found)
        if not self._is_release_question(source.message):
            sentence = f"Request {request} does not ask for the release of a message; answer it with a message of kind reply."
            raise Refused("not-a-release-question", sentence)
        return source

    def _is_release_question(self, message: Message) -> bool:
        """Return whether all that a request asks is the release of messages of this centre, which it names, to others."""
        me = self._centre.id
        released = [one.id for one in message.references if one.relation == "releases" and is_of(one.id, me)]
        known = {release_question(one, centre) for one in released for centre in self._centre.directory.active}
        return isinstance(message, Request) and known.issuperset(message.asked)

    def _open(self, found: Received) -> Source:
        raw = None if found.purged else content(self._centre, found.resting, found.position)
        if raw is None:
            raise Refused("purged", f"Message {found.id} was purged here.")
        return Source(found.id, found.origin, raw, messages.read(raw))

    def _check_centres(self, to: Sequence[str], origin: str) -> None:
        others = self._centre.directory.active.keys() - {self._centre.id, origin}
        problems = tuple(
            Problem(f"/to/{index}", "unknown-recipient", f"{centre} is no other active centre of this network.")
            for index, centre in enumerate(to)
            if centre not in others
        )
        if problems:
            raise Refused("unknown-recipient", problems[0].detail, problems)

    def _record(self, connection: Connection, done: Done) -> None:
        sent = outgoing.message(connection, done.message)
        assert sent is not None  # noqa: S101 - it was committed just now
        core = read_core(sent.resting.header)
        leaf = self._centre.audit.leaf(
            done.step,
            self._centre.now(),
            envelope=core.id,
            peer=done.peer,
            commitments=[core.messages[sent.position].commitment],
            code=done.code,
            actor=done.actor,
            why=done.why,
        )
        self._centre.audit.append(connection, [leaf])


def _marks(message: Message) -> dict[str, Any]:
    """Return the marks of a message that one about it has too."""
    return {name: getattr(message, name) for name in _MARKS}


def _written(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
