"""``relay top``: every peer as it is seen from here, those that need somebody first, drawn anew every two seconds.

The same words as the console's first page. On a terminal it stays until Ctrl-C; with ``--once``, or when nobody looks at a
terminal, it says it once, a line a peer.
"""
# ruff: noqa: PLC0415 - heavy modules are imported when a command runs

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli.client import AsJson, Client, Config, TokenFile, Url, client, where
from relay.cli.ends import give
from relay.errors import RelayError

if TYPE_CHECKING:
    from rich.console import RenderableType

Once = Annotated[bool, typer.Option("--once", help="Say it once, and end.")]

REDRAW_SECONDS = 2.0
BARS = "▁▂▃▄▅▆▇█"
SPARK_MINUTES = 20
TENS_A_MINUTE = 6
HEADINGS = (
    "Centre", "State", "Last heard", "Oldest without a receipt", "To it", "From it", "Clock", "Versions", "Time there",
    "Duty contact",
)  # fmt: skip
WIDE = 150
"""Columns of a terminal from which on every column is shown; a narrower one leaves out what nobody is called for."""
NARROW = ("Centre", "State", "Last heard", "Oldest without a receipt", "To it", "From it", "Time there")
STATES = {"heard": "● heard", "silent": "✖ silent", "never": "▲ not heard yet"}
NOTHING = "–"  # noqa: RUF001 - as the console writes it


def top(
    once: Once = False, as_json: AsJson = False, config: Config = None, url: Url = None, token_file: TokenFile = None
) -> None:
    """Show every peer: whether it lives, what it owes, how much moves, its clock and versions, and whom to call."""
    with client(where(config, url, token_file), "operator") as node:
        if as_json:
            give(node.ask("GET", "/v1/network").text)
        elif once or not sys.stdout.isatty():
            _say(_ask(node))
        else:
            _live(node)


def _ask(node: Client) -> dict[str, Any]:
    found: dict[str, Any] = node.ask("GET", "/v1/network").json()
    return found


def _say(network: dict[str, Any]) -> None:
    for line in summary(network):
        give(line)
    for peer in network["peers"]:
        give("  ".join(row(peer)))


def _live(node: Client) -> None:
    """Draw until Ctrl-C; while the node does not answer, say so and ask again."""
    from rich.console import Console
    from rich.live import Live

    console = Console(no_color=True, highlight=False, markup=False)
    with _until_interrupted() as interrupted:
        shown: RenderableType = drawn(_ask(node), console.width)
        with Live(shown, console=console, screen=True, auto_refresh=False) as live:
            while not interrupted:
                time.sleep(REDRAW_SECONDS)
                try:
                    shown = drawn(_ask(node), console.width)
                except RelayError as error:
                    shown = f"{clean(error.detail)} [{error.code}]"
                live.update(shown, refresh=True)


@contextmanager
def _until_interrupted() -> Iterator[list[int]]:
    """Do something until Ctrl-C ends it; the list that is given is not empty any more from then on.

    Whoever does it has to look at the list from time to time: Python drops a KeyboardInterrupt that is raised in a destructor or
    in a callback of the garbage collector.
    """
    signals: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with suppress(KeyboardInterrupt):
            yield signals
    finally:
        signal.signal(signal.SIGINT, before)


def drawn(network: dict[str, Any], width: int = WIDE) -> RenderableType:
    """Return what a terminal of so many columns shows of a network."""
    from rich.console import Group
    from rich.table import Column, Table
    from rich.text import Text

    headings = HEADINGS if width >= WIDE else NARROW
    table = Table(*(Column(name, overflow="fold") for name in headings), box=None, padding=(0, 1), expand=True)
    for peer in network["peers"]:
        calm = peer["state"] == "heard" and not peer["late"]
        cells = dict(zip(HEADINGS, row(peer), strict=True))
        if width < WIDE:  # the rate alone: bars that are cut off say nothing
            cells |= {name: cells[name].partition(" ")[0] for name in ("To it", "From it")}
        table.add_row(*(Text(cells[name]) for name in headings), style="" if calm else "bold")
    return Group(*(Text(line) for line in summary(network)), Text(""), table)


