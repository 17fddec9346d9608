"""A node that some messages kill: when it reads one, it ends as if the machine had ended it."""

from __future__ import annotations

import os

from relay import cli, messages
from relay.store import attempts

DEADLY = b"DEADLY"
ATTEMPTS = 1  # less than usual: each costs the start of a node

_read = messages.read


def read(content: bytes) -> messages.Message:
    """Read a message, and die of some."""
    if DEADLY in content:
        os._exit(70)
    return _read(content)


def run(config: str) -> int:
    """Run the node as ``relay node run`` does."""
    messages.read, attempts.LIMIT = read, ATTEMPTS
    return cli.run(["node", "run", "--config", config])
