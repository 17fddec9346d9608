"""Run every benchmark and print the tables; with ``--write`` also write ``docs/reference/performance.md``."""

from __future__ import annotations

import argparse

from tests.bench import latency, report, sections, throughput
from tests.bench.sections import PAGE
from tests.bench.stage import stage


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=throughput.ROUNDS, help="how often each path is run, interleaved")
    parser.add_argument("--write", action="store_true", help="write the reference page")
    given = parser.parse_args()
    with stage() as at:
        rabbit = report.rabbit_version(at.broker)
        rates = throughput.run(at, given.rounds)
        print("\n".join(throughput.table(rates)), flush=True)
        waits = latency.run(at, given.rounds)
        print("\n".join(latency.table(waits)), flush=True)
    if given.write:
        others = sections.kept(PAGE.read_text(encoding="utf-8"))
        PAGE.write_text(report.page(rates, waits, rabbit, given.rounds) + others, encoding="utf-8")


if __name__ == "__main__":
    main()
