"""This centre, as the parts of its node see it: its name, its keys, its view of the network, its store, its record.

Built once by :mod:`relay.node` and handed to every part. ``judge`` and ``keeper`` are what changes while the node runs (a new
version of the directory brings new ones), so parts ask for them each time. ``may_publish`` is set once it is known that the
store is no older copy, or nobody was there to say so, and cleared when a peer shows that it is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from relay.audit import Audit
from relay.clock import elapsed_ms, from_ms, now_ms
from relay.directory import Directory, Key
from relay.errors import Refused
from relay.keeping import Keeper
from relay.keys import SealingKey, StorageKey
from relay.log import Log
from relay.metrics import Metrics
from relay.policy import Judge
from relay.seal import Sealer
from relay.settings import Settings
from relay.store import Store

T = TypeVar("T")


@dataclass
class Centre:
    """Everything that a part of the node needs of its centre."""

    settings: Settings
    sealer: Sealer
    sealing_keys: dict[str, SealingKey]
    storage_key: StorageKey
    judge: Judge
    keeper: Keeper
    store: Store
    audit: Audit
    metrics: Metrics
    log: Log
    may_publish: asyncio.Event = field(default_factory=asyncio.Event)
    workers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="sealing"))

    @property
    def id(self) -> str:
        """The centre's id."""
        return self.settings.centre

    @property
    def directory(self) -> Directory:
        """The version of the directory in force."""
        return self.judge.directory

    def now(self) -> int:
        """Return the time in milliseconds since the Unix epoch."""
        return now_ms()

    def elapsed(self) -> int:
        """Return milliseconds that only go on, for pauses."""
        return elapsed_ms()

    def sealing_key(self, recipient: str) -> Key:
        """Return the key to seal to a recipient with; raise ``Refused`` when it has none that is valid now."""
        member = self.directory.member(recipient)
        keys = member.sealing_keys(from_ms(self.now())) if member else []
        allowed = [key for key in keys if key.algorithm in self.directory.policy.suites]
        if not allowed:
            sentence = f"{recipient} has no sealing key that is valid now, so nothing can be sealed to it."
            raise Refused("recipient-without-key", sentence)
        return allowed[0]

    async def work(self, job: Callable[[], T]) -> T:
        """Run something that would hold up the event loop (cryptography, parsing) in a worker thread."""
        return await asyncio.get_running_loop().run_in_executor(self.workers, job)