def summary(network: dict[str, Any]) -> list[str]:
    """Return what matters of this centre and of all peers, a line each."""
    here = network["centre"]
    ready = "● ready" if here["ready"] else "✖ not ready"
    broker = "connected" if here["broker_connected"] else "not connected"
    unsent, open_ = here["unsent_envelopes"], NOTHING if here["open_messages"] is None else here["open_messages"]
    lines = [
        f"{here['id']}  {ready}  {network['at']}  Broker: {broker}  Envelopes not yet sent: {unsent}  "
        f"Without a receipt: {open_}  Directory: {here['directory_version']}  Epoch: {here['epoch']}  Version: {here['release']}"
    ]
    lines += [f"✖ {clean(one)}" for one in dict.fromkeys([*here["problems"], *network["trouble"]])]
    lines += [f"▲ {clean(one)}" for one in here["warnings"]]
    silent, late = (sum(bool(test(one)) for one in network["peers"]) for test in (_is_silent, lambda one: one["late"]))
    lines.append(_count(silent, "silent", "✖") if silent else "● No centre is silent.")
    lines += [_count(late, "late", "▲")] if late else []
    lines += [f"  {peer['centre']}: call {_duty(peer)}" for peer in network["peers"] if _is_silent(peer) or peer["late"]]
    return lines + stuck(network["stuck"])


def row(peer: dict[str, Any]) -> list[str]:
    """Return what is said of a peer, in the order of the headings."""
    offset, heard = peer["clock_offset_seconds"], peer["heard_seconds"]
    version = NOTHING if peer["directory_version"] is None else peer["directory_version"]
    differs = " ✖ other bytes than ours" if peer["directory_differs"] else ""
    return [
        f"{peer['centre']} {clean(peer['name'])}",
        _state(peer),
        NOTHING if heard is None else age(heard),
        ", ".join(f"{one['precedence']}: {age(one['oldest_seconds'])} ({one['messages']})" for one in peer["oldest"])
        or "nothing",
        _rate(peer["sent"]),
        _rate(peer["received"]),
        NOTHING if offset is None else f"{round(offset, 1) + 0.0:+.1f} s",
        f"{peer['release'] or NOTHING} directory {version}{differs}",
        NOTHING if peer["local_time"] is None else f"{peer['local_time'][11:16]} ({peer['utc_offset']})",
        _duty(peer),
    ]


def age(seconds: float) -> str:
    """Return an age as the console writes it."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def sparkline(values: Sequence[int]) -> str:
    """Return numbers as bars, the highest of them full."""
    most = max(values, default=0)
    return "".join(BARS[value * (len(BARS) - 1) // most if most else 0] for value in values)


def clean(text: str) -> str:
    """Return a text of somebody else's without what a terminal would obey."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _state(peer: dict[str, Any]) -> str:
    late = [f"▲ late: {one['precedence']}, {one['promise']}: {one['messages']}, since {one['oldest_at']}" for one in peer["late"]]
    alarm = [f"▲ {peer['alarm']['code']}"] if peer["alarm"] else []
    return "; ".join([STATES[peer["state"]], *late, *alarm, *(["▲ audit-mismatch"] if peer["differences"] else [])])


def _rate(rate: dict[str, Any]) -> str:
    tens = rate["tens"][-SPARK_MINUTES * TENS_A_MINUTE :]
    minutes = [sum(tens[at : at + TENS_A_MINUTE]) for at in range(0, len(tens), TENS_A_MINUTE)]
    return f"{rate['per_second']:.1f}/s {sparkline(minutes)}".rstrip()


def stuck(seen: dict[str, int] | None) -> list[str]:
    """Return what does not go on by itself, and which answers are overdue; nothing before the node looked."""
    if seen is None:
        return []
    groups = {name: seen[name] for name in ("dead", "held", "quarantined") if seen[name]}
    said = ["● No message is dead, held or quarantined."]
    if groups:
        listed = ", ".join(f"{name}: {number}" for name, number in groups.items())
        said = [f"{'▲' if [*groups] == ['held'] else '✖'} Messages that do not go on by themselves: {listed}"]
    if seen["owed"] or seen["awaited"]:
        said += [f"✖ Overdue answers: owed by this centre: {seen['owed']}, owed by peers: {seen['awaited']}"]
    return said


def _duty(peer: dict[str, Any]) -> str:
    duty = peer["duty"]
    return clean(f"{duty['name']}, {duty['telephone']}, {duty['email']}")


def _is_silent(peer: dict[str, Any]) -> bool:
    return bool(peer["state"] == "silent")


def _count(number: int, what: str, symbol: str) -> str:
    return f"{symbol} 1 centre is {what}." if number == 1 else f"{symbol} {number} centres are {what}."
