"""RabbitMQ run and configured: plan, apply, export, and a private broker that leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay import topology
from relay.directory import Directory
from relay.errors import BrokerTrouble, Conflict, Misconfigured
from relay.network import Network
from relay.rabbit import Management, PrivateBroker
from relay.rabbit.private import _server_script
from relay.rabbit.watch import marked
from relay.topology import Binding, TopicPermission


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBroker]:
    """Run a second RabbitMQ, at first with nothing on it, for the tests that change it."""
    with PrivateBroker(tmp_path_factory.mktemp("rabbit"), temporary=True) as private:
        yield private


@pytest.fixture
def manage(empty: PrivateBroker, network: Network) -> Iterator[Management]:
    """Bring the second RabbitMQ to the desired state, whatever a test before left, and hand out its management."""
    with empty.management() as management:
        management.apply(management.plan(network.topology, network.passwords), network.passwords, discard=True)
        yield management


def test_a_broker_booted_from_the_exported_definitions_needs_nothing(broker: PrivateBroker, network: Network) -> None:
    """The plan of a broker that loaded the export at boot is empty, passwords included."""
    with broker.management() as management:
        assert management.plan(network.topology, network.passwords) == []
        assert management.missing(network.topology) == []
        assert management.strangers() == []


def test_an_empty_broker_is_planned_filled_and_then_left_alone(empty: PrivateBroker, network: Network) -> None:
    """The plan of an empty broker creates everything; applied, the next plan is empty; applied again, all stays."""
    with empty.management() as management:
        plan = management.plan(network.topology, network.passwords)
        assert {change.action for change in plan} == {"create"}
        assert [change.item for change in plan] == network.topology.items()
        management.apply(plan, network.passwords)
        assert management.plan(network.topology, network.passwords) == []
        management.apply(plan, network.passwords)
        assert management.plan(network.topology, network.passwords) == []


def test_a_removed_binding_is_noticed_and_mended(manage: Management, network: Network) -> None:
    """Somebody unbinds a queue: the plan names that binding and nothing else, and applying it restores it."""
    lost = next(item for item in network.topology.bindings if "BE-CUS" in item.destination and "#" in item.key)
    manage.apply([topology.Change("remove", lost)], {})
    assert [str(change) for change in manage.plan(network.topology)] == [f"create binding {lost}"]
    assert manage.missing(network.topology) == [lost]
    manage.apply(manage.plan(network.topology), network.passwords)
    assert manage.plan(network.topology) == []


def test_a_widened_right_is_noticed_and_narrowed(manage: Management, network: Network) -> None:
    """An account with more than its rights, a foreign topic right or a surplus binding is put back in order."""
    wide = topology.Permission("BRU", ".*", ".*", ".*")
    manage.apply(
        [
            topology.Change("change", wide),
            topology.Change("create", TopicPermission("BRU", "relay.out.LYO", ".*", ".*")),
            topology.Change("create", Binding("relay.intel", "relay.in.BE-NCB.flash", "#")),
        ],
        network.passwords,
    )
    plan = manage.plan(network.topology)
    assert [change.action for change in plan] == ["remove", "change", "create", "remove"]
    assert f"was {wide}" in str(plan[1])
    manage.apply(plan, network.passwords)
    assert manage.plan(network.topology) == []


def test_a_wrong_password_is_noticed_and_set(manage: Management, network: Network) -> None:
    """A password that was changed on the broker is found by its hash and set back."""
    manage.apply([topology.Change("change", topology.User("BRU"))], {**network.passwords, "BRU": "another"})
    plan = manage.plan(network.topology, network.passwords)
    assert [str(change) for change in plan] == ["change account BRU: set its password"]
    manage.apply(plan, network.passwords)
    assert manage.plan(network.topology, network.passwords) == []


def test_what_is_not_the_relays_stays(manage: Management, network: Network) -> None:
    """Other people's objects on the same broker survive; a listener on an exchange of the relay is pointed out."""
    foreign = topology.Queue("billing", (("x-queue-type", "classic"),))
    tap = Binding("relay.intel", "billing", "#")
    manage.apply([topology.Change("create", foreign), topology.Change("create", tap)], {})
    manage.apply(manage.plan(network.topology), network.passwords)
    assert foreign.name in {queue.name for queue in manage.state().queues}
    assert manage.strangers() == [tap]
    manage.apply([topology.Change("remove", foreign)], {})


