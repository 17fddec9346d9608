"""The log: a line for each message and step at both ends, nothing of its content, in files that rotate."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import logging
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

from relay import log, messages
from relay.envelope import given_at, new_id
from relay.errors import Misconfigured, Refused
from relay.log import FIELDS, Event
from relay.network import Network
from relay.rabbit import PrivateBroker
from tests.live import EXAMPLES, message, private_network

RELAY = Path(log.__file__).parent.parent
CENTRES = ("LGA", "LGB")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CANARY = "Canary 51ab90fe behind the harbour (invented)"
ALWAYS = {"timestamp", "level", "event", "centre"}
HOW = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Said:
    """What two nodes wrote, line by line, and the ids of the messages that one submitted."""

    lines: dict[str, list[dict[str, Any]]]
    raw: bytes
    traced: str
    refused: str
    ended: str
    recalled: str

    def steps(self, centre: str, message_id: str) -> list[str]:
        """Return the events of a message at a centre, in order."""
        return [line["event"] for line in self.lines[centre] if line.get("message") == message_id]

    def line(self, centre: str, event: str, message_id: str) -> dict[str, Any]:
        """Return the one line of a step of a message."""
        (found,) = (one for one in self.lines[centre] if one["event"] == event and one.get("message") == message_id)
        return found


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, broker: PrivateBroker) -> Said:
    """Run two nodes as processes, with logs of their own; let messages be taken, put off, refused and discarded."""
    network = private_network(tmp_path_factory.mktemp("log") / "net", broker, "log", CENTRES)
    running = [_node(network, centre) for centre in CENTRES]
    try:
        told = _talk(network)
        for process in running:
            process.terminate()
        for process in running:
            assert process.wait(60) == 0
    finally:
        for process in running:
            process.kill()
            process.wait()
    raw = {centre: _file(network, centre).read_bytes() for centre in CENTRES}
    lines = {centre: [json.loads(line) for line in given.splitlines()] for centre, given in raw.items()}
    return Said(lines, b"".join(raw.values()), *told)


def _file(network: Network, centre: str) -> Path:
    return network.centre(centre) / "relay.jsonl"


def _node(network: Network, centre: str) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "RELAY_LOG__FILE": str(_file(network, centre)),
        "RELAY_LOG__LEVEL": "debug",
        "RELAY_REPAIR__ECHO_SECONDS": "1",
    }
    words = [sys.executable, "-W", "ignore", "-m", "relay", "node", "run", "--config", str(network.node_file(centre))]
    return subprocess.Popen(words, env=environment)


def _talk(network: Network) -> tuple[str, str, str, str]:
    clients = [_client(network, centre, "system") for centre in CENTRES]
    (sender, taker), operator = clients, _client(network, "LGA", "operator")
    with sender, taker, operator:
        traced = _submit(sender, message(case_number=CANARY, correlation=TRACE, to=["LGB"]))
        _until(lambda: _taken(taker, traced))
        assert taker.post("/v1/inbox/ack", json={"ids": [traced]}).status_code == 200
        refused = _submit(sender, message(case_number=CANARY, to=["LGB"]))
        _until(lambda: _taken(taker, refused))
        later = taker.post("/v1/inbox/nack", json={"id": refused, "code": "system-busy", "reason": CANARY, "retry_after": 3600})
        assert later.status_code == 200, later.text
        never = taker.post("/v1/inbox/nack", json={"id": refused, "code": "not-for-us", "reason": CANARY})
        assert never.status_code == 200, never.text
        ended = _submit(sender, message(case_number=CANARY, to=["LGB"]))
        _until(lambda: _taken(taker, ended))
        assert operator.post(f"/v1/messages/{ended}/discard", json={"reason": CANARY}).status_code in (200, 202, 204)
        recalled = _submit(sender, raw := message(case_number=CANARY, to=["LGB"]))
        _until(lambda: _taken(taker, recalled))
        cancel = _submit(sender, _cancel(recalled, raw))
        _until(lambda: _taken(taker, cancel))
        _until(lambda: _state(sender, traced) == "delivered" and _state(sender, refused) == "rejected")
    return traced, refused, ended, recalled


def _cancel(message_id: str, raw: bytes) -> bytes:
    given = json.loads((EXAMPLES / "cancel.minimal.json").read_bytes())
    reference = {"id": message_id, "digest": hashlib.sha256(raw).hexdigest(), "relation": "cancels"}
    return json.dumps({**given, "references": [reference]}).encode()


def _client(network: Network, centre: str, role: str) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {network.token(centre, role)}"}
    return httpx2.Client(base_url=f"http://{network.listen(centre)}", headers=headers, timeout=60, trust_env=False)


def _submit(sender: httpx2.Client, raw: bytes) -> str:
    answers: list[httpx2.Response] = []

    def submitted() -> bool:
        answers.append(sender.post("/v1/messages", content=raw))
        return answers[-1].status_code == 202

    _until(submitted)
    return str(answers[-1].json()["id"])


def _taken(taker: httpx2.Client, message_id: str) -> bool:
    return message_id in taker.get("/v1/inbox", params={"wait": 1}).text


def _state(sender: httpx2.Client, message_id: str) -> str:
    return str(sender.get(f"/v1/messages/{message_id}").json()["recipients"][0]["state"])


def _until(holds: Any, seconds: float = 90) -> None:
    limit = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx2.TransportError):
            if holds():
                return
        assert time.monotonic() < limit, "the nodes did not work in time"
        time.sleep(0.1)


def test_each_step_of_a_message_is_a_line_at_both_ends(said: Said) -> None:
    """Whoever has a message's id finds its whole way, at its origin and at its recipient."""
    first, *later = (one for one in said.steps("LGA", said.traced) if one != "message.resent")  # as a stalled machine asks for
    assert first == "message.submitted"
    assert set(later) == {"message.sent", "message.accepted", "message.delivered"}  # a receipt may overtake the broker's confirm
    assert len(later) == 3
    assert [one for one in said.steps("LGB", said.traced) if one != "message.repeated"] == [
        "message.taken", "message.given", "message.handed-over",
    ]  # fmt: skip


