"""Rules between the fields of a message: marks and times that contradict each other.

A rule is data: which fields it reads, when it is broken, and the problem to report. Rules run on the validated model,
and when a message has other problems also on the fields of the raw document that have none, so that everything wrong
is reported at once. They read only the message: what depends on the directory, the clock or the sender's rights
belongs to policy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from relay import codes
from relay.errors import Problem

Fields = Mapping[str, Any]

TIMES = ("expires_at", "retention_until", "seized_at", "reported_at", "valid_from", "valid_until")


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

RULES = (
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
    _rule(
        "seized_at reported_at",
        "reported_at",
        "reported_at is before seized_at",
        lambda fields: _after(fields, "seized_at", "reported_at"),
    ),
    _rule(
        "valid_from valid_until",
        "valid_until",
        "valid_until is before valid_from",
        lambda fields: _after(fields, "valid_from", "valid_until"),
    ),
    _rule(
        "accounts nominal",
        "nominal",
        "accounts identify their holders: nominal must be true, or leave the accounts out",
        lambda fields: bool(fields.get("accounts")) and not fields.get("nominal"),
    ),
)


def broken(fields: Fields, rules: tuple[Rule, ...], faulty: Collection[str] = ()) -> list[Problem]:
    """Return the problem of every broken rule that reads no field already found at fault."""
    return [rule.problem for rule in rules if rule.reads.isdisjoint(faulty) and rule.broken(fields)]


def plain(document: Fields, faulty: Collection[str]) -> dict[str, Any]:
    """Return the sound fields of a raw document, with their times read."""
    sound = {name: value for name, value in document.items() if name not in faulty}
    return sound | {name: datetime.fromisoformat(sound[name]) for name in TIMES if sound.get(name)}
