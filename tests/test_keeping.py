"""How long a message is kept: the directory's rule per kind, five years for personal data, and no way around either."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relay import codes, messages, retention
from relay.clock import from_ms, iso
from relay.directory import Retention, RetentionPolicy
from relay.errors import Refused
from relay.keeping import DAY_MS, Keeper
from relay.keys import IndexKey
from relay.messages import Message
from relay.store.retained import Due

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "schemas" / "examples"
NOW = 1_790_000_000_000
FIVE_YEARS = 1826
KEY = IndexKey(bytes(32))
KINDS = (*codes.KINDS, "update of seizure")

days = st.integers(min_value=1, max_value=36_600)
kept_as = st.builds(Retention, default_days=days, most_days=days)
policies = st.builds(
    RetentionPolicy,
    kinds=st.dictionaries(st.sampled_from(codes.KINDS), kept_as, max_size=len(codes.KINDS)),
    other=kept_as,
    nominal_days=st.integers(min_value=1, max_value=FIVE_YEARS),
)


@cache
def example(kind: str) -> Message:
    """Return the minimal example of a kind."""
    name = "update" if kind == "update of seizure" else kind
    return messages.read((EXAMPLES / f"{name}.minimal.json").read_bytes())


def said(kind: str, *, nominal: bool, keep: float | None) -> Message:
    """Return a message of a kind that asks to be kept so many days from now, or says nothing about it."""
    until = None if keep is None else from_ms(NOW) + timedelta(days=keep)
    return example(kind).model_copy(update={"nominal": nominal, "retention_until": until})


def kind_of(message: Message) -> str:
    """Return the kind whose rule holds: an update counts as what it updates."""
    return getattr(message, "message", message).kind


def kept_days(policy: RetentionPolicy, message: Message) -> float:
    """Return how many days a message is kept."""
    return (Keeper(policy, KEY).keep(message, "BRU", NOW).purge_at - NOW) / DAY_MS


def refusal(policy: RetentionPolicy, message: Message) -> str | None:
    """Return the code with which a message is refused at submit, or None."""
    try:
        Keeper(policy, KEY).check(message, NOW)
    except Refused as refused:
        return refused.code
    return None


@given(policies, st.sampled_from(KINDS), st.none() | st.floats(min_value=-10, max_value=100_000))
def test_personal_data_is_never_kept_over_five_years(policy: RetentionPolicy, kind: str, keep: float | None) -> None:
    """Whatever the kind, the directory and the message say, on its way out and in."""
    message = said(kind, nominal=True, keep=keep)
    assert kept_days(policy, message) <= FIVE_YEARS
    if keep is not None and keep > FIVE_YEARS:
        assert refusal(policy, message) == "bad-retention"


@given(policies, st.sampled_from(KINDS), st.booleans(), st.floats(min_value=-10, max_value=100_000))
def test_a_message_is_kept_as_long_as_it_says_up_to_the_most(
    policy: RetentionPolicy, kind: str, nominal: bool, keep: float
) -> None:
    """Within the most it is taken at its word; beyond it is refused at submit and cut down on arrival."""
    message = said(kind, nominal=nominal, keep=keep)
    rule = policy.of(kind_of(message), nominal=nominal)
    kept = kept_days(policy, message)
    assert kept <= rule.most_days
    if 0.001 < keep < rule.most_days - 0.001:
        assert kept == pytest.approx(keep, abs=0.001)
        assert refusal(policy, message) is None
    elif keep <= 0 or keep > rule.most_days + 0.001:
        assert refusal(policy, message) == "bad-retention"


@given(policies, st.sampled_from(KINDS), st.booleans())
def test_a_message_that_says_nothing_is_kept_by_default(policy: RetentionPolicy, kind: str, nominal: bool) -> None:
    """As many days as the kind's rule says, and never more than its most."""
    message = said(kind, nominal=nominal, keep=None)
    rule = policy.of(kind_of(message), nominal=nominal)
    assert kept_days(policy, message) == min(rule.default_days, rule.most_days)
    assert refusal(policy, message) is None


def test_no_directory_can_allow_more_for_personal_data() -> None:
    """A policy that says more than five years is no policy."""
    with pytest.raises(ValidationError):
        RetentionPolicy(nominal_days=FIVE_YEARS + 1)


def test_an_update_can_not_hide_personal_data_from_its_rule() -> None:
    """What is personal inside an update is personal outside too, so its time is that of personal data."""
    body = json.loads((EXAMPLES / "update.minimal.json").read_bytes())
    for outer, inner in ((False, True), (True, False)):
        asked = {**body, "nominal": outer, "message": {**body["message"], "nominal": inner}}
        with pytest.raises(Refused):
            messages.parse(json.dumps(asked).encode())


def test_a_day_beyond_the_limit_is_refused_with_the_limit() -> None:
    """The refusal names the place and how long is allowed."""
    asked = json.loads((EXAMPLES / "alert.minimal.json").read_bytes())
    asked |= {"retention_until": iso(NOW + 1827 * DAY_MS)}
    with pytest.raises(Refused) as refused:
        Keeper(RetentionPolicy(), KEY).check(messages.parse(json.dumps(asked).encode()), NOW)
    assert refused.value.problems[0].pointer == "/retention_until"
    assert "1826 days" in refused.value.detail


def test_the_page_s_table_is_the_policy_s_default() -> None:
    """What the how-to says of each kind is what a network without a policy of its own does."""
    page = (ROOT / "docs" / "howto" / "keep-and-purge.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    table = {kind: (int(default), int(most)) for kind, default, most in rows}
    policy = RetentionPolicy()
    assert table == {kind: (one.default_days, one.most_days) for kind, one in policy.kinds.items()}
    assert f"| every other | {policy.other.default_days} | {policy.other.most_days} |" in page
    assert f"the same, at most {policy.nominal_days} | {policy.nominal_days} |" in page
    assert f"after {retention.SAMPLES_MS // DAY_MS} days, idempotency keys after {retention.KEYS_MS // DAY_MS}" in page


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 3 * retention.PAGE_BYTES)), max_size=40))
def test_a_transaction_is_bounded(drawn: list[tuple[int, int]]) -> None:
    """What is due is cut into portions that lose nothing and rewrite a bounded number of bytes, an envelope counted once."""
    sizes = dict(drawn)
    due = [_due(n, envelope, sizes[envelope]) for n, (envelope, _) in enumerate(sorted(drawn))]
    portions = list(retention._portions(due))
    assert [one for portion in portions for one in portion] == due
    for portion in portions:
        rewritten = {one.envelope: one.size for one in portion}
        assert len(rewritten) == 1 or sum(rewritten.values()) <= retention.PAGE_BYTES


def _due(number: int, envelope: int, size: int) -> Due:
    fields: dict[str, Any] = {"id": f"{number}", "number": number, "envelope": envelope, "purge_at": 0, "size": size}
    return Due(side="received", state="delivered", why="retention", **fields)
