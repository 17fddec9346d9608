"""What :mod:`tests.test_crash_points` does in this process, shown at three points with a process and ``kill -9``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from relay import messages
from relay.points import Point
from relay.rabbit import PrivateBroker
from relay.settings import load
from relay.submissions import Stored, Submission
from tests import killed as killed_at
from tests.forked import Forked
from tests.live import PATIENCE, Live, eventually, message, private_network

A, B = CENTRES = ("KILLA", "KILLB")


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run B, in this process; A is a process of its own until it is killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_BROKER__RECONNECT_SECONDS", "1")
        nodes = Live(private_network(tmp_path_factory.mktemp("killed") / "network", broker, "killed", CENTRES), broker)
        await nodes.start(B)
        yield nodes
        await nodes.close()


@pytest.fixture(autouse=True)
async def a_ends(live: Live) -> AsyncIterator[None]:
    """End A after each test, also after one that fails: the next runs it as a process, on the same store."""
    yield
    if A in live.nodes:
        await live.stop(A)


async def killed(live: Live, point: Point, act: Callable[[httpx2.AsyncClient, Callable[[], None]], Awaitable[Any]]) -> None:
    """Run A as a process, do something that reaches a point, and start A again in this process once it was killed there.

    The point lets it pass until what is done says ``now``.
    """
    config, flag = live.network.node_file(A), live.network.folder / point
    process = Forked(killed_at.run, str(config), point, flag, environment=os.environ)
    headers = {"Authorization": f"Bearer {live.network.token(A, 'system')}"}
    url = f"http://{load(config).api.listen}"
    try:
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE, trust_env=False) as client:

            async def ready() -> bool:
                with contextlib.suppress(httpx2.TransportError):
                    return (await client.get(f"http://{live.network.health(A)}/readyz")).status_code == 200
                return False

            await eventually(ready)
            with contextlib.suppress(httpx2.TransportError):  # it was killed before it could answer
                await act(client, flag.touch)
            assert await asyncio.wait_for(process.ended(), 60) == -signal.SIGKILL
    finally:
        process.kill()
    await live.start(A)


async def test_behind_the_commit_of_a_submission(live: Live) -> None:
    """A system that was not answered submits again under its key: it is one message, which was on its way already."""
    raw = message(case_number="KILL-1", to=[B])

    async def submit(client: httpx2.AsyncClient, now: Callable[[], None]) -> None:
        now()
        await client.post("/v1/messages", content=raw, headers={"Idempotency-Key": "one"})

    await killed(live, Point.OUTBOX_COMMIT_AFTER, submit)
    (first,) = await live.take(B, wait=PATIENCE)
    assert first.raw == raw
    again = (await live[A].outbox.submit([Submission(raw, messages.parse(raw), "system/one")]))[0]
    assert isinstance(again, Stored)
    assert again.id == first.id
    await live.reaches(A, first.id, B, "delivered")


async def test_behind_the_commit_of_an_arrival_before_its_acknowledgement(live: Live) -> None:
    """The broker delivers once more, the store knows the copy: the system is given the message once."""

    async def receive(_: httpx2.AsyncClient, now: Callable[[], None]) -> None:
        now()
        sent.append(await live.submit(B, message(case_number="KILL-2", to=[A])))

    sent: list[Stored] = []
    await killed(live, Point.INBOX_COMMIT_AFTER, receive)
    assert [one.id for one in await live.take(A, wait=PATIENCE)] == [sent[0].id]
    await live.reaches(B, sent[0].id, A, "delivered")
    assert await live.take(A, wait=0.5) == []


async def test_behind_the_commit_of_the_systems_word(live: Live) -> None:
    """What the system acknowledged without an answer is never given again, and its origin learns of it."""

    async def take(client: httpx2.AsyncClient, now: Callable[[], None]) -> None:
        sent.append(await live.submit(B, message(case_number="KILL-3", to=[A])))
        given = (await client.get("/v1/inbox", params={"wait": 20})).json()["messages"]
        assert [one["id"] for one in given] == [sent[0].id]
        now()
        await client.post("/v1/inbox/ack", json={"ids": [sent[0].id]})

    sent: list[Stored] = []
    await killed(live, Point.ACKNOWLEDGE_COMMIT_AFTER, take)
    await live.reaches(B, sent[0].id, A, "delivered")
    assert await live.take(A, wait=0.5) == []
