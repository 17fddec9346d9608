"""What each kind of fault does to a running stage, and how it is healed after its seconds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import httpx2

from relay import topology
from relay.demo.proxy import Line
from relay.rabbit.private import _server_script
from tests.chaos.faults import BROKER, BROKER_KINDS, Fault
from tests.chaos.stage import Stage

Heal = Callable[[], Awaitable[None]]

MEMORY, DISK = "0.4", "50MB"  # what RabbitMQ has by default
_LEADERS = """
    Led = fun(Server) -> try ra:members(Server, 8000) of {ok, _, _} -> true; _ -> false catch _:_ -> false end end,
    Queues = [Q || Q <- rabbit_amqqueue:list(), amqqueue:is_quorum(Q)],
    Names = [element(4, amqqueue:get_name(Q)) || Q <- Queues, not Led(amqqueue:get_pid(Q))],
    rabbit_json:encode(Names).
"""
SLOW = Line(round_trip=1.5, bits=64_000)


async def inflict(stage: Stage, fault: Fault, scale: float = 1.0) -> None:
    """Do a fault, let its seconds pass, heal it; waits while another is at work on the same part."""
    async with stage.locks[_part(fault)]:
        heal = await _KINDS[fault.kind](stage, fault)
        await asyncio.sleep(fault.seconds * scale)
        await heal()


def _part(fault: Fault) -> str:
    if fault.kind in (*BROKER_KINDS, "delete-queue"):
        return BROKER
    return f"{'link' if 'link' in fault.kind else 'node'} {fault.target}"


async def _kill_node(stage: Stage, fault: Fault) -> Heal:
    node = stage.nodes[fault.target]
    node.kill()

    async def heal() -> None:
        node.start()

    return heal


async def _stop_node(stage: Stage, fault: Fault) -> Heal:
    node = stage.nodes[fault.target]
    node.pause(stop=True)

    async def heal() -> None:
        node.pause(stop=False)

    return heal


async def _cut_link(stage: Stage, fault: Fault) -> Heal:
    link = stage.links[fault.target]
    link.cut()

    async def heal() -> None:
        link.mend()

    return heal


async def _half_open_link(stage: Stage, fault: Fault) -> Heal:
    stage.links[fault.target].half_open()
    return _nothing


async def _slow_link(stage: Stage, fault: Fault) -> Heal:
    link = stage.links[fault.target]
    usual, link.line = link.line, SLOW

    async def heal() -> None:
        link.line = usual

    return heal


async def _delete_queue(stage: Stage, fault: Fault) -> Heal:
    broker = stage.network.broker
    name = topology.queue(fault.target, fault.detail)
    async with httpx2.AsyncClient(auth=(broker.admin, broker.admin_password), trust_env=False, timeout=30) as client:
        answer = await client.delete(f"{broker.management}/api/queues/%2F/{quote(name, safe='')}")
        answer.raise_for_status()

    async def heal() -> None:
        await _run(sys.executable, "-m", "relay", "broker", "apply", str(stage.network.folder), "--yes")

    return heal


async def _clock_step(stage: Stage, fault: Fault) -> Heal:
    node = stage.nodes[fault.target]
    node.set_clock(fault.detail)

    async def heal() -> None:
        node.set_clock("+0")

    return heal


async def _disk_full(stage: Stage, fault: Fault) -> Heal:
    ballast = stage.store(fault.target).parent / "ballast"
    await asyncio.to_thread(_fill, ballast)

    async def heal() -> None:
        ballast.unlink()

    return heal


def _fill(ballast: Path) -> None:
    """Write a file until not a byte more fits on its disk."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1024 * 1024, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


async def _kill_broker(stage: Stage, fault: Fault) -> Heal:
    del fault
    await asyncio.to_thread(stage.broker.kill)
    return _start_broker(stage)


async def _wipe_broker(stage: Stage, fault: Fault) -> Heal:
    del fault
    await asyncio.to_thread(stage.broker.wipe)
    return _start_broker(stage)


async def _stop_broker(stage: Stage, fault: Fault) -> Heal:
    del fault
    process = stage.broker.pid
    assert process is not None
    os.kill(process, signal.SIGSTOP)

    async def heal() -> None:
        os.kill(process, signal.SIGCONT)

    return heal


async def _memory_alarm(stage: Stage, fault: Fault) -> Heal:
    del fault
    await _control(stage, "set_vm_memory_high_watermark", "0.00001")

    async def heal() -> None:
        await _control(stage, "set_vm_memory_high_watermark", MEMORY)

    return heal


async def _disk_alarm(stage: Stage, fault: Fault) -> Heal:
    del fault
    await _control(stage, "set_disk_free_limit", "900000GB")

    async def heal() -> None:
        await _control(stage, "set_disk_free_limit", DISK)

    return heal


_KINDS: dict[str, Callable[[Stage, Fault], Awaitable[Heal]]] = {
    "kill-node": _kill_node,
    "stop-node": _stop_node,
    "cut-link": _cut_link,
    "half-open-link": _half_open_link,
    "slow-link": _slow_link,
    "delete-queue": _delete_queue,
    "clock-step": _clock_step,
    "disk-full": _disk_full,
    "kill-broker": _kill_broker,
    "wipe-broker": _wipe_broker,
    "stop-broker": _stop_broker,
    "memory-alarm": _memory_alarm,
    "disk-alarm": _disk_alarm,
}


def _start_broker(stage: Stage) -> Heal:
    async def heal() -> None:
        await asyncio.to_thread(stage.broker.start)
        if broken := await _leaderless(stage):
            # A quorum queue that was declared a moment before a kill -9 may never elect a leader again (RabbitMQ 3.10.8, 4.0.5):
            # it takes everything and confirms nothing. No node can mend that; its operator can, by beginning anew.
            stage.mended.append(", ".join(broken))
            await asyncio.to_thread(stage.broker.wipe)
            await asyncio.to_thread(stage.broker.start)

    return heal


async def _leaderless(stage: Stage) -> list[str]:
    """Return the queues that have no leader some seconds after a start of the broker."""
    return re.findall(r"relay\.in\.[\w.-]+", await _control(stage, "eval", _LEADERS))


async def _nothing() -> None:
    """Leave it: both ends must find out by themselves."""


async def _control(stage: Stage, *words: str) -> str:
    return await _run(str(_server_script().with_name("rabbitmqctl")), *words, environment=stage.broker._environment())


async def _run(*command: str, environment: dict[str, str] | None = None) -> str:
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout
