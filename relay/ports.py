"""Free ports of loopback, for what is started on this machine: a private RabbitMQ, the nodes of a new network.

They lie below the range from which the system picks ports for outgoing connections. ``$RELAY_PORTS`` (``FIRST-LAST``) narrows the
choice, so that several who choose at the same time keep out of each other's way: nothing holds a port until it is listened on.

Errors raised: ``Misconfigured`` with the code ``bad-port-range``.
"""

from __future__ import annotations

import os
import random
import socket

from relay.errors import Misconfigured

HOST = "127.0.0.1"
RANGE = "15000-32000"
FEWEST = 100
"""Ports that a range must have, or the choice would end by going round and round."""


def free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens at this moment."""
    first, last = _range()
    ports: list[int] = []
    while len(ports) < count:
        port = random.randint(first, last)  # noqa: S311  not a secret
        with socket.socket() as probe:
            if port not in ports and probe.connect_ex((HOST, port)) != 0:
                ports.append(port)
    return ports


def _range() -> tuple[int, int]:
    given = os.environ.get("RELAY_PORTS", RANGE)
    first, _, last = given.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 1024 <= int(first) <= int(last) - FEWEST < 65536 - FEWEST):
        sentence = f"$RELAY_PORTS is {given!r}; it must be FIRST-LAST, at least {FEWEST} ports between 1024 and 65535."
        raise Misconfigured("bad-port-range", sentence)
    return int(first), int(last)
