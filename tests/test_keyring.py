"""The keyring: which key counts at a moment, what the node says of its keys, and when it may not start."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.clock import to_ms
from relay.directory import Directory, Key
from relay.errors import Misconfigured
from relay.keyring import (
    KEPT_AFTER,
    SKEW,
    Keyring,
    Use,
    check_usable,
    destroyable,
    ends,
    last_moment,
    newest,
    standings,
    threshold,
    warnings,
)
from relay.keys import SealingKey, SigningKey, StorageKey
from tests import make_vectors
from tests.make_vectors import listed, member

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
STORAGE = StorageKey.generate()


def signing(number: int) -> SigningKey:
    """Return one of a few signing keys."""
    return make_vectors.signing(f"key {number}")


def sealing(number: int) -> SealingKey:
    """Return one of a few sealing keys."""
    return make_vectors.sealing(f"key {number}", "x25519")


def key(private: SigningKey | SealingKey, start: datetime, end: datetime, revoked: datetime | None = None) -> Key:
    """Return a key as the directory lists it."""
    shown = listed(private)
    return shown.model_copy(update={"valid_from": start, "valid_until": end, "revoked_from": revoked})


def register(*keys: Key) -> Directory:
    """Return a directory in which ALFA has these keys."""
    alfa = member("ALFA", "x25519").model_copy(update={"keys": keys})
    return Directory(
        network="0" * 64,
        version=1,
        previous=None,
        issued_at=NOW - DAY,
        warn_after=NOW + 100 * DAY,
        expires_at=NOW + 200 * DAY,
        members=(alfa,),
    )


def keyring(signs: Sequence[int], opens: Sequence[int] = (0,), checks: Sequence[int] = ()) -> Keyring:
    """Return a keyring of ALFA with these keys."""
    return Keyring("ALFA", [signing(n) for n in signs], [sealing(n) for n in opens], STORAGE, [signing(n) for n in checks])


MOMENTS = st.integers(-2000, 2000).map(lambda minutes: NOW + minutes * MINUTE)
LISTED = st.lists(st.tuples(MOMENTS, MOMENTS, st.none() | MOMENTS), max_size=5)


@given(LISTED, st.sets(st.integers(0, 4), min_size=1), st.lists(MOMENTS, min_size=1, max_size=8))
def test_what_signs_is_held_listed_and_usable_and_no_settled_key_is_newer(
    times: list[tuple[datetime, datetime, datetime | None]], held: set[int], moments: list[datetime]
) -> None:
    """Whatever is listed and held: what signs is usable where anything is; kept decisions never differ from fresh ones."""
    keys = [key(signing(n), *one) for n, one in enumerate(times)]
    ring, directory = keyring(sorted(held)), register(*keys)
    ring.follow(lambda: directory)
    mine = {signing(n).id for n in held}
    for moment in moments:
        usable = [one for one in keys if one.id in mine and one.usable(moment)]
        signs = ring.signing(to_ms(moment)).id
        assert signs in mine
        assert signs == keyring_of(held, directory).signing(to_ms(moment)).id
        if usable:
            assert signs in {one.id for one in usable}
            settled = [one for one in usable if one.usable(moment - SKEW) and one.usable(moment + SKEW)]
            chosen = next(one for one in usable if one.id == signs)
            assert all(one.valid_from <= chosen.valid_from for one in settled or usable)
            assert chosen in (settled or usable)


def keyring_of(held: set[int], directory: Directory) -> Keyring:
    """Return a keyring that decided nothing yet."""
    ring = keyring(sorted(held))
    ring.follow(lambda: directory)
    return ring


@given(LISTED, MOMENTS)
def test_until_when_keys_are_valid_without_a_break(
    times: list[tuple[datetime, datetime, datetime | None]], now: datetime
) -> None:
    """At every moment before that a held key is usable, and at that moment none is."""
    keys = [key(signing(n), *one) for n, one in enumerate(times)]
    found = standings(keys, {one.id: "signing" for one in keys}, now)
    end = ends(found, "signing", now)
    changes = sorted({moment for one in keys for moment in (one.valid_from, last_moment(one)) if moment >= now} | {now})
    for moment in changes:
        if end is None or moment >= end:
            break
        assert any(one.usable(moment) for one in keys)
    assert end is None or not any(one.usable(end) for one in keys)
    assert (end is None) == (not any(one.usable(now) for one in keys))


def test_a_new_key_signs_once_it_counts_and_the_clocks_of_peers_may_differ() -> None:
    """The older key signs until the newer has been valid for five minutes; alone or after a revocation the newer does at once."""
    older, newer = key(signing(0), NOW - DAY, NOW + DAY), key(signing(1), NOW, NOW + 9 * DAY)
    held = {older.id, newer.id}
    assert newest([older, newer], held, NOW - MINUTE) == older
    assert newest([older, newer], held, NOW + MINUTE) == older
    assert newest([older, newer], held, NOW + SKEW) == newer
    assert newest([newer], held, NOW) == newer
    revoked = older.model_copy(update={"revoked_from": NOW})
    assert newest([revoked, newer], held, NOW) == newer
    assert newest([revoked, newer], held, NOW - MINUTE) == revoked
    assert newest([older, newer], {older.id}, NOW + DAY - MINUTE) == older


def test_another_version_of_the_directory_counts_at_once() -> None:
    """The decision is kept for one version of the directory alone."""
    ring = keyring([0, 1])
    both = [key(signing(0), NOW - 9 * DAY, NOW + DAY), key(signing(1), NOW - DAY, NOW + 9 * DAY)]
    versions = [register(*both), register(both[0]), register(both[0].model_copy(update={"revoked_from": NOW - DAY}), both[1])]
    current = versions[0]
    ring.follow(lambda: current)
    assert ring.signing(to_ms(NOW)).id == signing(1).id
    current = versions[1]
    assert ring.signing(to_ms(NOW)).id == signing(0).id
    current = versions[2]
    assert ring.signing(to_ms(NOW)).id == signing(1).id


def test_a_checkpoint_is_signed_with_its_own_key_where_it_counts() -> None:
    """Without a usable checkpoint key the key that signs does it."""
    ring = keyring([0], checks=[1])
    listed_ = key(signing(1), NOW, NOW + DAY).model_copy(update={"use": "checkpoint"})
    directory = register(key(signing(0), NOW - DAY, NOW + DAY), listed_)
    ring.follow(lambda: directory)
    assert ring.checkpoint(to_ms(NOW - MINUTE)).id == signing(0).id
    assert ring.checkpoint(to_ms(NOW)).id == signing(1).id
    assert ring.signing(to_ms(NOW)).id == signing(0).id
    assert keyring([0]).checkpoint(to_ms(NOW)).id == signing(0).id


def test_other_keys_take_the_place_of_all_that_are_held_at_once() -> None:
    """What signs, what opens and what is lacking follow the keys that are held now, whatever was decided before."""
    span = (NOW - 10 * DAY, NOW + 10 * DAY)
    directory = register(
        key(signing(0), *span), key(signing(1), NOW - DAY, NOW + DAY), key(sealing(0), *span), key(sealing(1), *span)
    )
    ring, now = keyring([0]), to_ms(NOW)
    ring.follow(lambda: directory)
    assert ring.signing(now).id == signing(0).id
    assert ring.trouble(now) is None
    ring.take(keyring([0, 1], opens=[0, 1], checks=[2]), now)
    assert ring.signing(now).id == signing(1).id
    assert set(ring.sealing) == {sealing(0).id, sealing(1).id}
    assert signing(2).id in ring.held
    ring.take(keyring([0], opens=[1]), now)
    assert (ring.signing(now).id, set(ring.sealing)) == (signing(0).id, {sealing(1).id})
    assert signing(1).id not in {one.id for one in ring.standings(now) if one.held}


def test_keys_with_which_less_would_work_take_no_place() -> None:
    """Another store's key, or no key left that counts: refused with a code, and nothing is changed. What is no worse is taken."""
    span = (NOW - 10 * DAY, NOW + 10 * DAY)
    directory = register(key(signing(0), *span), key(sealing(0), *span))
    ring, now = keyring([0]), to_ms(NOW)
    ring.follow(lambda: directory)
    other_store = Keyring("ALFA", [signing(0)], [sealing(0)], StorageKey.generate())
    for other, code in (
        (other_store, "wrong-storage-key"),
        (keyring([1]), "no-usable-key"),
        (keyring([0], [1]), "no-usable-key"),
    ):
        with pytest.raises(Misconfigured) as refused:
            ring.take(other, now)
        assert refused.value.code == code
        assert ring.trouble(now) is None
        assert ring.signing(now).id == signing(0).id
    later = to_ms(NOW + 20 * DAY)
    assert ring.trouble(later) is not None
    ring.take(keyring([0, 1]), later)  # the new key waits to be listed; before it nothing worked either
    assert signing(1).id in ring.held