def test_a_line_says_everything_that_is_needed_to_follow_it(said: Said) -> None:
    """Envelope, centres, lane, kind, size and age stand in the lines of both ends, and agree."""
    left, came = said.line("LGA", "message.submitted", said.traced), said.line("LGB", "message.taken", said.traced)
    for name in ("envelope", "lane", "kind", "size", "correlation"):
        assert left[name] == came[name]
    assert left["to"] == ["LGB"]
    assert came["peer"] == "LGA"
    assert left["kind"] == "seizure"
    assert left["size"] == len(message(case_number=CANARY, correlation=TRACE, to=["LGB"]))
    assert 0 <= left["age_ms"] < 60_000
    assert said.line("LGA", "message.delivered", said.traced)["peer"] == "LGB"


def test_the_trace_id_of_the_sending_system_is_in_the_lines_of_both_ends(said: Said) -> None:
    """What the system gave as `correlation` travelled inside the seal; a message without it has none."""
    for centre, event in (("LGA", "message.submitted"), ("LGB", "message.taken")):
        assert said.line(centre, event, said.traced)["correlation"] == TRACE
        assert "correlation" not in said.line(centre, event, said.refused)


def test_what_goes_wrong_with_a_message_is_a_line_with_its_code(said: Said) -> None:
    """A message that the system put off, then refused: its code at both ends, not its words."""
    steps = said.steps("LGB", said.refused)
    assert steps.index("handover.deferred") < steps.index("handover.rejected")
    assert said.line("LGB", "handover.deferred", said.refused)["code"] == "system-busy"
    assert said.line("LGA", "message.rejected", said.refused)["code"] == "not-for-us"


def test_a_discarded_message_ends_in_a_line(said: Said) -> None:
    """What an operator discarded is `message.cancelled` for each recipient."""
    assert said.line("LGA", "message.cancelled", said.ended)["peer"] == "LGB"


def test_a_message_that_was_taken_back_ends_in_a_line_at_its_recipient(said: Said) -> None:
    """A cancel came and the content was purged: `message.recalled`, with why."""
    line = said.line("LGB", "message.recalled", said.recalled)
    assert (line["peer"], line["code"]) == ("LGA", "recalled")


def test_nothing_of_a_message_is_in_the_log(said: Said) -> None:
    """Neither what a message says nor why a person refused it, in whatever part of a line."""
    assert said.traced.encode() in said.raw
    assert CANARY.encode() not in said.raw
    assert b"51ab90fe" not in said.raw


