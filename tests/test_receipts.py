"""Bodies of control envelopes: read strictly where it matters, leniently where they may grow; and ranges of sequences."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import receipts
from relay.errors import Rejected
from relay.receipts import Mark, Nack, Receipt, Statement

HASH = "a" * 64
STATEMENT: dict[str, Any] = {
    "epoch": 1,
    "lane": "flash",
    "first": 5,
    "commitments": [HASH, "b" * 64],
    "state": "accepted",
    "time": 1_780_000_000_000,
}
MARK: dict[str, Any] = {"epoch": 1, "lane": "flash", "highest": 9, "open": [[1, 2], [4, 4]]}
NACK: dict[str, Any] = {"epoch": 1, "lane": "flash", "missing": [[1, 2]], "mark": 3, "reason": "cannot-unwrap"}


def body(document: object) -> bytes:
    """Return a document as a peer would send it."""
    return json.dumps(document).encode()


def receipt(**changes: Any) -> bytes:
    """Return a receipt of one statement with fields replaced."""
    return body({"statements": [STATEMENT | changes]})


def is_refused(model: type[Any], raw: bytes) -> bool:
    """Return whether a body is refused as a bad control body, and not otherwise."""
    try:
        receipts.read(model, raw)
    except Rejected as rejected:
        return rejected.code == "bad-control"
    return False


def test_bodies_come_back_as_they_were_written() -> None:
    """What this release writes, it reads."""
    statement = Statement(epoch=1, lane="flash", first=5, commitments=(HASH,), state="rejected", time=1, code="expired")
    for written in (
        Receipt(statements=(statement,)),
        Mark(epoch=1, lane="exercise", highest=9, open=((1, 2), (4, 9))),
        Nack(epoch=1, lane="routine", missing=()),
        Nack(epoch=1, lane="routine", missing=((3, 3),), mark=7, reason="cannot-unwrap"),
    ):
        assert receipts.read(type(written), receipts.write(written)) == written


def test_the_bytes_of_bodies_are_pinned() -> None:
    """The form on the wire, literally: compact, in this order, nothing that is absent."""
    statement = Statement(epoch=1, lane="flash", first=5, commitments=(HASH,), state="accepted", time=2)
    assert receipts.write(Receipt(statements=(statement,))) == (
        b'{"statements":[{"epoch":1,"lane":"flash","first":5,"commitments":["' + b"a" * 64 + b'"],"state":"accepted","time":2}]}'
    )
    assert receipts.write(Mark(epoch=1, lane="flash", highest=9, open=((1, 2),))) == (
        b'{"epoch":1,"lane":"flash","highest":9,"open":[[1,2]]}'
    )
    assert receipts.write(Nack(epoch=1, lane="flash", missing=((4, 5),), mark=17)) == (
        b'{"epoch":1,"lane":"flash","missing":[[4,5]],"mark":17}'
    )


def test_a_statement_names_its_last_sequence() -> None:
    """A statement covers as many sequences as it has commitments."""
    (statement,) = receipts.read(Receipt, receipt()).statements
    assert (statement.first, statement.last) == (5, 6)


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 0},
        {"epoch": 1.0},
        {"epoch": True},
        {"epoch": "1"},
        {"epoch": 2**53},
        {"first": 0},
        {"first": -1},
        {"first": 2**63},
        {"lane": "control"},
        {"lane": "slow"},
        {"commitments": []},
        {"commitments": [HASH.upper()]},
        {"commitments": [HASH[:-1]]},
        {"commitments": [HASH + "\n"]},
        {"commitments": [HASH] * 1025},
        {"state": "Accepted"},
        {"state": None},
        {"time": -1},
        {"time": 253_402_300_800_000},
        {"code": "expired"},
        {"state": "rejected"},
        {"state": "rejected", "code": ""},
        {"state": "rejected", "code": "Two words"},
        {"state": "rejected", "code": "x" * 65},
    ],
    ids=str,
)
def test_a_statement_out_of_its_form_is_refused(changes: dict[str, Any]) -> None:
    """Each field has its form and range, so nothing that a peer says overflows a column, a calendar or a log line."""
    assert is_refused(Receipt, receipt(**changes))


@pytest.mark.parametrize(
    "ranges",
    [
        [[0, 1]],
        [[2, 1]],
        [[1, 3], [3, 4]],
        [[5, 6], [1, 2]],
        [[1]],
        [[1, 2, 3]],
        [1],
        [[1, 2**53]],
        [[2 * n, 2 * n] for n in range(1, 258)],
    ],
    ids=str,
)
def test_ranges_out_of_order_are_refused(ranges: list[Any]) -> None:
    """Ranges start at 1, ascend, do not overlap, and are few."""
    assert is_refused(Mark, body(MARK | {"open": ranges}))
    assert is_refused(Nack, body(NACK | {"missing": ranges}))


def test_a_reason_is_a_code_and_no_text() -> None:
    """What a peer names as its reason goes into the record and the log, so it can't be anything it likes."""
    assert receipts.read(Nack, body(NACK)).reason == "cannot-unwrap"
    for reason in ("no\nroom", "x" * 65, "", 5, "é"):
        assert is_refused(Nack, body(NACK | {"reason": reason}))


