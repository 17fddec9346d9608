"""One authority can only take away: what two versions of the register differ by, and what of it needs everybody's signature."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.codes import KINDS
from relay.directory import Directory, Entitlement, Member, Policy, compare
from relay.directory.members import Key
from relay.errors import Misconfigured
from tests.authorities import Change, document, member, parsed, rename, revoke, suspend
from tests.make_vectors import END, NOW, START, listed, signing

BEFORE = parsed(document())

TIMES = [START, NOW - timedelta(days=1), NOW, NOW + timedelta(days=1), END, END + timedelta(days=1)]
CRIMES = ("*", "drugs", "drugs.cocaine", "medicines", "weapons")
REGIONS = ("001", "150", "155", "035", "142")
LEAVES = (("155",), ("035",), ("155", "035"), ())


def changed(*changes: Change) -> Directory:
    """Return the version with changes."""
    made = document()
    for change in changes:
        change(made)
    return parsed(made)


def first_member(**fields: Any) -> Change:
    """Change fields of the first member."""
    return lambda it: it["members"][0].update(fields)


def first_key(**fields: Any) -> Change:
    """Change fields of the first member's first key."""
    return lambda it: it["members"][0]["keys"][0].update(fields)


def policy(**fields: Any) -> Change:
    """Change the policy."""
    return lambda it: it.update(policy=fields)


def without(name: str, index: int) -> Change:
    """Remove an entry of one of the first member's lists."""
    return lambda it: it["members"][0][name].pop(index)


def entitled(name: str = "publish", **fields: Any) -> Change:
    """Change the first entitlement of the first member."""
    return lambda it: it["members"][0][name][0].update(fields)


ADDED = json.loads(listed(signing("added")).model_dump_json())

NARROWING: dict[str, list[Change]] = {
    "nothing": [],
    "a suspension": [suspend()],
    "all suspended": [suspend(0), suspend(1), suspend(2)],
    "a revocation": [revoke()],
    "a revocation of a sealing key": [revoke(2)],
    "a revocation of the checkpoint key": [revoke(4)],
    "a revocation from a time to come": [revoke(when="2035-01-01T00:00:00Z")],
    "a key removed": [without("keys", 0)],
    "an entitlement removed": [without("publish", 0)],
    "one of two entitlements removed": [without("subscribe", 1)],
    "a crime type less": [entitled(crime_types=["drugs"])],
    "a narrower crime type": [entitled(crime_types=["drugs.cocaine", "medicines"])],
    "a kind instead of all": [entitled(kinds=["alert"])],
    "no personal data any more": [entitled(nominal=False)],
    "a region of the world": [entitled("subscribe", regions=["150"])],
    "issued later": [lambda it: it.update(issued_at=NOW.isoformat())],
    "another reason": [lambda it: it.update(reason="Because")],
}

WIDENING: dict[str, list[Change]] = {
    "a member admitted": [lambda it: it["members"].append(member("DELTA"))],
    "a member removed": [lambda it: it["members"].pop()],
    "another order of members": [lambda it: it["members"].reverse()],
    "a member renamed": [rename()],
    "another id": [first_member(id="OTHER")],
    "another clearance": [first_member(clearance="restricted")],
    "another country": [first_member(country="BE")],
    "another contact": [first_member(contact={"name": "Mallory", "telephone": "+00 1", "email": "mallory@example"})],
    "another version read": [first_member(reads={"alert": ["1.0"]})],
    "a key added": [lambda it: it["members"][0]["keys"].append(ADDED)],
    "another order of keys": [lambda it: it["members"][0]["keys"].reverse()],
    "a key valid sooner": [first_key(valid_from="2025-01-01T00:00:00Z")],
    "a key valid longer": [first_key(valid_until="2099-01-01T00:00:00Z")],
    "a key valid shorter": [first_key(valid_until="2030-01-01T00:00:00Z")],
    "a key of another use": [first_key(use="checkpoint")],
    "the last checkpoint key removed": [without("keys", 4)],
    "an entitlement added": [lambda it: it["members"][0]["publish"].append({"crime_types": ["weapons"], "regions": ["150"]})],
    "a crime type more": [entitled(crime_types=["drugs", "medicines", "weapons"])],
    "every crime type": [entitled(crime_types=["*"])],
    "a region more": [entitled(regions=["150", "142"])],
    "the world": [entitled(regions=["001"])],
    "a region that lies within the other, as this node's list has it": [entitled(regions=["155"])],
    "personal data": [entitled("subscribe", nominal=True)],
    "a suite less": [policy(suites=["x25519"])],
    "a witness": [policy(witnesses=["ALFA"])],
    "four eyes": [policy(four_eyes=["purge"])],
    "an expiry moved out": [lambda it: it.update(expires_at="2099-01-01T00:00:00Z")],
    "an expiry moved in": [lambda it: it.update(expires_at=NOW.isoformat())],
    "no warning": [lambda it: it.update(warn_after="2099-01-01T00:00:00Z")],
    "issued earlier": [lambda it: it.update(issued_at="2020-01-01T00:00:00Z")],
}


