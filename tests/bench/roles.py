"""What the processes of a benchmark do; :class:`tests.bench.workers.Worker` runs ``python -m tests.bench.roles ROLE JSON``.

A sender answers ``send`` when everything that it sent has been confirmed as far as its path goes, a receiver answers
``receive`` when everything has arrived; both name times of the system's monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aio_pika
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue
from faststream.rabbit.annotations import RabbitMessage

from relay import batches, log, settings
from relay.api import Api
from relay.messages import Seizure, parse
from relay.node import Node, open_node
from relay.submissions import Stored, Submission
from tests.bench.material import RECEIVER, SENDER, messages, number_of
from tests.bench.workers import Said, answer, commands

POLL_SECONDS = 0.02
PATIENCE_SECONDS = 90


async def _each(count: int, waiting: int, one: Callable[[int], Awaitable[None]]) -> None:
    """Run ``one`` for every number below ``count``, so many at a time."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await one(number)

    await asyncio.gather(*(work() for _ in range(min(waiting, count))))


async def _paced(count: int, rate: float, one: Callable[[int], Awaitable[None]]) -> None:
    """Start ``one`` so often a second, whatever becomes of those before."""
    loop, tasks = asyncio.get_running_loop(), []
    began = loop.time()
    for number in range(count):
        await asyncio.sleep(began + number / rate - loop.time())
        tasks.append(loop.create_task(_call(one, number)))
    await asyncio.gather(*tasks)


async def _call(one: Callable[[int], Awaitable[None]], number: int) -> None:
    await one(number)


async def _until(count: Callable[[], float], expected: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while count() < expected:  # noqa: ASYNC110 - what is counted offers no event
            await asyncio.sleep(POLL_SECONDS)


async def faststream_sender(given: Said) -> None:
    """Publish to a queue through FastStream; the bytes go as they are, which is the cheapest that FastStream offers."""
    broker = RabbitBroker(given["url"], logger=None)
    await broker.start()
    answer({"ready": True})
    async for said in commands():
        load = messages(said["count"], said["start"])
        times = [0.0] * len(load)

        async def publish(number: int, load: list[bytes] = load, times: list[float] = times) -> None:
            times[number] = time.monotonic()
            await broker.publish(load[number], queue=given["queue"], persist=True)

        began = time.monotonic()
        if "rate" in said:
            await _paced(len(load), said["rate"], publish)
        else:
            await _each(len(load), said["waiting"], publish)
        answer({"began": began, "times": times if "rate" in said else []})
    await broker.stop()


async def faststream_receiver(given: Said) -> None:
    """Consume with a handler that takes only the model."""
    broker = RabbitBroker(given["url"], logger=None, default_channel=Channel(prefetch_count=1000))
    queue = RabbitQueue(given["queue"], durable=True, queue_type=QueueType.QUORUM)
    arrived: list[tuple[int, float]] = []

    async def decode(message: RabbitMessage) -> Seizure:
        return Seizure.model_validate_json(message.body)

    @broker.subscriber(queue, decoder=decode)
    async def handle(seizure: Seizure) -> None:
        arrived.append((number_of(seizure.case_number), time.monotonic()))

    await broker.start()
    answer({"ready": True})
    async for said in commands():
        await _until(arrived.__len__, said["count"])
        await asyncio.sleep(0.2)  # a copy too many would come now
        answer(
            {
                "arrived": len(arrived),
                "distinct": len({number for number, _ in arrived}),
                "times": arrived,
                "ended": arrived[-1][1],
            }
        )
        arrived.clear()
    await broker.stop()


@asynccontextmanager
async def _running(given: Said) -> Any:
    log.configure("json", "error")
    batches.MAX_MESSAGES = given.get("cap", batches.MAX_MESSAGES)  # type: ignore[attr-defined]
    node = await open_node(settings.load(Path(given["file"])))
    task = asyncio.create_task(node.run(*([Api()] if given.get("http") else [])))
    async with asyncio.timeout(30):
        await node.broker.connected.wait()
    yield node
    node.stop()
    await task


def _accepted(node: Node) -> int:
    # The counter itself: to look it up in the registry collects every metric, and this asks fifty times a second.
    return int(node.centre.metrics.receipts.labels(RECEIVER, "accepted")._value.get())


async def relay_sender(given: Said) -> None:
    """Submit through the outbox, and wait for the receiver's signed receipts."""
    async with _running(given) as node:
        answer({"ready": True})
        async for said in commands():
            if said["do"] == "settle":
                await _until(partial(_accepted, node), said["total"])
                answer({"ended": time.monotonic()})
                continue
            load = messages(said["count"], said["start"], said.get("precedence", "routine"))
            before = _accepted(node)
            times = [0.0] * len(load)

            async def submit(number: int, load: list[bytes] = load, times: list[float] = times) -> None:
                times[number] = time.monotonic()
                raw = load[number]
                (outcome,) = await node.outbox.submit([Submission(raw, parse(raw))])
                if not isinstance(outcome, Stored):
                    raise outcome

            began = time.monotonic()
            if "rate" in said:
                await _paced(len(load), said["rate"], submit)
            else:
                await _each(len(load), said["waiting"], submit)
            stored = time.monotonic()
            if said.get("receipts", True):
                await _until(partial(_accepted, node), before + len(load))
            answer({"began": began, "stored": stored, "ended": time.monotonic(), "times": times if "rate" in said else []})


async def relay_receiver(given: Said) -> None:
    """Take what arrives; with ``take`` also hand it to a consumer, which acknowledges it."""
    async with _running(given) as node:
        answer({"ready": True})
        async for said in commands():
            if said["do"] == "take":
                answer(await _take(node, said["count"]))
            else:
                count = node.centre.metrics.accepted.labels(SENDER)._value
                await _until(count.get, said["total"])
                answer({"ended": time.monotonic()})


async def _take(node: Node, count: int) -> Said:
    given: list[tuple[bytes, float]] = []
    while len(given) < count:
        taken = await node.handover.take(500, 30)
        now = time.monotonic()
        given += [(one.raw, now) for one in taken]
        await node.handover.acknowledge([one.id for one in taken])
    arrived = [(number_of(json.loads(raw)["case_number"]), at) for raw, at in given]
    return {"times": arrived, "arrived": len(arrived), "distinct": len({number for number, _ in arrived}), "ended": given[-1][1]}


async def declare(url: str, queue: str) -> None:
    """Declare the baseline's queue, empty."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        await declared.purge()


ROLES = {role.__name__: role for role in (faststream_sender, faststream_receiver, relay_sender, relay_receiver)}

if __name__ == "__main__":
    asyncio.run(ROLES[sys.argv[1]](json.loads(sys.argv[2])))
