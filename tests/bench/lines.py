"""What a line of a message costs: ``python -m tests.bench.lines``.

Microseconds of CPU a line, written to a file, for batches of 1, 8 and 64 messages, and of an ordinary event beside them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from relay import log
from relay.envelope import new_id
from relay.log import Event, Log

LINES = 64_000
BATCHES = (1, 8, 64)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        output = log.Rotating(Path(folder) / "relay.jsonl", 2**30, 1)
        log.configure("json", "info", output)
        said, ids = Log("LGA"), [new_id("LGA") for _ in range(max(BATCHES))]
        for batch in BATCHES:
            print(f"{cost(lambda size=batch: taken(said, ids[:size]), LINES // batch) / batch:5.1f} µs a line, {batch} at once")
        print(f"{cost(lambda: said.warning(Event.NACK_TAKEN, peer='LGB', lane='routine', envelopes=1), 20_000):5.1f} µs an event")
        output.close()


def taken(said: Log, ids: list[str]) -> None:
    """Write what a node writes of an envelope that it took in."""
    own = ({"message": one, "size": 1834, "kind": "seizure"} for one in ids)
    said.messages(Event.MESSAGE_TAKEN, own, envelope=ids[0], peer="LGB", lane="routine")


def cost(act: Callable[[], object], times: int) -> float:
    """Return the microseconds of CPU that an act takes, the best of three."""
    return min(_once(act, times) for _ in range(3))


def _once(act: Callable[[], object], times: int) -> float:
    before = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - before) / times * 1e6


if __name__ == "__main__":
    main()
