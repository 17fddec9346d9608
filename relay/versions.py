"""What a submitted message says about earlier ones, checked against the store: updates, recalls, onward releases.

An *update* or *cancel* names the **first** version of its message, so that every version names the same one and a recipient needs
no history to know what is taken back. It must come from the message's origin and quote the first version's digest. It reaches
everyone who was ever sent any version: a cancel all of them; an update those whom its marks entitle, while the others are sent a
cancel by the node itself (*withdrawal*), whose marks are those of the message that they hold.

A *release* passes another centre's message on. TLP decides whether that may be done at all, handling code H2 whether the
originator must be asked first: with a request to it that refers to the message (relation ``releases``) and asks, for each centre,
:func:`release_question`; a full reply permits it, until a refusal of the same question follows. A release is guarded no less
than what it passes on, in every version. When the message is taken back later, :meth:`Versions.pass_on` takes back the
release.

Errors raised: ``Refused`` with ``unknown-reference``, ``not-the-origin``, ``not-first-version``, ``digest-mismatch``,
``already-cancelled``, ``contradiction``, ``no-recipients``, ``purged``, ``recalled``, ``release-forbidden``,
``release-needs-permission``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass

from relay import codes, messages, seal
from relay.centre import Centre
from relay.clock import from_ms
from relay.directory import Member
from relay.envelope import is_of, parse
from relay.errors import Problem, Refused, Rejected, RelayError
from relay.keeping import Recall, recall
from relay.messages import Cancel, Message, Reference, Reply, Request, Update
from relay.policy import marks, release_rule
from relay.store import Connection, outgoing, threads
from relay.store.common import Resting
from relay.store.threads import RELEASED, Received, Thread

# Handling codes that guard a release as closely as its source: H1 to H3 are all flagged, H2 and H3 each mean more.
_AS_CLOSE = {"H0": codes.HANDLING_CODES, "H1": ("H1", "H2", "H3"), "H2": ("H2",), "H3": ("H3",)}
_NARROWED = "A new version has a narrower distribution."
_PASSED_ON = "The message that this one released was taken back by its origin."


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from a message's references, when it may be submitted.

    ``recipients`` are fixed for a cancel, else policy decides; ``unreachable`` held the message and can't be reached now;
    ``withdraw_from`` get ``withdrawal``, a cancel composed here. Its id must be greater than ``after``; ``refers`` are further
    references for the store alone.
    """

    recipients: tuple[str, ...] | None = None
    unreachable: tuple[str, ...] = ()
    withdraw_from: tuple[str, ...] = ()
    withdrawal: bytes = b""
    after: str = ""
    refers: tuple[tuple[str, str], ...] = ()


NOTHING = Plan()


def is_linked(message: Message) -> bool:
    """Return whether a message refers to another in a way that must be looked at."""
    return message.kind in ("update", "cancel") or any(one.relation == "releases" for one in message.references)


def release_question(message: str, centre: str) -> str:
    """Return the question by which a request asks whether a message may be released to a centre; its exact words count."""
    return f"May message {message} be released to {centre}?"


def content(centre: Centre, rest: Resting, position: int) -> bytes | None:
    """Return a message's bytes out of a centre's store, or None when they are damaged there."""
    try:
        found = seal.content(parse(rest.header + rest.body), centre.storage_key.unwrap(rest.content_key), position)
    except RelayError:
        return None
    return None if isinstance(found, Rejected) else found


