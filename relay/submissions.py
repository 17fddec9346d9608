"""Submissions: from a validated message on its way in to the entries that wait for their commit, or to why it is refused.

What an update or cancel says of earlier messages is looked at first (:mod:`relay.versions`); then the sender's rights, how long
the message asks to be kept, who may get it, its size, its deadline. Nothing here is stored.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from relay import messages
from relay.batches import Entry, path_of
from relay.centre import Centre
from relay.clock import to_ms
from relay.envelope import new_id
from relay.errors import Conflict, Problem, Refused, RelayError
from relay.keeping import recall
from relay.messages import Message
from relay.policy import Admission, Withheld, marks
from relay.seal import most_bytes
from relay.store.threads import WITHDRAWS
from relay.versions import NOTHING, Plan, Versions, is_linked


@dataclass(frozen=True, slots=True)
class Submission:
    """A validated message on its way in; ``key`` is its idempotency key, already joined to who uses it."""

    raw: bytes
    message: Message
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """The promise: this message is committed and will be sent to these recipients.

    ``withheld`` are entitled and don't get it; an update takes the message away from those ``withdrawn_from``; those
    ``unreachable`` held what is taken back and can't be told now; ``warnings`` say what of the message looks wrong.
    """

    id: str
    recipients: tuple[str, ...]
    withheld: tuple[Withheld, ...] = ()
    withdrawn_from: tuple[str, ...] = ()
    unreachable: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()


Outcome = Stored | RelayError


class Preparing:
    """Prepares what is submitted at one centre."""

    def __init__(self, centre: Centre, versions: Versions) -> None:
        self._centre = centre
        self._versions = versions

    async def plan(self, submissions: Sequence[Submission], known: Container[str | None]) -> list[Plan | Refused]:
        """Return what follows from each message's references; most have none that matter, nor has one whose key is ``known``."""
        plans: list[Plan | Refused] = []
        recalled: set[str] = set()
        for submission in submissions:
            if not is_linked(submission.message) or submission.key in known:
                plans.append(NOTHING)
                continue
            try:
                self._centre.judge.check_origin(submission.message.origin)
                if (found := recall(submission.message)) is not None:
                    _check_alone(found.target, recalled)
                plans.append(await self._versions.plan(submission.message))
            except Refused as refusal:
                plans.append(refusal)
        return plans

    def prepare(self, submission: Submission, plan: Plan, digest: bytes) -> tuple[Stored, list[Entry]]:
        """Return what a message will become and what is to be stored for it; raise ``Refused`` when it may not be sent."""
        self._centre.judge.check_origin(submission.message.origin)
        self._centre.keeper.check(submission.message, self._centre.now())
        admission = self._admit(submission.message, plan)
        entry = self._entry(submission, admission, plan, digest)
        entries = [entry, self._withdrawal(plan)] if plan.withdrawal else [entry]
        warnings, withheld = entry.kept.warnings, admission.withheld
        return Stored(entry.id, admission.recipients, withheld, plan.withdraw_from, plan.unreachable, warnings), entries

    def _admit(self, message: Message, plan: Plan) -> Admission:
        if plan.recipients is not None:
            return Admission(plan.recipients, intel=False)
        return self._centre.judge.admit(marks(message))

    def _entry(self, submission: Submission, admission: Admission, plan: Plan, digest: bytes) -> Entry:
        centre, message = self._centre, submission.message
        kept = centre.keeper.keep(message, centre.id, centre.now())
        if plan.refers:
            kept = replace(kept, refers=(*kept.refers, *plan.refers))
        self._check_size(len(submission.raw), len(admission.recipients))
        path = path_of(centre.id, admission, message)
        new = new_id(centre.id, plan.after)
        return Entry(submission.raw, submission.key, admission.recipients, path, new, self._deadline(message), digest, kept)

    def _withdrawal(self, plan: Plan) -> Entry:
        """Return the cancel for those whom an update leaves out; the store knows it as what it is, so the thread stays open."""
        submission = Submission(plan.withdrawal, messages.parse(plan.withdrawal))
        entry = self._entry(submission, Admission(plan.withdraw_from, intel=False), plan, b"")
        assert entry.kept.recall is not None  # noqa: S101 - a cancel
        entry.kept = replace(entry.kept, refers=((WITHDRAWS, entry.kept.recall.target),))
        return entry

    def _check_size(self, size: int, recipients: int) -> None:
        """Refuse a message that its recipients would have to reject, as alone it makes too large an envelope."""
        most, needed = self._centre.directory.policy.max_envelope_bytes, most_bytes(recipients, 1, size)
        if needed > most:
            sentence = f"Sealed for {recipients} centres the message may have {needed} bytes; the directory allows {most}."
            raise Refused("envelope-too-large", sentence, (Problem("", "envelope-too-large", sentence),))

    def _deadline(self, message: Message) -> int:
        now, policy = self._centre.now(), self._centre.directory.policy
        if message.expires_at is None:
            hours = policy.max_expiry_hours if message.kind == "cancel" else policy.default_expiry_hours
            return now + hours * 3_600_000
        deadline = to_ms(message.expires_at)
        if not now < deadline <= now + policy.max_expiry_hours * 3_600_000:
            sentence = f"The deadline must lie ahead, by at most {policy.max_expiry_hours} hours."
            raise Refused("bad-deadline", sentence, (Problem("/expires_at", "bad-deadline", sentence),))
        return deadline


def _check_alone(target: str, seen: set[str]) -> None:
    """Refuse the second update or cancel of one message in one request: it could not know of the first."""
    if target in seen:
        sentence = f"Another line of this request updates or cancels message {target} too: send one after the other."
        raise Conflict("thread-busy", sentence, (Problem("/references", "thread-busy", sentence),))
    seen.add(target)
