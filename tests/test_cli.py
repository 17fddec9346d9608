"""The command ``relay`` as an operator types it: processes, exit statuses, what goes to which stream."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from relay import cli
from relay.errors import catalogue
from relay.network import Network, load_network, write_network

EXAMPLE = json.loads((Path(__file__).parent.parent / "schemas" / "examples" / "alert.minimal.json").read_bytes())
UNKNOWN = "00000000-0000-7000-8000-000000000000"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
COMMAND = [sys.executable, "-m", "relay"]


class Said(NamedTuple):
    """What a command wrote, and how it ended."""

    status: int
    out: str
    err: str


def relay(*arguments: object) -> Said:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.run([str(one) for one in arguments])
    return Said(status, out.getvalue(), err.getvalue())


def start(*arguments: object, **settings: str) -> subprocess.Popen[str]:
    """Start a command as a process of its own, with some settings of the environment."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env={**ENVIRONMENT, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], seconds: float = 60) -> Said:
    """Ask a process to end with SIGTERM and wait for it."""
    process.send_signal(signal.SIGTERM)
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return Said(process.returncode, out, err)


def first_line(process: subprocess.Popen[str]) -> str:
    """Wait for the first line that a process writes."""
    assert process.stdout is not None
    return process.stdout.readline()


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds."""
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, "it did not come true in time"
        time.sleep(0.1)


def fit(config: Path) -> bool:
    """Return whether every check of a node is ok."""
    return relay("check", "--config", config).status == 0


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Run a network of two centres by commands alone: `network new`, `broker run`, `node run` twice."""
    folder = tmp_path_factory.mktemp("station") / "net"
    assert relay("network", "new", folder, "--centre", "AAA", "--centre", "BBB").status == 0
    network = load_network(folder)
    processes = [start("broker", "run", folder)]
    try:
        said = first_line(processes[0])
        assert network.broker.amqp in said, end(processes[0])
        for id_ in ("AAA", "BBB"):  # nobody reads what they log before their end, and a full pipe would stop them
            log = {"RELAY_LOG__FILE": str(network.centre(id_) / "relay.jsonl")}
            processes.append(start("node", "run", "--config", network.node_file(id_), **log))
        for id_ in ("AAA", "BBB"):
            until(partial(fit, network.node_file(id_)))
        yield network
        ends = [end(process) for process in reversed(processes)]
        assert [one.status for one in ends] == [0, 0, 0], ends
    finally:
        for process in reversed(processes):  # the broker last, and by SIGTERM, else its own processes stay
            if process.poll() is None:
                end(process)


@pytest.fixture
def message(tmp_path: Path) -> Path:
    """Write a valid message to a file."""
    file = tmp_path / "message.json"
    file.write_text(json.dumps(EXAMPLE))
    return file


def ids(said: Said) -> list[str]:
    """Return the ids in a command's first column."""
    return [line.split()[0] for line in said.out.splitlines()]


# The way of a message, by commands


def test_a_message_is_sent_listed_acknowledged_and_seen_as_delivered(station: Network, message: Path) -> None:
    """The whole way from one centre to another without writing a line of code."""
    aaa, bbb = station.node_file("AAA"), station.node_file("BBB")
    sent = relay("send", message, "--config", aaa)
    assert (sent.status, sent.err) == (0, "")
    sent_id, *recipients = sent.out.split()
    assert recipients == ["BBB"]
    until(lambda: sent_id in ids(relay("inbox", "list", "--config", bbb, "--wait", 10)))
    listed = relay("inbox", "list", "--config", bbb)
    assert sent_id in ids(listed)
    assert "AAA" in listed.out
    as_json = json.loads(relay("inbox", "list", "--config", bbb, "--json").out)
    assert sent_id in [one["id"] for one in as_json["messages"]]
    assert relay("inbox", "ack", sent_id, "--config", bbb) == Said(0, "1 delivered\n", "")
    until(lambda: "delivered" in relay("message", "show", sent_id, "--config", aaa).out)
    shown = json.loads(relay("message", "show", sent_id, "--config", aaa, "--json").out)
    assert shown["recipients"][0]["state"] == "delivered"
    assert f"{sent_id}" in ids(relay("message", "list", "--config", aaa))