@pytest.mark.parametrize("name", NARROWING)
def test_what_takes_away_needs_one_authority(name: str) -> None:
    """A suspension, a revocation, an entitlement or a key removed."""
    assert compare(BEFORE, changed(*NARROWING[name])).widening == ()


@pytest.mark.parametrize("name", WIDENING)
def test_everything_else_needs_all(name: str) -> None:
    """Alone, and with something that narrows beside it."""
    assert compare(BEFORE, changed(*WIDENING[name])).widening != ()
    assert not compare(BEFORE, changed(suspend(1), *WIDENING[name])).narrowing


@pytest.mark.parametrize("name", sorted(NARROWING.keys() - {"nothing", "issued later", "another reason"}))
def test_what_was_taken_away_needs_all_to_come_back(name: str) -> None:
    """Whatever one authority can do, it can't undo."""
    assert not compare(changed(*NARROWING[name]), BEFORE).narrowing


def test_a_revocation_comes_forward_and_never_goes_back() -> None:
    """One authority may say that a key was lost earlier than thought, not later."""
    earlier, later = changed(revoke(when="2026-05-01T00:00:00Z")), changed(revoke(when="2026-06-01T00:00:00Z"))
    assert compare(later, earlier).narrowing
    assert not compare(earlier, later).narrowing


def test_each_change_is_said_in_a_sentence() -> None:
    """Who signs reads what changes, without anything that could deceive a terminal."""
    after = changed(suspend(), revoke(index=1), without("subscribe", 1), rename("\x1b[2J"))
    said = [change.sentence for change in compare(BEFORE, after).changes]
    assert said == [
        "ALFA: suspended",
        "ALFA: subscribe: weapons in 035, 155 as * with personal data removed",
        "ALFA: name changed",
        f"BRAVO: signing key {signing('BRAVO 1').id} revoked from 2026-06-01T00:00:00+00:00",
    ]


def test_a_field_that_nobody_thought_of_widens() -> None:
    """Every field of the models is compared, so a new one is safe before anybody teaches the comparison about it."""
    known = {"status", "keys", "publish", "subscribe"}
    for name in Member.model_fields.keys() - known:
        other = BEFORE.members[0].model_copy(update={name: object()})
        assert not compare(BEFORE, BEFORE.model_copy(update={"members": (other, *BEFORE.members[1:])})).narrowing, name
    for name in Policy.model_fields:
        after = BEFORE.model_copy(update={"policy": BEFORE.policy.model_copy(update={name: object()})})
        assert not compare(BEFORE, after).narrowing, name
    for name in Directory.model_fields.keys() - {"version", "previous", "issued_at", "members", "policy", "reason"}:
        assert not compare(BEFORE, BEFORE.model_copy(update={name: object()})).narrowing, name


