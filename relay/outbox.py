"""Outbox: from a validated message to the committed promise that it will be sent.

:meth:`Outbox.submit` returns only after the commit; what waits when the last commit ends forms the next group. A group is cut
into batches of messages with the same recipients, lane and route (:mod:`relay.batches`), each batch is sealed once, and one
transaction stores envelopes, sequences, idempotency keys and audit leaves together. A failed commit stores nothing and uses up
no sequence: the submitter is told so and may try again.

What an update or cancel says of earlier messages is looked at first (:mod:`relay.versions`); when a message is taken back from
this centre, the outbox takes back what the centre released of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from relay import messages, points, topology
from relay.audit import AuditStep
from relay.batches import Batch, Entry, batches
from relay.centre import Centre
from relay.codes import precedence_rank
from relay.errors import Busy, Conflict, NotReady, Refused, RelayError, StoreTrouble
from relay.keeping import tally, told
from relay.log import Event
from relay.points import Point
from relay.seal import Addressee, Draft, Sealed
from relay.store import Connection, outgoing
from relay.store.outgoing import Due, Idempotent, NewEnvelope
from relay.store.threads import RELEASED
from relay.submissions import Outcome, Preparing, Stored, Submission
from relay.turns import Turns
from relay.versions import Plan, Versions, is_linked

MAX_GROUP = 1024
PAUSE_SECONDS = 5.0
OFFERED = 2  # envelopes of a group: where more wait, to read them again costs little, and they would lie in memory
SEALED_AT_ONCE_BYTES = 4 * 1024  # less work than to hand it to a thread and wait


@dataclass(slots=True)
class _Request:
    """Submissions that came together and are answered together."""

    entries: list[Entry]
    done: asyncio.Future[None]
    failed: dict[str, RelayError] = field(default_factory=dict)
    claimed: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many bytes its messages have."""
        return sum(len(entry.raw) for entry in self.entries)

    @property
    def rank(self) -> int:
        """How urgent its most urgent message is; 0 is the most."""
        return min(precedence_rank(entry.path.route.precedence) for entry in self.entries)


