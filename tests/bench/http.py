"""The path through the local API: NDJSON in at the sender, pull and acknowledge at the receiver."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relay.node import Node


def available() -> bool:
    """Return whether this tree has an API to measure."""
    return find_spec("relay.api") is not None


def surfaces(node: Node) -> tuple[Any, ...]:
    """Return what a node must run to be reached over HTTP."""
    raise NotImplementedError("relay.api is not there yet")


async def submit(listen: str, token: str, load: list[bytes]) -> None:
    """Submit everything in NDJSON batches."""
    raise NotImplementedError("relay.api is not there yet")


async def take(listen: str, token: str, count: int) -> dict[str, Any]:
    """Pull and acknowledge this many messages."""
    raise NotImplementedError("relay.api is not there yet")