def test_every_line_has_the_fields_that_its_event_may_have(said: Said) -> None:
    """What nodes write at their most talkative is what the table says: events, levels and fields."""
    for line in (line for lines in said.lines.values() for line in lines):
        event = Event(line["event"])
        assert line["level"] == event.level
        assert set(line) - ALWAYS <= set(event.fields), line
        assert set(line) >= ALWAYS


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield every call in the code that names an event or more, with the method that it calls."""
    for path in sorted(RELAY.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in (*HOW, "messages"):
                yield node.func.attr, node


def named(node: ast.AST) -> set[str]:
    """Return the names of the events that stand in a piece of code."""
    return {
        one.attr
        for one in ast.walk(node)
        if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id == "Event"
    }


def test_the_table_of_events_is_what_the_code_writes() -> None:
    """Each call has the level and only fields of its event; every event is written by something; no field is unexplained."""
    for method, call in calls():
        for name in named(call.args[0]) if call.args else ():
            event = Event[name]
            given = {one.arg for one in call.keywords if one.arg is not None}
            assert given <= set(event.fields), (name, given)
            assert method in (event.level, "messages"), (name, method)
    used = set().union(*(named(ast.parse(path.read_text(encoding="utf-8"))) for path in RELAY.rglob("*.py")))
    assert used >= set(Event.__members__)
    fields = {field for event in Event for field in event.fields}
    assert fields == set(FIELDS)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Let a test set up the process's log, and put back what was."""
    least, lines, handlers = log._now.least, log._now.lines, logging.getLogger().handlers[:]
    yield
    log._now.least, log._now.lines = least, lines
    logging.getLogger().handlers[:] = handlers
    structlog.reset_defaults()


@pytest.mark.usefixtures("quiet")
def test_a_full_file_is_renamed_and_a_number_of_them_kept(tmp_path: Path) -> None:
    """Files rotate by size, hold whole lines, and can be read by their owner alone; the oldest go."""
    file = tmp_path / "relay.jsonl"
    output = log.Rotating(file, 4096, 2)
    log.configure("json", "info", output)
    said, ids = log.Log("LGA"), [new_id("LGA") for _ in range(200)]
    for one in ids:
        said.messages(Event.MESSAGE_GIVEN, [{"message": one, "peer": "LGB", "size": 1}])
    output.close()
    files = sorted(tmp_path.iterdir())
    assert [one.name for one in files] == ["relay.jsonl", "relay.jsonl.1", "relay.jsonl.2"]
    lines = [json.loads(line) for one in reversed(files) for line in one.read_text(encoding="utf-8").splitlines()]
    assert [line["message"] for line in lines] == ids[-len(lines) :]
    assert all(one.stat().st_size <= 4096 and stat.S_IMODE(one.stat().st_mode) == 0o600 for one in files)


@pytest.mark.usefixtures("quiet")
def test_without_lines_of_messages_what_goes_wrong_is_said_all_the_same(tmp_path: Path) -> None:
    """`log.messages = false` leaves out the ordinary steps alone."""
    file = tmp_path / "relay.jsonl"
    output = log.Rotating(file, 2**20, 1)
    log.configure("json", "info", output, messages=False)
    said, one = log.Log("LGA"), {"message": new_id("LGA")}
    said.messages(Event.MESSAGE_TAKEN, [one], peer="LGB")
    said.messages(Event.HANDOVER_DEAD, [one], code="expired")
    output.close()
    assert [json.loads(line)["event"] for line in file.read_text(encoding="utf-8").splitlines()] == ["handover.dead"]


@pytest.mark.usefixtures("quiet")
def test_a_person_at_a_terminal_reads_the_same_words(capsys: pytest.CaptureFixture[str]) -> None:
    """The pretty form has the same event and fields, on the stream that was asked for."""
    log.configure("pretty", "info", log.standard("stdout"))
    one = new_id("LGA")
    log.Log("LGA").messages(Event.MESSAGE_GIVEN, [{"message": one, "peer": "LGB", "size": 7}])
    written = capsys.readouterr().out
    assert "message.given" in written
    assert one in written


def test_a_log_file_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    """A folder that is missing is named, with its code."""
    with pytest.raises(Misconfigured, match=r"relay\.jsonl") as refused:
        log.Rotating(tmp_path / "nowhere" / "relay.jsonl", 4096, 1)
    assert refused.value.code == "log-unwritable"


def test_a_full_disk_ends_no_node() -> None:
    """What can't be written is left out: the log never raises into what the node does."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        output = log.Standard(full)
        output.write("x" * 100_000)
        output.flush()
        with contextlib.suppress(OSError):
            full.close()


def test_the_age_of_a_message_is_in_its_id() -> None:
    """An id says when it was given, to the millisecond."""
    before = time.time_ns() // 1_000_000
    assert before <= given_at(new_id("LGA")) <= time.time_ns() // 1_000_000


@pytest.mark.parametrize("given", ["0" * 32, TRACE.upper(), TRACE[:-1], f"{TRACE}0", "", 7])
def test_a_correlation_that_is_no_trace_id_is_refused(given: object) -> None:
    """32 lower-case hex digits, not all of them 0, as W3C's trace context has them; anything else is refused with its place."""
    with pytest.raises(Refused) as refused:
        messages.parse(message(correlation=given))
    assert [problem.pointer for problem in refused.value.problems] == ["/correlation"]