class Outbox:
    """Takes messages in; ``full`` says whether it must refuse for now, ``offer`` is told what was just committed."""

    def __init__(
        self,
        centre: Centre,
        versions: Versions,
        full: Callable[[], Busy | NotReady | StoreTrouble | None],
        offer: Callable[[Sequence[Due]], None],
    ) -> None:
        self._centre = centre
        self._versions = versions
        self._preparing = Preparing(centre, versions)
        self._full = full
        self._offer = offer
        self._linking = asyncio.Lock()
        self._waiting: list[_Request] = []
        self._waiting_bytes = 0
        self._group: list[_Request] = []
        self._arrived = asyncio.Event()
        self._sequences: dict[tuple[str, str], int] = {}
        self._claims: dict[str, asyncio.Future[None]] = {}
        self._turns = Turns()
        self._stage = centre.metrics.stages["submit"]
        self._stage.measure(self._under_way)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of messages wait for their commit, in memory."""
        return self._waiting_bytes

    async def submit(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Return, in order, each message's promise or why it is refused; whatever is promised is committed."""
        if (trouble := self._full()) is not None:
            return [trouble] * len(submissions)
        if any(is_linked(submission.message) for submission in submissions):
            async with self._linking:  # what is planned for a thread must be committed before the next looks at it
                return await self._submit(submissions)
        return await self._submit(submissions)

    async def _submit(self, submissions: Sequence[Submission]) -> list[Outcome]:
        request = _Request([], asyncio.get_running_loop().create_future())
        keys = {submission.key for submission in submissions if submission.key is not None}
        known = await self._claim(request, keys) if keys else {}
        try:
            plans = await self._preparing.plan(submissions, known)
            prepared = [self._prepare(request, *one, known) for one in zip(submissions, plans, strict=True)]
            del submissions  # the models need not wait for the commit
        except BaseException:
            request.done.set_result(None)
            raise
        if request.entries:
            self._waiting.append(request)
            self._waiting_bytes += request.size
            self._stage.enter(len(request.entries))
            self._arrived.set()
        else:
            request.done.set_result(None)
        # A caller that goes away leaves its messages to be committed, and its keys claimed until they are.
        await (asyncio.shield(request.done) if keys else request.done)
        return [request.failed.get(one.id, one) if isinstance(one, Stored) else one for one in prepared]

    def _under_way(self) -> int:
        """Return how many messages wait for their commit."""
        return sum(len(request.entries) for request in (*self._group, *self._waiting))

    async def run(self) -> None:
        """Commit what waits, group by group, until cancelled; pass recalls on."""
        self._sequences = await self._known()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass_on(), name="outbox recalls")
            while True:
                await self._arrived.wait()
                await self._commit_group()

    async def _known(self) -> dict[tuple[str, str], int]:
        """Return the last sequences given out, however often the store must be asked."""
        while True:
            try:
                return await self._centre.store.read(outgoing.sequences)
            except StoreTrouble as trouble:
                self._centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
                await asyncio.sleep(PAUSE_SECONDS)

    async def drain(self) -> None:
        """Return once nothing waits for its commit."""
        while waiting := [request.done for request in (*self._group, *self._waiting)]:
            await asyncio.wait(waiting)

    async def _claim(self, request: _Request, keys: set[str]) -> dict[str, Idempotent]:
        """Make idempotency keys this request's alone until it is done; return what they already stand for.

        A key in use is waited for, and keys are claimed in order, so that two requests never wait for each other.
        """
        request.done.add_done_callback(partial(self._release, request))
        try:
            for key in sorted(keys):
                while key in self._claims:
                    await asyncio.wait([self._claims[key]])
                self._claims[key] = request.done
                request.claimed.append(key)
            return await self._centre.store.read(lambda connection: outgoing.idempotent(connection, request.claimed))
        except BaseException:
            request.done.set_result(None)
            raise

    def _release(self, request: _Request, done: asyncio.Future[None]) -> None:
        done.exception()  # looked at, also when nobody waits for it any more
        for key in request.claimed:
            del self._claims[key]

    async def _pass_on(self) -> None:
        """Take back, now and whenever something is taken back from this centre, what it released of that."""
        changed = self._centre.store.recalls_changed
        while True:
            ticket = changed.ticket()
            try:
                cancels = await self._versions.pass_on()
                if cancels:
                    points.reach(Point.ONWARD_RECALL_BEFORE)
                    outcomes = await self.submit([Submission(raw, messages.parse(raw)) for raw in cancels])
                    points.reach(Point.ONWARD_RECALL_AFTER)
                    self._check_passed_on(outcomes)
            except RelayError as trouble:
                self._centre.log.error(Event.RECALL_NOT_PASSED_ON, code=trouble.code, detail=trouble.detail)
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                await changed.changed(ticket)

    def _check_passed_on(self, outcomes: Sequence[Outcome]) -> None:
        """Raise why one of the node's own cancels was not taken, if another try may help; say why of one that never will be."""
        for outcome in outcomes:
            if isinstance(outcome, Busy | NotReady | StoreTrouble):
                raise outcome
            if isinstance(outcome, RelayError):
                self._centre.log.error(Event.RECALL_NOT_PASSED_ON, code=outcome.code, detail=outcome.detail)

    def _prepare(self, request: _Request, submission: Submission, plan: Plan | Refused, known: dict[str, Idempotent]) -> Outcome:
        """Enter a message into the request; return what it will become, or why it is refused."""
        digest = hashlib.sha256(submission.raw).digest() if submission.key is not None else b""
        if submission.key is not None and (earlier := known.get(submission.key)) is not None:
            return _again(earlier, digest)
        if isinstance(plan, Refused):
            return plan
        try:
            stored, entries = self._preparing.prepare(submission, plan, digest)
        except Refused as refusal:
            return refusal
        request.entries += entries
        if submission.key is not None:  # the next line of this very request may repeat it
            known[submission.key] = Idempotent(submission.key, digest, stored.id, stored.recipients)
        return stored

    async def _commit_group(self) -> None:
        group = self._group = self._take_group()
        started = time.monotonic()
        try:
            stored = await self._store(group)
        except RelayError as error:
            _fail(group, error)
            self._group = []
            return
        except BaseException:
            _fail(group, StoreTrouble("store-unavailable", "The node stopped before the message was stored."))
            raise
        self._centre.metrics.commit.observe(time.monotonic() - started)
        self._stage.leave(sum(len(request.entries) for request in group))
        self._centre.log.debug(Event.OUTBOX_STORED, envelopes=len(stored), messages=sum(len(r.entries) for r in group))
        for new in stored.values():
            core = new.envelope.core
            own = told(new.envelope, new.kept, range(len(core.messages)))
            to = [recipient.centre for recipient in core.to]
            self._centre.log.messages(Event.MESSAGE_SUBMITTED, own, envelope=core.id, to=to, lane=core.lane)
        if len(stored) <= OFFERED:
            self._offer([outgoing.as_due(n, new) for n, new in stored.items()])
        self._centre.store.outbox_changed.fire()
        for request in group:
            if not request.done.done():
                request.done.set_result(None)
        self._group = []

    def _take_group(self) -> list[_Request]:
        """Take what waits of the rank whose turn it is, up to a bound; a request is one transaction, however large it is.

        Other ranks go with the next groups: what is most urgent does not wait for them to be sealed and stored.
        """
        ranks = [request.rank for request in self._waiting]
        turn = self._turns.next(ranks)
        group, left, count = list[_Request](), list[_Request](), 0
        for request, rank in zip(self._waiting, ranks, strict=True):
            if rank == turn and count < MAX_GROUP:
                group.append(request)
                count += len(request.entries)
            else:
                left.append(request)
        self._waiting = left
        self._waiting_bytes -= sum(request.size for request in group)
        if not self._waiting:
            self._arrived.clear()
        return group

    async def _store(self, group: list[_Request]) -> dict[int, NewEnvelope]:
        """Seal and store a group; return its envelopes by number."""
        most = self._centre.directory.policy.max_envelope_bytes
        cut = self._sealable(batches([entry for request in group for entry in request.entries], most), group)
        sequences = dict(self._sequences)
        few = sum(batch.size for batch in cut) <= SEALED_AT_ONCE_BYTES
        seal = partial(self._seal_all, cut, sequences)
        envelopes = seal() if few else await self._centre.work(seal)
        if not envelopes:
            return {}
        leaves = [leaf for new in envelopes for leaf in self._leaves(new)]
        idempotent = [
            Idempotent(entry.key, entry.digest, entry.id, entry.recipients)
            for batch in cut
            for entry in batch.entries
            if entry.key is not None
        ]

        def store(connection: Connection) -> list[int]:
            numbers = outgoing.add(connection, envelopes, idempotent)
            self._centre.audit.append(connection, leaves)
            return numbers

        points.reach(Point.OUTBOX_COMMIT_BEFORE)
        numbers = await self._centre.store.write(store)
        points.reach(Point.OUTBOX_COMMIT_AFTER)
        self._sequences = sequences
        for new in envelopes:
            count = len(new.envelope.core.messages)
            self._centre.metrics.submitted.labels(new.envelope.core.lane).inc(count)
            self._centre.metrics.batch.observe(count)
            self._centre.metrics.count("sent", tally(new.kept))
        return dict(zip(numbers, envelopes, strict=True))

    def _sealable(self, batches: list[Batch], group: list[_Request]) -> list[Batch]:
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

    def _seal_all(self, cut: list[Batch], sequences: dict[tuple[str, str], int]) -> list[NewEnvelope]:
        return [self._seal(batch, sequences) for batch in cut]

    def _seal(self, batch: Batch, sequences: dict[tuple[str, str], int]) -> NewEnvelope:
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
            [Draft(entry.id, entry.raw, entry.deadline) for entry in batch.entries],
            addressees,
            epoch=centre.store.epoch,
            directory=centre.directory.version,
            now=now,
        )
        key = centre.storage_key.wrap(sealed.content_key)
        kept = tuple(entry.kept for entry in batch.entries)
        return NewEnvelope(sealed.envelope, key, tuple(batch.keys), topology.LANES.index(lane), now, kept)

    def _leaves(self, new: NewEnvelope) -> Iterator[bytes]:
        """Return what the record says of an envelope: its messages, and which of them take back or release another."""
        audit, core = self._centre.audit, new.envelope.core
        commitments = [item.commitment for item in core.messages]
        yield audit.leaf(AuditStep.SUBMITTED, new.created_at, envelope=core.id, commitments=commitments)
        for kept, commitment in zip(new.kept, commitments, strict=True):
            if kept.recall is not None:
                step, code = AuditStep.RECALLED, kept.recall.kind
            elif any(relation == RELEASED for relation, _ in kept.refers):
                step, code = AuditStep.RELEASED, None
            else:
                continue
            yield audit.leaf(step, new.created_at, envelope=core.id, commitments=[commitment], code=code)


def _again(earlier: Idempotent, digest: bytes) -> Outcome:
    if earlier.digest != digest:
        sentence = f"This idempotency key already stands for message {earlier.message}, which had another body."
        return Conflict("idempotency-conflict", sentence)
    return Stored(earlier.message, earlier.recipients)


def _fail(group: list[_Request], error: RelayError) -> None:
    for request in group:
        if not request.done.done():
            request.done.set_exception(error)
