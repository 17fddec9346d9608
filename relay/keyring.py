"""The keyring: the private keys that a centre's node holds, and which of them counts now.

A node holds several keys of a use while one follows another. What signs is decided at each seal, from the version of the
directory in force: the newest of ours that it lists as valid and not revoked. A key within five minutes of the start or end of
its time signs only when there is no other, since the clocks of peers differ. The decision is kept until the directory or a
validity changes, so it costs nothing on the hot path. All sealing keys that are held open what was sealed to them, listed or not.

While the node runs other keys may take the place of all that it holds (:meth:`Keyring.take`), if they belong to the same store
and nothing that works now stops with them.

A key that the directory does not list yet waits for its time. A node that holds no usable key does not start (``no-usable-key``);
one that runs goes on receiving, takes no message, and signs its receipts with the last key it has: peers refuse these and ask
again, and with the first usable key they are said anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from relay.clock import from_ms, to_ms
from relay.directory import Directory, Key
from relay.errors import Misconfigured, NotReady
from relay.keys import CONTENT_KEY_BYTES, SealingKey, SigningKey, StorageKey

Use = Literal["signing", "sealing", "checkpoint"]
KeyState = Literal["unlisted", "announced", "valid", "expired", "revoked", "not-held"]

USES: tuple[Use, ...] = ("signing", "sealing", "checkpoint")
SKEW = timedelta(minutes=5)
WARN_DAYS = (60, 14, 3)
KEPT_AFTER = timedelta(days=7)
"""How long after the longest deadline a sealing key that nothing is sealed to any more is kept."""
_EVER = 2**62


@dataclass(frozen=True, slots=True)
class Standing:
    """A key of this centre: whether it is held, and what the directory says of it.

    ``not-held`` is valid, but its private half is missing here.
    """

    id: str
    use: Use
    state: KeyState
    held: bool
    listed: Key | None


@dataclass(frozen=True, slots=True)
class _Held:
    """The keys that are held, by id; what is decided counts for these alone, as others may take their place at any moment."""

    signing: Mapping[str, SigningKey]
    sealing: Mapping[str, SealingKey]
    checkpoint: Mapping[str, SigningKey]

    @property
    def uses(self) -> dict[str, Use]:
        """The ids of the keys, with what they are for."""
        uses: tuple[tuple[Use, Collection[str]], ...]
        uses = (("signing", self.signing), ("sealing", self.sealing), ("checkpoint", self.checkpoint))
        return {key: use for use, keys in uses for key in keys}


@dataclass(frozen=True, slots=True)
class _Lack:
    """For which uses no held key is valid by a directory, from one change of a listed key to the next, in milliseconds."""

    held: _Held
    register: Directory | None
    since: int
    until: int
    uses: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What signs under a directory, from one change of a validity to the next (milliseconds)."""

    held: _Held
    register: Directory | None
    since: int
    until: int
    key: SigningKey
    usable: bool


