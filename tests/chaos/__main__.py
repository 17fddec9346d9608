"""Run a campaign, print what came out and add its row to ``docs/reference/reliability.md``, unless ``--no-write`` is given.

A campaign with ``--short`` or ``--only`` adds no row: ``make chaos`` could not repeat it. Exit status 1 when anything was lost,
duplicated or unexpected, did not end, was rejected, expired or cancelled, or an end is not signed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.chaos import faults, report
from tests.chaos.campaign import Options, run
from tests.chaos.stage import CENTRES, SMALL_DISK


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="messages of all centres together")
    parser.add_argument("--faults", type=int, default=30, help="faults drawn from the seed")
    parser.add_argument("--seed", type=int, default=1, help="what all chance is drawn from")
    parser.add_argument("--only", nargs="+", choices=faults.KINDS, default=faults.KINDS, help="draw from these kinds alone")
    parser.add_argument("--short", action="store_true", help="the short form of `make test`: shorter faults, quicker repair")
    parser.add_argument("--schedule", action="store_true", help="only print the faults that would be drawn")
    parser.add_argument("--keep", type=Path, help="empty folder in which everything stays")
    write = argparse.BooleanOptionalAction
    parser.add_argument("--write", action=write, default=True, help="add the row to the reference page")
    given = parser.parse_args()
    if given.schedule:
        print("\n".join(map(str, faults.schedule(given.seed, given.faults, CENTRES, (SMALL_DISK,), given.only))))
        return 0
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)  # all ends lead through the clean-up
    options = Options(given.messages, given.faults, given.seed, given.short, tuple(given.only), given.keep)
    outcome = run(options)
    print(report.table(options, outcome))
    if given.write and report.repeatable(options):
        report.write(options, outcome)
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main())
