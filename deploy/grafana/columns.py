"""The columns of a table: what the nodes of a selector say, a row for each value of some labels.

A table asks each of its metrics for the same labels, so they stand here once; what several tables show alike, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deploy.grafana.parts import COUNT, LATE, MOMENT, SECONDS, Column, Words, rate


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a table: of the series that the selector ``of`` names, one for each value of the labels ``by``."""

    of: str
    by: tuple[str, ...]

    def say(self, metric: str, aggregate: str = "max") -> str:
        """Return the expression of what a metric says in each row."""
        return f"{aggregate} by ({', '.join(self.by)}) ({metric}{{{self.of}}})"

    def most(self, metric: str, heading: str, unit: str = COUNT, *, words: Words = ()) -> Column:
        """Return a column of the highest of a row's series."""
        return Column(self.say(metric), heading, unit, words)

    def least(self, metric: str, heading: str, unit: str = COUNT, *, words: Words = ()) -> Column:
        """Return a column of the lowest."""
        return Column(self.say(metric, "min"), heading, unit, words)

    def all(self, metric: str, heading: str, unit: str = COUNT) -> Column:
        """Return a column of their sum."""
        return Column(self.say(metric, "sum"), heading, unit)

    def rate(self, metric: str, heading: str, unit: str) -> Column:
        """Return a column of what a counter counts in a second."""
        return Column(rate(metric, self.of, ", ".join(self.by)), heading, unit)

    def ago(self, metric: str, heading: str) -> Column:
        """Return a column of how long ago the last of some Unix times was."""
        return Column(f"time() - {self.say(metric)}", heading, SECONDS)

    def first(self, metric: str, heading: str) -> Column:
        """Return a column of the first of some Unix times, as Grafana writes it: from now."""
        return Column(f"1000 * {self.say(metric, 'min')}", heading, MOMENT)

    def under_way(self) -> Iterator[Column]:
        """Return the columns of what waits for a receipt, the age of the oldest first."""
        oldest = self.say("relay_oldest_unreceipted_seconds")
        yield Column(oldest, "Oldest", SECONDS)
        yield self.all("relay_open_messages", "Open")
        yield self.all("relay_deadlines_at_risk", "Deadlines at risk")
        yield Column(f"({self.say('relay_alarms', 'sum')} > bool 0) or (0 * {oldest})", "By its own alarm", words=LATE)