@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        ([], "no signing and no sealing"),
        ([key(signing(0), NOW - DAY, NOW + DAY)], "no sealing"),
        ([key(sealing(0), NOW - DAY, NOW + DAY)], "no signing"),
        ([key(signing(0), NOW - DAY, NOW + DAY), key(sealing(1), NOW - DAY, NOW + DAY)], "no sealing"),
        ([key(signing(0), NOW - DAY, NOW + DAY, NOW), key(sealing(0), NOW - DAY, NOW + DAY)], "no signing"),
        ([key(signing(0), NOW + MINUTE, NOW + DAY), key(sealing(0), NOW - DAY, NOW)], "no signing and no sealing"),
    ],
)
def test_a_node_without_a_usable_key_does_not_start(keys: list[Key], missing: str) -> None:
    """Revoked, over, not yet valid, not listed or not held: the sentence says which use has none left."""
    ring, directory = keyring([0]), register(*keys)
    ring.follow(lambda: directory)
    with pytest.raises(Misconfigured, match=f"holds {missing} key that the directory lists") as caught:
        check_usable(ring, to_ms(NOW))
    assert caught.value.code == "no-usable-key"


def test_a_key_that_waits_to_be_listed_stops_nothing_and_is_named() -> None:
    """An announced rotation: the new key's file is there before the directory has it."""
    ring = keyring([0, 1])
    directory = register(key(signing(0), NOW - DAY, NOW + 90 * DAY), key(sealing(0), NOW - DAY, NOW + 90 * DAY))
    ring.follow(lambda: directory)
    check_usable(ring, to_ms(NOW))
    assert warnings(ring.standings(to_ms(NOW)), NOW) == [
        f"The directory does not list the signing key {signing(1).id}, which the node holds."
    ]


