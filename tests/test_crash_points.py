"""A node that ends at any named point keeps its promise: every point is tried, in turn, and the source has no other place."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import aio_pika
import httpx2
import pytest
from sqlalchemy import insert, update

from relay import copies, deadlines, recovery, requests, retention, topology
from relay.api import Api
from relay.audit import AuditStep
from relay.centre import Centre
from relay.cli.keyfiles import KeyFile
from relay.clients import Register
from relay.clock import now_ms
from relay.desk import Order
from relay.directory import digest
from relay.errors import Conflict, NotFound, Refused
from relay.handover import No
from relay.keeping import DAY_MS
from relay.keys import SigningKey
from relay.network import Network, load_network
from relay.points import Point
from relay.proving import Proving
from relay.rabbit import Management, PrivateBroker
from relay.received import Act
from relay.release import Done, Releases
from relay.settings import load
from relay.store import Connection, clocks, compared, directories, parked, record, retained, samples, threads
from relay.store.tables import IDEMPOTENCY, INBOX_MESSAGE
from relay.submissions import Stored
from tests.crash import Crashing, armed
from tests.live import EXAMPLES, PATIENCE, eventually, message, private_network, redirect, signatures
from tests.rotation import add as add_key
from tests.rotation import alter, change_keys, now
from tests.test_recall import cancel, ciphertext, reference
from tests.test_recall import update as renew

A, B, C = CENTRES = ("CRASHA", "CRASHB", "CRASHC")
SOURCE = Path(__file__).resolve().parent.parent / "relay"
CALLS = {("store", "write"), ("self", "_write"), ("_broker", "publish"), ("_broker", "ack")}
EXCEPTIONS = {
    ("inbox.py", "self._centre.store.write(job)"): "every use of it is checked as `self._write`",
    ("inbox.py", "self._write(self._poison.load)"): "it only reads",
    ("soundness.py", "self._centre.store.write(partial(checkpoints.set_damage, found=damage))"): (
        "nothing goes on after it; a node that ends here finds the same damage again at its start"
    ),
}

P = Point
Expected = tuple[str, str, str, str]


# What the source says.


def _is_point(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and ast.unparse(node).startswith("points.reach(")


def _owner(call: ast.Call) -> tuple[str, str]:
    """Return what a call is made on and its name: ("store", "write") of ``self._centre.store.write(job)``."""
    if not isinstance(call.func, ast.Attribute):
        return "", ""
    return ast.unparse(call.func.value).rpartition(".")[2], call.func.attr


def _blocks(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                yield block


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is in a statement, without the statements in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt | ast.ExceptHandler):
            yield child
            yield from _own(child)


def _bare(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the writes, publishes and acknowledgements of a module that have no point directly before and after them."""
    for block in _blocks(ast.parse(file.read_text())):
        for index, statement in enumerate(block):
            calls = [node for node in _own(statement) if isinstance(node, ast.Call) and _owner(node) in CALLS]
            beside = [block[place] for place in (index - 1, index + 1) if 0 <= place < len(block)]
            if calls and sum(map(_is_point, beside)) != 2:
                yield file.name, ast.unparse(calls[0])


def _modules() -> list[Path]:
    files = sorted(SOURCE.rglob("*.py"))
    return [file for file in files if file.relative_to(SOURCE).parts[0] not in ("store", "broker", "rabbit")]


def test_no_commit_publish_or_acknowledgement_is_without_its_points() -> None:
    """Whoever adds one names it, or adds it to the short list with a reason."""
    bare = {found for file in _modules() for found in _bare(file)}
    assert bare == set(EXCEPTIONS)


def test_each_point_stands_at_one_place_and_has_a_scenario() -> None:
    """So ending a node at every point is ending it at every place."""
    text = "\n".join(file.read_text() for file in _modules())
    assert {point: text.count(f"points.reach(Point.{point.name})") for point in Point} == dict.fromkeys(Point, 1)
    assert {case.point for case in CASES} | {case.first for case in CASES if case.first} == set(Point)


# What is done until a point is reached.