class Versions:
    """Looks at what messages of this centre say about earlier ones."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    async def plan(self, message: Message) -> Plan:
        """Return what follows from a message's references; raise ``Refused`` when they don't allow it."""
        return await self._centre.store.read(lambda connection: self._plan(connection, message))

    async def pass_on(self) -> list[bytes]:
        """Return the cancels by which this centre takes back what it released of messages that were taken back from it."""
        me = self._centre.id

        def compose(connection: Connection) -> list[bytes]:
            found = [threads.thread(connection, me, one) for one in threads.recalled_releases(connection, me)]
            return [self._cancel(one, _PASSED_ON, sorted(one.holders)) for one in found if one is not None and not one.purged]

        return await self._centre.store.read(compose)

    def _plan(self, connection: Connection, message: Message) -> Plan:
        if (found := recall(message)) is None:
            return Plan(refers=self._releases(connection, message))
        if any(one.relation == "releases" for one in message.references):
            sentence = "An update or cancel releases nothing itself: send the release as a message of its own."
            raise _refusal("contradiction", "/references", sentence)
        return self._plan_recall(connection, message, found)

    def _plan_recall(self, connection: Connection, message: Message, found: Recall) -> Plan:
        thread = self._thread(connection, found)
        first = self._first(thread)
        if first is not None:
            self._check_first(message, first, found)
            if isinstance(message, Update):  # a new version of a release is a release of the same, to whoever gets it
                self._releases(connection, message, messages.read(first).references)
        if isinstance(message, Cancel):
            return self._plan_cancel(thread)
        return self._plan_update(message, thread)

    def _plan_cancel(self, thread: Thread) -> Plan:
        recipients, unreachable = self._reachable(thread.holders)
        if not recipients:
            raise _refusal("no-recipients", "", "None of the centres that held the message can be reached now.")
        return Plan(recipients, unreachable, after=thread.newest)

    def _plan_update(self, message: Message, thread: Thread) -> Plan:
        entitled = self._centre.judge.admit(marks(message)).recipients
        left_out, unreachable = self._reachable(thread.holders - set(entitled) - _withdrawn(thread))
        if not left_out:
            return Plan(unreachable=unreachable, after=thread.newest)
        return Plan(None, unreachable, left_out, self._cancel(thread, _NARROWED, left_out), thread.newest)

    def _thread(self, connection: Connection, found: Recall) -> Thread:
        me = self._centre.id
        pointer = "/references"
        if not is_of(found.target, me):
            raise _refusal("not-the-origin", pointer, f"Message {found.target} is not this centre's own; only its origin may.")
        first = threads.first_version(connection, me, found.target)
        if first != found.target:
            sentence = f"Message {found.target} belongs to the message {first}: refer to that one, the first version."
            raise _refusal("not-first-version", pointer, sentence)
        thread = threads.thread(connection, me, found.target)
        if thread is None:
            raise _refusal("unknown-reference", pointer, f"This node sent no message {found.target}.")
        if thread.cancels:
            raise _refusal("already-cancelled", pointer, f"Message {found.target} was taken back by {thread.cancels[0]}.")
        return thread

    def _check_first(self, message: Message, raw: bytes, found: Recall) -> None:
        """Refuse a recall that does not fit the message it takes back."""
        if hashlib.sha256(raw).hexdigest() != found.digest:
            raise _refusal("digest-mismatch", "/references", f"The digest is not that of message {found.target} as it was sent.")
        first = messages.read(raw)
        if first.status != message.status:
            sentence = f"The message has the status {first.status}; {message.status} traffic never touches it."
            raise _refusal("contradiction", "/status", sentence)
        if isinstance(message, Update) and message.message.kind != first.kind:
            sentence = f"The message is of kind {first.kind}; its new version is too."
            raise _refusal("contradiction", "/message/kind", sentence)

    def _reachable(self, holders: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return which of the holders something can be sealed to now, and which not."""
        active, gone = self._centre.judge.reachable(holders)
        sealed = tuple(centre for centre in active if self._has_key(self._centre.directory.member(centre)))
        return sealed, tuple(sorted({*gone, *active} - set(sealed)))

    def _has_key(self, member: Member | None) -> bool:
        return member is not None and bool(member.sealing_keys(from_ms(self._centre.now())))

    def _first(self, thread: Thread) -> bytes | None:
        """Return the bytes of a thread's first version, or None once they are purged."""
        return None if thread.purged else self._content(thread.resting, thread.position)

    def _cancel(self, thread: Thread, explanation: str, to: Collection[str]) -> bytes:
        """Return a cancel of a whole thread with the marks of its first version, which those it is for have seen."""
        raw = self._first(thread)
        if raw is None:
            raise _refusal("purged", "/references", "The first version was purged here; its marks are gone. Cancel it by hand.")
        first = messages.read(raw)
        body = {
            "kind": "cancel",
            "crime_types": first.crime_types,
            "countries": first.countries,
            "tlp": first.tlp,
            "purpose": first.purpose,
            "nominal": first.nominal,
            "status": first.status,
            "classification": first.classification,
            "to": list(to),
            "references": [{"id": thread.first, "digest": hashlib.sha256(raw).hexdigest(), "relation": "cancels"}],
            "language": "en",
            "reason": "withdrawn",
            "explanation": explanation,
        }
        return json.dumps(body, separators=(",", ":")).encode()

    def _releases(
        self, connection: Connection, message: Message, references: tuple[Reference, ...] | None = None
    ) -> tuple[tuple[str, str], ...]:
        """Return whose threads a message passes on, by its references or those given; raise ``Refused`` when it may not.

        Asking the origin of a message whether it may be released is free.
        """
        inner = message.message if isinstance(message, Update) else message
        refers: list[tuple[str, str]] = []
        for index, one in enumerate(message.references if references is None else references):
            if one.relation == "releases":
                found = threads.received(connection, one.id)
                place = f"/references/{index}"
                if found is None or found.state not in ("handed", "delivered"):
                    raise _refusal(
                        "unknown-reference", place, f"This centre was given no message {one.id} that it could release."
                    )
                if not (isinstance(inner, Request) and message.to == (found.origin,)):
                    refers.append((RELEASED, self._check_release(connection, message, found, one.digest, place)))
        return tuple(refers)

    def _check_release(self, connection: Connection, message: Message, found: Received, digest: str, place: str) -> str:
        """Raise ``Refused`` unless a received message may be passed on by this one; return the first version of its thread."""
        raw = None if found.purged else self._content(found.resting, found.position)
        if raw is None:
            raise _refusal("purged", place, f"Message {found.id} was purged here and can't be released.")
        if hashlib.sha256(raw).hexdigest() != digest:
            raise _refusal("digest-mismatch", f"{place}/digest", f"The digest is not that of message {found.id} as it came.")
        source = messages.read(raw)
        rule = release_rule(source.tlp, source.handling)
        if rule == "forbidden":
            sentence = f"Message {found.id} is marked TLP:{source.tlp}: it goes to no other centre."
            raise _refusal("release-forbidden", place, sentence)
        if (mark := _loosened(source, message)) is not None:
            sentence = f"Message {found.id} is guarded more closely: its {mark} must hold for its release, too."
            raise _refusal("contradiction", f"/{mark}", sentence)
        if rule == "permission":
            self._check_permitted(connection, message, found)
        return _first_of(source, found.id)

    def _check_permitted(self, connection: Connection, message: Message, found: Received) -> None:
        asked = message.to
        missing = set(asked or ()) - self._permitted(connection, found)
        if asked is None or missing:
            named = f"to {', '.join(sorted(missing))}" if asked else "to centres that it names in to"
            sentence = (
                f"Message {found.id} is marked H2: {found.origin} must permit its release {named}. Ask with "
                f"`relay message ask-release {found.id}`; a full reply permits it."
            )
            raise _refusal("release-needs-permission", "/references", sentence)

    def _permitted(self, connection: Connection, found: Received) -> set[str]:
        """Return the centres to which the origin of a message permitted its release, by full replies to our questions."""
        me = self._centre.id
        permitted: set[str] = set()
        for question in threads.questions(connection, me, found.id):
            request = self._sent(connection, question)
            if isinstance(request, Request) and self._granted(connection, question, request, found.origin):
                permitted |= {
                    centre for centre in self._centre.directory.active if release_question(found.id, centre) in request.asked
                }
        return permitted

    def _granted(self, connection: Connection, question: str, request: Request, origin: str) -> bool:
        """Return whether the last decision on a question is a full reply; exercise never permits what is actual."""
        granted = False
        for answer in threads.answers(connection, question, origin):  # the oldest first
            found = threads.received(connection, answer)
            raw = None if found is None or found.purged else self._content(found.resting, found.position)
            reply = None if raw is None else messages.read(raw)
            if isinstance(reply, Reply) and reply.status == request.status and reply.outcome in ("full", "refusal"):
                granted = reply.outcome == "full"
        return granted

    def _sent(self, connection: Connection, message: str) -> Message | None:
        found = outgoing.message(connection, message)
        raw = None if found is None or found.purged_at else self._content(found.resting, found.position)
        return None if raw is None else messages.read(raw)

    def _content(self, rest: Resting, position: int) -> bytes | None:
        return content(self._centre, rest, position)


