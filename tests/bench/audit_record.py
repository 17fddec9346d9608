"""How long it takes to verify a record of a million entries, and to find the entries of one message in it.

``python -m tests.bench.audit_record FOLDER [ENTRIES]`` makes a store, verifies it as ``relay audit verify --store`` does, and
prints seconds and CPU seconds. A figure in the documentation was printed by this.
"""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from pathlib import Path

from relay.audit import Audit, AuditStep
from relay.clock import now_ms
from relay.store import Connection, Store, traces, trees
from relay.store.offline import reading
from relay.verifying import Verification

AT_ONCE = 5000


def write(connection: Connection, audit: Audit, first: int) -> None:
    """Append some entries as receipts make them."""
    given = (
        audit.leaf(
            AuditStep.ACCEPTED,
            now_ms(),
            envelope=f"0197295c-1c00-7000-8000-{number:012x}",
            peer="BE-CUS",
            commitments=[f"{number:064x}"],
        )
        for number in range(first, first + AT_ONCE)
    )
    audit.append(connection, given)


async def make(file: Path, entries: int) -> None:
    """Make a store with a record of this length, its hashes kept."""
    store = await Store.open(file, "BENCH", "0" * 64, now_ms())
    audit = Audit(store.epoch)
    for first in range(0, entries, AT_ONCE):
        await store.write(partial(write, audit=audit, first=first))
    while await store.write(partial(trees.complete, epoch=store.epoch)):
        pass
    await store.close()


def main(folder: str, entries: str = "1000000") -> None:
    """Make, verify, find; print what each took."""
    file = Path(folder) / "record.db"
    asyncio.run(make(file, int(entries)))
    with reading(file) as connection:
        begun, used = time.monotonic(), time.process_time()
        found = Verification("0" * 64, []).at_once(connection)
        spent = f"{time.monotonic() - begun:.1f} s, {time.process_time() - used:.1f} s of CPU"
        print(f"verified {found.entries} entries, fault {found.fault}: {spent}")
        begun = time.monotonic()
        leaves = traces.leaves_with(connection, ["0197295c-1c00-7000-8000-0000000f0000", "0197295c-1c00-7000-8000-0000000e0000"])
        print(f"found {len(leaves)} entries of a message: {time.monotonic() - begun:.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