def test_a_queue_with_messages_is_not_removed_unasked(manage: Management, network: Network) -> None:
    """A member leaves while its queue still holds a message: refused, nothing changed; told to discard, it goes."""
    directory = network.directory
    left = tuple(member for member in directory.members if member.id != "SIN")
    without = Directory(**{**{name: getattr(directory, name) for name in Directory.model_fields}, "members": left})
    body = {"properties": {}, "routing_key": "BRU.to.SIN.control", "payload": "x", "payload_encoding": "string"}
    assert manage._call("POST", "/api/exchanges/%2F/relay.out.BRU/publish", body).json()["routed"]
    plan = manage.plan(topology.topology(without))
    with pytest.raises(Conflict, match=r"relay\.in\.SIN\.control") as caught:
        manage.apply(plan, network.passwords)
    assert caught.value.code == "queue-not-empty"
    assert manage.plan(network.topology) == []
    manage.apply(plan, network.passwords, discard=True)
    assert manage.plan(topology.topology(without)) == []
    assert not any("SIN" in str(item) for item in manage.state().items())


def test_an_account_that_may_not_manage_is_refused(broker: PrivateBroker, network: Network) -> None:
    """A centre's own account reads nothing from the management API, and the error says which account was refused."""
    with Management(broker.management_url, "BRU", network.passwords["BRU"]) as management:
        assert not management.answers()
        with pytest.raises(Misconfigured, match="BRU") as caught:
            management.state()
    assert caught.value.code == "management-refused"


def test_a_broker_that_does_not_answer_is_named() -> None:
    """The error carries the address that was asked."""
    nobody = Management("http://127.0.0.1:9", "x", "y")
    with nobody, pytest.raises(BrokerTrouble, match=r"127\.0\.0\.1:9") as caught:
        nobody.state()
    assert caught.value.code == "management-unreachable"


def test_only_loopback_listens(broker: PrivateBroker) -> None:
    """AMQP, management, Erlang's distribution and its port mapper are out of reach from other machines."""
    sockets = {str(path.readlink()) for pid in marked(broker._watch.mark) for path in _descriptors(pid)}
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                listening.append(fields[1].split(":")[0])
    assert len(listening) >= 4
    assert set(listening) <= {"0100007F", "00000000000000000000000001000000"}


def _descriptors(pid: int) -> list[Path]:
    try:
        return [path for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
    except OSError:
        return []


def test_a_second_start_in_vain_names_the_log(broker: PrivateBroker, tmp_path: Path) -> None:
    """When the ports are taken the start fails soon, says where to look, and leaves no process behind."""
    other = PrivateBroker(tmp_path / "r", amqp_port=broker.amqp_port, management_port=broker.management_port)
    other._internal_ports = broker._internal_ports
    with pytest.raises(BrokerTrouble, match=r"rabbitmq\.log") as caught:
        other.start(limit=20)
    assert caught.value.code == "broker-not-started"
    assert marked(other._watch.mark) == []
    assert broker.running


def test_a_machine_without_rabbitmq_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error has its own code, so that the demo can name the package to install."""
    monkeypatch.delenv("RELAY_RABBITMQ", raising=False)
    monkeypatch.setattr("relay.rabbit.private._PACKAGED", tmp_path / "nothing")
    monkeypatch.setattr("relay.rabbit.private._SYSTEM_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Misconfigured) as caught:
        _server_script()
    assert caught.value.code == "rabbitmq-missing"


def test_another_rabbitmq_is_named_by_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its script is started by the name that the folder gives it, its epmd is found first, and its absence is said."""
    monkeypatch.setenv("RELAY_RABBITMQ", str(tmp_path))
    with pytest.raises(Misconfigured, match="rabbitmq-server"):
        _server_script()
    (tmp_path / "rabbitmq-server").symlink_to("/bin/true")
    assert _server_script() == tmp_path / "rabbitmq-server"
    assert PrivateBroker(tmp_path / "r")._environment()["PATH"].startswith(f"{tmp_path}:")


def test_killed_it_restarts_with_its_data_and_wiped_without(empty: PrivateBroker, network: Network) -> None:
    """``kill`` leaves no process and all data; ``wipe`` leaves nothing; the ports stay the same."""
    first = (empty.amqp, empty.pid)
    with empty.management() as management:
        management.apply(management.plan(network.topology), network.passwords)
    empty.kill()
    assert not empty.running
    assert marked(empty._watch.mark) == []
    with empty.start().management() as management:
        assert management.plan(network.topology, network.passwords) == []
    empty.wipe()
    assert not (empty.folder / "data").exists()
    assert (empty.amqp, empty.pid) == (first[0], None)


def test_the_death_of_its_parent_ends_it(tmp_path: Path) -> None:
    """A test run or a demo that is killed with SIGKILL leaves no broker behind: the watchdog sees its pipe close."""
    script = (
        "import sys, time, pathlib; from relay.rabbit import PrivateBroker as P;"
        "p = P(pathlib.Path(sys.argv[1])); p._await = lambda *_: None; p.start();"
        "print(p._watch.mark, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "r")], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout
        mark = parent.stdout.readline().strip()
        parent.stdout.close()
        deadline = time.monotonic() + 60
        while (begun := len(marked(mark))) < 3 and time.monotonic() < deadline:  # server, port mapper, and what these start
            time.sleep(0.1)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert begun >= 3
    deadline = time.monotonic() + 60
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert marked(mark) == []
