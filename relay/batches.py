"""Batches: messages with the same recipients, lane and route share an envelope.

A message's *path* follows from its marks alone, so it is computed once per distinct set of them. :func:`batches` cuts what waits
into envelopes of at most 64 messages, 128 kB and 64 routing keys, and of no more bytes than the directory allows, the most urgent
first, each in order of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from relay import topology
from relay.codes import precedence_rank
from relay.envelope import MAX_MESSAGES
from relay.keeping import Kept
from relay.messages import Message
from relay.policy import Admission
from relay.seal import most_bytes

MAX_BATCH_BYTES = 128 * 1024
MAX_KEYS = 64


@dataclass(frozen=True, slots=True)
class Route:
    """What the messages of one batch have in common."""

    recipients: tuple[str, ...]
    status: str
    precedence: str
    intel: bool


@dataclass(frozen=True, slots=True)
class Path:
    """The route of a message, and its routing keys; the same for all messages with the same marks."""

    route: Route
    keys: tuple[str, ...]


@dataclass(slots=True)
class Entry:
    """A submission that waits for its commit; its model is let go, thousands would be kept for nothing."""

    raw: bytes
    key: str | None
    recipients: tuple[str, ...]
    path: Path
    id: str
    deadline: int
    digest: bytes
    kept: Kept


@dataclass(slots=True)
class Batch:
    """Messages that go into one envelope, and its routing keys."""

    route: Route
    entries: list[Entry]
    keys: dict[str, None]
    size: int = 0

    def fits(self, entry: Entry, envelope_bytes: int) -> bool:
        """Return whether a message may join, in an envelope of at most so many bytes."""
        size = self.size + len(entry.raw)
        return (
            len(self.entries) < MAX_MESSAGES
            and size <= MAX_BATCH_BYTES
            and most_bytes(len(self.route.recipients), len(self.entries) + 1, size) <= envelope_bytes
            and (entry.path is self.entries[-1].path or len(self.keys.keys() | set(entry.path.keys)) <= MAX_KEYS)
        )

    def add(self, entry: Entry) -> None:
        """Let a message join."""
        if not self.entries or entry.path is not self.entries[-1].path:
            self.keys.update(dict.fromkeys(entry.path.keys))
        self.entries.append(entry)
        self.size += len(entry.raw)


def batches(entries: Sequence[Entry], envelope_bytes: int) -> list[Batch]:
    """Cut entries into batches of one recipient list, lane and route, most urgent first, each in order of arrival.

    No envelope has more than ``envelope_bytes``, unless one message alone does.
    """
    open_: dict[Route, Batch] = {}
    cut: list[Batch] = []
    for entry in entries:
        batch = open_.get(entry.path.route)
        if batch is None or not batch.fits(entry, envelope_bytes):
            batch = open_[entry.path.route] = Batch(entry.path.route, [], {})
            cut.append(batch)
        batch.add(entry)
    return sorted(cut, key=lambda batch: precedence_rank(batch.route.precedence))


def path_of(origin: str, admission: Admission, message: Message) -> Path:
    """Return the way of an admitted message: whom its envelope goes to, in which lane, under which keys."""
    precedence = topology.urgency(message.kind, message.precedence)
    return _path(origin, admission, message.status, precedence, message.regions, message.crime_types)


@lru_cache(maxsize=4096)
def _path(
    origin: str, admission: Admission, status: str, precedence: str, regions: tuple[str, ...], crime_types: tuple[str, ...]
) -> Path:
    recipients, intel = admission.recipients, admission.intel and len(crime_types) * len(regions) <= MAX_KEYS
    if intel:
        keys = topology.intel_keys(origin, status, precedence, regions, crime_types)
    else:
        keys = [topology.direct_key(origin, recipient, status, precedence) for recipient in recipients]
    return Path(Route(recipients, status, precedence, intel), tuple(keys))
