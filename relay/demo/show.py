"""What a person sees: a live table while the network works, and the reconciliation at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.table import Table

from relay.demo.reconcile import Reconciliation
from relay.demo.system import Tally


@dataclass(slots=True)
class Row:
    """A centre in the table."""

    centre: str
    name: str
    tally: Tally
    due: int = 0
    state: str = "starting"


class Show:
    """The live table; silent when ``quiet``."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._live = Live(console=self._console, refresh_per_second=4, transient=False)
        self._quiet = quiet

    def __enter__(self) -> Show:
        if not self._quiet:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._quiet:
            self._live.stop()

    def say(self, sentence: str) -> None:
        """Print a sentence above the table."""
        self._console.print(sentence, highlight=False)

    def fail(self, sentence: str) -> None:
        """Print why the demonstration can't go on, however quiet it is."""
        Console(stderr=True).print(sentence, highlight=False)

    def update(self, rows: Mapping[str, Row], seconds: float) -> None:
        """Show where everything stands."""
        table = Table(title=f"Inter-centre relay, {seconds:.0f} s", title_justify="left")
        for column in ("centre", "name", "node"):
            table.add_column(column)
        for column in ("submitted", "to receive", "taken", "waiting"):
            table.add_column(column, justify="right")
        for row in rows.values():
            waiting = max(row.due - row.tally.taken, 0)
            numbers = (row.tally.submitted, row.due, row.tally.taken, waiting)
            table.add_row(row.centre, row.name, row.state, *(f"{number:,}" for number in numbers))
        self._live.update(table)


def verdict(outcome: Reconciliation, seconds: float, first: float | None) -> Table:
    """Return the reconciliation as a table."""
    table = Table(title="Reconciled from what each centre's own system took", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("messages submitted", f"{outcome.submitted:,}")
    table.add_row("deliveries promised", f"{outcome.expected:,}")
    table.add_row("delivered", f"{outcome.delivered:,}")
    table.add_row("lost", f"{outcome.lost:,}")
    table.add_row("duplicated", f"{outcome.duplicated:,}")
    table.add_row("to someone not entitled", f"{outcome.unentitled:,}")
    table.add_row("first message delivered after", "never" if first is None else f"{first:.1f} s")
    table.add_row("seconds in all", f"{seconds:.1f}")
    return table
