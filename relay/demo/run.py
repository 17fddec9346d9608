"""The course of the demonstration: start a network, let it work, kill one centre, bring it back, tell a story, reconcile."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from relay.demo import accounts, serving, story, traffic, wan
from relay.demo.delays import Delay, delays
from relay.demo.journal import Journal
from relay.demo.processes import NodeProcess
from relay.demo.reconcile import Reconciliation, reconcile
from relay.demo.show import Row, Show, links, verdict
from relay.demo.stage import Stage
from relay.demo.system import DemoFailed, System
from relay.errors import RelayError
from relay.network import Network, write_network
from relay.rabbit import PrivateBroker

VICTIM = "LYO"
KILL_AT = 0.4
VICTIM_AWAY_SECONDS = 3.0
AWAY_SECONDS = 60.0
READY_SECONDS = 60.0
STALLED_SECONDS = 90.0
TICK_SECONDS = 0.25
SERVED_PAUSE_SECONDS = 60.0
SEED = 2016


@dataclass(frozen=True, slots=True)
class Options:
    """What the demonstration is asked for; ``wan`` puts two centres behind wide-area links and measures every link.

    With ``serve``, a node that ended stays away for ``away`` seconds.
    """

    messages: int = 2000
    json: bool = False
    serve: bool = False
    wan: bool = False
    away: float = AWAY_SECONDS
    seed: int = SEED


def run(options: Options) -> int:
    """Run the demonstration; return the exit status: 0 when nothing was lost, duplicated or given to someone not entitled."""
    started = time.monotonic()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)  # all ends lead through the clean-up below
    with tempfile.TemporaryDirectory(prefix="relay-demo-") as folder, Show(quiet=options.json) as show:
        network = write_network(Path(folder) / "network")
        show.say(f"Wrote a network of {len(network.directory.members)} centres; starting RabbitMQ and one node per centre.")
        stage = Stage(network, show, started, accounts.add(network))
        show.say(accounts.told(stage.accounts))
        broker = _broker(network)
        try:
            outcome = asyncio.run(_linked(stage, options, Path(folder), broker))
        except (DemoFailed, RelayError) as failed:
            show.fail(f"The demonstration failed: {failed}")
            return 1
        except KeyboardInterrupt:
            return 0 if options.serve else 1
        finally:
            try:
                _stop(stage.nodes.values())
            finally:
                broker.kill()  # and whoever is bound to it, should somebody not wait for the nodes
    return 0 if outcome is None or outcome.clean else 1


def _broker(network: Network) -> PrivateBroker:
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


async def _linked(stage: Stage, options: Options, folder: Path, broker: PrivateBroker) -> Reconciliation | None:
    """Play with the wide-area links open, if there are any."""
    lines = wan.LINES if options.wan else {}
    if lines:
        stage.show.say(f"Wide-area links: {wan.told(lines)}; {wan.MESSAGES_A_SECOND} messages a second.")
    async with wan.links(stage.network, lines, options.seed) as stage.links:
        try:
            return await _play(stage, options, folder, broker)
        finally:
            if lines:
                await asyncio.to_thread(_stop, stage.nodes.values())  # while they can still say goodbye to the broker


async def _play(stage: Stage, options: Options, folder: Path, broker: PrivateBroker) -> Reconciliation | None:
    journals = {centre: folder / f"{centre}.jsonl" for centre in stage.network.directory.active}
    booting = asyncio.create_task(asyncio.to_thread(broker.start))
    await asyncio.sleep(0.2)
    # The nodes load while RabbitMQ boots; each connects by itself as soon as it answers.
    _start(stage, journals, folder, {**broker.bond, **(serving.ENVIRONMENT if options.serve else {})})
    try:
        await booting
        await _await_ready(stage)
        if options.serve:
            await _serve(stage, options)
            return None
        await _work(stage, options)
    finally:
        for system in stage.systems.values():
            await system.close()
    directory = json.loads((stage.network.folder / "directory.json").read_bytes())
    outcome = reconcile(journals, directory)
    _tell(stage, options, outcome, delays(journals) if options.wan else None)
    return outcome


def _start(stage: Stage, journals: dict[str, Path], folder: Path, environment: Mapping[str, str]) -> None:
    """Start a node and a system for every centre."""
    network = stage.network
    for member in network.directory.active.values():
        centre = member.id
        way = wan.environment(network, centre, stage.links[centre]) if centre in stage.links else {}
        stage.nodes[centre] = NodeProcess(network.node_file(centre), folder / f"{centre}.log", {**environment, **way})
        stage.nodes[centre].start()
        token = network.token(centre, "system")
        journal = Journal(journals[centre])
        stage.systems[centre] = System(centre, network.listen(centre), token, journal, network.health(centre))
        stage.rows[centre] = Row(centre, member.name, stage.systems[centre].tally, stage.accounts[centre])


async def _await_ready(stage: Stage) -> None:
    waiting = dict(stage.systems)
    limit = time.monotonic() + READY_SECONDS
    while waiting:
        for centre in [centre for centre, system in waiting.items() if await system.ready()]:
            stage.rows[centre].state = "ready"
            del waiting[centre]
        for centre in waiting:
            if not stage.nodes[centre].running:
                raise DemoFailed(f"The node of {centre} ended: {stage.nodes[centre].last_words()}")
        if time.monotonic() > limit:
            raise DemoFailed(f"{', '.join(waiting)} did not become ready in {READY_SECONDS:.0f} s.")
        stage.look()
        await asyncio.sleep(0.1)


async def _work(stage: Stage, options: Options) -> None:
    """Let every system submit its share and take what comes, killing one centre on the way."""
    shares = _shares(stage, options)
    takers = [asyncio.create_task(system.take()) for system in stage.systems.values()]
    seconds = options.messages / wan.MESSAGES_A_SECOND if options.wan else 0.0
    submitters = [asyncio.create_task(stage.systems[centre].submit(told, seconds)) for centre, told in shares.items()]
    try:
        await _until(stage, takers + submitters, lambda: stage.submitted >= KILL_AT * options.messages)
        await _kill_and_revive(stage)
        await _until(stage, takers + submitters, lambda: all(task.done() for task in submitters))
        await _until(stage, takers, lambda: stage.taken >= stage.promised)
        await _tell_story(stage, takers)
        await _until(stage, takers, lambda: stage.taken >= stage.promised)
        await asyncio.sleep(1)  # a duplicate would come now
    finally:
        await _end(takers + submitters)
        stage.look()


async def _tell_story(stage: Stage, takers: list[asyncio.Task[None]]) -> None:
    """Tell the story while the systems take what comes."""
    telling = asyncio.create_task(story.play(stage.systems, stage.show.say))
    try:
        await _until(stage, [*takers, telling], telling.done)
        stage.played = await telling
    finally:
        await _end([telling])


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _shares(stage: Stage, options: Options) -> dict[str, list[traffic.Told]]:
    """Return what each centre will say: an equal share of the messages."""
    members = stage.network.directory.active
    share, rest = divmod(options.messages, len(members))
    return {
        centre: traffic.tell(centre, share + (index < rest), options.seed, member.model_dump()["publish"])
        for index, (centre, member) in enumerate(members.items())
    }


async def _until(
    stage: Stage, tasks: Iterable[asyncio.Task[Any]], done: Callable[[], bool], patience: float = STALLED_SECONDS
) -> None:
    """Show progress until a condition holds; a failed task ends the demonstration, nothing moving for long only the wait."""
    last, moved = -1, time.monotonic()
    while not done():
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if (now := stage.taken + stage.submitted) != last:
            last, moved = now, time.monotonic()
        if time.monotonic() - moved > patience:
            return  # the reconciliation will say what is missing
        stage.look()
        await asyncio.sleep(TICK_SECONDS)


async def _kill_and_revive(stage: Stage) -> None:
    """End one node as a power cut would, and bring it back a moment later."""
    row, node = stage.rows[VICTIM], stage.nodes[VICTIM]
    await asyncio.to_thread(node.kill)
    row.state = "killed"
    stage.show.say(f"{VICTIM}: kill -9 after {stage.submitted:,} messages; back in {VICTIM_AWAY_SECONDS:.0f} s.")
    await asyncio.sleep(VICTIM_AWAY_SECONDS)
    node.start()
    row.state = "back"


async def _serve(stage: Stage, options: Options) -> None:
    """Tell the story, then keep the network up and its systems talking until interrupted."""
    tasks = [asyncio.create_task(serving.Keeper(stage, options.away).run())]
    tasks += [asyncio.create_task(system.take()) for system in stage.systems.values()]
    try:
        await _tell_story(stage, tasks)
        for system in stage.systems.values():
            system.forget()
        tasks += [asyncio.create_task(talking) for talking in serving.talks(stage, options.seed)]
        _tell_where(stage, options)
        await _until(stage, tasks, lambda: False, math.inf)
    finally:
        await _end(tasks)


def _tell_where(stage: Stage, options: Options) -> None:
    """Say where everything is, and what can be done to it."""
    if options.json:
        print(
            json.dumps({"network": str(stage.network.folder), "centres": {one: _where(stage, one) for one in stage.nodes}}),
            flush=True,
        )
        return
    for centre in stage.nodes:
        where = _where(stage, centre)
        found = "  ".join(f"{name} {where[name]}" for name in ("pid", "console", "api", "settings"))
        stage.show.say(f"{centre:8} {found}")
    stage.show.say(serving.told(options.away))
    stage.show.pause = SERVED_PAUSE_SECONDS


def _where(stage: Stage, centre: str) -> dict[str, Any]:
    network, account = stage.network, stage.accounts[centre]
    return {
        **asdict(account),
        "api": f"http://{network.listen(centre)}",
        "settings": str(network.node_file(centre)),
        "pid": stage.nodes[centre].pid,
    }


def _tell(stage: Stage, options: Options, outcome: Reconciliation, measured: Mapping[tuple[str, str], Delay] | None) -> None:
    stage.show.end()
    if not options.json:
        console = Console()
        console.print(verdict(outcome, stage.played, stage.seconds, stage.first))
        if measured is not None:
            broken = {centre: link.resets for centre, link in stage.links.items() if link.line.reset_every}
            console.print(links(measured, VICTIM, broken))
        return
    figures = {
        "submitted": outcome.submitted,
        "expected": outcome.expected,
        "delivered": outcome.delivered,
        "lost": outcome.lost,
        "duplicated": outcome.duplicated,
        "unentitled": outcome.unentitled,
        "seconds": round(stage.seconds, 1),
        "first_delivery_seconds": None if stage.first is None else round(stage.first, 1),
        "killed": VICTIM,
        "story": asdict(stage.played) if stage.played else None,
    }
    if measured is not None:
        figures["links"] = {f"{origin}->{recipient}": _figures(one) for (origin, recipient), one in measured.items()}
    print(json.dumps(figures))


def _figures(delay: Delay) -> dict[str, Any]:
    return {"p50": round(delay.p50, 3), "p99": round(delay.p99, 3), "messages": delay.messages}


def _stop(nodes: Iterable[NodeProcess]) -> None:
    for node in nodes:
        node.ask_to_stop()
    for node in nodes:
        node.wait()
