"""A node that is killed at a point once a file is there."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from relay import cli, points
from relay.points import Point


def run(config: str, point: Point, flag: Path) -> int:
    """Run the node as ``relay node run`` does."""

    def reached(there: Point) -> None:
        if there is point and flag.exists():
            os.kill(os.getpid(), signal.SIGKILL)

    points.arm(reached)
    return cli.run(["node", "run", "--config", config])
