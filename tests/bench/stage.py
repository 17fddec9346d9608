"""The stage of a benchmark: a network of two centres, its real private broker, and the processes of each path."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.network import Network, write_network
from relay.rabbit import PrivateBroker
from tests.bench import roles
from tests.bench.material import RECEIVER, SENDER
from tests.bench.workers import Worker

QUEUE = "bench.plain"


@dataclass(frozen=True, slots=True)
class Pair:
    """A sender and a receiver, each a process of its own."""

    sender: Worker
    receiver: Worker


class Stage:
    """Where the paths are run, one after the other."""

    def __init__(self, network: Network, broker: PrivateBroker) -> None:
        self.network = network
        self.broker = broker

    @contextmanager
    def faststream(self) -> Iterator[Pair]:
        """Run a FastStream publisher and consumer on an empty quorum queue."""
        url = self.broker.url()
        asyncio.run(roles.declare(url, QUEUE))
        with ExitStack() as stack:
            receiver = stack.enter_context(Worker("faststream_receiver", url=url, queue=QUEUE))
            sender = stack.enter_context(Worker("faststream_sender", url=url, queue=QUEUE))
            yield Pair(sender, receiver)

    @contextmanager
    def relay(self, **given: Any) -> Iterator[Pair]:
        """Run a node of each centre, with empty stores."""
        with ExitStack() as stack:
            receiver = stack.enter_context(self.node("relay_receiver", RECEIVER, **given))
            sender = stack.enter_context(self.node("relay_sender", SENDER, **given))
            yield Pair(sender, receiver)

    def node(self, role: str, centre: str, **given: Any) -> Worker:
        """Return a node of a centre with an empty store."""
        for file in self.store(centre).parent.glob("relay.db*"):
            file.unlink()
        return Worker(role, file=self.network.node_file(centre), **given)

    def store(self, centre: str) -> Path:
        """Return the store's file of a centre."""
        return self.network.centre(centre) / "store" / "relay.db"

    def check_exactly_once(self, count: int) -> None:
        """Look into both stores: everything promised, taken once and receipted; raise ``AssertionError`` when not."""
        promised = _one(self.store(SENDER), "select count(*) from outbox_message")
        silent = _one(self.store(SENDER), "select count(*) from outbox_delivery where unaccepted <> 0")
        taken = _one(self.store(RECEIVER), "select count(*) from inbox_message where state <> 'quarantined'")
        shared = _missing(self.store(SENDER), self.store(RECEIVER))
        assert (promised, silent, taken, shared) == (count, 0, count, 0), (count, promised, silent, taken, shared)


@contextmanager
def stage() -> Iterator[Stage]:
    """Write a network of two centres and run its broker."""
    with tempfile.TemporaryDirectory() as folder:
        network = write_network(Path(folder) / "network", (SENDER, RECEIVER))
        broker = PrivateBroker(
            network.broker_folder,
            amqp_port=network.broker.port,
            management_port=network.broker.management_port,
            admin=network.broker.admin,
            password=network.broker.admin_password,
            definitions=network.definitions(),
            temporary=True,
        )
        with broker:
            yield Stage(network, broker)


def _one(store: Path, query: str) -> int:
    with sqlite3.connect(store) as connection:
        return int(connection.execute(query).fetchone()[0])


def _missing(sender: Path, receiver: Path) -> int:
    with sqlite3.connect(sender) as connection:
        connection.execute("attach ? as peer", (str(receiver),))
        query = "select count(*) from outbox_message where id not in (select id from peer.inbox_message)"
        return int(connection.execute(query).fetchone()[0])
