"""Who may get a message: decided before it is stored, and decided again by every recipient from the signed bytes.

Deny by default. A centre is entitled to a message when, for *each* of its crime types, one of the centre's entitlements covers
that crime type, the kind and at least one of the regions, and covers personal data where the message has them; when its clearance
reaches the classification; and when neither it nor its country is excluded. The same rule, over the publish entitlements, decides
what a centre may say. See ``docs/adr/0003`` for why crime types are all-of and regions any-of.

An update is of the kind of the message inside it. Nothing is sent to a centre in a version that its directory entry does not
list; a receiver tolerates newer minor versions. A recall (``cancel``) goes to whoever ever held the message, whatever the
entitlements are now: its recipients are fixed by the outbox, and :meth:`Judge.reachable` says which of them can be reached.

Decisions depend on the marks alone, so they are computed once per distinct set of marks and directory version. One function
(``_rule``) decides for a centre; ``admit``, ``verdict`` and ``explain`` only differ in what they make of its word.

Errors raised: ``Refused``. ``verdict`` returns a ``Rejected`` and raises nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from relay import codes, topology
from relay.directory import Directory, Entitlement, Member
from relay.errors import Problem, Refused, Rejected
from relay.messages import Message, Update

Rule = Literal[
    "origin",
    "suspended",
    "recall",
    "excluded",
    "not-named",
    "clearance",
    "not-entitled",
    "nominal",
    "unreadable-version",
    "entitled",
    "named",
]
ReleaseRule = Literal["forbidden", "permission", "free"]

SHOWN = 12  # names in a sentence

_GETS: frozenset[Rule] = frozenset({"entitled", "named", "recall"})


class Marks(NamedTuple):
    """What a decision depends on; ``reads`` are the (kind, version) pairs that a recipient must be able to read."""

    kind: str
    crime_types: tuple[str, ...]
    regions: tuple[str, ...]
    nominal: bool
    classification: str
    to: tuple[str, ...] | None
    exclude: tuple[str, ...]
    reads: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Withheld:
    """A centre that is entitled to a message and does not get it, and why: the sender is told."""

    centre: str
    code: str
    reason: str


class Admission(NamedTuple):
    """Policy said yes: to whom, whether by crime type and region (``intel``) or addressed, and who is left out."""

    recipients: tuple[str, ...]
    intel: bool
    withheld: tuple[Withheld, ...] = ()


@dataclass(frozen=True, slots=True)
class Explained:
    """Whether a centre gets a message, by which rule, and the entitlement, mark or level that decided, for people."""

    centre: str
    gets: bool
    rule: Rule
    sentence: str


def marks(message: Message) -> Marks:
    """Return the marks of a message that policy looks at; an update is of the kind of the message inside."""
    kind = message.kind
    reads: tuple[tuple[str, str], ...] = ((kind, message.version),)
    if isinstance(message, Update):
        kind = message.message.kind
        reads += ((kind, message.message.version),)
    return Marks(
        kind,
        message.crime_types,
        message.regions,
        message.nominal,
        message.classification,
        message.to,
        message.exclude,
        reads,
    )


def release_rule(tlp: str, handling: str) -> ReleaseRule:
    """Return whether a recipient may release a message onward to other centres, by its marks.

    AMBER stays with the recipient and its clients, AMBER+STRICT and RED with the recipient, and another centre is no client: all
    three forbid it, as does a mark that is not known. H2 needs the permission of the originator. Otherwise it is free, within the
    entitlements. (FIRST, TLP 2.0; Europol's handling codes.)
    """
    if tlp not in ("GREEN", "CLEAR"):
        return "forbidden"
    return "permission" if handling == "H2" else "free"


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

    def reachable(self, centres: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return which of these centres are active members, and which can't be reached; never this centre; both sorted.

        A recall asks this for everyone who ever held a message: no entitlement counts, since who lost one may hold it still.
        """
        asked = set(centres) - {self._me}
        reached = asked & self.directory.active.keys()
        return tuple(sorted(reached)), tuple(sorted(asked - reached))

    def explain(self, marked: Marks) -> tuple[Explained, ...]:
        """Return for every member of the directory whether it gets a message of this centre, and why.

        Each member by itself: a message that ``admit`` refuses for another member, or because this centre may not publish it,
        reaches nobody. A recall (rule ``recall``) gets to those of them who ever held the message, which only the store knows.
        """
        found = ((member, _rule(self._me, member, marked)) for member in self.directory.members)
        return tuple(
            Explained(member.id, rule in _GETS, rule, _sentence(_REASONS[rule](member, marked))) for member, rule in found
        )

    def _admit(self, marked: Marks) -> Admission:
        """Return who gets a message of this centre; raise ``Refused`` with every reason when it may not be sent.

        Not for a recall, which a member may always publish and which goes to whoever :meth:`reachable` names.
        """
        problems = [*self._may_publish(marked), *self._named(marked)]
        if problems:
            raise _refusal(problems)
        recipients, withheld = self._candidates(marked)
        if not recipients:
            raise _refusal([_nobody(withheld)])
        reached = topology.bound(self.directory, marked.regions, marked.crime_types) - {self._me}
        return Admission(recipients, marked.to is None and reached == set(recipients), withheld)

    def _verdict(self, origin: str, marked: Marks) -> Rejected | None:
        """Return why this centre must not take a message of ``origin``, or None.

        A recall is taken from every active member; whether it is the origin of what it recalls is for the store to say.
        """
        sender, receiver = self.directory.member(origin), self.directory.member(self._me)
        if marked.kind == "cancel":
            return None if sender else Rejected("sender-not-entitled", f"{origin} is no active centre of this network.")
        if sender is None or not _covers(sender.publish, marked):
            return Rejected("sender-not-entitled", f"{origin} may not publish this kind of message.")
        rule = _rule(origin, receiver, marked) if receiver else "suspended"
        if rule == "not-named":
            return Rejected("recipient-not-named", f"The message names its recipients, and {self._me} is none of them.")
        if rule in _GETS or rule == "unreadable-version":  # it could be read, or judging would not have come this far
            return None
        return Rejected("recipient-not-entitled", f"{self._me} is not entitled to this message.")

    def _may_publish(self, marked: Marks) -> Iterable[Problem]:
        member = self.directory.member(self._me)
        if member is None or not _covers(member.publish, marked):
            sentence = f"{self._me} may not publish messages of kind {marked.kind} on these crime types and countries."
            yield Problem("/crime_types", "sender-not-entitled", sentence)

    def _named(self, marked: Marks) -> Iterable[Problem]:
        for index, centre in enumerate(marked.to or ()):
            member = self.directory.member(centre)
            rule = _rule(self._me, member, marked) if member else "suspended"
            if rule not in _GETS:
                yield Problem(f"/to/{index}", *_why_not(centre, member, rule, marked))

    def _candidates(self, marked: Marks) -> tuple[tuple[str, ...], tuple[Withheld, ...]]:
        """Return who gets a message, and who would but for its version; who is named was looked at before."""
        if marked.to is not None:
            return tuple(sorted(marked.to)), ()
        ruled = [(member, _rule(self._me, member, marked)) for _, member in sorted(self.directory.active.items())]
        withheld = tuple(
            Withheld(member.id, rule, _sentence(_version_reason(member, marked)))
            for member, rule in ruled
            if rule == "unreadable-version"
        )
        return tuple(member.id for member, rule in ruled if rule == "entitled"), withheld


def _rule(origin: str, member: Member, marked: Marks) -> Rule:
    """Return the first rule that decides whether a member gets a message of ``origin``: the one place of that decision."""
    return _by_standing(origin, member, marked) or _by_marks(member, marked) or _by_entitlement(member, marked)


def _by_standing(origin: str, member: Member, marked: Marks) -> Rule | None:
    if member.id == origin:
        return "origin"
    if member.status != "active":
        return "suspended"
    return "recall" if marked.kind == "cancel" else None


def _by_marks(member: Member, marked: Marks) -> Rule | None:
    if member.id in marked.exclude or member.country in marked.exclude:
        return "excluded"
    if marked.to is not None and member.id not in marked.to:
        return "not-named"
    return None if codes.clearance_covers(member.clearance, marked.classification) else "clearance"


def _by_entitlement(member: Member, marked: Marks) -> Rule:
    if not _covers(member.subscribe, marked):
        return "nominal" if marked.nominal and _covers(member.subscribe, marked._replace(nominal=False)) else "not-entitled"
    if not all(version in member.reads.get(kind, ()) for kind, version in marked.reads):
        return "unreadable-version"
    return "entitled" if marked.to is None else "named"


def _covers(held: tuple[Entitlement, ...], marked: Marks) -> bool:
    return all(_covering(held, crime_type, marked) is not None for crime_type in marked.crime_types)


def _covering(held: tuple[Entitlement, ...], crime_type: str, marked: Marks) -> Entitlement | None:
    return next((one for one in held if one.covers(crime_type, marked.regions, marked.kind, nominal=marked.nominal)), None)


def _why_not(centre: str, member: Member | None, rule: Rule, marked: Marks) -> tuple[str, str]:
    """Return code and sentence for a centre that was named and can't be a recipient."""
    if member is None:
        return "unknown-recipient", f"{centre} is no active centre of this network."
    if rule == "origin":
        return "unknown-recipient", "A message is not sent to its own origin."
    code = rule if rule == "unreadable-version" else "recipient-not-entitled"
    return code, f"{centre} must not get this message: {_REASONS[rule](member, marked)}."


def _publishes(origin: Member, marked: Marks) -> str:
    if marked.kind == "cancel" or _covers(origin.publish, marked):
        return "it is the origin"
    return f"it is the origin, and may not publish this: {_lack(origin.publish, marked)}"


def _excluded(member: Member, marked: Marks) -> str:
    return "the message excludes it" if member.id in marked.exclude else f"the message excludes its country, {member.country}"


def _entitled(member: Member, marked: Marks) -> str:
    by = ((crime_type, _covering(member.subscribe, crime_type, marked)) for crime_type in marked.crime_types)
    granted = (f"{crime_type} by {_shown(entitlement, crime_type, marked)}" for crime_type, entitlement in by if entitlement)
    named = "the message names it, and it" if marked.to is not None else "it"
    return f"{named} is entitled to {', to '.join(granted)}"


def _lacks(member: Member, marked: Marks) -> str:
    return _lack(member.subscribe, marked)


def _version_reason(member: Member, marked: Marks) -> str:
    kind, version = next(one for one in marked.reads if one[1] not in member.reads.get(one[0], ()))
    known = ", ".join(member.reads.get(kind, ())) or "none"
    return f"it can't read version {version} of {kind} (it reads {known})"


# Why a rule decided as it did, for people; a fragment that begins with what is spoken of.
_REASONS: dict[Rule, Callable[[Member, Marks], str]] = {
    "origin": _publishes,
    "suspended": lambda _member, _marked: "it is suspended",
    "recall": lambda _member, _marked: "a recall reaches it if it ever held the message, whatever it is entitled to now",
    "excluded": _excluded,
    "not-named": lambda _member, _marked: "the message names its recipients, and it is none of them",
    "clearance": lambda member, marked: f"its clearance, {member.clearance}, is below {marked.classification}",
    "not-entitled": _lacks,
    "nominal": _lacks,
    "unreadable-version": _version_reason,
    "entitled": _entitled,
    "named": _entitled,
}


def _sentence(reason: str) -> str:
    return f"{reason[0].upper()}{reason[1:]}."


def _lack(held: tuple[Entitlement, ...], marked: Marks) -> str:
    """Return which crime type no entitlement covers, and what the nearest ones lack."""
    missed = next(one for one in marked.crime_types if _covering(held, one, marked) is None)
    about = [one for one in held if any(codes.covers_crime_type(entitled, missed) for entitled in one.crime_types)]
    if not about:
        return f"none of its entitlements covers the crime type {missed}"
    near = [one for one in about if any(codes.region_covers(wide, leaf) for wide in one.regions for leaf in marked.regions)]
    if not near:
        held_regions = _listed(region for one in about for region in one.regions)
        return f"its entitlements to {missed} are for the regions {held_regions}, not for {_listed(marked.regions)}"
    if not (heard := [one for one in near if "*" in one.kinds or marked.kind in one.kinds]):
        kinds = _listed(kind for one in near for kind in one.kinds)
        return f"its entitlements to {missed} in these regions are for the kinds {kinds}, not for {marked.kind}"
    return f"its entitlement to {_shown(heard[0], missed, marked)} does not cover personal data"


def _shown(entitlement: Entitlement, crime_type: str, marked: Marks) -> str:
    """Return what of an entitlement covers a crime type: its codes and regions that do, and the kinds if it names them."""
    held = _listed(one for one in entitlement.crime_types if codes.covers_crime_type(one, crime_type))
    regions = _listed(one for one in entitlement.regions if any(codes.region_covers(one, leaf) for leaf in marked.regions))
    kinds = "" if "*" in entitlement.kinds else f" of the kinds {_listed(entitlement.kinds)}"
    return f"{held} in {regions}{kinds}"


def _listed(names: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return ", ".join(distinct[:SHOWN]) + (f" and {len(distinct) - SHOWN} more" if len(distinct) > SHOWN else "")


def _nobody(withheld: tuple[Withheld, ...]) -> Problem:
    if not withheld:
        return Problem("", "no-recipients", "No centre is entitled to this message, so it would reach nobody.")
    unable = " ".join(f"{one.centre}: {one.reason}" for one in withheld[:SHOWN])
    return Problem("", "no-recipients", f"No centre that is entitled to this message can read it. {unable}")


def _refusal(problems: list[Problem]) -> Refused:
    if len(problems) == 1:
        return Refused(problems[0].code, problems[0].detail, tuple(problems))
    return Refused("invalid-message", f"The message may not be sent, for {len(problems)} reasons.", tuple(problems))