def test_a_field_of_a_later_release_is_passed_over() -> None:
    """A body may grow."""
    assert receipts.read(Mark, body(MARK | {"more": {"deep": [1]}})) == receipts.read(Mark, body(MARK))
    (statement,) = receipts.read(Receipt, receipt(more=1)).statements
    assert statement.state == "accepted"


def test_a_state_of_a_later_release_is_passed_over() -> None:
    """A receipt that also says something this release does not know still says the rest."""
    said = [STATEMENT | {"state": "moved"}, STATEMENT, STATEMENT | {"state": "held", "code": "by-hand"}]
    assert [one.state for one in receipts.read(Receipt, body({"statements": said})).statements] == ["accepted"]
    assert receipts.read(Receipt, body({"statements": said[:1]})).statements == ()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"statements":' * 20_000,
        b'{"statements":[' + b"1," * 100_000 + b"1]}",
        b'{"statements":[],"statements":[]}',
        b'{"statements":[],"more":NaN}',
        b'{"statements":[],"more":{"a":1,"a":2}}',
        receipt().replace(b'"accepted"', b'"accepted","state":"delivered"'),
        receipt() + b"{}",
        body({"statements": [STATEMENT] * 4097}),
        b'{"statements":[],"more":[' + b"[]," * 1_000_000 + b"1]}",
    ],
    ids=lambda raw: f"{len(raw)} bytes: {raw[:24]!r}",
)
def test_hostile_bodies_are_refused(raw: bytes) -> None:
    """Whatever an authentic peer puts into a body, the answer is one code; a key twice would give evidence two meanings."""
    assert is_refused(Receipt, raw)


@given(st.binary(max_size=200))
def test_random_bodies_are_never_anything_but_refused(raw: bytes) -> None:
    """No bytes raise anything but the one refusal."""
    assert is_refused(Receipt, raw)
    assert is_refused(Mark, raw)


SEQUENCES = st.sets(st.integers(1, 60), max_size=40).map(sorted)


@given(SEQUENCES)
def test_ranges_hold_exactly_their_sequences(sequences: list[int]) -> None:
    """Taken apart again, ranges are what they were made of, and no two of them touch."""
    found = receipts.ranges(sequences)
    assert [number for first, last in found for number in range(first, last + 1)] == sequences
    assert all(one[1] + 1 < other[0] for one, other in pairwise(found))


@given(SEQUENCES, st.integers(0, 70))
def test_missing_is_what_is_not_held(sequences: list[int], upto: int) -> None:
    """What is held and what is missing make up all sequences, up to the highest asked for."""
    gaps = receipts.missing(receipts.ranges(sequences), upto)
    missing = [number for first, last in gaps for number in range(first, last + 1)]
    assert missing == [number for number in range(1, upto + 1) if number not in sequences]


def test_a_gap_up_to_the_highest_number_costs_nothing() -> None:
    """A peer that claims the highest sequence there is gets one range back, not a list of them all."""
    assert receipts.missing([(3, 4)], 2**53 - 1) == [(1, 2), (5, 2**53 - 1)]
