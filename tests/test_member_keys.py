"""The keys of a member as operators see them: when each counts, and how long there is still one of each use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from relay.directory import Contact, Key, Member
from relay.views.member_keys import days_left, keys

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


def key(id_: str, use: str, begins: int, ends: int, revoked: int | None = None) -> Key:
    """Return a key that counts from one day to another, seen from now; revoked from a day on."""
    day = timedelta(days=1)
    return Key(
        id=id_,
        use=use,  # type: ignore[arg-type]
        algorithm="ed25519",
        public="",
        valid_from=NOW + begins * day,
        valid_until=NOW + ends * day,
        revoked_from=None if revoked is None else NOW + revoked * day,
    )


def member(*some: Key) -> Member:
    """Return an invented centre with these keys."""
    contact = Contact(name="Duty officer", telephone="+00 0 000", email="duty@keya.example")
    return Member(id="KEYA", name="Keya", organisation="O", seat="S", time_zone="UTC", contact=contact, keys=some, reads={})


@pytest.mark.parametrize(
    ("times", "state", "days"),
    [
        ((-1, 100), "valid", 100),
        ((-1, 59), "soon", 59),
        ((1, 100), "announced", 100),
        ((-9, -1), "expired", None),
        ((-9, 100, -2), "revoked", None),
        ((-9, 100, 2), "soon", 2),
    ],
)
def test_a_key_says_how_it_stands(times: tuple[int, ...], state: str, days: int | None) -> None:
    """By its times and its revocation, one to come included."""
    (shown,) = keys(member(key("k", "signing", *times)), NOW)
    assert (shown.state, shown.days_left) == (state, days)


def test_keys_stand_by_use_the_newest_first() -> None:
    """What signs, what signs checkpoints, what opens."""
    some = (
        key("seal", "sealing", -1, 9),
        key("old", "signing", -9, 9),
        key("new", "signing", -1, 9),
        key("log", "checkpoint", -1, 9),
    )
    assert [one.id for one in keys(member(*some), NOW)] == ["new", "old", "log", "seal"]


def test_a_member_has_keys_until_the_last_of_a_use_ends() -> None:
    """The use that is without a key first counts; one that is missing now is said so."""
    signs, seals = key("a", "signing", -1, 50), key("b", "sealing", -1, 20)
    assert days_left(member(signs, seals), NOW) == 20
    assert days_left(member(signs, seals, key("c", "sealing", -1, 70)), NOW) == 50
    assert days_left(member(signs), NOW) is None
    assert days_left(member(signs, key("d", "sealing", 1, 70)), NOW) is None
