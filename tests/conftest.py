"""What tests share: one network in a temporary folder, and one real RabbitMQ per run, booted from its definitions."""

from __future__ import annotations

import gc
import os
import warnings
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from relay import passwords
from relay.network import Network, write_network
from relay.rabbit import PrivateBroker

FIRST_PORT, PORTS_A_WORKER = 15_000, 4_000
LONGEST = (
    "test_demo",
    "test_chaos",
    "test_mutants",
    "test_crash_points",
    "test_browser",
    "test_departure",
    "test_operations",
    "test_crash_kills",
    "test_console_acts",
    "test_prometheus",
    "test_alerts_live",
    "test_supervision",
    "test_howto",
    "test_checkpoints",
    "test_recall",
    "test_epochs",
    "test_registers",
)
"""Files that take longest: they begin first, so that no process is left with one of them in the end."""


settings.register_profile("relay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relay")  # how long one example takes says more of the machine than of what is tested

gc.disable()  # until the tests are collected: importing makes no garbage, and looking for it takes a sixth of the time


def pytest_collection_finish() -> None:
    """Look for garbage again, and leave alone what is there for good."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; all others stay in their order."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def own_ports() -> Iterator[None]:
    """Let each of several processes of tests choose ports in a range of its own: each runs a broker and nodes."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    first = FIRST_PORT + worker * PORTS_A_WORKER
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_PORTS", f"{first}-{first + PORTS_A_WORKER - 1}")
        yield


@pytest.fixture(scope="session", autouse=True)
def hurried() -> Iterator[None]:
    """Let no node that starts while its peers are down wait for long for their word, and none that can't start linger.

    Nor does a password cost here what it must cost who guesses.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_N", 2**10)
        patch.setenv("RELAY_REPAIR__ECHO_SECONDS", "1")
        patch.setenv("RELAY_CONSOLE__LAST_WORDS_SECONDS", "0")
        yield


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Say of a file's tests what they left open or undone; else a later file's fail, whenever the garbage collector finds it."""
    yield
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        gc.collect()
    left = Counter(f"{one.category.__name__}: {one.message}"[:200] for one in found)
    assert not left, f"{left.total()} things were left open or undone: {left.most_common(5)}"


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory, own_ports: None) -> Network:  # noqa: ARG001 - before ports are chosen
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