class World:
    """The network under test, and the messages of one case."""

    def __init__(self, live: Crashing) -> None:
        self.live = live
        self.expected: list[Expected] = []
        self.later: list[Callable[[], Awaitable[None]]] = []
        self.number = 0

    def raw(self, **fields: Any) -> bytes:
        """Return another message of A to B."""
        self.number += 1
        return message(**{"to": [B], "case_number": f"CRASH-{self.number}-{len(self.expected)}-{id(self)}", **fields})

    async def send(self, state: str = "delivered", origin: str = A, **fields: Any) -> tuple[Stored, bytes]:
        """Submit a message, of which a state is expected in the end."""
        raw = self.raw(**fields)
        stored = await self.live.promise(origin, raw)
        self.expected += [(origin, stored.id, recipient, state) for recipient in stored.recipients]
        return stored, raw

    async def accepted(self, state: str = "delivered", **fields: Any) -> tuple[Stored, bytes]:
        """Submit a message, and wait until its recipients have it."""
        stored, raw = await self.send(state, **fields)
        for recipient in stored.recipients:
            await self.live.reaches(A, stored.id, recipient, "accepted")
        return stored, raw

    async def given(self, state: str = "delivered", **fields: Any) -> tuple[Stored, bytes]:
        """Submit a message, and wait until B's system was given it; it is not acknowledged."""
        stored, raw = await self.accepted(state, **fields)
        assert stored.id in [one.id for one in await self.live.hand_out(B, PATIENCE)]
        return stored, raw


Scene = Callable[[World], Awaitable[Callable[[], Awaitable[Any]]]]
"""Prepares a case, and returns what is done with the power about to go."""


@dataclass(frozen=True)
class Case:
    """A point, the node that ends there, and the scene; of two points the ``first`` ends it before, in the same scene."""

    victim: str
    point: Point
    scene: Scene
    first: Point | None = None


async def submitting(world: World) -> Callable[[], Awaitable[Any]]:
    """Submit; a system that was not answered submits again under its key, which stays one message."""
    raw = world.raw()

    async def again() -> None:
        first, second = await world.live.promise(A, raw), await world.live.promise(A, raw)
        assert first.id == second.id
        world.expected.append((A, first.id, B, "delivered"))

    world.later.append(again)
    return lambda: world.live.promise(A, raw)


async def sending(world: World) -> Callable[[], Awaitable[Any]]:
    """Submit a message that is on its way when the power goes."""
    return world.send


async def giving(world: World) -> Callable[[], Awaitable[Any]]:
    """Let the system ask for messages."""
    await world.accepted()
    return lambda: world.live.hand_out(B, PATIENCE)


async def acknowledging(world: World) -> Callable[[], Awaitable[Any]]:
    """Let the system acknowledge; unanswered, it does so again when it is given the same, or knows that it has it."""
    stored, _ = await world.accepted()
    given = await world.live.hand_out(B, PATIENCE)
    world.later.append(lambda: world.live.acknowledge(B, [one for one in given if one.id == stored.id]))
    return lambda: world.live.acknowledge(B, given)


async def refusing(world: World) -> Callable[[], Awaitable[Any]]:
    """Let the system refuse a message for good, and say so again."""
    stored, _ = await world.given("rejected")

    async def refuse() -> None:
        with world.live.at(B):
            await world.live[B].handover.refuse(No(stored.id, "no-such-case"))

    world.later.append(refuse)
    return refuse


async def marking(world: World) -> Callable[[], Awaitable[Any]]:
    """Leave a message open, so that marks go."""
    return world.accepted


async def losing(world: World) -> Callable[[], Awaitable[Any]]:
    """Let the broker lose a message, so that it is asked for and sent again."""
    await world.live.lose_next(A)
    return world.send


async def losing_for_good(world: World) -> Callable[[], Awaitable[Any]]:
    """Let the broker lose a message whose content goes at its origin before it is asked for: a void ends it.

    Those of the cases before come to their end first: else one of them would reach the point before this one is purged.
    """
    for origin, identity, recipient, state in world.expected:
        if state == "cancelled":
            await world.live.reaches(origin, identity, recipient, state)
    await world.live.lose_next(A)

    async def lose() -> None:
        stored, _ = await world.send("cancelled")
        await world.live[A].centre.store.write(partial(retained.purge_sent, ids=[stored.id], now=now_ms()))

    return lose