def test_a_listed_key_that_is_missing_here_is_named() -> None:
    """What peers seal to it can't be opened, so somebody must see to it."""
    ring = keyring([0])
    keys = [key(signing(0), NOW - DAY, NOW + 90 * DAY), key(sealing(0), NOW - DAY, NOW + 90 * DAY)]
    directory = register(*keys, key(sealing(1), NOW - HOUR, NOW + 90 * DAY))
    ring.follow(lambda: directory)
    found = ring.standings(to_ms(NOW))
    assert [(one.use, one.state) for one in found] == [("signing", "valid"), ("sealing", "not-held"), ("sealing", "valid")]
    assert warnings(found, NOW) == [f"The directory lists the sealing key {sealing(1).id}, which the node does not hold."]


@pytest.mark.parametrize(
    ("left", "expected"),
    [(timedelta(days=61), None), (60 * DAY, 60), (15 * DAY, 60), (14 * DAY, 14), (3 * DAY + HOUR, 14), (3 * DAY, 3), (HOUR, 3)],
)
def test_a_warning_is_due_at_60_14_and_3_days(left: timedelta, expected: int | None) -> None:
    """The lowest threshold that was reached counts, so each is said once."""
    assert threshold(NOW + left, NOW) == expected


def test_nobody_is_warned_of_a_key_that_another_follows() -> None:
    """After a rotation the old key runs out in silence; a revoked one covers nothing."""
    held: dict[str, Use] = {signing(0).id: "signing", signing(1).id: "signing"}
    ending, following = key(signing(0), NOW - DAY, NOW + 2 * DAY), key(signing(1), NOW + DAY, NOW + 99 * DAY)
    assert warnings(standings([ending, following], held, NOW), NOW) == []
    gone = following.model_copy(update={"revoked_from": NOW})
    said = warnings(standings([ending, gone], held, NOW), NOW)
    assert said == ["The last signing key is valid for 2 more days, until 2026-05-06."]


def test_a_key_may_be_valid_from_the_first_to_the_last_moment_of_the_calendar() -> None:
    """What authorities write for a key that never ends harms no node that holds it."""
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    ever = [key(private, first, last) for private in (signing(0), sealing(0))]
    ring = Keyring("ALFA", [signing(0)], [sealing(0)], STORAGE)
    ring.follow(lambda: register(*ever))
    assert ring.trouble(to_ms(NOW)) is None
    assert ring.signing(to_ms(NOW)).id == signing(0).id
    for one in ring.standings(to_ms(NOW)):
        assert (one.state, destroyable(one, register(*ever))) == ("valid", last)
    assert warnings(ring.standings(to_ms(NOW)), NOW) == []


def test_a_sealing_key_is_needed_until_the_longest_deadline_and_a_week_have_passed() -> None:
    """Counted from its last moment; a signing key is of no use after that; one not listed counts from the directory's day."""
    opens, signs = key(sealing(0), NOW - DAY, NOW + DAY), key(signing(0), NOW - DAY, NOW + DAY, NOW)
    directory = register(opens, signs)
    held: dict[str, Use] = {opens.id: "sealing", signs.id: "signing", sealing(1).id: "sealing"}
    by_id = {one.id: one for one in standings(directory.members[0].keys, held, NOW)}
    longest = timedelta(hours=directory.policy.max_expiry_hours)
    assert destroyable(by_id[opens.id], directory) == NOW + DAY + longest + KEPT_AFTER
    assert destroyable(by_id[signs.id], directory) == NOW
    assert destroyable(by_id[sealing(1).id], directory) == directory.issued_at + longest + KEPT_AFTER