def test_the_way_of_a_message_and_the_shape_of_the_queues_are_shown_at_both_ends(station: Network, message: Path) -> None:
    """What waits is counted by age; each step of a message has its time, and what a peer signed its receipt."""
    aaa, bbb = station.node_file("AAA"), station.node_file("BBB")
    sent_id = relay("send", message, "--config", aaa).out.split()[0]
    until(lambda: sent_id in ids(relay("inbox", "list", "--config", bbb, "--wait", 10)))
    shape = relay("queue", "shape", "--config", bbb)
    assert re.search(r"^ +\(inbox\) +[1-9]", shape.out, re.MULTILINE)
    until(lambda: re.search(r"^ +BBB routine +[1-9]", relay("queue", "shape", "--precedence", "--config", aaa).out, re.MULTILINE))
    counted = json.loads(relay("queue", "shape", "--config", aaa, "--json").out)
    assert sum(counted["total"]) == sum(one["messages"] for one in (*counted["outgoing"], *counted["inbox"]))
    relay("inbox", "ack", sent_id, "--config", bbb)
    until(lambda: "delivered" in relay("message", "show", sent_id, "--config", aaa).out)
    at_home, there = (relay("message", "show", sent_id, "--config", node).out for node in (aaa, bbb))
    assert re.search(r"^  BBB +delivered  \S+Z  receipt [0-9a-f-]{36}$", at_home, re.MULTILINE)
    assert re.search(r"^  \(here\) +delivered  \S+Z$", there, re.MULTILINE)


