"""Judging: from a delivery's bytes to a verdict on each of its messages, without touching the store.

:meth:`Judging.judge` verifies, opens and judges; :meth:`Judging.look` verifies alone, for an envelope that must not be opened.
Both return and never raise: whatever is wrong with a delivery stays its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay import envelope as wire
from relay import messages, seal, topology
from relay.broker import Delivery
from relay.centre import Centre
from relay.clock import from_ms
from relay.envelope import Core, Envelope
from relay.errors import CannotOpen, EnvelopeError, NotAuthentic, NotForUs, Refused, Rejected
from relay.keeping import Kept, Recall
from relay.limits import Gate
from relay.messages import Message
from relay.policy import marks
from relay.seal import Opened

POISON = "poison"
TOO_LARGE = "envelope-too-large"
UNKNOWN_SIGNER = frozenset({"directory-too-old", "unknown-centre", "unknown-key"})
FOR_A_NEWER = frozenset({"directory-too-old", "directory-expired"})
"""What a newer directory may mend."""
BY_DIRECTORY = frozenset({"sender-not-entitled", "recipient-not-entitled"})
"""What a directory decides about a message."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is kept of a message, if it could be read, and why it is refused, if it is."""

    kept: Kept | None = None
    refusal: Rejected | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A delivery after it was opened: a batch with a verdict per message, a control envelope, or the error it is.

    An envelope that is ``shut`` was verified and not opened, ``why`` by a code. ``waits`` is the origin that an envelope claims
    which the directory in force can't judge, and a newer one may; ``by`` is the version in force when it was judged. ``failure``
    is the kind of error that taking it in raised, if that is why it is shut.
    """

    delivery: Delivery
    opened: Opened | None = None
    verdicts: tuple[Verdict, ...] = ()
    error: EnvelopeError | None = None
    shut: bool = False
    why: str = POISON
    waits: str | None = None
    by: int = 0
    failure: str = ""


class Judging:
    """Judges what was delivered to one centre; ``gate`` knows what each sender may still cost."""

    def __init__(self, centre: Centre, gate: Gate) -> None:
        self._centre = centre
        self._gate = gate

    def judge(self, delivery: Delivery) -> Judged:
        """Open one delivery and judge its messages."""
        centre, by = self._centre, self._centre.directory.version
        envelope: Envelope | None = None
        opened: Opened | None = None
        try:
            envelope = self._parsed(delivery)
            known = self._verify(envelope)
            opened = Opened(envelope, b"", ())
            self._gate.admit(envelope.core, len(delivery.raw), centre.elapsed(), known=known)
            if self._is_too_large(envelope.core, delivery):
                return Judged(delivery, opened, shut=True, why=TOO_LARGE)
            self._check_suite(envelope.core)
            opened = seal.unseal(envelope, centre.id, centre.sealing_keys)
            contents = opened.contents if envelope.core.type == "batch" else ()
            verdicts = tuple(self._verdict(envelope, content, centre.now()) for content in contents)
            newer = envelope.core.directory > by
            unsure = newer and any(one.refusal and one.refusal.code in BY_DIRECTORY for one in verdicts)
            return Judged(delivery, opened, verdicts, waits=envelope.core.origin if unsure else None, by=by)
        except EnvelopeError as error:
            return Judged(delivery, opened, error=error, waits=_waits(envelope, error), by=by)
        except Exception as error:  # a fault of ours must not end the node, or it would end it again after each restart
            return Judged(delivery, error=failed(error))

    def look(self, delivery: Delivery) -> Judged:
        """Verify one delivery by its header and its signature, and open nothing of it."""
        by = self._centre.directory.version
        envelope: Envelope | None = None
        try:
            envelope = self._parsed(delivery)
            if self._verify(envelope):
                return Judged(delivery, Opened(envelope, b"", ()), shut=True)
            return Judged(delivery, error=NotAuthentic(POISON, "An envelope of an unknown signer is not opened any more."))
        except EnvelopeError as error:
            return Judged(delivery, error=error, waits=_waits(envelope, error), by=by)
        except Exception as error:  # as above
            return Judged(delivery, error=failed(error))

    def _parsed(self, delivery: Delivery) -> Envelope:
        if delivery.routing_key.startswith(f"{self._centre.id}."):
            raise NotForUs("own-echo", "The envelope is this centre's own.")
        envelope = wire.parse(delivery.raw)
        if delivery.lane not in (envelope.core.lane, topology.POISON):
            raise NotAuthentic("wrong-queue", f"An envelope of lane {envelope.core.lane} came from the queue of {delivery.lane}.")
        return envelope

    def _verify(self, envelope: Envelope) -> bool:
        """Verify an envelope; return False for one of an unknown signer that may be let in all the same."""
        centre, known = self._centre, True
        try:
            seal.verify(envelope, centre.id, centre.settings.network, centre.directory, from_ms(centre.now()))
        except NotAuthentic as error:
            if envelope.core.type != "directory" or error.code not in UNKNOWN_SIGNER:
                raise
            known = False  # a directory is judged by its authorities' signatures alone: it may be what makes its sender known
        if envelope.core.type == "batch" and centre.expired:
            sentence = f"The directory in force here expired {centre.directory.expires_at}: nothing says who may send this now."
            raise CannotOpen("directory-expired", sentence)
        return known

    def _is_too_large(self, core: Core, delivery: Delivery) -> bool:
        """Whether a batch is larger than the directory allows; control has bounds of its own, and repair must not wait for it."""
        return core.type == "batch" and len(delivery.raw) > self._centre.directory.policy.max_envelope_bytes

    def _check_suite(self, core: Core) -> None:
        """Refuse to open messages under a suite that is not allowed; what a receipt says is no secret of that kind."""
        suite = core.recipient(self._centre.id).suite
        if core.type == "batch" and suite not in self._centre.directory.policy.suites:
            raise CannotOpen("suite-not-allowed", f"Envelope {core.id} of {core.origin} is sealed with {suite}.")

    def _verdict(self, envelope: Envelope, content: bytes | Rejected, now: int) -> Verdict:
        """Judge a message of an authentic envelope."""
        if isinstance(content, Rejected):
            return Verdict(refusal=content)
        try:
            message = messages.read(content)
            kept = self._centre.keeper.keep(message, envelope.core.origin, now)
            return Verdict(kept, self._fault(envelope.core, message, kept.recall))
        except Refused as refusal:
            return Verdict(refusal=Rejected(refusal.code, refusal.detail, refusal.problems))
        except MemoryError:  # the node's trouble, not the message's
            raise
        except Exception as error:  # a fault of ours that another try does not change: this message's alone
            return Verdict(refusal=Rejected(POISON, f"A message made this node fail: {type(error).__name__}."))

    def _fault(self, core: Core, message: Message, recall: Recall | None) -> Rejected | None:
        """Return what is wrong between a message and the envelope that brought it, or why policy refuses it."""
        if topology.lane(message.status, topology.urgency(message.kind, message.precedence)) != core.lane:
            return Rejected("lane-mismatch", "The message travels in a lane that is not its own.")
        if message.origin not in (None, core.origin):
            return Rejected("other-origin", "The message names another origin than its envelope.")
        if recall is not None and not wire.is_of(recall.target, core.origin):
            return Rejected("not-the-origin", f"{core.origin} takes back a message that is not its own.")
        return self._centre.judge.verdict(core.origin, marks(message))


def _waits(envelope: Envelope | None, error: EnvelopeError) -> str | None:
    """Return the claimed origin of an envelope that waits for a newer directory, or None."""
    return envelope.core.origin if envelope is not None and error.code in FOR_A_NEWER else None


def failed(error: Exception) -> NotAuthentic:
    """Return what stands for an envelope that this node fails on: a sample is kept, and its origin's marks bring it again."""
    return NotAuthentic(POISON, f"An envelope made this node fail: {type(error).__name__}.")
