"""The reconciliation: what was promised against what each centre's own system took, from the journals and the directory alone.

It trusts no node's counter and shares no code with the policy: entitlement is computed again, message by message, from the
directory's plain data and the code lists. A message is its origin and the digest of its bytes, so that one that was changed on
its way counts as lost and as given to someone not entitled.

A recall goes by a rule of its own: whatever a centre is entitled to, it may be told to purge what it was promised, by the origin
of that. A cancel that no system submitted is taken only as what a node promised with an update that left this centre out: a
cancel of the very message that was updated, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from relay import codes
from relay.demo.journal import Submitted, Took, read


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The outcome: ``submitted`` counts messages, everything else message x recipient."""

    submitted: int
    expected: int
    delivered: int
    lost: int
    duplicated: int
    unentitled: int

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, duplicated or given to someone not entitled."""
        return self.lost == self.duplicated == self.unentitled == 0


class Effect(NamedTuple):
    """What a centre was promised or took: a message, or (``withdrawal``) the word to purge that one."""

    centre: str
    origin: str
    digest: str
    withdrawal: bool = False


@dataclass(frozen=True, slots=True)
class _Promises:
    """What every node promised; ``threads`` are by their first version: who was ever promised any version."""

    effects: frozenset[Effect]
    threads: frozenset[Effect]


def reconcile(journals: Mapping[str, Path], directory: Mapping[str, Any]) -> Reconciliation:
    """Compare the journals, by centre, under a directory as parsed from its JSON."""
    entries = {centre: list(read(path)) for centre, path in journals.items()}
    submitted = [(origin, one) for origin, told in entries.items() for one in told if isinstance(one, Submitted)]
    tooks = [(centre, one) for centre, told in entries.items() for one in told if isinstance(one, Took)]
    promised = _promises(submitted)
    effects = Counter(_effect(centre, took, promised) for centre, took in tooks)
    members = {member["id"]: member for member in directory["members"]}
    return Reconciliation(
        submitted=len(submitted),
        expected=len(promised.effects),
        delivered=len(effects),
        lost=len(promised.effects - effects.keys()),
        duplicated=sum(count - 1 for count in effects.values()),
        unentitled=sum(not _rightly(centre, took, promised, members[centre]["subscribe"]) for centre, took in tooks),
    )


def _promises(submitted: Sequence[tuple[str, Submitted]]) -> _Promises:
    threads = {Effect(centre, origin, one.updates or one.digest) for origin, one in submitted for centre in one.recipients}
    effects = {Effect(centre, origin, one.digest) for origin, one in submitted for centre in one.recipients}
    return _Promises(frozenset(effects | set(_withdrawals(submitted))), frozenset(threads))


def _withdrawals(submitted: Sequence[tuple[str, Submitted]]) -> Iterator[Effect]:
    for origin, one in submitted:
        for centre in one.withdrawn_from:
            yield Effect(centre, origin, one.updates, withdrawal=True)


def _effect(centre: str, took: Took, promised: _Promises) -> Effect:
    """Return what a message was to the centre that took it: itself, unless only a withdrawal was promised."""
    itself = Effect(centre, took.origin, took.digest)
    withdrawal = Effect(centre, took.origin, took.cancels, withdrawal=True)
    unforeseen = itself not in promised.effects and took.marks["kind"] == "cancel"
    return withdrawal if unforeseen and withdrawal in promised.effects else itself


def _rightly(centre: str, took: Took, promised: _Promises, entitlements: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a centre was promised what it took, and was entitled to it or held what it takes back."""
    if _effect(centre, took, promised) not in promised.effects:
        return False
    if took.marks["kind"] == "cancel":
        return Effect(centre, took.origin, took.cancels) in promised.threads
    return covered(entitlements, took.marks)


def covered(entitlements: Sequence[Mapping[str, Any]], marks: Mapping[str, Any]) -> bool:
    """Return whether entitlements cover every crime type of a message in one of its regions."""
    regions = codes.sub_regions(tuple(marks["countries"]))
    return all(_one_covers(entitlements, crime_type, regions, marks) for crime_type in marks["crime_types"])


def _one_covers(
    entitlements: Sequence[Mapping[str, Any]], crime_type: str, regions: tuple[str, ...], marks: Mapping[str, Any]
) -> bool:
    for entitlement in entitlements:
        named = any(one in ("*", crime_type) or crime_type.startswith(f"{one}.") for one in entitlement["crime_types"])
        kinds = entitlement.get("kinds", ["*"])
        kind = "*" in kinds or marks["kind"] in kinds
        persons = entitlement.get("nominal", False) or not marks["nominal"]
        place = any(region in codes.leaves(wide) for wide in entitlement["regions"] for region in regions)
        if named and kind and persons and place:
            return True
    return False