def test_a_batch_from_standard_input_says_which_line_was_refused(station: Network) -> None:
    """Good lines are sent, the bad one is named, and the status says that something was refused."""
    good = json.dumps(EXAMPLE)
    done = subprocess.run(
        [*COMMAND, "send", "-", "--batch", "--idempotency-key", "K", "--config", str(station.node_file("AAA"))],
        input=f"{good}\n{{\n{good}\n",
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 65
    assert len(done.stdout.splitlines()) == 2
    assert "line 2: " in done.stderr
    assert "[not-json]" in done.stderr
    assert "1 of 3 messages refused." in done.stderr


def test_the_same_key_sends_nothing_twice(station: Network, message: Path) -> None:
    """--idempotency-key makes a retry safe; another body under it is refused."""
    send = ("send", message, "--idempotency-key", "once", "--config", station.node_file("AAA"))
    assert relay(*send) == relay(*send)
    message.write_text(json.dumps({**EXAMPLE, "headline": "Another"}))
    assert relay(*send).status == 65


def test_a_refused_message_is_told_place_by_place(station: Network, message: Path) -> None:
    """One sentence with the code, every place, and where to read on; nothing on standard output."""
    message.write_text(json.dumps({**EXAMPLE, "rumour": 1, "tlp": "BLUE"}))
    said = relay("send", message, "--config", station.node_file("AAA"))
    assert (said.status, said.out) == (65, "")
    assert "/rumour: " in said.err
    assert "[unknown-field]" in said.err
    assert "`relay explain invalid-message`" in said.err
    assert "Traceback" not in said.err


def test_an_unknown_message_and_an_unknown_acknowledgement_end_with_66(station: Network) -> None:
    """What is not there is no input."""
    assert relay("message", "show", UNKNOWN, "--config", station.node_file("AAA")).status == 66
    assert relay("inbox", "ack", UNKNOWN, "--config", station.node_file("AAA")).status == 66


def test_a_node_is_also_named_by_address_and_token_file(station: Network) -> None:
    """--url and --token-file do without the settings; the wrong role is not allowed (77)."""
    url = f"http://{station.listen('AAA')}"
    tokens = station.centre("AAA") / "tokens"
    assert relay("inbox", "list", "--url", url, "--token-file", tokens / "system").status == 0
    refused = relay("inbox", "list", "--url", url, "--token-file", tokens / "operator")
    assert (refused.status, "[not-allowed]" in refused.err) == (77, True)


def test_the_settings_may_come_from_the_environment(station: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """RELAY_CONFIG stands for --config."""
    monkeypatch.setenv("RELAY_CONFIG", str(station.node_file("AAA")))
    assert relay("message", "list", "--json").status == 0


# Checks


def test_check_says_of_each_part_how_it_is(station: Network) -> None:
    """A line a check, all ok; the same as JSON."""

    def well(*how: str) -> bool:  # it is not for a moment after the machine stalled
        nonlocal said
        said = relay("check", "--config", station.node_file("AAA"), *how)
        return said.status == 0

    said = Said(1, "", "")
    until(well)
    assert [line.split()[1] for line in said.out.splitlines()] == [
        "settings", "node", "ready", "broker", "store", "disk", "backlog", "directory", "keys", "peers", "unreceipted", "dead",
        "held", "quarantine", "requests", "audit", "clocks", "comparison",
    ]  # fmt: skip
    until(partial(well, "--json"))
    assert {one["state"] for one in json.loads(said.out)} == {"ok"}


def test_check_of_a_node_that_is_down_fails_and_says_what_to_do(tmp_path: Path) -> None:
    """What can be judged without the node is; the node fails; the status is 2."""
    network = write_network(tmp_path / "net", ("AAA",))
    said = relay("check", "--config", network.node_file("AAA"))
    assert said.status == 2
    assert "ok        directory" in said.out
    assert "critical  node" in said.out
    (network.centre("AAA") / "directory.json").write_bytes(b"{}")
    assert "[directory-unsigned]" in relay("check", "--config", network.node_file("AAA")).out


# The broker and the network


def test_the_plan_of_a_broker_that_was_run_is_empty(station: Network) -> None:
    """`broker run` leaves nothing for `broker plan` and `broker apply` to do."""
    assert json.loads(relay("broker", "plan", station.folder, "--json").out) == []
    applied = relay("broker", "apply", station.folder)
    assert (applied.status, applied.out) == (0, "")


def test_a_change_is_shown_first_and_applied_on_a_word(station: Network) -> None:
    """Something was removed by hand: plan and apply show it; without --yes and a terminal nothing is done."""
    from relay.rabbit import Management
    from relay.topology import Change

    binding = next(one for one in station.topology.bindings if "AAA.poison" in one.destination)
    broker = station.broker
    with Management(broker.management, broker.admin, broker.admin_password) as management:
        management.apply([Change("remove", binding)], {})
    line = f"create binding {binding}\n"
    assert relay("broker", "plan", station.folder) == Said(0, line, "")
    refused = relay("broker", "apply", station.folder)
    assert (refused.status, refused.out, "[needs-yes]" in refused.err) == (64, line, True)
    assert relay("broker", "apply", station.folder, "--yes").status == 0
    assert relay("broker", "plan", station.folder).out == ""


def test_the_export_is_a_definitions_file_that_only_its_owner_reads(station: Network, tmp_path: Path) -> None:
    """RabbitMQ loads it at boot; it holds hashes of passwords, so it is 0600."""
    out = tmp_path / "definitions.json"
    assert relay("broker", "export", station.folder, "--out", out) == Said(0, "", "")
    assert {"users", "queues", "bindings"} <= json.loads(out.read_bytes()).keys()
    assert out.stat().st_mode & 0o777 == 0o600
    assert relay("broker", "export", station.folder, "--out", tmp_path / "no" / "where").status == 73


def test_a_new_network_is_complete_and_never_written_over(tmp_path: Path) -> None:
    """Settings, keys and tokens (0600) per centre; a folder that is not empty is left alone (73)."""
    made = relay("network", "new", tmp_path / "net", "--json")
    centres = json.loads(made.out)["centres"]
    assert [one["id"] for one in centres] == ["BRU", "LYO", "SIN", "BUE", "BE-CUS", "BE-NCB"]
    for one in centres:
        for role in ("system", "operator"):
            token = Path(one["config"]).parent / "tokens" / role
            assert token.stat().st_mode & 0o777 == 0o600
    assert relay("network", "new", tmp_path / "net").status == 73
    assert relay("network", "new", tmp_path / "other", "--centre", "no id").status == 65


# The process of a node


def test_a_node_whose_settings_are_wrong_says_what_to_mend(tmp_path: Path) -> None:
    """No settings file, a key that is unknown, a port that is taken: one sentence, status 78, no traceback."""
    missing = relay("node", "run", "--config", tmp_path / "nothing.toml")
    assert (missing.status, "[bad-settings]" in missing.err) == (78, True)
    network = write_network(tmp_path / "net", ("AAA",))
    file = network.node_file("AAA")
    file.write_text(file.read_text() + "\n[surprise]\nx = 1\n")
    assert "surprise" in relay("node", "run", "--config", file).err


@pytest.mark.parametrize("code", ["store-in-use", "address-in-use"])
def test_a_second_node_of_a_centre_ends_with_78(station: Network, tmp_path: Path, code: str) -> None:
    """Starting a centre's node a second time says that its store is in use; with another store, that the address is not free."""
    own = {"RELAY_STORE__FILE": str(tmp_path / "other.db")} if code == "address-in-use" else {}
    process = start("node", "run", "--config", station.node_file("AAA"), **own)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 78
    assert f"[{code}]" in err
    assert "Traceback" not in err


def test_a_node_without_a_broker_still_ends_on_sigterm(tmp_path: Path) -> None:
    """It lives, is not ready, and stops in time with status 0."""
    network = write_network(tmp_path / "net", ("AAA",))
    process = start("node", "run", "--config", network.node_file("AAA"))
    try:
        until(lambda: "ok        node" in relay("check", "--config", network.node_file("AAA")).out)
        found = relay("check", "--config", network.node_file("AAA"))
        assert (found.status, "critical  ready" in found.out) == (2, True)
        assert end(process, 40).status == 0
    finally:
        process.kill()


# Words


def test_help_is_fast() -> None:
    """`relay --help` costs under 0.3 s of CPU, the best of five: what else the machine does is not its doing."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*COMMAND, "--help"], env=ENVIRONMENT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.3


def test_help_imports_nothing_heavy() -> None:
    """What makes it fast: no command's machinery is imported before that command runs."""
    code = "import sys, relay.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"pydantic", "sqlalchemy", "fastapi", "aio_pika", "httpx2", "rich", "structlog"}


def test_explain_tells_what_a_code_means_and_what_to_do() -> None:
    """Title, meaning and remedy of one code, in words and as JSON; without a code, all of them."""
    entry = catalogue()["too-large"]
    said = relay("explain", "too-large")
    assert said.status == 0
    assert entry.title in said.out
    assert entry.meaning in said.out
    assert entry.action in said.out
    assert json.loads(relay("explain", "too-large", "--json").out)["code"] == "too-large"
    assert ids(relay("explain")) == list(catalogue())


def test_explain_of_an_unknown_code_names_near_ones() -> None:
    """A slip of the finger is answered with what was probably meant."""
    said = relay("explain", "too-larg")
    assert (said.status, said.out) == (65, "")
    assert "too-large" in said.err


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("send",), ("inbox", "list", "--limit", "0"), ("node", "run")])
def test_a_wrong_command_line_ends_with_64(arguments: tuple[str, ...]) -> None:
    """Usage errors have the status of sysexits."""
    assert relay(*arguments).status == 64


