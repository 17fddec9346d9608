"""Outbox: from a validated message to the committed promise that it will be sent.

:meth:`Outbox.submit` returns only after the commit; whatever waits when the last commit ends forms the next group. A group is
cut into batches of messages with the same recipients, lane and route (at most 64 messages or 128 kB), each batch is sealed
once, and one transaction stores envelopes, sequences, idempotency keys and audit leaves together. A failed commit stores
nothing and uses up no sequence: the submitter is told so and may try again.

The outbox also takes what recipients say: :meth:`Outbox.take_receipt` applies a receipt's statements in the transaction it is
given.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from relay import receipts, topology
from relay.audit import AuditStep
from relay.centre import Centre
from relay.clock import to_ms
from relay.codes import precedence_rank
from relay.envelope import MAX_MESSAGES, new_id
from relay.errors import Busy, Conflict, Problem, Refused, RelayError, StoreTrouble
from relay.log import Event
from relay.messages import Message
from relay.policy import Admission, marks
from relay.receipts import Receipt
from relay.seal import Addressee, Draft, Opened, Sealed
from relay.store import Connection, outgoing, said
from relay.store.outgoing import Idempotent, NewEnvelope

MAX_BATCH_BYTES = 128 * 1024
MAX_KEYS = 64
EXERCISE_RANK = 9


@dataclass(frozen=True, slots=True)
class Submission:
    """A validated message on its way in; ``key`` is its idempotency key, already joined to who uses it."""

    raw: bytes
    message: Message
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """The promise: this message is committed and will be sent to these recipients."""

    id: str
    recipients: tuple[str, ...]


Outcome = Stored | RelayError


@dataclass(slots=True)
class _Entry:
    """A submission that waits for its commit."""

    submission: Submission
    admission: Admission
    id: str
    deadline: int
    digest: bytes


@dataclass(slots=True)
class _Request:
    """Submissions that came together and are answered together."""

    entries: list[_Entry]
    done: asyncio.Future[None]
    failed: dict[str, RelayError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Route:
    """What the messages of one batch have in common."""

    recipients: tuple[str, ...]
    status: str
    precedence: str
    intel: bool


@dataclass(slots=True)
class _Batch:
    """Messages that go into one envelope, and its routing keys."""

    route: _Route
    entries: list[_Entry]
    keys: dict[str, None]
    size: int = 0

    def fits(self, entry: _Entry, keys: Sequence[str]) -> bool:
        """Return whether a message may join."""
        return (
            len(self.entries) < MAX_MESSAGES
            and self.size + len(entry.submission.raw) <= MAX_BATCH_BYTES
            and len(self.keys.keys() | set(keys)) <= MAX_KEYS
        )


class Outbox:
    """Takes messages in; ``full`` says whether it must refuse for now."""

    def __init__(self, centre: Centre, full: Callable[[], Busy | StoreTrouble | None]) -> None:
        self._centre = centre
        self._full = full
        self._waiting: list[_Request] = []
        self._arrived = asyncio.Event()
        self._sequences: dict[tuple[str, str], int] = {}
        self._claims: dict[str, asyncio.Future[None]] = {}

    async def submit(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Return, in order, each message's promise or why it is refused; whatever is promised is committed."""
        if (trouble := self._full()) is not None:
            return [trouble] * len(submissions)
        request = _Request([], asyncio.get_running_loop().create_future())
        claimed = await self._claim(request, {s.key for s in submissions if s.key is not None})
        try:
            known = await self._known(claimed)
            prepared = [self._prepare(request, submission, known) for submission in submissions]
            if request.entries:
                self._waiting.append(request)
                self._arrived.set()
                await request.done
        finally:
            self._release(request, claimed)
        return [request.failed.get(one.id, one) if isinstance(one, Stored) else one for one in prepared]

    async def run(self) -> None:
        """Commit what waits, group by group, until cancelled."""
        self._sequences = await self._centre.store.read(outgoing.sequences)
        _collect_less()
        while True:
            await self._arrived.wait()
            await self._commit_group()

    async def drain(self) -> None:
        """Return once nothing waits for its commit."""
        while self._waiting:
            await asyncio.gather(*(request.done for request in self._waiting), return_exceptions=True)

    def take_receipt(self, connection: Connection, sender: str, opened: Opened, now: int) -> Callable[[], None] | None:
        """Apply a peer's receipt; raise ``Rejected`` when its body is not one. A copy changes nothing."""
        content = opened.contents[0]
        if isinstance(content, RelayError):
            raise content
        body = receipts.read(Receipt, content)
        centre = self._centre
        key = centre.storage_key.wrap(opened.content_key)
        number = said.add_receipt(connection, sender, opened.envelope, key, now)
        if number is None:
            return None
        leaves = []
        for statement in body.statements:
            changed = said.apply(connection, sender, statement, number)
            centre.metrics.receipts.labels(sender, statement.state).inc(len(changed))
            if changed:
                step = AuditStep(statement.state)
                leaves.append(
                    centre.audit.leaf(
                        step,
                        now,
                        envelope=opened.envelope.core.id,
                        peer=sender,
                        commitments=changed,
                        code=statement.code,
                    )
                )
        centre.audit.append(connection, leaves)
        states = Counter(statement.state for statement in body.statements)
        return partial(centre.log.info, Event.RECEIPT_TAKEN, peer=sender, envelope=opened.envelope.core.id, **states)

    async def _claim(self, request: _Request, keys: set[str]) -> list[str]:
        """Make idempotency keys this request's alone, waiting for requests that use them now.

        Keys are claimed in order, so that two requests never wait for each other.
        """
        claimed = sorted(keys)
        for key in claimed:
            while key in self._claims:
                await asyncio.wait([self._claims[key]])
            self._claims[key] = request.done
        return claimed

    def _release(self, request: _Request, claimed: list[str]) -> None:
        for key in claimed:
            self._claims.pop(key, None)
        if not request.done.done():
            request.done.set_result(None)

    async def _known(self, keys: list[str]) -> dict[str, Idempotent]:
        if not keys:
            return {}
        return await self._centre.store.read(lambda connection: outgoing.idempotent(connection, keys))

    def _prepare(self, request: _Request, submission: Submission, known: dict[str, Idempotent]) -> Outcome:
        """Enter a message into the request; return what it will become, or why it is refused."""
        digest = hashlib.sha256(submission.raw).digest() if submission.key is not None else b""
        if submission.key is not None and (earlier := known.get(submission.key)) is not None:
            return _again(earlier, digest)
        try:
            self._centre.judge.check_origin(submission.message.origin)
            admission = self._centre.judge.admit(marks(submission.message))
            entry = _Entry(submission, admission, new_id(self._centre.id), self._deadline(submission.message), digest)
        except Refused as refusal:
            return refusal
        request.entries.append(entry)
        if submission.key is not None:  # the next line of this very request may repeat it
            known[submission.key] = Idempotent(submission.key, digest, entry.id, admission.recipients)
        return Stored(entry.id, admission.recipients)

    def _deadline(self, message: Message) -> int:
        now, policy = self._centre.now(), self._centre.directory.policy
        if message.expires_at is None:
            return now + policy.default_expiry_hours * 3_600_000
        deadline = to_ms(message.expires_at)
        if not now < deadline <= now + policy.max_expiry_hours * 3_600_000:
            sentence = f"The deadline must lie ahead, by at most {policy.max_expiry_hours} hours."
            raise Refused("bad-deadline", sentence, (Problem("/expires_at", "bad-deadline", sentence),))
        return deadline

    async def _commit_group(self) -> None:
        group, self._waiting = self._waiting, []
        self._arrived.clear()
        started = time.monotonic()
        try:
            stored = await self._store(group)
        except RelayError as error:
            _fail(group, error)
            return
        except BaseException:
            _fail(group, StoreTrouble("store-unavailable", "The node stopped before the message was stored."))
            raise
        self._centre.metrics.commit.observe(time.monotonic() - started)
        self._centre.log.info(Event.OUTBOX_STORED, envelopes=len(stored), messages=sum(len(r.entries) for r in group))
        self._centre.store.outbox_changed.fire()
        for request in group:
            if not request.done.done():
                request.done.set_result(None)

    async def _store(self, group: list[_Request]) -> list[NewEnvelope]:
        batches = _batches([entry for request in group for entry in request.entries], self._centre.id)
        batches = self._sealable(batches, group)
        sequences = dict(self._sequences)
        envelopes = await self._centre.work(lambda: [self._seal(batch, sequences) for batch in batches])
        if not envelopes:
            return []
        leaves = [self._leaf(new) for new in envelopes]
        idempotent = [
            Idempotent(entry.submission.key, entry.digest, entry.id, entry.admission.recipients)
            for batch in batches
            for entry in batch.entries
            if entry.submission.key is not None
        ]

        def store(connection: Connection) -> None:
            outgoing.add(connection, envelopes, idempotent)
            self._centre.audit.append(connection, leaves)

        await self._centre.store.write(store)
        self._sequences = sequences
        for new in envelopes:
            count = len(new.envelope.core.messages)
            self._centre.metrics.submitted.labels(new.envelope.core.lane).inc(count)
            self._centre.metrics.batch.observe(count)
        return envelopes

    def _sealable(self, batches: list[_Batch], group: list[_Request]) -> list[_Batch]:
        """Return the batches that can be sealed; the messages of others fail in their requests."""
        sealable = []
        for batch in batches:
            try:
                for recipient in batch.route.recipients:
                    self._centre.sealing_key(recipient)
            except Refused as refusal:
                failed = {entry.id for entry in batch.entries}
                for request in group:
                    request.failed.update({e.id: refusal for e in request.entries if e.id in failed})
            else:
                sealable.append(batch)
        return sealable

    def _seal(self, batch: _Batch, sequences: dict[tuple[str, str], int]) -> NewEnvelope:
        centre, route = self._centre, batch.route
        lane = topology.lane(route.status, route.precedence)
        addressees = []
        for recipient in route.recipients:
            first = sequences.get((recipient, lane), 0) + 1
            sequences[recipient, lane] = first + len(batch.entries) - 1
            addressees.append(Addressee(recipient, centre.sealing_key(recipient), first))
        now = centre.now()
        sealed: Sealed = centre.sealer.seal(
            "batch",
            lane,
            [Draft(entry.id, entry.submission.raw, entry.deadline) for entry in batch.entries],
            addressees,
            epoch=centre.store.epoch,
            directory=centre.directory.version,
            now=now,
        )
        key = centre.storage_key.wrap(sealed.content_key)
        return NewEnvelope(sealed.envelope, key, tuple(batch.keys), topology.LANES.index(lane), now)

    def _leaf(self, new: NewEnvelope) -> bytes:
        core = new.envelope.core
        commitments = [item.commitment for item in core.messages]
        return self._centre.audit.leaf(AuditStep.SUBMITTED, new.created_at, envelope=core.id, commitments=commitments)


