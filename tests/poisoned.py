"""A node that some messages kill: when it reads one, it ends as if the machine had ended it. Run like ``relay node run``."""

from __future__ import annotations

import os
import sys

from relay import cli, messages
from relay.store import attempts

DEADLY = b"DEADLY"
ATTEMPTS = 1  # less than usual: each costs the start of a process

_read = messages.read


def read(content: bytes) -> messages.Message:
    """Read a message, and die of some."""
    if DEADLY in content:
        os._exit(70)
    return _read(content)


if __name__ == "__main__":
    messages.read, attempts.LIMIT = read, ATTEMPTS
    sys.exit(cli.run(["node", "run", "--config", sys.argv[1]]))
