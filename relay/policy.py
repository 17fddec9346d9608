"""Who may get a message: decided before it is stored, and decided again by every recipient from the signed bytes.

Deny by default. A centre is entitled to a message when, for *each* of its crime types, one of the centre's entitlements covers
that crime type, the kind and at least one of the regions, and covers personal data where the message has them; when its clearance
reaches the classification; and when neither it nor its country is excluded. The same rule, over the publish entitlements, decides
what a centre may say. See ``docs/adr/0003`` for why crime types are all-of and regions any-of.

Decisions depend on the marks alone, so they are computed once per distinct set of marks and directory version.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from relay import codes, topology
from relay.directory import Directory, Entitlement, Member
from relay.errors import Problem, Refused, Rejected
from relay.messages import Message

# A recall that reached only today's recipients would be a false promise: it must reach everyone who ever held the message.
NOT_CARRIED = frozenset({"update", "cancel"})


@dataclass(frozen=True, slots=True)
class Marks:
    """What a decision depends on."""

    kind: str
    crime_types: tuple[str, ...]
    regions: tuple[str, ...]
    nominal: bool
    classification: str
    to: tuple[str, ...] | None
    exclude: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Admission:
    """Policy said yes: to whom, and whether by crime type and region (``intel``) or addressed."""

    recipients: tuple[str, ...]
    intel: bool


def marks(message: Message) -> Marks:
    """Return the marks of a message that policy looks at."""
    return Marks(
        message.kind,
        message.crime_types,
        message.regions,
        message.nominal,
        message.classification,
        message.to,
        message.exclude,
    )


class Judge:
    """Applies one version of the directory for one centre."""

    def __init__(self, directory: Directory, me: str) -> None:
        self.directory = directory
        self._me = me
        self.admit = lru_cache(maxsize=4096)(self._admit)
        self.verdict = lru_cache(maxsize=4096)(self._verdict)

    def check_origin(self, origin: str | None) -> None:
        """Raise ``Refused`` when a message names another origin than this centre."""
        if origin is not None and origin != self._me:
            problem = Problem("/origin", "other-origin", f"The origin is set by the node: {self._me}, not {origin}.")
            raise Refused(problem.code, problem.detail, (problem,))

    def _admit(self, marked: Marks) -> Admission:
        """Return who gets a message of this centre; raise ``Refused`` with every reason when it may not be sent."""
        problems = [*self._may_publish(marked), *self._named(marked)]
        if problems:
            raise _refusal(problems)
        recipients = tuple(sorted(self._candidates(marked)))
        if not recipients:
            sentence = "No centre is entitled to this message, so it would reach nobody."
            raise _refusal([Problem("", "no-recipients", sentence)])
        reached = topology.bound(self.directory, marked.regions, marked.crime_types) - {self._me}
        return Admission(recipients, intel=marked.to is None and reached == set(recipients))

    def _verdict(self, origin: str, marked: Marks) -> Rejected | None:
        """Return why this centre must not take a message of ``origin``, or None."""
        if marked.kind in NOT_CARRIED:
            return Rejected("kind-not-carried", f"This release does not carry messages of kind {marked.kind}.")
        sender, receiver = self.directory.member(origin), self.directory.member(self._me)
        if sender is None or not _covers(sender.publish, marked):
            return Rejected("sender-not-entitled", f"{origin} may not publish this kind of message.")
        if receiver is None or _withheld(receiver, marked) is not None:
            return Rejected("recipient-not-entitled", f"{self._me} is not entitled to this message.")
        if marked.to is not None and self._me not in marked.to:
            return Rejected("recipient-not-named", f"The message names its recipients, and {self._me} is none of them.")
        return None

    def _may_publish(self, marked: Marks) -> Iterable[Problem]:
        if marked.kind in NOT_CARRIED:
            yield Problem(
                "/kind", "kind-not-carried", f"This release checks messages of kind {marked.kind}, but does not carry them."
            )
        member = self.directory.member(self._me)
        if member is None or not _covers(member.publish, marked):
            sentence = f"{self._me} may not publish messages of kind {marked.kind} on these crime types and countries."
            yield Problem("/crime_types", "sender-not-entitled", sentence)

    def _named(self, marked: Marks) -> Iterable[Problem]:
        for index, centre in enumerate(marked.to or ()):
            member = self.directory.member(centre)
            if member is None:
                yield Problem(f"/to/{index}", "unknown-recipient", f"{centre} is no active centre of this network.")
            elif centre == self._me:
                yield Problem(f"/to/{index}", "unknown-recipient", "A message is not sent to its own origin.")
            elif (reason := _withheld(member, marked)) is not None:
                yield Problem(f"/to/{index}", "recipient-not-entitled", f"{centre} must not get this message: {reason}.")

    def _candidates(self, marked: Marks) -> Iterable[str]:
        if marked.to is not None:
            return marked.to
        return (
            centre for centre, member in self.directory.active.items() if centre != self._me and _withheld(member, marked) is None
        )


def _withheld(member: Member, marked: Marks) -> str | None:
    """Return why a member must not get a message, or None."""
    if member.id in marked.exclude or (member.country is not None and member.country in marked.exclude):
        return "it is excluded"
    if not codes.clearance_covers(member.clearance, marked.classification):
        return f"its clearance is below {marked.classification}"
    if not _covers(member.subscribe, marked):
        return "it is not entitled to these crime types, countries or kind"
    return None


def _covers(entitlements: tuple[Entitlement, ...], marked: Marks) -> bool:
    return all(
        any(entitlement.covers(crime_type, marked.regions, marked.kind, nominal=marked.nominal) for entitlement in entitlements)
        for crime_type in marked.crime_types
    )


def _refusal(problems: list[Problem]) -> Refused:
    if len(problems) == 1:
        return Refused(problems[0].code, problems[0].detail, tuple(problems))
    return Refused("invalid-message", f"The message may not be sent, for {len(problems)} reasons.", tuple(problems))