async def expiring(world: World) -> Callable[[], Awaitable[Any]]:
    """Let a deadline pass at a centre that is off."""

    async def send() -> None:
        soon = (datetime.now(UTC) + timedelta(seconds=1.5)).isoformat()
        await world.send("expired", to=[C], expires_at=soon)

    return send


def ordering(verb: str) -> Scene:
    """Return the scene in which an operator steers a message to a centre that is off; unanswered, he orders it again."""

    async def scene(world: World) -> Callable[[], Awaitable[Any]]:
        stored, _ = await world.send("cancelled" if verb == "discard" else "delivered", to=[C])
        await world.live.reaches(A, stored.id, C, "sent")
        if verb == "release":
            await world.live[A].desk.hold(Order(stored.id, "to be released", "operator"))

        async def order(what: str = verb) -> None:
            with world.live.at(A), contextlib.suppress(Conflict):
                await getattr(world.live[A].desk, what)(Order(stored.id, "as ordered", "operator"))

        world.later.append(order)
        if verb == "hold":
            world.later.append(partial(held, world, stored))
            world.later.append(partial(order, "release"))
        return order

    return scene


async def held(world: World, stored: Stored) -> None:
    """Check that a message is held."""
    found = await world.live[A].centre.store.read(partial(parked.find, message=stored.id))
    assert found is not None
    assert found.held_at is not None


async def replaying(world: World) -> Callable[[], Awaitable[Any]]:
    """Send a message again that a peer has, to it alone."""
    stored, _ = await world.accepted()

    async def replay() -> None:
        with world.live.at(A):
            await world.live[A].desk.replay(Order(stored.id, "asked by telephone", "operator"))

    return replay


async def burying(world: World) -> Callable[[], Awaitable[Any]]:
    """Replay a message that can't be sealed to its recipient just now: it is dead until the next start."""
    make, keyless = copies.make, world.live[A].centre

    def fails(centre: Centre, *given: Any) -> Any:
        if centre is keyless:
            raise Refused("recipient-without-key", "It has no key.")
        return make(centre, *given)

    replay = await replaying(world)

    async def bury() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(copies, "make", fails)
            await replay()
            await asyncio.Event().wait()

    return bury


async def fanning_out(world: World) -> Callable[[], Awaitable[Any]]:
    """Submit to two, until the queue of one of them is full."""
    await eventually(lambda: not world.live[A].pump._laggards._lags)
    await administer(world.live, topology.queue(C, "priority"), full=True)
    world.later.append(lambda: mend(world.live))

    async def fill() -> None:
        while True:
            await world.send(to=[B, C], precedence="priority")
            await asyncio.sleep(0.02)

    return fill


async def administer(live: Crashing, queue: str, *, full: bool) -> None:
    """Delete a queue as the broker's operator; put one of length one in its place."""
    server = live.network.broker
    url = f"amqp://{server.admin}:{server.admin_password}@{server.host}:{server.port}/{server.vhost}"
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        await channel.queue_delete(queue)
        if full:
            arguments: Any = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-max-length": 1}
            made = await channel.declare_queue(queue, durable=True, arguments=arguments)
            await made.bind(topology.DIRECT_EXCHANGE, f"*.to.{C}.actual.priority")


async def mend(live: Crashing) -> None:
    """Put the queue back as it was."""
    await administer(live, topology.queue(C, "priority"), full=False)
    network, server = live.network, live.network.broker
    with Management(server.management, server.admin, server.admin_password, vhost=server.vhost) as management:
        management.apply(management.plan(network.topology, network.passwords), network.passwords)


def acting(verb: str) -> Scene:
    """Return the scene in which an operator acts on a received message; unanswered, he does it again."""

    async def scene(world: World) -> Callable[[], Awaitable[Any]]:
        stored, _ = await world.accepted("rejected" if verb == "discard" else "delivered")
        if verb == "release":
            await world.live[B].received.hold(Act(stored.id, "operator", "to be released"))

        async def act(what: str = verb) -> None:
            with world.live.at(B), contextlib.suppress(Conflict):
                await getattr(world.live[B].received, what)(Act(stored.id, "operator", "as ordered"))

        world.later.append(act)
        if verb == "hold":
            world.later.append(partial(not_given, world, stored))
            world.later.append(partial(act, "release"))
        if verb == "discard":
            world.later.append(partial(gone, world, stored, B))
        return act

    return scene