class Keyring:
    """The private keys of one centre; :meth:`follow` says which directory they are judged by."""

    def __init__(
        self,
        centre: str,
        signing: Sequence[SigningKey],
        sealing: Sequence[SealingKey],
        storage: StorageKey,
        checkpoint: Sequence[SigningKey] = (),
    ) -> None:
        self._centre = centre
        self._held = _Held(
            {key.id: key for key in signing},
            MappingProxyType({key.id: key for key in sealing}),
            {key.id: key for key in checkpoint},
        )
        self._register: Callable[[], Directory] | None = None
        self._chosen: dict[Use, _Chosen] = {}
        self._lack: _Lack | None = None
        self.storage = storage

    @classmethod
    def load(
        cls, centre: str, signing: Iterable[Path], sealing: Iterable[Path], storage: Path, checkpoint: Iterable[Path] = ()
    ) -> Keyring:
        """Read the keys from their files; raise ``Misconfigured`` for the first that can't be used."""
        return cls(
            centre,
            [SigningKey.load(path) for path in signing],
            [SealingKey.load(path) for path in sealing],
            StorageKey.load(storage),
            [SigningKey.load(path) for path in checkpoint],
        )

    @property
    def held(self) -> dict[str, Use]:
        """The ids of the keys that are held, with what they are for."""
        return self._held.uses

    @property
    def sealing(self) -> Mapping[str, SealingKey]:
        """The keys that open what is sealed to this centre, by id."""
        return self._held.sealing

    def take(self, other: Keyring, now: int) -> None:
        """Hold another keyring's keys from this moment (milliseconds) on, in place of the present ones.

        Raises ``Misconfigured``, and changes nothing, when its storage key is another (``wrong-storage-key``), or when none of
        its keys may be used where one of the present ones may (``no-usable-key``).
        """
        other.storage.unwrap(self.storage.wrap(bytes(CONTENT_KEY_BYTES)))
        lost = _missing(other._held, self._listed(), now) - _missing(self._held, self._listed(), now)
        if lost:
            raise Misconfigured("no-usable-key", self._lacking(lost))
        self._held = other._held

    def follow(self, register: Callable[[], Directory]) -> None:
        """Judge keys by whatever version of the directory this returns, each time anew."""
        self._register = register

    def signing(self, now: int) -> SigningKey:
        """Return the key that signs envelopes at this moment (milliseconds); the last resort where none is usable."""
        return self._choose("signing", now).key

    def checkpoint(self, now: int) -> SigningKey:
        """Return the key that signs checkpoints at this moment: one of their own where it is usable, else the one that signs."""
        if self._held.checkpoint:
            chosen = self._choose("checkpoint", now)
            if chosen.usable:
                return chosen.key
        return self.signing(now)

    def standings(self, now: int) -> tuple[Standing, ...]:
        """Return every key of this centre that is held or listed, by use, the newest first."""
        return standings(self._listed(), self.held, from_ms(now))

    def trouble(self, now: int) -> NotReady | None:
        """Return why nothing can be signed, or sealed to this centre, at this moment; None when all is well."""
        held, register = self._held, self._register() if self._register is not None else None
        lack = self._lack
        if lack is None or lack.held is not held or lack.register is not register or not lack.since <= now < lack.until:
            listed = self._listed()
            lack = self._lack = _Lack(held, register, *_span(listed, now), _missing(held, listed, now))
        return NotReady("no-usable-key", self._lacking(lack.uses)) if lack.uses else None

    def _lacking(self, uses: Collection[str]) -> str:
        said = " and no ".join(use for use in USES if use in uses)
        return f"The node holds no {said} key that the directory lists as valid for {self._centre} now."

    def _choose(self, use: Use, now: int) -> _Chosen:
        held, register = self._held, self._register() if self._register is not None else None
        chosen = self._chosen.get(use)
        if chosen is None or chosen.held is not held or chosen.register is not register or not chosen.since <= now < chosen.until:
            chosen = self._chosen[use] = self._decide(use, held, register, now)
        return chosen

    def _decide(self, use: Use, held: _Held, register: Directory | None, now: int) -> _Chosen:
        keys = held.checkpoint if use == "checkpoint" else held.signing
        listed = [key for key in self._listed() if key.use == use]
        found = newest(listed, keys, from_ms(now))
        return _Chosen(held, register, *_span(listed, now), keys[found.id if found else _last(listed, keys)], found is not None)

    def _listed(self) -> Sequence[Key]:
        member = self._register().member(self._centre) if self._register is not None else None
        return member.keys if member else ()


def _missing(held: _Held, listed: Sequence[Key], now: int) -> frozenset[str]:
    """Return for which uses no held key is valid at a moment (milliseconds)."""
    uses = (("signing", held.signing), ("sealing", held.sealing))
    return frozenset(use for use, keys in uses if not newest([key for key in listed if key.use == use], keys, from_ms(now)))


def newest(listed: Iterable[Key], held: Collection[str], now: datetime) -> Key | None:
    """Return the key that counts: of those held and usable the newest, away from the ends of its time where there is one."""
    usable = [key for key in listed if key.id in held and key.usable(now)]
    settled = [key for key in usable if key.usable(now - SKEW) and key.usable(now + SKEW)]
    return max(settled or usable, key=lambda key: (key.valid_from, key.id), default=None)


