"""What tests share: one network in a temporary folder, one real RabbitMQ per run, booted from its definitions, and its nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Literal

import httpx2
import pytest

from relay.api import Api
from relay.network import Network, write_network
from relay.node import Node, open_node
from relay.rabbit import PrivateBroker
from relay.settings import load


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Write the default network, at the address of ``broker``."""
    return write_network(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="session")
def broker(network: Network) -> Iterator[PrivateBroker]:
    """Run RabbitMQ with the topology of ``network``. Leave it as you found it: everybody uses it."""
    private = PrivateBroker(
        network.broker_folder,
        amqp_port=network.broker.port,
        management_port=network.broker.management_port,
        admin=network.broker.admin,
        password=network.broker.admin_password,
        definitions=network.definitions(),
        temporary=True,
    )
    with private:
        yield private


@pytest.fixture(scope="session")
async def nodes(broker: PrivateBroker, network: Network) -> AsyncIterator[dict[str, Node]]:
    """Run every node of ``network`` with its API, in this process, until the end. Leave them as you found them."""
    assert broker.running
    running = {id_: await open_node(load(network.node_file(id_))) for id_ in network.directory.active}
    tasks = [asyncio.create_task(node.run(Api()), name=id_) for id_, node in running.items()]
    for node in running.values():
        await asyncio.wait_for(node.broker.connected.wait(), 20)
    yield running
    for node in running.values():
        node.stop()
    await asyncio.gather(*tasks)


@pytest.fixture(scope="session")
async def ask(nodes: dict[str, Node], network: Network) -> AsyncIterator[Callable[..., httpx2.AsyncClient]]:
    """Return what gives a client of a centre's API: ``ask("BRU", "operator")``; without a role it brings no token."""
    clients: dict[tuple[str, str | None], httpx2.AsyncClient] = {}

    def client(centre: str, role: Literal["system", "operator"] | None = "system") -> httpx2.AsyncClient:
        if (centre, role) not in clients:
            headers = {"Authorization": f"Bearer {network.token(centre, role)}"} if role else {}
            url = f"http://{nodes[centre].centre.settings.api.listen}"
            clients[centre, role] = httpx2.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False)
        return clients[centre, role]

    yield client
    for one in clients.values():
        await one.aclose()
