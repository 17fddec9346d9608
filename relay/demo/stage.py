"""Everything that runs in a demonstration, and where a person finds it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from relay.demo.accounts import Account
from relay.demo.processes import NodeProcess
from relay.demo.proxy import Link
from relay.demo.show import Row, Show
from relay.demo.story import Played
from relay.demo.system import System
from relay.network import Network


@dataclass(slots=True)
class Stage:
    """What runs, by centre; ``started`` is when the command was given, by the monotonic clock."""

    network: Network
    show: Show
    started: float
    accounts: dict[str, Account]
    nodes: dict[str, NodeProcess] = field(default_factory=dict)
    systems: dict[str, System] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    played: Played | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the command."""
        return time.monotonic() - self.started

    @property
    def taken(self) -> int:
        """Messages taken so far, by all."""
        return sum(system.tally.taken for system in self.systems.values())

    @property
    def submitted(self) -> int:
        """Messages submitted so far, by all."""
        return sum(system.tally.submitted for system in self.systems.values())

    @property
    def promised(self) -> int:
        """Message x recipient promised so far."""
        return sum(system.tally.promised for system in self.systems.values())

    @property
    def first(self) -> float | None:
        """Seconds from the command to the first message taken."""
        moments = [one.tally.first_taken for one in self.systems.values() if one.tally.first_taken is not None]
        return min(moments) - self.started if moments else None

    def look(self) -> None:
        """Show where everything stands."""
        for centre, row in self.rows.items():
            row.due = sum(system.tally.promised_to.get(centre, 0) for system in self.systems.values())
            row.pid = self.nodes[centre].pid
        self.show.update(self.rows, self.seconds)
