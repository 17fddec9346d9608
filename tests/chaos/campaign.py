"""The course of a campaign: traffic at an even pace, faults at their moments, quiet, and the judge's verdict."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos import checker, faults, signatures, stage, traffic
from tests.chaos.checker import Verdict
from tests.chaos.faults import KINDS, Fault
from tests.chaos.inflict import inflict
from tests.chaos.stage import CENTRES, Stage, staged

SECONDS_A_FAULT = 5.0
MESSAGES_A_SECOND = 250
TICK_SECONDS = 0.25
QUIET_SECONDS = 3.0
LONG = {
    "RELAY_REPAIR__MARK_LONGEST": "20",
    "RELAY_REPAIR__GAP": "3",
}
SHORT = {
    "RELAY_REPAIR__MARK_FIRST": "0.3",
    "RELAY_REPAIR__MARK_LONGEST": "4",
    "RELAY_REPAIR__GAP": "0.5",
    "RELAY_REPAIR__HEARTBEAT_SECONDS": "5",
    "RELAY_REPAIR__ECHO_SECONDS": "3",
    "RELAY_CONSOLE__LAST_WORDS_SECONDS": "0",
    "RELAY_BROKER__PING_SECONDS": "2",
    "RELAY_BROKER__PING_LIMIT_SECONDS": "5",
    "RELAY_BROKER__HEARTBEAT_SECONDS": "4",
    "RELAY_BROKER__CONFIRM_SECONDS": "8",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What a campaign is asked for; ``patience`` is how long nothing may move before the campaign gives up waiting."""

    messages: int = 20_000
    faults: int = 30
    seed: int = 1
    short: bool = False
    kinds: tuple[str, ...] = KINDS
    keep: Path | None = None
    say: Callable[[str], None] = lambda sentence: print(sentence, file=sys.stderr, flush=True)

    @property
    def patience(self) -> float:
        """Seconds without movement after which what is missing counts as lost."""
        return 60 if self.short else 240

    @property
    def pace(self) -> float:
        """Seconds over which the traffic is spread."""
        return max(self.messages / MESSAGES_A_SECOND, self.faults * SECONDS_A_FAULT * (0.6 if self.short else 1))


