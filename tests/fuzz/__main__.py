"""Run the fuzzer and print what came out; with ``--write`` also write the figures into ``docs/reference/fuzzing.md``.

A case that fails is kept in ``build/fuzz/``; ``build/fuzz/at`` names the case that ran when the process itself did not survive.
Exit status 1 when a case failed.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.fuzz.run import Failure, Limits, Result, Target, case, peak, run
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "fuzzing.md"
KEPT = ROOT / "build" / "fuzz"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000, help="cases of all targets together")
    parser.add_argument("--seed", type=int, default=1, help="what all chance is drawn from")
    parser.add_argument("--only", choices=[target.name for target in TARGETS], help="run this target alone")
    parser.add_argument("--case", type=int, help="with --only: run this case alone, with its traceback")
    parser.add_argument("--write", action="store_true", help="write the figures into the reference page")
    given = parser.parse_args()
    chosen = [target for target in TARGETS if given.only in (None, target.name)]
    if given.case is not None and given.only:
        return alone(chosen[0], given.seed, given.case)
    before, started = peak(), time.perf_counter()
    results = list(run_all(chosen, given.cases, given.seed))
    ran = sum(result.cases for result in results)
    summary = (
        f"{ran:,} cases in {time.perf_counter() - started:.0f} s; "
        f"peak memory {peak():.0f} MiB, of which {before:.0f} MiB before the first case."
    )
    figures = "\n".join([*table(results), "", summary])
    print(figures)
    failures = [failure for result in results for failure in result.failures]
    if given.write and not failures:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), figures, given.cases, given.seed), encoding="utf-8")
    return 1 if failures else 0


def alone(target: Target, seed: int, number: int) -> int:
    """Run one case as it is: what is wrong with it is seen by its traceback."""
    raw = case(target, seed, number)
    print(f"{len(raw)} bytes: {raw[:400]!r}")
    try:
        target.take(raw)
    except target.refuses as refusal:
        print(f"refused: {refusal.code}: {refusal.detail}")
    else:
        print("accepted")
    return 0


def run_all(targets: Sequence[Target], cases: int, seed: int, limits: Limits | None = None) -> Sequence[Result]:
    """Run targets with their shares of the cases; keep and tell what failed."""
    whole = sum(target.share for target in targets)
    results = []
    KEPT.mkdir(parents=True, exist_ok=True)
    at = os.open(KEPT / "at", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        for target in targets:
            result = run(target, seed, range(cases * target.share // whole), limits or Limits(), at)
            tell(result.failures)
            results.append(result)
    finally:
        os.close(at)
    return results


def tell(failures: Sequence[Failure]) -> None:
    """Keep failed cases as files and say on stderr how to repeat them."""
    for failure in failures:
        print(f"FAILED {failure.target}: {failure.error[:300]}", file=sys.stderr)
        print(f"  kept in {failure.write(KEPT)}; again: {failure.again}", file=sys.stderr)


def table(results: Sequence[Result]) -> list[str]:
    """Return the table of what came out."""
    rows = [
        f"| `{one.target}` | {one.cases:,} | {one.refused:,} | {one.accepted:,} | {len(one.failures)} "
        f"| {one.slowest * 1000:.1f} | {one.slowest_case} |"
        for one in results
    ]
    head = "| target | cases | refused | accepted | failed | slowest, ms | which case |"
    return [head, "|---|---|---|---|---|---|---|", *rows]


def written(page: str, figures: str, cases: int, seed: int) -> str:
    """Return the page with these figures between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = (
        f"`python -m tests.fuzz --cases {cases} --seed {seed}`, {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}"
    )
    return f"{before}{BEGIN}{made}, {os.cpu_count()} cores, one used:\n\n{figures}\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