async def not_given(world: World, stored: Stored) -> None:
    """Check that a message is not given out."""
    assert stored.id not in [one.id for one in await world.live.hand_out(B)]


async def gone(world: World, stored: Stored, centre: str) -> None:
    """Check that nothing is left of a message's content at a centre."""

    async def nothing_left() -> bool:
        return not await ciphertext(world.live, centre, stored.id)

    await eventually(nothing_left)


async def recalling(world: World) -> Callable[[], Awaitable[Any]]:
    """Take back what the system has."""
    stored, raw = await world.accepted()
    await world.live.take(B, PATIENCE)

    async def recall() -> None:
        taken_back = await world.live.promise(A, cancel(stored, raw))
        world.expected += [(A, taken_back.id, B, "purged"), (A, taken_back.id, B, "delivered")]

    world.later.append(partial(gone, world, stored, B))
    return recall


async def narrowing(world: World) -> Callable[[], Awaitable[Any]]:
    """Leave one of two out of an update: the withdrawal is committed with it, or neither is."""
    stored, raw = await world.accepted(to=[B, C])
    for centre in (B, C):
        await world.live.take(centre, PATIENCE)
    narrower = renew(stored, raw, to=[B], case_number=f"NARROW-{stored.id}")

    async def again() -> None:
        second = await world.live.promise(A, narrower)
        world.expected += [(A, second.id, B, state) for state in ("purged", "delivered")]
        await gone(world, stored, C)

    world.later.append(again)
    return lambda: world.live.promise(A, narrower)


async def recalling_onward(world: World) -> Callable[[], Awaitable[Any]]:
    """Take back at A what B passed on to C: B takes it back from C, once."""
    stored, raw = await world.accepted(tlp="GREEN")
    await world.live.take(B, PATIENCE)
    passed, _ = await world.send(origin=B, to=[C], tlp="GREEN", references=[reference(stored, raw, "releases")])
    await world.live.reaches(B, passed.id, C, "accepted")
    await world.live.take(C, PATIENCE)

    async def recall() -> None:
        taken_back = await world.live.promise(A, cancel(stored, raw))
        world.expected += [(A, taken_back.id, B, "purged"), (A, taken_back.id, B, "delivered")]

    async def once() -> None:
        await gone(world, passed, C)
        thread = await world.live[B].centre.store.read(partial(threads.thread, me=B, first=passed.id))
        assert thread is not None
        assert len(thread.cancels) == 1
        world.expected.append((B, thread.cancels[0], C, "delivered"))

    world.later.append(once)
    return recall


async def purging(world: World) -> Callable[[], Awaitable[Any]]:
    """Let a message's time be up that the system never took, and let old keys and samples be there."""
    stored, _ = await world.accepted("rejected")

    def age(connection: Connection) -> None:
        connection.execute(update(INBOX_MESSAGE).where(INBOX_MESSAGE.c.id == stored.id).values(purge_at=now_ms()))
        old = now_ms() - 100 * DAY_MS
        key = {"key": f"old {stored.id}", "digest": b"", "message": stored.id, "recipients": "[]", "created_at": old}
        connection.execute(insert(IDEMPOTENCY), {name: value for name, value in key.items() if name in IDEMPOTENCY.c})
        samples.add(connection, "bad-signature", "An old sample.", b"", old)

    await world.live[B].centre.store.write(age)

    async def purge() -> None:
        with world.live.at(B):
            await world.live[B].retention.purge()

    async def forgotten() -> None:
        await purge()
        old = await world.live[B].centre.store.read(partial(retained.old_samples, before=now_ms() - 99 * DAY_MS))
        assert old == 0
        await gone(world, stored, B)

    world.later.append(forgotten)
    return purge


