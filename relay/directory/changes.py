"""What differs between two versions of the register, and whether it can only take rights away.

A version that only suspends members, revokes keys (sets ``revoked_from`` or brings it forward), or removes entitlements or
keys needs one authority; every other needs all. Both versions are compared field by field, and whatever is not *known* to narrow
counts as widening: a field that is new to the models, a new order, a changed telephone number. So a mistake here asks for a
signature too many, not for one too few. Three that look it are no narrowing: a member removed (what it said before could no
longer be judged), its last checkpoint key removed (its signing keys would count instead), and a time of expiry brought forward
(one authority could end the network).

All of it is decided by what the two documents say, never by the versions of code lists that a node happens to have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from relay.directory.members import Entitlement, Key, Member
from relay.directory.policies import Policy
from relay.directory.register import Directory
from relay.directory.strict import Record

_LINKS = frozenset({"version", "previous", "issued_at", "reason", "members"})


@dataclass(frozen=True, slots=True)
class Change:
    """One difference, as a sentence for people, and whether it can only take rights away."""

    sentence: str
    narrowing: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that differs between two versions."""

    changes: tuple[Change, ...]

    @property
    def narrowing(self) -> bool:
        """Whether nothing of it can let anybody get or say more; so also when nothing differs."""
        return all(change.narrowing for change in self.changes)

    @property
    def widening(self) -> tuple[str, ...]:
        """The sentences of what is not provably narrowing."""
        return tuple(change.sentence for change in self.changes if not change.narrowing)


def compare(before: Directory, after: Directory) -> Comparison:
    """Return what changed from one version to another; that the second follows the first is not judged here."""
    return Comparison((*_fields(before, after), *_members(before, after)))


def _fields(before: Directory, after: Directory) -> Iterator[Change]:
    for name in _others(Directory, {*_LINKS, "policy"}):
        if getattr(before, name) != getattr(after, name):
            yield Change(f"{name}: {getattr(before, name)} becomes {getattr(after, name)}", narrowing=False)
    for name in _others(Policy):
        if getattr(before.policy, name) != getattr(after.policy, name):
            yield Change(f"policy: {name} changed", narrowing=False)
    if after.issued_at < before.issued_at:
        yield Change(f"issued_at: {after.issued_at} lies before {before.issued_at}", narrowing=False)


def _members(before: Directory, after: Directory) -> Iterator[Change]:
    old, new = ({member.id: member for member in one.members} for one in (before, after))
    yield from (Change(f"{id_}: admitted", narrowing=False) for id_ in new if id_ not in old)
    yield from (Change(f"{id_}: removed from the register", narrowing=False) for id_ in old if id_ not in new)
    if [id_ for id_ in old if id_ in new] != [id_ for id_ in new if id_ in old]:
        yield Change("members: they stand in another order", narrowing=False)
    for id_ in old:
        if id_ in new:
            yield from _member(old[id_], new[id_])


def _member(before: Member, after: Member) -> Iterator[Change]:
    if before.status != after.status:
        yield Change(f"{before.id}: {_STATUS[after.status]}", narrowing=after.status == "suspended")
    yield from _keys(before, after)
    for name in ("publish", "subscribe"):
        yield from _entitlements(f"{before.id}: {name}", getattr(before, name), getattr(after, name))
    for name in _others(Member, {"status", "keys", "publish", "subscribe"}):
        if getattr(before, name) != getattr(after, name):
            yield Change(f"{before.id}: {name} changed", narrowing=False)


_STATUS = {"suspended": "suspended", "active": "active again"}


def _keys(before: Member, after: Member) -> Iterator[Change]:
    old, new = ({key.id: key for key in one.keys} for one in (before, after))
    last_checkpoint = _has_checkpoint(before) and not _has_checkpoint(after)
    for id_, key in old.items():
        if id_ not in new:
            bad = key.use == "checkpoint" and last_checkpoint
            why = ", the last of that use: signing keys would count instead" if bad else ""
            yield Change(f"{_name(before, key)} removed{why}", narrowing=not bad)
        else:
            yield from _key(_name(before, key), key, new[id_])
    yield from (Change(f"{_name(after, key)} added", narrowing=False) for id_, key in new.items() if id_ not in old)
    if [id_ for id_ in old if id_ in new] != [id_ for id_ in new if id_ in old]:
        yield Change(f"{before.id}: keys stand in another order", narrowing=False)


def _key(name: str, before: Key, after: Key) -> Iterator[Change]:
    for field in _others(Key, {"revoked_from"}):
        if getattr(before, field) != getattr(after, field):
            yield Change(f"{name}: {field} changed", narrowing=False)
    if before.revoked_from == after.revoked_from:
        return
    if after.revoked_from is None:
        yield Change(f"{name} no longer revoked", narrowing=False)
        return
    earlier = before.revoked_from is None or after.revoked_from < before.revoked_from
    yield Change(f"{name} revoked from {after.revoked_from.isoformat()}", narrowing=earlier)


def _entitlements(name: str, before: Sequence[Entitlement], after: Sequence[Entitlement]) -> Iterator[Change]:
    for one in before:
        if one not in after:
            yield Change(f"{name}: {_described(one)} removed", narrowing=True)
    for one in after:
        if one not in before:
            inside = any(one.within(other) for other in before)
            yield Change(f"{name}: {_described(one)} {'within what was there' if inside else 'added'}", narrowing=inside)


def _others(model: type[Record], known: Collection[str] = ()) -> list[str]:
    """Return every field of a model but those whose changes are judged one by one."""
    return [name for name in model.model_fields if name not in known]


def _described(entitlement: Entitlement) -> str:
    parts = (", ".join(entitlement.crime_types), "in " + ", ".join(entitlement.regions), "as " + ", ".join(entitlement.kinds))
    sentence = " ".join(parts) + (" with personal data" if entitlement.nominal else "")
    return sentence if sentence.isprintable() else ascii(sentence)


def _name(member: Member, key: Key) -> str:
    return f"{member.id}: {key.use} key {key.id}"


def _has_checkpoint(member: Member) -> bool:
    return any(key.use == "checkpoint" for key in member.keys)
