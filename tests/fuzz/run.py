"""Runs a target over its cases: what may come out of it, how long one may take, how much memory all may take.

A case is made from the seed, the target's name and its number alone. It fails when anything but the target's one documented error
comes out (a panic of a compiled library included), when that error is not one of the catalogue or tells too much, or when a limit
is passed. Time is the thread's CPU time, so other programs on the machine count for nothing.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from relay.errors import Refused, RelayError, catalogue

MOST_FAILURES = 20
MOST_PROBLEMS = 1100  # of one refusal: a thousand of the models, a few of the rules
LONGEST_DETAIL = 600
LOOK_EVERY = 500


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads bytes from outside: where its cases come from, and the only error that may leave it.

    ``share`` is how many of a thousand cases it gets.
    """

    name: str
    share: int
    make: Callable[[Random], bytes]
    take: Callable[[bytes], object]
    refuses: type[RelayError]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a case may take (CPU seconds), and by how much the process may grow in a run (MiB)."""

    seconds: float = 2.0
    growth: float = 512.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that failed, and how it can be repeated."""

    target: str
    seed: int
    case: int
    error: str
    raw: bytes

    @property
    def again(self) -> str:
        """The command that runs this case alone."""
        return f"python -m tests.fuzz --seed {self.seed} --only {self.target} --case {self.case}"

    def write(self, folder: Path) -> Path:
        """Write the case into a folder: what happened, how to repeat it, and the bytes in hex."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.target}-{self.seed}-{self.case}.txt"
        path.write_text(f"# {self.error!a}\n# {self.again}\n{self.raw.hex()}\n", encoding="ascii")
        return path


@dataclass(slots=True)
class Result:
    """What came out of a target."""

    target: str
    cases: int = 0
    refused: int = 0
    slowest: float = 0.0
    slowest_case: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """How many cases were taken as good."""
        return self.cases - self.refused - len(self.failures)


class TooSlow(BaseException):  # no handler of the code under test may take it for one of its own
    """A case is still running at its limit."""


def case(target: Target, seed: int, number: int) -> bytes:
    """Return the bytes of one case."""
    return target.make(Random(f"{seed}/{target.name}/{number}"))  # noqa: S311 - not a secret


def run(target: Target, seed: int, numbers: Iterable[int], limits: Limits, at: int | None = None) -> Result:
    """Run cases of a target; with ``at``, a file descriptor, note there which one runs, in case the process does not survive."""
    result, before = Result(target.name), peak()
    for number in numbers:
        raw = case(target, seed, number)
        if at is not None:
            os.pwrite(at, f"--only {target.name} --case {number}".ljust(79).encode() + b"\n", 0)
        error, took = _fault(target, raw, limits, result)
        if took > result.slowest:
            result.slowest, result.slowest_case = took, number
        if error is None and took > limits.seconds:
            error = f"took {took:.1f} s"
        result.cases += 1
        if error is None and number % LOOK_EVERY == 0 and peak() - before > limits.growth:
            error = f"the process grew by {peak() - before:.0f} MiB, in this case or one of the {LOOK_EVERY} before"
        if error is not None:
            result.failures.append(Failure(target.name, seed, number, error, raw))
            if len(result.failures) == MOST_FAILURES:
                break
    return result


def peak() -> float:
    """Return the most memory that this process ever held, in MiB."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _fault(target: Target, raw: bytes, limits: Limits, result: Result) -> tuple[str | None, float]:
    """Return what is wrong with how a target takes a case, or None, and the CPU seconds it took; count a refusal."""
    started = time.thread_time()
    try:
        with _stopping_at(limits.seconds):
            target.take(raw)
    except target.refuses as refusal:
        took = time.thread_time() - started
        fault = _fault_of(refusal)
        result.refused += fault is None
        return fault, took
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of a compiled library is no Exception
        return f"{type(error).__name__}: {error}", time.thread_time() - started
    return None, time.thread_time() - started


def _fault_of(refusal: RelayError) -> str | None:
    """Return what is wrong with a refusal, or None: its codes are known, it tells little, and it says where."""
    known = catalogue()
    problems = refusal.problems
    if refusal.code not in known or any(problem.code not in known for problem in problems):
        return f"a code is not in the catalogue: {refusal!r} {problems[:3]}"
    if len(problems) > MOST_PROBLEMS or any(
        len(told) > LONGEST_DETAIL for told in (refusal.detail, *(p.detail for p in problems))
    ):
        return f"the refusal tells too much: {len(problems)} problems"
    if isinstance(refusal, Refused) and any(p.pointer and not p.pointer.startswith("/") for p in problems):
        return f"a place is no JSON Pointer: {problems[:3]}"
    return None


@contextlib.contextmanager
def _stopping_at(seconds: float) -> Iterator[None]:
    """Raise ``TooSlow`` when the block takes longer, in the process's CPU time."""

    def stop(_signal: int, _frame: object) -> None:
        raise TooSlow(f"still running after {seconds:g} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds, seconds)  # again and again: an error raised in a callback gets lost
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