def standings(listed: Sequence[Key], held: Mapping[str, Use], now: datetime) -> tuple[Standing, ...]:
    """Return every key that is held or listed: by use, the newest first, those that are not listed at the end."""
    known = {key.id for key in listed}
    found = [Standing(key.id, key.use, _state(key, key.id in held, now), key.id in held, key) for key in listed]
    found += [Standing(key, use, "unlisted", True, None) for key, use in held.items() if key not in known]
    return tuple(sorted(found, key=lambda one: (USES.index(one.use), -(one.listed.valid_from.timestamp() if one.listed else 0))))


def ends(found: Iterable[Standing], use: Use, now: datetime) -> datetime | None:
    """Return until when keys of a use that are held are valid without a break, from now on; None when none is valid now."""
    spans = sorted((key.valid_from, last_moment(key)) for one in found if one.use == use and one.held and (key := one.listed))
    end = now
    for start, stop in spans:
        if start <= end < stop:
            end = stop
    return end if end > now else None


def last_moment(key: Key) -> datetime:
    """Return from when on a key may not be used any more."""
    return key.valid_until if key.revoked_from is None else min(key.valid_until, key.revoked_from)


def destroyable(one: Standing, register: Directory) -> datetime:
    """Return from when on nothing needs a private key any more.

    What was sealed to a sealing key may be under way until the longest deadline after its last moment; a week is added. A key
    that signs is of no use after its last moment. One that the directory does not list is counted from the day it was issued.
    """
    last = last_moment(one.listed) if one.listed is not None else register.issued_at
    if one.use != "sealing":
        return last
    return _moved(last, timedelta(hours=register.policy.max_expiry_hours) + KEPT_AFTER)


def warnings(found: Sequence[Standing], now: datetime) -> list[str]:
    """Return, in sentences, what an operator should know of the keys of this centre though the node works."""
    said = []
    for one in found:
        if one.state == "unlisted":
            said.append(f"The directory does not list the {one.use} key {one.id}, which the node holds.")
        elif one.state == "not-held":
            said.append(f"The directory lists the {one.use} key {one.id}, which the node does not hold.")
    for use in USES:
        if (end := ends(found, use, now)) is not None and threshold(end, now) is not None:
            left = (end - now).days
            said.append(f"The last {use} key is valid for {left} more {'day' if left == 1 else 'days'}, until {end:%Y-%m-%d}.")
    return said


def threshold(end: datetime, now: datetime) -> int | None:
    """Return the lowest number of days for which a warning is due; None while the end is far."""
    return min((days for days in WARN_DAYS if end - now <= timedelta(days=days)), default=None)


def check_usable(keyring: Keyring, now: int) -> None:
    """Raise ``Misconfigured`` when a node with these keys could not work."""
    if (trouble := keyring.trouble(now)) is not None:
        raise Misconfigured(trouble.code, trouble.detail)


def _state(key: Key, held: bool, now: datetime) -> KeyState:
    if key.revoked_from is not None and now >= key.revoked_from:
        return "revoked"
    if now >= key.valid_until:
        return "expired"
    if not held:
        return "not-held"
    return "announced" if now < key.valid_from else "valid"


def _span(listed: Sequence[Key], now: int) -> tuple[int, int]:
    """Return from when until when nothing changes about the listed keys, around a moment; all in milliseconds."""
    changes = [to_ms(moment) for key in listed for moment in _changes(key)]
    since = max((moment for moment in changes if moment <= now), default=0)
    return since, min((moment for moment in changes if moment > now), default=_EVER)


def _changes(key: Key) -> Iterable[datetime]:
    """Yield the moments at which another key may count."""
    for moment in (key.valid_from, key.valid_until, key.revoked_from):
        if moment is not None:
            yield from (_moved(moment, -SKEW), moment, _moved(moment, SKEW))


def _moved(moment: datetime, by: timedelta) -> datetime:
    """Return a moment moved; one at the end of the calendar, where authorities may put what never ends, stays."""
    try:
        return moment + by
    except OverflowError:
        return moment


def _last(listed: Iterable[Key], held: Mapping[str, SigningKey]) -> str:
    """Return the key to sign with when none may: what ended last, else the one named first."""
    ended = [key for key in listed if key.id in held]
    return max(ended, key=lambda key: (last_moment(key), key.id)).id if ended else next(iter(held))
