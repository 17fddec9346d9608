"""How long an envelope will be is known well enough before it is sealed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.envelope import NUMBER_END
from relay.seal import most_bytes
from tests import make_vectors
from tests.make_vectors import SUITES

ALLOWANCE = 1024
"""Bytes that a recipient, a message, or the frame may be reckoned too long."""


@given(
    st.lists(st.binary(max_size=2000), min_size=1, max_size=64),
    st.lists(st.sampled_from(sorted(SUITES.keys() - {"ALFA"})), min_size=1, unique=True),
    st.sampled_from((1, NUMBER_END - 100)),
)
def test_no_envelope_is_longer_than_it_was_reckoned(contents: list[bytes], to: list[str], first: int) -> None:
    """For any messages, recipients of either suite and sequences; nor is it much shorter, so little room is left unused."""
    sealed = make_vectors.sealed("batch", "routine", contents, to, first)
    reckoned = most_bytes(len(to), len(contents), sum(map(len, contents)))
    assert len(sealed.raw) <= reckoned
    assert reckoned - len(sealed.raw) < ALLOWANCE * (1 + len(to)) + 128 * len(contents)
