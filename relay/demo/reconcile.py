"""The reconciliation: what was promised against what each centre's own system took, from the journals and the directory alone.

It trusts no node's counter and shares no code with the policy: entitlement is computed again, message by message, from the
directory's plain data and the code lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def reconcile(journals: Mapping[str, Path], directory: Mapping[str, Any]) -> Reconciliation:
    """Compare the journals, by centre, under a directory as parsed from its JSON."""
    entries = {centre: list(read(path)) for centre, path in journals.items()}
    promised = {
        (recipient, entry.case)
        for told in entries.values()
        for entry in told
        if isinstance(entry, Submitted)
        for recipient in entry.recipients
    }
    taken = {centre: [entry for entry in told if isinstance(entry, Took)] for centre, told in entries.items()}
    effects = Counter((centre, took.case) for centre, tooks in taken.items() for took in tooks)
    members = {member["id"]: member for member in directory["members"]}
    return Reconciliation(
        submitted=sum(isinstance(entry, Submitted) for told in entries.values() for entry in told),
        expected=len(promised),
        delivered=len(effects),
        lost=len(promised - effects.keys()),
        duplicated=sum(count - 1 for count in effects.values()),
        unentitled=sum(
            (centre, took.case) not in promised or not covered(members[centre]["subscribe"], took.marks)
            for centre, tooks in taken.items()
            for took in tooks
        ),
    )


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