def keeping(verb: str) -> Scene:
    """Return the scene in which a message comes under legal hold, is recalled, and the hold ends."""

    async def scene(world: World) -> Callable[[], Awaitable[Any]]:
        stored, raw = await world.accepted()
        await world.live.take(B, PATIENCE)

        async def hold() -> None:
            with world.live.at(B), contextlib.suppress(Conflict):
                await world.live[B].retention.hold(stored.id, "order 1", "operator")

        async def lift() -> None:
            with world.live.at(B), contextlib.suppress(NotFound):
                await world.live[B].retention.lift(stored.id, "order 1 ended", "operator")

        async def recall() -> None:
            taken_back = await world.live.promise(A, cancel(stored, raw))
            await world.live.reaches(A, taken_back.id, B, "accepted")
            assert await ciphertext(world.live, B, stored.id)
            world.expected += [(A, taken_back.id, B, "purged"), (A, taken_back.id, B, "delivered")]

        if verb == "hold":
            world.later += [hold, recall, lift, partial(gone, world, stored, B)]
            return hold
        await hold()
        await recall()
        world.later += [lift, partial(gone, world, stored, B)]
        return lift

    return scene


async def starting(world: World) -> Callable[[], Awaitable[Any]]:
    """Start the node, with something open."""
    await world.accepted()
    await world.live.abort(A)
    return lambda: world.live.start(A)


async def signing(world: World) -> Callable[[], Awaitable[Any]]:
    """Sign a checkpoint with something new in it."""
    await world.accepted()

    async def sign() -> None:
        with world.live.at(A):
            await world.live[A].checkpoints.round()

    return sign


async def revoking(world: World) -> Callable[[], Awaitable[Any]]:
    """Let A go by a directory that revokes a key of B's, which it notices and records, once."""
    made, hour = SigningKey.generate(), timedelta(hours=1)
    private = KeyFile("signing", Path("unused"), made)
    change = add_key(private, now() - 2 * hour)
    change_keys(world.live, B, lambda keys: (change(keys), alter(made.id, revoked_from=now() - hour)(keys)), at=())

    async def recorded() -> bool:
        found = await leaves(world.live, A, "key-revoked")
        return len([leaf for leaf in found if leaf["why"].startswith(made.id)]) == 1

    async def revoke() -> None:
        if A in world.live.nodes:
            world.live[A].centre.adopt(world.live.network.directory)
        await eventually(recorded)

    world.later.append(revoke)
    return revoke


async def redirecting(world: World) -> Callable[[], Awaitable[Any]]:
    """Put another version of the directory into A's files: it goes by that one, and its record says so once."""
    version = json.loads((world.live.network.folder / "directory.json").read_bytes())["version"] + 1

    async def replaced() -> bool:
        found = await leaves(world.live, A, "directory-changed")
        taken = [leaf for leaf in found if leaf["why"].startswith(f"version {version} ")]
        return len(taken) == 1 and world.live[A].centre.directory.version == version

    async def replace() -> None:
        redirect(world.live.network, lambda _register: None)
        await asyncio.Event().wait()

    world.later.append(lambda: eventually(replaced))
    return replace


async def contradicting(world: World) -> Callable[[], Awaitable[Any]]:
    """Put other bytes of the version in force into A's files: they are kept as evidence, once."""
    folder, network = world.live.network.centre(A), world.live.network
    world.number += 1
    register = json.loads((network.folder / "directory.json").read_bytes())
    register["warn_after"] = (datetime.now(UTC) + timedelta(days=world.number)).isoformat()
    raw = json.dumps(register).encode()

    async def kept() -> bool:
        found = await world.live[A].centre.store.read(directories.evidence)
        return [one.digest for one in found].count(digest(raw)) == 1

    async def contradict() -> None:
        (folder / "directory.json").write_bytes(raw)
        (folder / "directory.signatures.json").write_bytes(signatures(network, raw))
        await asyncio.Event().wait()

    world.later.append(lambda: eventually(kept))
    return contradict


async def preparing(world: World) -> Callable[[], Awaitable[Any]]:
    """Ask for a recovery, with something open; unanswered, the operator asks again."""
    await world.accepted()
    await world.live.abort(A)
    settings = load(world.live.network.node_file(A))

    async def prepare() -> None:
        with world.live.at(A):
            await recovery.prepare(settings, anyway=True)

    return prepare


async def recovering(world: World) -> Callable[[], Awaitable[Any]]:
    """Start the node after a recovery was asked for, with something open."""
    prepare = await preparing(world)
    await prepare()
    return lambda: world.live.start(A)