@dataclass(slots=True)
class Outcome:
    """What came out; ``unsigned`` are ends without a valid signature, ``ended`` nodes that ended by themselves.

    ``mended`` are the times when the broker could not be used after a restart until its operator began anew.
    """

    verdict: Verdict
    unsigned: int
    latencies: dict[tuple[str, str], tuple[int, float, float]]
    faults: tuple[Fault, ...]
    without: dict[str, str]
    ended: list[str]
    mended: list[str]
    seconds: float
    missing: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether the promise was kept: all was delivered once, and each end is signed."""
        return self.verdict.complete and not self.unsigned


def run(options: Options) -> Outcome:
    """Run a campaign in a temporary folder, or in ``options.keep``."""
    with tempfile.TemporaryDirectory(prefix="relay-chaos-", ignore_cleanup_errors=True) as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return asyncio.run(_play(folder, options))
        finally:
            stage.unmount(folder)


async def _play(folder: Path, options: Options) -> Outcome:
    started = time.monotonic()
    async with staged(folder, options.messages, options.seed, SHORT if options.short else LONG) as running:
        kinds = tuple(kind for kind in options.kinds if kind not in running.without)
        drawn = faults.schedule(options.seed, options.faults, CENTRES, running.disks, kinds)
        for kind, why in running.without.items():
            options.say(f"without {kind}: {why}")
        await _work(running, options, drawn)
        await running.save_states()
        for node in running.nodes.values():
            node.stop()
        unsigned = _unsigned(running)
        ended = [f"{centre}: {how}" for centre, node in running.nodes.items() for how in node.ended]
        without, mended = dict(running.without), list(running.mended)
    verdict, missing = judged(folder / "journals")
    latencies = checker.latencies(checker.read(folder / "journals"))
    return Outcome(verdict, unsigned, latencies, drawn, without, ended, mended, time.monotonic() - started, missing)


async def _work(running: Stage, options: Options, drawn: tuple[Fault, ...]) -> None:
    """Let every system work while the faults happen; then wait until all is at its end, or nothing moves any more."""
    share, rest = divmod(options.messages, len(CENTRES))
    systems = running.systems
    loops = [asyncio.create_task(system.take()) for system in systems.values()]
    loops += [asyncio.create_task(node.supervise()) for node in running.nodes.values()]
    submitting = [
        asyncio.create_task(
            systems[centre].submit(traffic.said(centre, share + (index < rest), options.seed, CENTRES), options.pace)
        )
        for index, centre in enumerate(CENTRES)
    ]
    injecting = asyncio.create_task(_inject(running, options, drawn))
    try:
        await _until(running, options, [*loops, *submitting, injecting], lambda: all(task.done() for task in submitting))
        await _until(running, options, [*loops, injecting], injecting.done)
        await _until(running, options, loops, lambda: _settled(running))
        await asyncio.sleep(QUIET_SECONDS)  # a duplicate would come now
    finally:
        for task in (*loops, *submitting, injecting):
            task.cancel()
        await asyncio.gather(*loops, *submitting, injecting, return_exceptions=True)


async def _inject(running: Stage, options: Options, drawn: tuple[Fault, ...]) -> None:
    """Do every fault when its share of the messages was submitted."""
    async with asyncio.TaskGroup() as group:
        for fault in drawn:
            await _reached(running, fault.when * options.messages)
            options.say(str(fault))
            group.create_task(inflict(running, fault, 0.5 if options.short else 1.0))


async def _reached(running: Stage, messages: float) -> None:
    """Return once so many messages were submitted."""
    while sum(system.submitted for system in running.systems.values()) < messages:  # noqa: ASYNC110 - counted in four places
        await asyncio.sleep(TICK_SECONDS / 5)


def _settled(running: Stage) -> bool:
    """Return whether every promise was seen and every origin knows it."""
    systems = running.systems.values()
    return sum(one.seen for one in systems) >= sum(one.promised for one in systems) and running.open() == 0


async def _until(running: Stage, options: Options, tasks: list[asyncio.Task[None]], done: Callable[[], bool]) -> None:
    """Wait for a condition; a failed task ends the campaign, and so does nothing moving for long."""
    last, moved, said = (-1, -1, -1), time.monotonic(), time.monotonic()
    while not done():
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        systems = running.systems.values()
        now = (sum(one.submitted for one in systems), sum(one.seen for one in systems), running.open())
        if now != last:
            last, moved = now, time.monotonic()
        if time.monotonic() - said > 10:
            said = time.monotonic()
            promised = sum(one.promised for one in systems)
            options.say(f"        {now[0]:,} submitted, {now[1]:,} of {promised:,} seen, {now[2]:,} deliveries open")
        if time.monotonic() - moved > options.patience:
            return  # the judge will say what is missing
        await asyncio.sleep(TICK_SECONDS)


def _unsigned(running: Stage) -> int:
    """Return how many ends that the nodes show rest on no valid receipt."""
    now = datetime.now(UTC)
    found = 0
    for centre in running.nodes:
        lines = (running.folder / "journals" / f"{centre}.states.jsonl").read_text(encoding="utf-8").splitlines()
        states = {
            (state["id"], recipient["centre"]): recipient["state"]
            for state in map(json.loads, lines)
            for recipient in state["recipients"]
        }
        known = signatures.evidence(running.network.folder, centre, now)
        found += len(signatures.unsigned(running.store(centre), known, states))
    return found


def judged(journals: Path) -> tuple[Verdict, list[str]]:
    """Let the independent program judge the journals."""
    command = [sys.executable, "-m", "tests.chaos.checker", str(journals)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode not in (0, 1) or not done.stdout:
        raise RuntimeError(f"The checker failed: {done.stderr}")
    return Verdict(**json.loads(done.stdout)), done.stderr.splitlines()
