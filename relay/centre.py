"""This centre, as the parts of its node see it: its name, its keys, its view of the network, its store, its record.

Built once by :mod:`relay.node` and handed to every part. ``judge`` and ``keeper`` are what changes while the node runs (a new
version of the directory brings new ones: :meth:`Centre.adopt`), so parts ask for them each time; ``directory_changed`` wakes who
keeps something that depends on them. ``may_publish`` is set once it is known that the store is no older copy, or nobody was
there to say so, and cleared when a peer shows that it is one; ``is_member`` while this centre is an active member, ``sound``
while its record is what it signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from relay.audit import Audit
from relay.clock import elapsed_ms, from_ms, now_ms
from relay.directory import Directory, Key, Member
from relay.envelope import Outline
from relay.errors import Refused
from relay.keeping import Keeper
from relay.keyring import Keyring
from relay.keys import SealingKey, StorageKey
from relay.log import Log
from relay.metrics import Metrics
from relay.policy import Judge
from relay.seal import Sealer
from relay.settings import Settings
from relay.store import Store
from relay.store.signal import Signal
from relay.timekeeping import Timekeeper

T = TypeVar("T")

HEARD_LATELY = 3
"""For how many pauses between heartbeats the last one of a peer says what time it is."""


@dataclass
class Centre:
    """Everything that a part of the node needs of its centre."""

    settings: Settings
    sealer: Sealer
    keyring: Keyring
    judge: Judge
    keeper: Keeper
    store: Store
    audit: Audit
    metrics: Metrics
    log: Log
    may_publish: asyncio.Event = field(default_factory=asyncio.Event)
    is_member: asyncio.Event = field(default_factory=asyncio.Event)
    sound: asyncio.Event = field(default_factory=asyncio.Event)
    directory_changed: Signal = field(default_factory=Signal)
    workers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="sealing"))

    def __post_init__(self) -> None:
        beat, most = self.settings.repair.heartbeat_seconds, self.settings.clock.most_ahead_seconds
        self.timekeeper = Timekeeper(int(most * 1000), int(HEARD_LATELY * beat * 1000))
        self.keyring.follow(lambda: self.judge.directory)
        self.sound.set()
        self.store.time(self.metrics.store_commit.observe)
        self._note_membership()

    @property
    def sealing_keys(self) -> Mapping[str, SealingKey]:
        """The private keys that open what is sealed to this centre, by id."""
        return self.keyring.sealing

    @property
    def storage_key(self) -> StorageKey:
        """The key under which content keys rest in the store."""
        return self.keyring.storage

    @property
    def id(self) -> str:
        """The centre's id."""
        return self.settings.centre

    @property
    def directory(self) -> Directory:
        """The version of the directory in force."""
        return self.judge.directory

    @property
    def expired(self) -> bool:
        """Whether the time of the directory in force is over."""
        return from_ms(self.now()) >= self.directory.expires_at

    def adopt(self, directory: Directory) -> None:
        """Go by another version of the directory from now on; on the event loop, after its commit."""
        self.judge = Judge(directory, self.id)
        self.keeper = Keeper(directory.policy.retention, self.storage_key.index_key())
        self._note_membership()
        self.directory_changed.fire()

    def now(self) -> int:
        """Return the time in milliseconds since the Unix epoch."""
        return now_ms()

    def elapsed(self) -> int:
        """Return milliseconds that only go on, for pauses."""
        return elapsed_ms()

    def doubt(self) -> str | None:
        """Return why this machine's clock may not decide what can't be undone, as a sentence, or None.

        Whoever acts by the time asks *after* reading it, so that a clock that is set in between is noticed.
        """
        doubt = self.timekeeper.doubt(self.now(), self.elapsed(), expired=self.expired)
        return doubt and f"{doubt} Nothing is purged or expired until that is settled."

    def sealing_key(self, recipient: str, *, suspended: bool = False) -> Key:
        """Return the key to seal to a recipient with; raise ``Refused`` when it has none that is valid now.

        With ``suspended`` also that of a suspended member, for what is kept until it is a member again.
        """
        member = self._listed(recipient) if suspended else self.directory.member(recipient)
        keys = member.sealing_keys(from_ms(self.now())) if member else []
        allowed = [key for key in keys if key.algorithm in self.directory.policy.suites]
        if not allowed:
            sentence = f"{recipient} has no sealing key that is valid now, so nothing can be sealed to it."
            raise Refused("recipient-without-key", sentence)
        return allowed[0]

    def outdated(self, about: Outline) -> set[str]:
        """Return to whom an envelope of this centre must be sealed anew before it goes: a key in it may not be used any more.

        Nobody is named while there is no better key to seal with.
        """
        register, now = self.directory, from_ms(self.now())
        me = register.member(self.id)
        signed_with = me.key(about.signed_with) if me else None
        if signed_with is None or not signed_with.usable(now):
            return set(about.sealed_to) if self.keyring.trouble(self.now()) is None else set()
        found = set()
        for recipient, sealed_to in about.sealed_to.items():
            peer = register.member(recipient)
            key = peer.key(sealed_to) if peer else None
            if peer and not (key and key.usable(now)) and peer.sealing_keys(now):
                found.add(recipient)
        return found

    def _listed(self, centre: str) -> Member | None:
        return next((member for member in self.directory.members if member.id == centre), None)

    def _note_membership(self) -> None:
        if self.directory.member(self.id) is None:
            self.is_member.clear()
        else:
            self.is_member.set()

    async def work(self, job: Callable[[], T]) -> T:
        """Run something that would hold up the event loop (cryptography, parsing) in a worker thread."""
        return await asyncio.get_running_loop().run_in_executor(self.workers, job)
