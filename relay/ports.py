"""Free ports of loopback, for what is started on this machine: a private RabbitMQ, the nodes of a new network.

They lie below the range from which the system picks ports for outgoing connections. ``$RELAY_PORTS`` (``FIRST-LAST``) narrows the
choice, so that several who choose at the same time keep out of each other's way: nothing holds a port until it is listened on.
For the same reason a process is given none twice, as long as there are others.

Errors raised: ``Misconfigured`` with the code ``bad-port-range``.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterable

from relay.errors import Misconfigured

HOST = "127.0.0.1"
RANGE = "15000-32000"
FEWEST = 100
"""Ports that a range must have, so that there is a choice."""

_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens at this moment."""
    first, last = _range()
    fresh = set(range(first, last + 1)) - _given
    if (ports := _free(fresh, count)) is None:
        _given.clear()
        ports = _free(range(first, last + 1), count)
    if ports is None:
        raise Misconfigured("bad-port-range", f"Of the ports {first} to {last} of this machine not {count} are free.")
    _given.update(ports)
    return ports


def _free(among: Iterable[int], count: int) -> list[int] | None:
    """Return so many free ports among these, drawn by lot, or None when there are not as many."""
    ports: list[int] = []
    drawn = list(among)
    random.shuffle(drawn)
    while drawn and len(ports) < count:
        port = drawn.pop()
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) != 0:
                ports.append(port)
    return ports if len(ports) == count else None


def _range() -> tuple[int, int]:
    given = os.environ.get("RELAY_PORTS", RANGE)
    first, _, last = given.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 1024 <= int(first) <= int(last) - FEWEST < 65536 - FEWEST):
        sentence = f"$RELAY_PORTS is {given!r}; it must be FIRST-LAST, at least {FEWEST} ports between 1024 and 65535."
        raise Misconfigured("bad-port-range", sentence)
    return int(first), int(last)
