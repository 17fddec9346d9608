"""Everything that runs in a campaign: a broker, four nodes as processes, each behind a link of its own, and their systems."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from relay.demo.proxy import HOST, Line, Link
from relay.network import Network, write_network
from relay.rabbit import PrivateBroker
from tests.chaos.clients import System
from tests.chaos.journal import Journal
from tests.chaos.nodes import NodeProcess, faketime, node_command

CENTRES = ("BRU", "LYO", "SIN", "BUE")
LINES = {"SIN": Line(round_trip=0.250), "BUE": Line(bits=1_000_000, reset_every=30.0)}
SMALL_DISK = "LYO"
DISK_BYTES, DISK_BYTES_A_MESSAGE = 64 * 1024 * 1024, 12 * 1024
DISK_FLOOR = 4 * 1024 * 1024
READY_SECONDS = 90.0
PAGE = 1000


@dataclass(slots=True)
class Stage:
    """What runs; ``locks`` keep two faults from the same part at once.

    ``disks`` are the centres whose disk can be filled, ``without`` says why a kind of fault can't be done here, ``mended`` lists
    the queues that RabbitMQ itself could not bring back and for which its operator began anew.
    """

    folder: Path
    network: Network
    broker: PrivateBroker
    links: dict[str, Link] = field(default_factory=dict)
    nodes: dict[str, NodeProcess] = field(default_factory=dict)
    systems: dict[str, System] = field(default_factory=dict)
    locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    disks: tuple[str, ...] = ()
    without: dict[str, str] = field(default_factory=dict)
    mended: list[str] = field(default_factory=list)

    def store(self, centre: str) -> Path:
        """Return the file of a centre's store."""
        return self.network.centre(centre) / "store" / "relay.db"

    def open(self) -> int:
        """Return how many deliveries have no terminal receipt at their origin, as the stores say now."""
        return sum(_open(self.store(centre)) for centre in self.nodes)

    async def save_states(self) -> None:
        """Save what each node says of every message that its system submitted."""
        for centre in self.nodes:
            said = await states(self.network, centre)
            lines = "".join(json.dumps(state) + "\n" for state in said)
            (self.folder / "journals" / f"{centre}.states.jsonl").write_text(lines, encoding="utf-8")


@contextlib.asynccontextmanager
async def staged(folder: Path, messages: int, seed: int, repair: dict[str, str]) -> AsyncIterator[Stage]:
    """Set everything up, wait until every node is ready, and take it all down in the end."""
    network = write_network(folder / "network", CENTRES)
    (folder / "journals").mkdir()
    stage = Stage(folder, network, private_broker(network))
    _mount(stage, DISK_BYTES + messages * DISK_BYTES_A_MESSAGE)
    if faketime() is None:
        stage.without["clock-step"] = "libfaketime is not installed"
    try:
        await asyncio.to_thread(stage.broker.start)
        for centre in CENTRES:
            stage.links[centre] = Link(network.broker.port, LINES.get(centre, Line()), f"{seed}/{centre}")
            await stage.links[centre].start()
            _add_node(stage, centre, repair)
        await _await_ready(stage)
        yield stage
    finally:
        await _take_down(stage)


def private_broker(network: Network) -> PrivateBroker:
    """Return the broker of a network, not started."""
    broker = network.broker
    return PrivateBroker(
        network.broker_folder,
        amqp_port=broker.port,
        management_port=broker.management_port,
        admin=broker.admin,
        password=broker.admin_password,
        definitions=network.definitions(),
        temporary=True,
    )


def _add_node(stage: Stage, centre: str, repair: dict[str, str]) -> None:
    """Start a node behind its link, and its system."""
    network = stage.network
    environment = {
        "RELAY_BROKER__URL": f"amqp://{centre}@{HOST}:{stage.links[centre].port}/%2F",
        "RELAY_BROKER__RECONNECT_SECONDS": "2",
        "RELAY_LOG__FORMAT": "json",
        "RELAY_STORE__DISK_FLOOR_BYTES": str(DISK_FLOOR),
        **repair,
    }
    clock = stage.folder / f"{centre}.clock"
    command = node_command(network.node_file(centre))
    stage.nodes[centre] = NodeProcess(command, stage.folder / f"{centre}.log", environment, clock)
    stage.nodes[centre].start()
    journal = Journal(stage.folder / "journals" / f"{centre}.jsonl")
    token, health = network.token(centre, "system"), network.health(centre)
    stage.systems[centre] = System(centre, network.listen(centre), token, journal, health)


async def _await_ready(stage: Stage) -> None:
    limit = time.monotonic() + READY_SECONDS
    for centre, system in stage.systems.items():
        while not await system.ready():
            if time.monotonic() > limit or not stage.nodes[centre].running:
                raise RuntimeError(f"The node of {centre} did not become ready; see {stage.folder}.")
            await asyncio.sleep(0.2)


async def _take_down(stage: Stage) -> None:
    for system in stage.systems.values():
        await system.close()
    for node in stage.nodes.values():
        node.kill()
    for link in stage.links.values():
        await link.close()
    await asyncio.to_thread(stage.broker.kill)


def unmount(folder: Path) -> None:
    """Give back the small disk of a campaign's folder, if there is one."""
    store = folder / "network" / "centres" / SMALL_DISK / "store"
    if store.is_mount():
        subprocess.run(["umount", "--lazy", str(store)], check=False)


def _mount(stage: Stage, size: int) -> None:
    """Put the store of one centre on a disk of its own that can be filled, where this process may."""
    store = stage.store(SMALL_DISK).parent
    store.mkdir(mode=0o700)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        stage.without["disk-full"] = "only root may mount a small disk"
        return
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "chaos", str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        stage.without["disk-full"] = f"mounting a small disk is not permitted: {done.stderr.strip()}"
        return
    stage.disks = (SMALL_DISK,)


def _open(store: Path) -> int:
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5)
    try:
        return int(connection.execute("SELECT count(*) FROM outbox_delivery WHERE open <> 0").fetchone()[0])
    except sqlite3.OperationalError:
        return -1
    finally:
        connection.close()


async def states(network: Network, centre: str) -> list[dict[str, Any]]:
    """Return the states of all that a node submitted, as its operator is shown them."""
    headers = {"Authorization": f"Bearer {network.token(centre, 'operator')}"}
    found: list[dict[str, Any]] = []
    following: str | None = None
    async with httpx2.AsyncClient(
        base_url=f"http://{network.listen(centre)}", headers=headers, timeout=60, trust_env=False
    ) as client:
        while True:
            before = {"before": following} if following else {}
            answer = await client.get("/v1/messages", params={"limit": PAGE, **before})
            answer.raise_for_status()
            found += answer.json()["messages"]
            following = answer.json()["next"]
            if following is None:
                return found