def test_a_client_command_without_a_node_says_how_to_name_one(message: Path) -> None:
    """Neither --config nor --url: 78; a file that is not there: 66; a node that is not there: 69."""
    assert "[no-node-named]" in relay("send", message).err
    assert relay("send", message.with_name("none"), "--url", "http://127.0.0.1:9", "--token-file", message).status == 66
    said = relay("send", message, "--url", "http://127.0.0.1:9", "--token-file", message)
    assert (said.status, "[node-unreachable]" in said.err) == (69, True)


def test_policy_explain_says_for_every_centre_whether_it_would_get_a_message(station: Network, message: Path) -> None:
    """A line a centre with the rule that decides, or JSON; 65 when the message would be refused, or is not valid."""
    config = station.node_file("AAA")
    said = relay("policy", "explain", message, "--config", config)
    assert said.status == 0, said.err
    assert [line.split()[:3] for line in said.out.splitlines()] == [["AAA", "no", "origin"], ["BBB", "yes", "entitled"]]
    assert "It is entitled to" in said.out
    found = json.loads(relay("policy", "explain", message, "--json", "--config", config).out)
    assert [(one["centre"], one["gets"], one["rule"]) for one in found["centres"]] == [
        ("AAA", False, "origin"),
        ("BBB", True, "entitled"),
    ]

    message.write_text(json.dumps(EXAMPLE | {"exclude": ["BBB"]}))
    said = relay("policy", "explain", message, "--config", config)
    assert said.status == 65
    assert "The message excludes it." in said.out
    assert "[no-recipients]" in said.err

    message.write_text(json.dumps(EXAMPLE | {"tlp": "MAUVE"}))
    said = relay("policy", "explain", message, "--config", config)
    assert (said.status, said.out) == (65, "")
    assert "/tlp" in said.err


def test_policy_explain_of_a_recall_says_whom_it_reaches(station: Network) -> None:
    """Everyone who ever held the message, whatever the entitlements."""
    recall = Path(__file__).parent.parent / "schemas" / "examples" / "cancel.minimal.json"
    said = relay("policy", "explain", recall, "--config", station.node_file("AAA"))
    assert said.status == 0, said.err
    assert "everyone who ever held the message" in said.err
    assert "BBB  yes  recall" in said.out
