"""What a person sees: a live table while the network works, and the reconciliation at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from relay.demo.accounts import Account
from relay.demo.delays import Delay
from relay.demo.reconcile import Reconciliation
from relay.demo.story import Played
from relay.demo.system import Tally

PAUSE_SECONDS = 2.0


@dataclass(slots=True)
class Row:
    """A centre in the table."""

    centre: str
    name: str
    tally: Tally
    account: Account
    due: int = 0
    state: str = "starting"
    pid: int | None = None


class Show:
    """The live table on a terminal, a line every ``pause`` seconds elsewhere, nothing when ``quiet``."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._live = Live(console=self._console, refresh_per_second=4)
        self._on_terminal = self._console.is_terminal and not quiet
        self._said = 0.0
        self.pause = PAUSE_SECONDS

    def __enter__(self) -> Show:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def say(self, sentence: str) -> None:
        """Print a sentence above the table."""
        self._console.print(sentence, highlight=False, soft_wrap=True)

    def fail(self, sentence: str) -> None:
        """Print why the demonstration can't go on, however quiet it is."""
        self.end()
        Console(stderr=True).print(sentence, highlight=False)

    def update(self, rows: Mapping[str, Row], seconds: float) -> None:
        """Show where everything stands."""
        if self._on_terminal:
            self._live.start()
            self._live.update(Group(_table(rows, seconds), _doors(rows)))
        elif seconds - self._said >= self.pause:
            self._said = seconds
            self.say(_line(rows, seconds))

    def end(self) -> None:
        """Leave the table as it stands."""
        if self._on_terminal:
            self._live.stop()


def _line(rows: Mapping[str, Row], seconds: float) -> str:
    submitted = sum(row.tally.submitted for row in rows.values())
    taken, due = sum(row.tally.taken for row in rows.values()), sum(row.due for row in rows.values())
    states = ", ".join(f"{row.centre} {row.state}" for row in rows.values())
    return f"{seconds:4.0f} s  {submitted:,} submitted, {taken:,} of {due:,} taken; {states}"


def _table(rows: Mapping[str, Row], seconds: float) -> Table:
    table = Table(title=f"Inter-centre relay, {seconds:.0f} s", title_justify="left")
    table.add_column("centre", no_wrap=True)
    table.add_column("name", no_wrap=True, overflow="ellipsis", max_width=28)
    table.add_column("node", no_wrap=True)
    for column in ("submitted", "to receive", "taken", "waiting"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows.values():
        waiting = max(row.due - row.tally.taken, 0)
        numbers = (row.tally.submitted, row.due, row.tally.taken, waiting)
        table.add_row(row.centre, row.name, row.state, *(f"{number:,}" for number in numbers))
    return table


def _doors(rows: Mapping[str, Row]) -> Table:
    """Return where each centre's console is, who signs in there, and which process its node is."""
    table = Table(box=None)
    for column in ("centre", "process", "console", "account", "password"):
        table.add_column(column, no_wrap=True)
    for row in rows.values():
        account = row.account
        table.add_row(row.centre, str(row.pid or "-"), account.console, account.name, account.password)
    return table


def verdict(outcome: Reconciliation, played: Played | None, seconds: float, first: float | None) -> Table:
    """Return the reconciliation and what came of the story as a table."""
    table = Table(show_header=True)
    table.add_column("from what each centre's own system took", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_row("messages submitted", f"{outcome.submitted:,}")
    table.add_row("deliveries promised", f"{outcome.expected:,}")
    table.add_row("delivered", f"{outcome.delivered:,}")
    table.add_row("lost", f"{outcome.lost:,}")
    table.add_row("duplicated", f"{outcome.duplicated:,}")
    table.add_row("to someone not entitled", f"{outcome.unentitled:,}")
    if played is not None:
        table.add_row("kinds of message in the story", f"{len(played.kinds)}")
        table.add_row("recall in the story, confirmed by nodes", f"{played.recalled.confirmed} of {played.recalled.of}")
    table.add_row("first message delivered after", "never" if first is None else f"{first:.1f} s")
    table.add_row("seconds in all", f"{seconds:.1f}")
    return table


def links(measured: Mapping[tuple[str, str], Delay], killed: str, resets: Mapping[str, int]) -> Table:
    """Return how long messages took on each link as a table; below it, what happened to which centre's own."""
    happened = [f"{killed}: killed", *(f"{centre}: {count} times reset" for centre, count in resets.items())]
    table = Table(caption="; ".join(happened), caption_justify="left")
    table.add_column("seconds from the submit's answer to the take", no_wrap=True)
    for column in ("messages", "p50", "p99"):
        table.add_column(column, justify="right", no_wrap=True)
    for (origin, recipient), one in measured.items():
        table.add_row(f"{origin} -> {recipient}", f"{one.messages:,}", f"{one.p50:.2f}", f"{one.p99:.2f}")
    return table