async def reminding(world: World) -> Callable[[], Awaitable[Any]]:
    """Look after the clock of a request that was just accepted."""
    raw = json.dumps({**json.loads((EXAMPLES / "request.minimal.json").read_bytes()), "to": [B]}).encode()
    stored = await world.live.submit(A, raw)
    world.expected.append((A, stored.id, B, "delivered"))
    await world.live.reaches(A, stored.id, B, "accepted")

    async def look() -> None:
        with world.live.at(A):
            await world.live[A].requests.look()

    async def begun() -> None:
        await look()
        (clock,) = await world.live[A].centre.store.read(partial(clocks.of, request=stored.id))
        assert clock.started_at is not None

    world.later.append(begun)
    return look


async def releasing(world: World) -> Callable[[], Awaitable[Any]]:
    """Record who asked for something that became a message."""
    stored, _ = await world.send()
    done = Done(AuditStep.RELEASE_ASKED, stored.id, B, None, "operator", "the reason")

    async def note() -> None:
        with world.live.at(A):
            await Releases(world.live[A].centre).record(done)

    return note


async def admitting(world: World) -> Callable[[], Awaitable[Any]]:
    """Add a client of A's API by hand, which the running node notices and records, once."""
    register, name = Register(world.live[A].centre.settings.api.clients), f"client-{uuid4().hex[:8]}"

    async def recorded() -> bool:
        found = await leaves(world.live, A, "client-changed")
        return [leaf["code"] for leaf in found if leaf["why"].startswith(name)] == ["added"]

    async def admit() -> None:
        with contextlib.suppress(Conflict):
            register.add(name, ("audit",))
        await eventually(recorded)

    world.later.append(admit)
    return admit


async def comparing(world: World) -> Callable[[], Awaitable[Any]]:
    """Compare with B what was just sent to it: asked again after the end, and agreed on."""
    await world.accepted()
    now = now_ms()
    due = partial(compared.add_due, peers=[B], first=now - 3_600_000, until=now + 3_600_000)
    await world.live[A].centre.store.write(due)

    async def compare() -> None:
        with world.live.at(A):
            await world.live[A].comparison.round()

    async def agreed() -> None:
        await compare()

        async def nothing_due() -> bool:
            return not await world.live[A].centre.store.read(partial(compared.due, limit=10))

        await eventually(nothing_due)
        assert await world.live[A].centre.store.read(compared.differences) == []

    world.later.append(agreed)
    return compare


async def proving(world: World) -> Callable[[], Awaitable[Any]]:
    """Prove what became of a message; that it was done is on record."""
    stored, _ = await world.accepted()

    async def prove() -> None:
        with world.live.at(A):
            await Proving(world.live[A].centre).prove(stored.id, "tester")

    async def again() -> None:
        await prove()
        assert await leaves(world.live, A, "proved")

    world.later.append(again)
    return prove


def asking(method: str, path: str, step: str) -> Scene:
    """Return the scene in which an operator, or a system, asks A's API for something that is recorded."""

    async def scene(world: World) -> Callable[[], Awaitable[Any]]:
        role: Literal["operator", "system"] = "operator" if method == "GET" else "system"
        headers = {"Authorization": f"Bearer {world.live.network.token(A, role)}"}
        url = f"http://{world.live[A].centre.settings.api.listen}"
        before = len(await leaves(world.live, A, step))

        async def ask() -> int:
            async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE, trust_env=False) as client:
                while True:
                    with contextlib.suppress(httpx2.ConnectError):
                        return int((await client.request(method, path)).status_code)
                    await asyncio.sleep(0.05)

        async def again() -> None:
            assert await ask() in (200, 400, 422)
            assert len(await leaves(world.live, A, step)) > before

        world.later.append(again)
        return ask

    return scene


async def leaves(live: Crashing, centre: str, step: str) -> list[dict[str, Any]]:
    """Return the leaves of a step in a node's record."""
    store = live[centre].centre.store
    found = await store.read(partial(record.leaves, epoch=store.epoch, limit=100_000))
    return [leaf for leaf in map(json.loads, found) if leaf["step"] == step]


# The enumeration.

BOTH = ("before", "after")


def around(*names: str) -> list[Point]:
    """Return the points directly before and after."""
    return [Point(f"{name}-{side}") for name in names for side in BOTH]


def published(name: str) -> list[Point]:
    """Return the points before a publish and after its confirm."""
    return [Point(f"{name}-before"), Point(f"{name}-confirmed")]


