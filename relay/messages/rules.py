"""Rules between the fields of a message: marks and times that contradict each other.

A rule is data: which fields it reads, when it is broken, and the problem to report. Some hold for the marks of every
message, the others for one kind; ``RULES`` and ``SUBMITTED`` say which a kind is held to. Rules run on the validated
model, and when a message has other problems also on the fields of the raw document that have none, so that everything
wrong is reported at once: ``_of`` reads a block of either. They read only the message: what depends on the directory,
the clock or the sender's rights belongs to policy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from relay import codes
from relay.errors import Problem

Fields = Mapping[str, Any]

TIMES = (
    "expires_at",
    "retention_until",
    "seized_at",
    "reported_at",
    "valid_from",
    "valid_until",
    "circulated_at",
    "reviewed_at",
    "asked_at",
    "answer_by",
    "answered_at",
    "new_date",
    "next_report_at",
    "stated_at",
)

# The marks that an update and the body it carries both say, and must say alike.
SHARED = (
    "crime_types",
    "countries",
    "tlp",
    "purpose",
    "nominal",
    "status",
    "handling",
    "handling_text",
    "classification",
    "to",
    "exclude",
    "origin",
)


@dataclass(frozen=True, slots=True)
class Rule:
    """What may not be together; absent optional fields read as ``None`` or empty."""

    reads: frozenset[str]
    problem: Problem
    broken: Callable[[Fields], bool]


def _rule(reads: str, at: str, sentence: str, broken: Callable[[Fields], bool], code: str = "contradiction") -> Rule:
    return Rule(frozenset(reads.split()), Problem(f"/{at}", code, sentence), broken)


def _after(fields: Fields, earlier: str, later: str) -> bool:
    """Return whether the earlier of two given times is after the later one."""
    first, second = fields.get(earlier), fields.get(later)
    return bool(first and second and first > second)


def _of(block: Any, name: str) -> Any:  # noqa: ANN401 - a field of any type
    """Return a field of a block, which is a model or parsed JSON."""
    return block.get(name) if isinstance(block, Mapping) else getattr(block, name, None)


def _countries(blocks: Iterable[Any] | None) -> set[str]:
    return {_of(block, "country") for block in blocks or ()}


def _both_named_and_excluded(fields: Fields) -> bool:
    exclude, to = fields.get("exclude"), fields.get("to")
    return bool(exclude and to and not set(exclude).isdisjoint(to))


VERSION = _rule(
    "version",
    "version",
    f"this node takes version {', '.join(codes.SCHEMA_VERSIONS)} for sending",
    lambda fields: fields.get("version", "1.0") not in codes.SCHEMA_VERSIONS,
    "unknown-version",
)

MARKS = (
    _rule(
        "tlp to",
        "tlp",
        "RED is for named recipients only: name them in to, or choose another mark",
        lambda fields: fields.get("tlp") == "RED" and not fields.get("to"),
    ),
    _rule(
        "exclude to",
        "exclude",
        "a centre stands both in to and in exclude: take it out of one",
        _both_named_and_excluded,
    ),
    _rule(
        "handling handling_text",
        "handling_text",
        "handling_text holds the restriction of H3: give it with H3, and only then",
        lambda fields: (fields.get("handling") == "H3") != bool(fields.get("handling_text")),
    ),
    _rule(
        "expires_at retention_until",
        "retention_until",
        "retention_until is before expires_at: the message would be purged while it may still be delivered",
        lambda fields: _after(fields, "expires_at", "retention_until"),
    ),
)


def _in_order(earlier: str, later: str) -> Rule:
    """Return the rule that one time is not before another."""
    return _rule(f"{earlier} {later}", later, f"{later} is before {earlier}", lambda fields: _after(fields, earlier, later))


def _refers(relation: str) -> Rule:
    """Return the rule that a message refers to another with this relation."""
    return _rule(
        "references",
        "references",
        f"no reference has the relation {relation}: name the message that this one {relation}, by id and digest",
        lambda fields: all(_of(one, "relation") != relation for one in fields.get("references") or ()),
        "missing-reference",
    )


def _recalls(relation: str) -> Rule:
    """Return the rule that a message takes back exactly one other, so that nobody learns of another's from it."""
    return _rule(
        "references",
        "references",
        f"exactly one reference has the relation {relation}: the first version of the message, by id and digest",
        lambda fields: sum(_of(one, "relation") == relation for one in fields.get("references") or ()) > 1,
    )


def _only_with(field: str, outcome: str) -> Rule:
    """Return the rule that a field of a reply stands with one outcome, and only there."""
    return _rule(
        f"outcome {field}",
        field,
        f"{field} belongs to the outcome {outcome}: give it there, and only there",
        lambda fields: (fields.get("outcome") == outcome) != bool(fields.get(field)),
    )


def _personal(fields: Fields) -> bool:
    subject = fields.get("subject")
    return _of(subject, "type") in ("person", "body") or bool(_of(subject, "iban"))


_NOMINAL_SUBJECT = _rule(
    "subject nominal",
    "nominal",
    "the subject is personal data: nominal must be true, or leave the subject out",
    lambda fields: not fields.get("nominal") and _personal(fields),
)
_WINDOW = _in_order("valid_from", "valid_until")

# What a colour is about; a colour that is not here may be about anything, or nothing.
_ABOUT = {
    "red": ("person",),
    "blue": ("person",),
    "green": ("person",),
    "yellow": ("person",),
    "black": ("body",),
    "silver": ("object",),
    "un-special": ("person", "organisation"),
}


def _misses_subject(fields: Fields) -> bool:
    about = _ABOUT.get(fields.get("colour", ""))
    return about is not None and _of(fields.get("subject"), "type") not in about


