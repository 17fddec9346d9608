"""The fuzzer in short: what reads bytes from outside survives twenty thousand bad ones, and the fuzzer sees what does not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random

import pytest

from relay import messages
from relay.errors import Refused
from tests.fuzz import __main__ as command
from tests.fuzz.run import MOST_FAILURES, Limits, Result, Target, case, peak, run
from tests.fuzz.targets import TARGETS

CASES, SEED = 20_000, 20_261
LIMITS = Limits(seconds=2, growth=256)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_nothing_but_the_documented_refusal_comes_out(target: Target) -> None:
    """Every parser takes or refuses each bad input, within its time and memory; and the inputs are bad, but not only bad."""
    result = run(target, SEED, range(CASES * target.share // 1000), LIMITS)
    assert [(failure.error, failure.again) for failure in result.failures] == []
    assert result.refused > result.accepted > 0


def test_the_shares_make_the_whole() -> None:
    """A million cases asked for are a million cases run."""
    assert sum(target.share for target in TARGETS) == 1000
    assert len({target.name for target in TARGETS}) == len(TARGETS)


def test_a_case_is_made_from_seed_target_and_number_alone() -> None:
    """The same three give the same bytes, whatever was made before; another seed or target gives others."""
    for target in TARGETS:
        assert case(target, 3, 17) == case(target, 3, 17)
        assert [case(target, 3, number) for number in range(9)] != [case(target, 4, number) for number in range(9)]
    one, other = TARGETS[0], replace(TARGETS[0], name="other")
    assert [case(one, 3, number) for number in range(9)] != [case(other, 3, number) for number in range(9)]


def broken(take: Callable[[bytes], object], cases: int = 200, limits: Limits = LIMITS) -> Result:
    """Run messages on something that is broken."""
    return run(replace(TARGETS[0], take=take), SEED, range(cases), limits)


def test_a_crash_is_seen_and_can_be_repeated(tmp_path: Path) -> None:
    """A parser that stumbles over one rare byte is caught with that case; the file kept holds its bytes and the command."""

    def stumble(raw: bytes) -> None:
        if b"\0" in raw:
            raise KeyError("a nul")
        messages.parse(raw)

    result = broken(stumble, 3000)
    assert 0 < len(result.failures) < result.cases
    failure = result.failures[0]
    assert failure.error == "KeyError: 'a nul'"
    assert case(TARGETS[0], failure.seed, failure.case) == failure.raw
    command_line, kept = failure.write(tmp_path).read_text(encoding="ascii").splitlines()[1:]
    assert command_line == f"# python -m tests.fuzz --seed {SEED} --only messages.parse --case {failure.case}"
    assert bytes.fromhex(kept) == failure.raw


def test_a_panic_is_seen() -> None:
    """What a compiled library throws when it panics is no Exception, and is caught all the same."""

    class Panic(BaseException):
        pass

    def panic(_: bytes) -> None:
        raise Panic("index out of bounds")

    assert broken(panic).failures[0].error == "Panic: index out of bounds"


def test_a_run_ends_when_everything_fails() -> None:
    """A parser that fails always is reported with its first cases, not with a million."""
    assert len(broken(lambda _: 1 / 0, 10_000).failures) == MOST_FAILURES


def test_a_case_without_end_is_stopped_and_seen() -> None:
    """A loop that never ends is interrupted at the limit, even if it swallows every Exception."""

    def forever(_: bytes) -> None:
        for _number in count():
            with contextlib.suppress(Exception):
                int("x")

    (failure,) = broken(forever, 1, Limits(seconds=0.1)).failures
    assert failure.error == "TooSlow: still running after 0.1 s"


def test_memory_without_bound_is_seen() -> None:
    """A parser that takes more memory than the whole process ever did is seen, even when it gives it back."""
    result = broken(lambda _: b"x" * int((peak() + 64) * 2**20), 1, Limits(growth=32, seconds=60))
    assert "the process grew by" in result.failures[0].error


def test_a_refusal_with_an_unknown_code_is_seen() -> None:
    """A refusal that the catalogue can't explain is a failure too."""

    def refuse(_: bytes) -> None:
        raise Refused("no-such-code", "No.")

    assert "not in the catalogue" in broken(refuse).failures[0].error


def test_the_mutations_reach_every_kind_and_both_ends() -> None:
    """Among the messages made there are all eleven kinds, taken and refused, deep ones and ones that are no text at all."""
    made = [TARGETS[0].make(Random(number)) for number in range(4000)]  # noqa: S311 - not a secret
    taken = set()
    for raw in made:
        with contextlib.suppress(Refused):
            taken.add(messages.parse(raw).kind)
    assert taken == set(messages.MODELS)
    assert any(b"[" * 150 in raw for raw in made)
    assert any(b"\xff" in raw for raw in made)
    assert len(set(made)) > 0.9 * len(made)


def test_the_page_is_written_between_its_marks() -> None:
    """New figures replace the old ones and nothing else."""
    page = f"before\n{command.BEGIN}old\n{command.END}after\n"
    once = command.written(page, "figures", 5, 1)
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert "old" not in once
    assert command.written(once, "figures", 5, 1) == once
    assert "messages.parse" in "\n".join(command.table([Result("messages.parse", 3, 2)]))