def cases(victim: str, scene: Scene, *points: Point, first: Point | None = None) -> list[Case]:
    """Return a case for each point."""
    return [Case(victim, point, scene, first) for point in points]


RECORDED = "something is recorded"
GROUPS: dict[str, list[Case]] = {
    "a message leaves": [
        *cases(A, submitting, *around("outbox-commit"), *published("publish"), *around("sent-commit")),
        *cases(A, narrowing, *around("outbox-commit")),
    ],
    "a message arrives": [
        *cases(B, sending, *around("inbox-commit"), P.INBOX_POSTED, *around("ack"), *published("control-publish")),
        *cases(B, sending, *around("attempt-commit"), first=P.INBOX_COMMIT_BEFORE),
    ],
    "a receipt arrives at its origin": cases(A, sending, *around("inbox-commit", "ack")),
    "the system takes a message or refuses it": [
        *cases(B, giving, *around("handout-commit")),
        *cases(B, acknowledging, *around("acknowledge-commit"), P.HANDOVER_POSTED),
        *cases(B, refusing, *around("refuse-commit")),
    ],
    "what is lost is asked for and sent again": [
        *cases(A, marking, *around("number-commit"), *published("mark-publish")),
        *cases(B, marking, P.MARK_ANSWERED),
        *cases(A, losing, *published("resend")),
        *cases(A, losing_for_good, P.VOID_POSTED, *around("gone-commit")),
    ],
    "a peer is slow": [
        *cases(A, fanning_out, *published("publish-alone")),
        *cases(A, replaying, *published("catch-up"), *around("catch-up-commit")),
        *cases(A, burying, *around("dead-commit")),
    ],
    "a message ends at its origin": [
        *cases(A, expiring, *around("expire-commit"), P.EXPIRE_POSTED),
        *(case for verb in ("hold", "release", "replay", "discard") for case in cases(A, ordering(verb), *around("desk-commit"))),
        *cases(A, ordering("discard"), P.DESK_POSTED),
    ],
    "an operator acts on what was received": [
        *(case for verb in ("hold", "release", "discard") for case in cases(B, acting(verb), *around("received-commit"))),
        *cases(B, acting("discard"), P.RECEIVED_POSTED, P.RECEIVED_SCRUBBED),
    ],
    "a message is taken back": [
        *cases(B, recalling, *around("inbox-commit"), P.RECALL_CARRIED_OUT, P.INBOX_SCRUBBED),
        *cases(B, recalling_onward, *around("onward-recall")),
    ],
    "what was kept long enough is purged": [
        *cases(B, purging, *around("purge-commit", "keys-commit", "samples-commit", "scrub"), P.RETENTION_POSTED),
        *cases(B, keeping("hold"), *around("hold-commit")),
        *cases(B, keeping("lift"), *around("lift-commit"), P.LIFT_SCRUBBED),
    ],
    "a node starts": [
        *cases(A, starting, *around("epoch-commit", "numbers-commit", "behind-commit", "heartbeat-commit"), P.HEARTBEAT_POSTED),
    ],
    "a checkpoint is signed": cases(A, signing, *around("checkpoint-commit"), P.CHECKPOINT_POSTED),
    "a key is revoked": cases(A, revoking, *around("revocation-commit")),
    "the directory changes": [
        *cases(A, redirecting, *around("directory-commit")),
        *cases(A, contradicting, *around("contradiction-commit")),
    ],
    "a store is recovered": [
        *cases(A, preparing, *around("recover-commit")),
        *cases(A, recovering, *around("epoch-commit", "statement-commit"), P.STATEMENT_POSTED),
    ],
    RECORDED: [
        *cases(A, reminding, *around("remind-commit")),
        *cases(A, releasing, *around("release-commit")),
        *cases(A, comparing, *around("comparison-commit"), P.COMPARISON_POSTED),
        *cases(A, proving, *around("proof-commit")),
        *cases(A, asking("GET", "/v1/audit/export", "exported"), *around("export-commit")),
        *cases(A, asking("GET", "/v1/messages?kind=seizure&reason=case", "searched"), *around("search-commit")),
        *cases(A, asking("POST", "/v1/messages", "refused"), *around("refusal-commit")),
        *cases(A, admitting, *around("access-commit")),
    ],
}
CASES = [case for some in GROUPS.values() for case in some]
WITH_C = {"a message leaves", "a message is taken back"}
"""Groups in which the third centre runs from the beginning; in the others it comes at the end, for what waits for it."""