_CIRCULATION = (
    _NOMINAL_SUBJECT,
    _WINDOW,
    _rule(
        "colour subject",
        "subject",
        "this colour is about another type of subject: red, blue, green, yellow a person; black a body; silver an object;"
        " un-special a person or organisation",
        _misses_subject,
    ),
    _rule(
        "colour warrants",
        "warrants",
        "red rests on a warrant or judgement: give at least one",
        lambda fields: fields.get("colour") == "red" and not fields.get("warrants"),
    ),
)


def _out_of_order(fields: Fields) -> bool:
    times = [_time(_of(point, "planned_at")) for point in fields.get("waypoints") or ()]
    return any(later < earlier for earlier, later in pairwise(times))


def _time(value: datetime | str) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


_DEFAULTS = {"handling": "H0", "status": "actual", "classification": "unclassified"}


def _differs(name: str) -> Callable[[Fields], bool]:
    default = _DEFAULTS.get(name)

    def differs(fields: Fields) -> bool:
        outer, inner = (_plain(_of(one, name)) or default for one in (fields, fields.get("message")))
        return outer != inner

    return differs


def _plain(value: object) -> object:
    """Return a list in one order, and an empty one as absent, as both sides of an update may write them."""
    return sorted(value) if isinstance(value, tuple | list) else value


_SAME_MARKS = tuple(
    _rule(
        f"{name} message",
        f"message/{name}",
        f"{name} differs from that of the update itself; policy looked at that one: write the same on both",
        _differs(name),
    )
    for name in SHARED
)

BY_KIND: Mapping[str, tuple[Rule, ...]] = {
    "alert": (_WINDOW,),
    "seizure": (
        _in_order("seized_at", "reported_at"),
        _rule(
            "accounts nominal",
            "nominal",
            "accounts identify their holders: nominal must be true, or leave the accounts out",
            lambda fields: bool(fields.get("accounts")) and not fields.get("nominal"),
        ),
    ),
    "notice": (*_CIRCULATION, _in_order("circulated_at", "reviewed_at")),
    "diffusion": (
        *_CIRCULATION,
        _rule(
            "addressees to",
            "addressees",
            "named addressees stand in to, and for all-members to is left out",
            lambda fields: (fields.get("addressees") == "named") != bool(fields.get("to")),
        ),
    ),
    "request": (
        _NOMINAL_SUBJECT,
        _in_order("asked_at", "answer_by"),
        _rule(
            "urgency urgency_reason",
            "urgency_reason",
            "an urgent request says why it is urgent: give urgency_reason, or the urgency normal",
            lambda fields: fields.get("urgency") != "normal" and not fields.get("urgency_reason"),
        ),
    ),
    "reply": (
        _refers("answers"),
        _NOMINAL_SUBJECT,
        _only_with("missing", "partial"),
        _only_with("ground", "refusal"),
        _only_with("questions", "clarification"),
        _only_with("new_date", "delay"),
        _in_order("answered_at", "new_date"),
    ),
    "controlled-delivery": (
        _rule("waypoints", "waypoints", "the points are not in order of time: list them as the way goes", _out_of_order),
        _rule(
            "waypoints countries",
            "countries",
            "a country on the way stands not in countries, so nobody there would get this: add it",
            lambda fields: not _countries(fields.get("waypoints")) <= set(fields.get("countries") or ()),
        ),
        _rule(
            "waypoints decisions",
            "decisions",
            "a decision is of a country that is not on the way: correct it, or add its point",
            lambda fields: not _countries(fields.get("decisions")) <= _countries(fields.get("waypoints")),
        ),
        _rule(
            "contacts",
            "contacts",
            "no contact answers round the clock: name at least one that does",
            lambda fields: all(_of(one, "round_the_clock") is False for one in fields.get("contacts") or ()),
        ),
    ),
    "operation": (
        _in_order("begins_on", "ends_on"),
        _in_order("reported_at", "next_report_at"),
        _rule(
            "results participants",
            "results",
            "a result is of a country that takes no part: correct it, or add the participant",
            lambda fields: not _countries(fields.get("results")) <= _countries(fields.get("participants")),
        ),
    ),
    "identification": (
        _in_order("stated_at", "answer_by"),
        _rule(
            "act opinion",
            "opinion",
            "an opinion stands in opinion: give it with the act opinion, and only there",
            lambda fields: (fields.get("act") == "opinion") != bool(fields.get("opinion")),
        ),
    ),
    "update": (_refers("updates"), _recalls("updates"), *_SAME_MARKS),
    "cancel": (_refers("cancels"), _recalls("cancels")),
}

RULES: Mapping[str, tuple[Rule, ...]] = {kind: (*MARKS, *rules) for kind, rules in BY_KIND.items()}
SUBMITTED: Mapping[str, tuple[Rule, ...]] = {kind: (VERSION, *rules) for kind, rules in RULES.items()}


def broken(fields: Fields, rules: tuple[Rule, ...], faulty: Collection[str] = ()) -> list[Problem]:
    """Return the problem of every broken rule that reads no field already found at fault."""
    if not faulty:  # the hot path
        return [rule.problem for rule in rules if rule.broken(fields)]
    return [rule.problem for rule in rules if rule.reads.isdisjoint(faulty) and rule.broken(fields)]


def plain(document: Fields, faulty: Collection[str]) -> dict[str, Any]:
    """Return the sound fields of a raw document, with their times read."""
    sound = {name: value for name, value in document.items() if name not in faulty}
    return sound | {name: datetime.fromisoformat(sound[name]) for name in TIMES if isinstance(sound.get(name), str)}
