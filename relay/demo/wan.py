"""The demonstration over wide-area links: two nodes reach the broker each through a proxy of its own that is slow or breaks.

What such links do to each message shows only while the network keeps up, so the systems submit at a steady pace instead of all at
once: the slowest link has room for that, and no queue of the test's own making is measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit

from relay.demo.proxy import HOST, Line, Link
from relay.network import Network

LINES = {"SIN": Line(round_trip=0.250), "BUE": Line(bits=1_000_000, reset_every=20.0)}
MESSAGES_A_SECOND = 25


@contextlib.asynccontextmanager
async def links(network: Network, lines: Mapping[str, Line], seed: int) -> AsyncIterator[dict[str, Link]]:
    """Open a link to the network's broker for each centre that has a line; close them in the end."""
    opened = {centre: Link(network.broker.port, line, f"{seed}/{centre}") for centre, line in lines.items()}
    try:
        for link in opened.values():
            await link.start()
        yield opened
    finally:
        for link in opened.values():
            await link.close()


def environment(network: Network, centre: str, link: Link) -> dict[str, str]:
    """Return the environment that leads a node to the broker through a link."""
    parts = urlsplit(network.broker.url(centre))
    return {"RELAY_BROKER__URL": parts._replace(netloc=f"{parts.username}@{HOST}:{link.port}").geturl()}


def told(lines: Mapping[str, Line]) -> str:
    """Return in words what the links are like."""
    return "; ".join(f"{centre} is behind {_line(line)}" for centre, line in lines.items())


def _line(line: Line) -> str:
    parts = [
        f"a round trip of {line.round_trip * 1000:.0f} ms" if line.round_trip else "",
        f"{line.bits / 1_000_000:g} Mbit/s" if line.bits else "",
        f"a connection reset every {line.reset_every:.0f} s or so" if line.reset_every else "",
    ]
    return ", ".join(part for part in parts if part)
