"""A node that is killed at a point once a file is there. Run with its settings, the point and the file."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from relay import cli, points
from relay.points import Point


def main(config: str, point: str, flag: str) -> int:
    """Run the node."""
    last = Point(point)

    def reached(there: Point) -> None:
        if there is last and Path(flag).exists():
            os.kill(os.getpid(), signal.SIGKILL)

    points.arm(reached)
    return cli.run(["node", "run", "--config", config])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