SETTINGS = {
    "REPAIR__MARK_FIRST": "0.2",
    "REPAIR__MARK_LONGEST": "1",
    "REPAIR__GAP": "0.2",
    "BROKER__RECONNECT_SECONDS": "1",
    "DEADLINES__GRACE": "0.1",
    "RETENTION__EVERY_SECONDS": "86400",
    "DIRECTORY__POLL_SECONDS": "0.5",
}
AT_ONCE = 7  # most of the time is waiting


@pytest.fixture(scope="module")
async def outcomes(
    broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    """Go through all groups, some at the same time, each in a network of its own."""
    room = asyncio.Semaphore(AT_ONCE)
    folder = tmp_path_factory.mktemp("crash")
    first = private_network(folder / "first", broker, "crash-first", CENTRES)

    async def go(number: int, group: str) -> None:
        async with room:
            network = await asyncio.to_thread(again, first, broker, folder / str(number), f"crash-{number}")
            await go_through(Crashing(network, broker), group)

    with pytest.MonkeyPatch.context() as patch, armed():
        for name, value in SETTINGS.items():
            patch.setenv(f"RELAY_{name}", value)
        patch.setattr(deadlines, "FAR_SECONDS", 1.0)
        patch.setattr(deadlines, "NEAR_SECONDS", 0.2)
        patch.setattr(retention, "FIRST_SECONDS", 86400.0)
        patch.setattr(requests, "TICK_SECONDS", 86400.0)  # the node itself looks at its start alone
        patch.setattr(requests, "IDLE_SECONDS", 86400.0)
        tasks = {group: asyncio.create_task(go(number, group)) for number, group in enumerate(GROUPS)}
        yield tasks
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


def again(network: Network, broker: PrivateBroker, folder: Path, vhost: str) -> Network:
    """Return a network like another, with the same accounts, on a virtual host of its own."""
    given: dict[str, Any] = {"base_url": broker.management_url, "auth": (broker.admin, broker.password), "timeout": PATIENCE}
    with httpx2.Client(**given, trust_env=False) as client:
        client.put(f"/api/vhosts/{vhost}").raise_for_status()
    shutil.copytree(network.folder, folder)
    for file in (*folder.rglob("*.toml"), folder / "network.json"):
        if file.exists():
            file.write_text(file.read_text().replace(network.broker.vhost, vhost))
    made = load_network(folder)
    assert made.broker.vhost == vhost
    with Management(made.broker.management, made.broker.admin, made.broker.admin_password, vhost=vhost) as management:
        management.apply(management.plan(made.topology, made.passwords), made.passwords)
    return made


@pytest.mark.timeout(400)
@pytest.mark.parametrize("group", GROUPS)
async def test_a_node_that_ends_anywhere_keeps_its_promise(outcomes: dict[str, asyncio.Task[None]], group: str) -> None:
    """Its power cut at each point in turn and started again: each message has one end, told truly, and nothing is stuck."""
    await outcomes[group]


async def go_through(live: Crashing, group: str) -> None:
    """Go through the cases of a group, then let everything come to its end and look at what is left."""
    world = World(live)
    if group == RECORDED:
        live.surfaces = lambda centre: [Api()] if centre == A else []
    try:
        await live.start(*(CENTRES if group in WITH_C else (A, B)))
        for case in GROUPS[group]:
            await run(world, case)
        if C not in live.nodes and any(recipient == C for _, _, recipient, _ in world.expected):
            await live.start(C)
        await live.settled(*world.expected)
    finally:
        await live.close()


async def run(world: World, case: Case) -> None:
    """Set a scene, cut the power at its point, start the node again, and do again what was not answered."""
    live = world.live
    world.later.clear()
    act = await case.scene(world)
    if case.first is not None:
        await live.crash(case.victim, case.first, act)
        act = partial(live.start, case.victim)
    await live.crash(case.victim, case.point, act)
    await live.start(case.victim)
    await live.calm(case.victim)
    for again in list(world.later):
        await again()
