"""What a centre keeps of a message besides its sealed bytes, so that it can find it, recall it, answer it and purge it in time.

:meth:`Keeper.keep` looks at a validated message once, on its way out or in, and returns plain values for the store: index tokens
(keyed digests, never terms), when the message must be purged, what it refers to, the reply clock it starts or stops. The content
itself is let go; the store holds it only as ciphertext.

How long a message is kept is the directory's rule per kind (``relay.directory.RetentionPolicy``), or sooner when the message says
so itself; more than the most is refused at submit (``bad-retention``) and cut down on arrival.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from relay import codes, messages
from relay.clock import to_ms
from relay.directory import RetentionPolicy
from relay.envelope import Envelope
from relay.errors import Problem, Refused
from relay.keys import IndexKey
from relay.messages import Message, Reply, Request, Update, terms
from relay.seal import OVERHEAD_BYTES

DAY_MS = 86_400_000
HOUR_MS = 3_600_000

RECALLS = {"update": "updates", "cancel": "cancels"}
"""The kinds that take back an earlier version, and the relation by which they name its first."""


@dataclass(frozen=True, slots=True)
class Recall:
    """What an update or cancel takes back: every version of ``target`` before it; ``digest`` is of the first version's bytes."""

    kind: str
    target: str
    digest: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reply says to a request: its outcome and, for a delay, the new date in milliseconds."""

    request: str
    outcome: str
    due_at: int | None


@dataclass(slots=True)
class Kept:
    """What is kept of one message; times in milliseconds since the Unix epoch, ``hours`` of a request's reply clock.

    ``correlation`` is for the log alone, ``crime_types`` for what is counted. Not frozen, since making a frozen one of ten fields
    takes four times as long.
    """

    kind: str
    purge_at: int
    tokens: str
    handling: str
    crime_types: tuple[str, ...]
    warnings: tuple[Problem, ...] = ()
    refers: tuple[tuple[str, str], ...] = ()
    recall: Recall | None = None
    hours: int | None = None
    answers: tuple[Answer, ...] = ()
    correlation: str | None = None

    @property
    def as_named(self) -> str:
        """The kind that the message names: an update or cancel is one, whatever kind it takes back."""
        return self.recall.kind if self.recall else self.kind


class Keeper:
    """Looks at messages for one centre, under one version of the network's retention policy."""

    def __init__(self, policy: RetentionPolicy, key: IndexKey) -> None:
        self._policy = policy
        self._key = key
        self._mark_tokens = lru_cache(maxsize=4096)(self._mark_tokens_of)
        self._days = lru_cache(maxsize=256)(self._days_of)

    def keep(self, message: Message, origin: str, now: int) -> Kept:
        """Return what is kept of a valid message of ``origin``."""
        inner = message.message if isinstance(message, Update) else message
        return Kept(
            kind=inner.kind,
            purge_at=self._purge_at(message, inner.kind, now),
            tokens=self._tokens(message, inner.kind, origin),
            handling=message.handling,
            crime_types=message.crime_types,
            warnings=messages.warnings(message),
            refers=tuple((one.relation, one.id) for one in message.references) if message.references else (),
            recall=recall(message),
            hours=codes.reply_hours(message.urgency) if isinstance(message, Request) else None,
            answers=_answers(message) if isinstance(message, Reply) else (),
            correlation=message.correlation,
        )

    def check(self, message: Message, now: int) -> None:
        """Raise ``Refused`` when a message asks to be kept longer than its kind may be."""
        if message.retention_until is None:
            return
        inner = message.message if isinstance(message, Update) else message
        _, most = self._days(inner.kind, message.nominal)
        if not now < to_ms(message.retention_until) <= now + most * DAY_MS:
            sentence = (
                f"A message of this kind is kept for at most {most} days from now; retention_until lies ahead, within them."
            )
            raise Refused("bad-retention", sentence, (Problem("/retention_until", "bad-retention", sentence),))

    def tokens(self, terms: Iterable[str]) -> str:
        """Return the tokens of search terms, as the index holds and asks for them."""
        return " ".join(map(self._key.token, dict.fromkeys(terms)))

    def _tokens(self, message: Message, kind: str, origin: str) -> str:
        marked = self._mark_tokens(origin, message.kind, kind, message.status, message.crime_types, message.countries)
        own = self.tokens(terms.of_content(message))
        return f"{marked} {own}" if own else marked

    def _mark_tokens_of(
        self, origin: str, kind: str, inner: str, status: str, crime_types: tuple[str, ...], countries: tuple[str, ...]
    ) -> str:
        return self.tokens(terms.of_marks(origin, {kind, inner}, status, crime_types, countries))

    def _purge_at(self, message: Message, kind: str, now: int) -> int:
        default_days, most_days = self._days(kind, message.nominal)
        if message.retention_until is None:
            return now + min(default_days, most_days) * DAY_MS
        return min(to_ms(message.retention_until), now + most_days * DAY_MS)

    def _days_of(self, kind: str, nominal: bool) -> tuple[int, int]:
        """Return for how many days a kind is kept by default, and at most."""
        found = self._policy.of(kind, nominal=nominal)
        return found.default_days, found.most_days


def recall(message: Message) -> Recall | None:
    """Return what a message takes back, or None; an update or cancel names exactly one first version (``rules``)."""
    relation = RECALLS.get(message.kind)
    if relation is None:
        return None
    target = next(one for one in message.references if one.relation == relation)
    return Recall(message.kind, target.id, target.digest)


def told(envelope: Envelope, kept: Sequence[Kept | None], positions: Iterable[int]) -> Iterator[dict[str, object]]:
    """Return what the log says of messages of an envelope: ids, kinds, sizes and trace ids, and nothing of what they say."""
    for position in positions:
        size = max(len(envelope.ciphertexts[position]) - OVERHEAD_BYTES, 0)
        line: dict[str, object] = {"message": envelope.core.messages[position].id, "size": size}
        if position < len(kept) and (known := kept[position]) is not None:
            line["kind"] = known.as_named
            if known.correlation is not None:
                line["correlation"] = known.correlation
        yield line


def tally(kept: Iterable[Kept]) -> Counter[tuple[str, str]]:
    """Return how many messages there are of each kind and crime type; one of several crime types counts under each."""
    return Counter((one.as_named, crime_type) for one in kept for crime_type in one.crime_types)


def _answers(reply: Reply) -> tuple[Answer, ...]:
    due_at = to_ms(reply.new_date) if reply.new_date else None
    return tuple(Answer(one.id, reply.outcome, due_at) for one in reply.references if one.relation == "answers")