def _loosened(source: Message, release: Message) -> str | None:
    """Return the mark by which a release would be guarded less closely than the message that it passes on, or None."""
    holds = {
        "status": release.status == source.status,
        "tlp": codes.TLP.index(release.tlp) <= codes.TLP.index(source.tlp),
        "handling": release.handling in _AS_CLOSE[source.handling],
        "handling_text": source.handling != "H3" or release.handling_text == source.handling_text,
        "classification": codes.clearance_covers(release.classification, source.classification),
        "exclude": set(source.exclude) <= set(release.exclude),
    }
    return next((mark for mark, kept in holds.items() if not kept), None)


def _first_of(source: Message, message: str) -> str:
    """Return the first version of a received message's thread: what an update names, else the message itself."""
    found = recall(source)
    return message if found is None else found.target


def _withdrawn(thread: Thread) -> set[str]:
    """Return who was sent a withdrawal after the last version that he was sent."""
    last: dict[str, str] = {}
    for version in thread.versions:
        last.update({centre: max(version, last.get(centre, "")) for centre in thread.sent_to[version]})
    return {centre for one in thread.withdrawals for centre in thread.sent_to[one] if one > last.get(centre, "")}


def _refusal(code: str, pointer: str, sentence: str) -> Refused:
    return Refused(code, sentence, (Problem(pointer, code, sentence),))
