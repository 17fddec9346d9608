"""The network as one centre sees it: the view, `GET /v1/network` and `relay top`, in the words of the console."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from relay import cli, console
from relay.api import Api
from relay.cli import top
from relay.cli.way import lines
from relay.clock import from_ms
from relay.envelope import new_id
from relay.node import Node
from relay.rabbit import PrivateBroker
from relay.views.message import way
from relay.views.messages import Filters, messages
from relay.views.network import Network, network
from relay.views.times import local
from tests.live import PATIENCE, Live, eventually, message, private_network

A, B, C, D = CENTRES = ("TPA", "TPB", "TPC", "TPD")
TEMPLATE = Path(console.__file__).parent / "templates"


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run three of four centres with quick heartbeats and alarms; messages went from A to B; then C fell silent with one open."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__HEARTBEAT_SECONDS", "0.5")
        patch.setenv("RELAY_REPAIR__ECHO_SECONDS", "1")
        patch.setenv("RELAY_ALARMS__FLASH", "1")
        live = Live(private_network(tmp_path_factory.mktemp("top") / "net", broker, "top", CENTRES), broker)
        try:
            await live.start(A, B, C)
            node = live[A]
            await eventually(lambda: all(node.heartbeats.state(one) == "heard" for one in (B, C)))
            sent = await live.submit(A, message(to=[B]))
            await live.reaches(A, sent.id, B, "accepted")
            await live.abort(C)
            await live.submit(A, message(to=[C], precedence="flash"))
            await eventually(lambda: node.heartbeats.state(C) == "silent")
            await eventually(lambda: any(one.peer == C for one in node.deadlines.alarms))
            await eventually(partial(observed, node))
            yield live
        finally:
            await live.close()


async def observed(node: Node) -> bool:
    """Return whether the node has looked at what is open at C and at the ten seconds in which B was sent something."""
    seen = {one.centre: one for one in (await network(node)).peers}
    return bool(seen[C].oldest) and sum(seen[B].sent.tens) == 1


@pytest.fixture
async def seen(live: Live) -> Network:
    """Return the network as A sees it when it hears B in time: a machine that stalls lets B be silent for a moment, too."""
    found: list[Network] = []

    async def steady() -> bool:
        found[:] = [await network(live[A])]
        peer = next(one for one in found[0].peers if one.centre == B)
        return found[0].centre.ready and peer.state == "heard" and abs(peer.clock_offset_seconds or 0) < 5

    await eventually(steady)
    return found[0]


async def test_who_needs_somebody_comes_first(seen: Network) -> None:
    """Silent, then late, then not heard yet, then the rest."""
    assert [(one.centre, one.state) for one in seen.peers] == [(C, "silent"), (D, "never"), (B, "heard")]


async def test_a_silent_peer_says_what_is_open_there_and_whom_to_call(seen: Network, live: Live) -> None:
    """Its last word, what it has not receipted by precedence, which promise it has not kept, its duty officer."""
    peer = seen.peers[0]
    assert [(one.precedence, one.messages) for one in peer.oldest] == [("flash", 1)]
    assert peer.oldest[0].oldest_seconds >= 1
    assert ("flash", "accepted") in {(one.precedence, one.promise) for one in peer.late}
    assert peer.heard_seconds is not None
    assert peer.heard_seconds > 1
    member = live[A].centre.directory.member(C)
    assert member is not None
    assert peer.duty.telephone == member.contact.telephone


async def test_a_peer_that_lives_says_what_it_goes_by(seen: Network, live: Live) -> None:
    """Clock, epoch, directory, release, its local time, and how many messages went to it lately."""
    peer = next(one for one in seen.peers if one.centre == B)
    assert abs(peer.clock_offset_seconds or 0) < 5
    assert (peer.epoch, peer.release) == (live[B].centre.store.epoch, seen.centre.release)
    assert peer.directory_version == seen.centre.directory_version
    assert not peer.directory_differs
    assert len(peer.sent.tens) == 360
    assert sum(peer.sent.tens) == 1


async def test_this_centre_says_how_it_does(seen: Network) -> None:
    """Ready, connected, nothing to send, and one recipient without a receipt."""
    assert seen.centre.id == A
    assert (seen.centre.ready, seen.centre.broker_connected, seen.centre.unsent_envelopes) == (True, True, 0)
    assert seen.centre.open_messages is not None
    assert seen.centre.open_messages >= 1
    assert seen.trouble == []


async def test_the_way_of_a_message_says_whom_to_call_where_the_recipient_is_silent(live: Live) -> None:
    """`relay message show` names the duty officer of a silent recipient whose word is awaited, and of no other."""
    listed = await messages(live[A], Filters(direction="sent"))
    to_c, to_b = (next(one.id for one in listed.messages if to in one.recipients) for to in (C, B))

    async def said(message_id: str) -> str:
        return "\n".join(lines(json.loads((await way(live[A], message_id)).model_dump_json())))

    async def nobody_is_called() -> bool:  # nor for a moment after the machine stalled
        return "silent" not in await said(to_b)

    late = await way(live[A], to_c)
    (at_c,) = late.recipients
    assert (at_c.state, at_c.peer) == ("sent", "silent")
    assert (late.deadline or 0) > late.submitted_at
    assert f"  {C:<17}  silent: call Duty officer, +" in await said(to_c)
    await eventually(nobody_is_called)


def test_what_is_stuck_and_overdue_is_said() -> None:
    """Nothing before the node looked; that nothing is stuck; what is, by group; and answers that are overdue."""
    nothing = dict.fromkeys(("dead", "held", "quarantined", "deferred", "owed", "awaited"), 0)
    assert top.stuck(None) == []
    assert top.stuck({**nothing, "deferred": 3}) == ["● No message is dead, held or quarantined."]
    assert top.stuck({**nothing, "held": 2}) == ["▲ Messages that do not go on by themselves: held: 2"]
    found = top.stuck({**nothing, "dead": 1, "held": 2, "owed": 4})
    assert found[0] == "✖ Messages that do not go on by themselves: dead: 1, held: 2"
    assert found[1] == "✖ Overdue answers: owed by this centre: 4, owed by peers: 0"


def test_local_time_is_that_of_the_seat() -> None:
    """A zone by its name, summer time included; a zone that is none, a folder or a path gives nothing."""
    moment = 1_783_000_000_000  # in July 2026
    shown = local(moment, "Europe/Brussels")
    assert shown == from_ms(moment).astimezone(ZoneInfo("Europe/Brussels"))
    assert shown is not None
    assert shown.isoformat()[-6:] == "+02:00"
    assert [local(moment, zone) for zone in ("Nowhere/Nothing", "Europe", "../etc/passwd", "/etc/passwd", "")] == [None] * 5


@contextlib.contextmanager
def unreadable(node: Node) -> Iterator[None]:
    """Let every statement of the store fail as on a broken disk."""

    def fail(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        del connection, cursor, parameters, context, many
        raise OperationalError(statement, None, sqlite3.OperationalError("disk I/O error"))

    engine = node.centre.store._engine
    event.listen(engine, "before_cursor_execute", fail)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", fail)


async def test_without_its_store_a_node_still_says_who_is_silent(live: Live) -> None:
    """Who lives, who is late and whom to call is known without the store; what else is not known is left open, and says why."""
    found: list[Network] = []

    async def told() -> bool:
        with unreadable(live[A]):  # in which nobody is heard, and B soon silent
            found[:] = [await network(live[A])]
        return any((one.centre, one.state) == (B, "heard") for one in found[0].peers)

    await eventually(told)
    (seen,) = found
    assert seen.trouble
    assert not seen.centre.ready
    assert seen.centre.open_messages
    first = seen.peers[0]
    assert (first.centre, first.state, first.heard_at) == (C, "silent", None)
    assert first.late
    assert first.duty.telephone


async def test_the_api_and_the_command_say_it(live: Live, capfd: Any) -> None:
    """`relay top` says it once to who is no terminal, in the view's words; `relay peer list` has each duty contact, too."""
    api, config = Api(), ["--config", str(live.network.node_file(A))]
    text = ""

    async def run(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        done = await asyncio.to_thread(cli.run, ["top", *words, *config])
        return done, capfd.readouterr().out

    async def orders() -> bool:
        status, said = await run("--json")
        found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        return status == 0 and [one["centre"] for one in found[0]["peers"]] == [C, D, B]

    async def says() -> bool:  # it says more for a moment after the machine stalled
        nonlocal text
        status, text = await run()
        return status == 0 and "● ready" in text and "✖ 1 centre is silent." in text

    task = asyncio.create_task(api.run(live[A]))
    try:
        await eventually(orders)
        await eventually(says)
        lines = text.splitlines()
        assert any(line.startswith(f"{A}  ● ready") for line in lines)
        assert "✖ 1 centre is silent." in lines
        (first,) = (line for line in lines if line.startswith(f"{C} "))
        assert "✖ silent; ▲ late: flash, accepted: 1, since 2" in first
        assert "flash: " in first
        assert "Duty officer, +" in first
        assert lines.index(first) < next(at for at, line in enumerate(lines) if line.startswith(f"{B} "))
        capfd.readouterr()
        assert await asyncio.to_thread(cli.run, ["peer", "list", *config]) == 0
        listed = [line for line in capfd.readouterr().out.splitlines() if line.startswith((B, C, D))]  # nodes write there, too
        assert sorted(line.split()[0] for line in listed) == [B, C, D]
        assert all("Duty officer, +" in line for line in listed)
        assert any(line.startswith(C) and "silent" in line for line in listed)
        assert await asyncio.to_thread(watched, str(live.network.node_file(A))) == 0
    finally:
        await api.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def watched(config: str) -> int:
    """Run `relay top` on a terminal until it has drawn twice, press Ctrl-C, and return how it ended."""
    ours, theirs = pty.openpty()
    environment = {"PATH": "/usr/bin:/bin", "TERM": "xterm", "COLUMNS": "240", "LINES": "50"}
    words = [sys.executable, "-m", "relay", "top", "--config", config]
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        drawn, pressed, limit = b"", False, time.monotonic() + PATIENCE
        try:
            while process.poll() is None:  # read to the end: a terminal that nobody reads from takes no more than a few screens
                assert time.monotonic() < limit, drawn
                if select.select([ours], [], [], 0.1)[0]:
                    with contextlib.suppress(OSError):  # how the kernel says that nobody writes there any more
                        drawn += os.read(ours, 65_536)
                if not pressed and drawn.count(b"Duty contact") >= 2:
                    process.send_signal(signal.SIGINT)
                    pressed, limit = True, time.monotonic() + PATIENCE
        finally:
            process.kill()
            os.close(ours)
    assert pressed, "it ended by itself"
    assert f"{C} Centre {C}".encode() in drawn
    assert re.search(rb"\x1b\[[0-9;]*3[0-7]m", drawn) is None, "no colour"
    return process.returncode


def test_ctrl_c_that_python_drops_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pressed while a destructor runs, it raises nothing there; the table is not drawn again."""

    class Dropping:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def ask(_node: object) -> object:
        return object()

    def drawn(_network: object, _width: int) -> str:
        drawings.append(Dropping())
        drawings.clear()
        times.append(1)
        return ""

    drawings: list[object] = []
    times: list[int] = []
    monkeypatch.setattr(top, "_ask", ask)
    monkeypatch.setattr(top, "drawn", drawn)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    before = signal.getsignal(signal.SIGINT)
    top._live(object())  # type: ignore[arg-type]
    assert times == [1]
    assert signal.getsignal(signal.SIGINT) is before


async def test_a_terminal_shows_every_peer(seen: Network) -> None:
    """The table that is drawn anew has the headings and every cell of the lines, without colour."""
    found = json.loads(seen.model_dump_json())
    out = io.StringIO()
    Console(width=400, no_color=True, file=out).print(top.drawn(found))
    text = out.getvalue()
    assert all(heading in text for heading in top.HEADINGS)
    assert all(cell in text for peer in found["peers"] for cell in top.row(peer))
    assert f"{C}: call {top.row(found['peers'][0])[-1]}" in text


async def test_a_narrow_terminal_shows_what_somebody_is_called_for(seen: Network) -> None:
    """On 100 columns no heading or state is cut off, and whom to call stands above the table."""
    found = json.loads(seen.model_dump_json())
    out = io.StringIO()
    Console(width=100, no_color=True, file=out).print(top.drawn(found, 100))
    text = out.getvalue()
    assert "…" not in text
    assert all(heading.split()[0] in text for heading in top.NARROW)
    assert f"{C}: call {top.row(found['peers'][0])[-1]}" in text


def test_the_words_are_those_of_the_console() -> None:
    """Headings and states of `relay top` stand, letter by letter, in the console's templates."""
    page, parts = ((TEMPLATE / name).read_text(encoding="utf-8") for name in ("network.html", "parts.html"))
    assert all(f'_("{heading}")' in page for heading in top.HEADINGS)
    assert all(f'"{state}": ("' in parts and f'_("{shown[2:]}")' in parts for state, shown in top.STATES.items())


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (3_661, "1 h 1 min"), (90_000, "1 d 1 h")]
)
def test_ages_are_short(seconds: float, said: str) -> None:
    """Two numbers at most, from seconds to days."""
    assert top.age(seconds) == said


def test_a_sparkline_is_as_high_as_its_highest() -> None:
    """Nothing is a low bar, the most a full one; no numbers, no bars."""
    assert top.sparkline([0, 1, 7]) == "▁▂█"
    assert top.sparkline([0, 0]) == "▁▁"
    assert top.sparkline([]) == ""


def test_what_a_terminal_would_obey_is_not_passed_on() -> None:
    """A foreign centre's name can't move the cursor, ring or recolour."""
    assert top.clean("Centre\x1b[2J\x07 ü") == "Centre?[2J? ü"
    assert new_id(A).isprintable()