edited_entitlements = st.lists(
    st.fixed_dictionaries(
        {
            "crime_types": st.lists(st.sampled_from(CRIMES), min_size=1, max_size=3),
            "regions": st.lists(st.sampled_from(REGIONS), min_size=1, max_size=3),
            "kinds": st.lists(st.sampled_from(("*", "alert", "seizure")), min_size=1, max_size=2),
            "nominal": st.booleans(),
        }
    ),
    max_size=3,
)
moments = st.sampled_from([moment.isoformat() for moment in TIMES])
member_edits = st.one_of(
    st.fixed_dictionaries({"status": st.sampled_from(("active", "suspended"))}),
    st.fixed_dictionaries({"publish": edited_entitlements}),
    st.fixed_dictionaries({"subscribe": edited_entitlements}),
    st.fixed_dictionaries({"clearance": st.sampled_from(("unclassified", "restricted"))}),
)
key_edits = st.one_of(
    st.fixed_dictionaries({"revoked_from": st.one_of(st.none(), moments)}),
    st.fixed_dictionaries({"valid_from": moments}),
    st.fixed_dictionaries({"valid_until": moments}),
    st.fixed_dictionaries({"use": st.sampled_from(("signing", "checkpoint"))}),
    st.sampled_from(({}, {"drop": True}, {"swap": True})),
)
edits = st.lists(
    st.tuples(st.integers(0, 2), st.one_of(member_edits, st.tuples(st.integers(0, 4), key_edits))), min_size=1, max_size=4
)


def edited(made: dict[str, Any], drawn: list[tuple[int, Any]]) -> Directory | None:
    """Return the document with random edits, or None when what came out is no directory."""
    for index, edit in drawn:
        found = made["members"][index]
        if isinstance(edit, dict):
            found.update(edit)
            continue
        number, fields = edit
        keys = found["keys"]
        if number >= len(keys):
            continue
        if "drop" in fields:
            keys.pop(number)
        elif "swap" in fields:
            keys.insert(0, keys.pop(number))
        else:
            keys[number].update(fields)
    try:
        return parsed(made)
    except Misconfigured:
        return None


def rights(directory: Directory) -> Iterator[tuple[Any, ...]]:
    """Return what anybody may do under a version, one fact each, at every moment and for every mark that matters here."""
    for one in directory.active.values():
        yield ("member", one.id)
        yield ("clearance", one.id, one.clearance)
        for moment in TIMES:
            listed: list[Key] = [key for key in one.keys if key.use == "signing" and key.usable(moment)]
            yield from (("signs", one.id, key.id, moment) for key in listed)
            yield from (("opens", one.id, key.id, moment) for key in one.sealing_keys(moment))
            yield from (("checkpoints", one.id, key.id, moment) for key in one.checkpoint_keys(moment))
        for side, held in (("says", one.publish), ("hears", one.subscribe)):
            yield from ((side, one.id, *asked) for asked in ASKED if allowed(held, asked))


ASKED = tuple(itertools.product(CRIMES[1:], LEAVES, ("alert", KINDS[-1]), (False, True)))


def allowed(held: tuple[Entitlement, ...], asked: tuple[str, tuple[str, ...], str, bool]) -> bool:
    """Return whether one of the entitlements covers this."""
    crime_type, regions, kind, nominal = asked
    return any(one.covers(crime_type, regions, kind, nominal=nominal) for one in held)


@settings(max_examples=150, deadline=None)
@given(edits, edits)
def test_what_one_authority_can_sign_gives_nobody_anything(first: list[tuple[int, Any]], second: list[tuple[int, Any]]) -> None:
    """Of two random versions, whatever is called narrowing leaves no right that was not there, at no moment and for no mark."""
    before, after = edited(document(), first), edited(edited_document(first), second)
    if before is None or after is None:
        return
    for one, other in ((before, after), (after, before), (BEFORE, after)):
        if compare(one, other).narrowing:
            assert set(rights(other)) <= set(rights(one))
            assert (one.policy, one.expires_at, one.warn_after) == (other.policy, other.expires_at, other.warn_after)


def edited_document(drawn: list[tuple[int, Any]]) -> dict[str, Any]:
    """Return the document with edits, as a document."""
    found = edited(document(), drawn)
    return json.loads(found.model_dump_json()) if found else document()


def test_the_property_sees_what_it_should() -> None:
    """The rights that the property compares do differ where rights differ: it is not true of everything."""
    seen = {name for name, changes in WIDENING.items() if not set(rights(changed(*changes))) <= set(rights(BEFORE))}
    assert {"a member admitted", "another clearance", "a key added", "the last checkpoint key removed", "personal data"} <= seen