def _batches(entries: Sequence[_Entry], origin: str) -> list[_Batch]:
    """Cut entries into batches of one recipient list, lane and route, most urgent first, each in order of arrival."""
    open_: dict[_Route, _Batch] = {}
    batches: list[_Batch] = []
    for entry in entries:
        route = _route(entry)
        keys = _keys(route, entry, origin)
        batch = open_.get(route)
        if batch is None or not batch.fits(entry, keys):
            batch = open_[route] = _Batch(route, [], {})
            batches.append(batch)
        batch.entries.append(entry)
        batch.keys.update(dict.fromkeys(keys))
        batch.size += len(entry.submission.raw)
    return sorted(batches, key=lambda batch: precedence_rank(batch.route.precedence))


def _route(entry: _Entry) -> _Route:
    message, admission = entry.submission.message, entry.admission
    pairs = len(message.crime_types) * len(message.regions)
    return _Route(admission.recipients, message.status, message.precedence, admission.intel and pairs <= MAX_KEYS)


def _keys(route: _Route, entry: _Entry, origin: str) -> list[str]:
    message = entry.submission.message
    if route.intel:
        return topology.intel_keys(origin, route.status, route.precedence, message.regions, message.crime_types)
    return [topology.direct_key(origin, recipient, route.status, route.precedence) for recipient in route.recipients]


def _again(earlier: Idempotent, digest: bytes) -> Outcome:
    if earlier.digest != digest:
        sentence = f"This idempotency key already stands for message {earlier.message}, which had another body."
        return Conflict("idempotency-conflict", sentence)
    return Stored(earlier.message, earlier.recipients)


def _collect_less() -> None:
    """Let the collector of cycles come by less often, and leave alone what is there for good.

    Thousands of models wait for one commit, none of them in a cycle; looking through them all the time cost a quarter of all CPU.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _fail(group: list[_Request], error: RelayError) -> None:
    for request in group:
        if not request.done.done():
            request.done.set_exception(error)
