"""A clock that runs ahead purges and expires nothing: what it is compared with, and what a node does while it is doubted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import deadlines, retention
from relay.centre import Centre
from relay.errors import NotReady
from relay.rabbit import PrivateBroker
from relay.timekeeping import Timekeeper
from relay.views.checks import checks
from relay.views.network import network
from relay.web.served import Readiness
from tests.live import PATIENCE, Live, eventually, message, private_network

A, B = CENTRES = ("CLKA", "CLKB")
HOUR = 3_600_000
MOST, LATELY = 2 * HOUR, 90_000
YEAR = 366 * 24 * HOUR
NOW = 1_800_000_000_000


def begun(last_heard: int = NOW - HOUR) -> Timekeeper:
    """Return one that began at ``NOW``, elapsed 0."""
    keeper = Timekeeper(MOST, LATELY)
    keeper.begin(NOW, 0, last_heard)
    return keeper


def test_a_clock_that_goes_on_is_trusted() -> None:
    """Days without a peer and without a step raise no doubt."""
    assert begun().doubt(NOW + 5 * 24 * HOUR, 5 * 24 * HOUR, expired=True) is None


@pytest.mark.parametrize("step", [-YEAR, -240_000, 3_600_000, MOST])
def test_a_step_within_the_bound_or_back_is_no_doubt(step: int) -> None:
    """What a campaign does to clocks, and any step back, changes nothing."""
    keeper = begun()
    keeper.hear("BBB", NOW + 1000, 1000)
    assert keeper.doubt(NOW + step + 2000, 2000, expired=False) is None
    assert keeper.doubt(NOW + 3000, 3000, expired=False) is None


def test_a_step_ahead_without_peers_is_doubted_until_it_is_taken_back() -> None:
    """Compared with itself a clock that was set a year ahead is doubted for days, and trusted once it is right."""
    keeper = begun()
    assert "was set" in (keeper.doubt(NOW + YEAR, 1000, expired=False) or "")
    assert keeper.doubt(NOW + YEAR + 24 * HOUR, 24 * HOUR, expired=False) is not None
    assert keeper.doubt(NOW + 24 * HOUR + 5000, 24 * HOUR, expired=False) is None


def test_peers_confirm_a_step() -> None:
    """A clock that was set right is trusted as soon as most peers that are heard agree, and stays so when they fall silent."""
    keeper = begun()
    assert keeper.doubt(NOW + YEAR, 1000, expired=False) is not None
    keeper.hear("BBB", NOW + YEAR + 1000, 2000)
    assert keeper.doubt(NOW + YEAR + 1000, 2000, expired=False) is None
    assert keeper.doubt(NOW + YEAR + 24 * HOUR, 24 * HOUR, expired=False) is None


@pytest.mark.parametrize(("behind", "doubted"), [(0, False), (1, False), (2, True), (3, True)])
def test_most_of_those_heard_decide(behind: int, doubted: bool) -> None:
    """One peer of three whose clock is behind says nothing of ours; two do, from the start on."""
    keeper = begun()
    for number in range(3):
        keeper.hear(f"P{number}", NOW - (YEAR if number < behind else 0), 0)
    assert (keeper.doubt(NOW + 10, 10, expired=False) is not None) == doubted


def test_peers_notice_a_step_though_they_were_heard_before_it() -> None:
    """What a peer said is carried forward by the monotonic clock, so a step is noticed at once."""
    keeper = begun()
    keeper.hear("BBB", NOW + 1000, 1000)
    assert keeper.doubt(NOW + 30_000, 30_000, expired=False) is None
    assert "1 of 1" in (keeper.doubt(NOW + YEAR, 31_000, expired=False) or "")
    assert "was set" in (keeper.doubt(NOW + YEAR, LATELY + 40_000, expired=False) or "")


def test_a_start_long_after_a_peer_was_heard_waits_for_one() -> None:
    """A machine that starts with a wrong clock purges nothing before a peer spoke, or the time for it has passed."""
    keeper = begun(last_heard=NOW - YEAR)
    assert "before the start" in (keeper.doubt(NOW + 1000, 1000, expired=False) or "")
    assert keeper.doubt(NOW + MOST + 1, MOST + 1, expired=False) is None
    assert keeper.doubt(NOW + MOST + 1, MOST + 1, expired=True) is not None
    keeper.hear("BBB", NOW + MOST + 2, MOST + 2)
    assert keeper.doubt(NOW + MOST + 3, MOST + 3, expired=True) is None


def test_a_store_that_never_heard_a_peer_waits_for_none() -> None:
    """A new node has nothing to purge, and nobody to compare with."""
    assert begun(last_heard=0).doubt(NOW + 1, 1, expired=False) is None


def test_zero_trusts_the_clock() -> None:
    """With a bound of 0 no step is too large."""
    keeper = Timekeeper(0, LATELY)
    keeper.begin(NOW, 0, NOW)
    assert keeper.doubt(NOW + YEAR, 1000, expired=False) is None


@given(st.lists(st.integers(-MOST, MOST), max_size=8), st.integers(0, LATELY))
def test_peers_within_the_bound_never_raise_doubt(offsets: list[int], after: int) -> None:
    """Whatever peers' clocks differ by within the bound, a clock that goes on is trusted."""
    keeper = begun()
    for number, offset in enumerate(offsets):
        keeper.hear(f"P{number}", NOW + offset, 0)
    assert keeper.doubt(NOW + after, after, expired=False) is None


@pytest.fixture
async def live(broker: PrivateBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    """Run two centres that look at deadlines several times a second."""
    monkeypatch.setenv("RELAY_REPAIR__HEARTBEAT_SECONDS", "0.5")
    monkeypatch.setenv("RELAY_DEADLINES__GRACE", "0")
    monkeypatch.setattr(deadlines, "FAR_SECONDS", 0.1)
    monkeypatch.setattr(retention, "FIRST_SECONDS", 0.2)
    monkeypatch.setattr(retention, "DOUBTED_SECONDS", 0.2)
    nodes = Live(private_network(tmp_path / "network", broker, "timekeeping", CENTRES), broker)
    await nodes.start(*CENTRES)
    yield nodes
    await nodes.close()


async def test_a_node_whose_clock_runs_ahead_neither_purges_nor_expires(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A year ahead everything is due and over; all of it is still there and open when the clock is right again, and delivered."""
    kept = await live.submit(A, message(case_number="CLOCK-KEPT", to=[B]))
    assert [one.id for one in await live.take(B, PATIENCE)] == [kept.id]
    await live.reaches(A, kept.id, B, "delivered")
    await eventually(lambda: live[A].heartbeats.state(B) == "heard")
    unread = await live.submit(B, message(case_number="CLOCK-UNREAD", to=[A]))
    await live.reaches(B, unread.id, A, "accepted")
    await live.stop(B)
    waiting = await live.submit(A, message(case_number="CLOCK-OPEN", to=[B]))
    await live.reaches(A, waiting.id, B, "sent")
    centre, right, ahead = live[A].centre, Centre.now, {A: 10 * YEAR}
    monkeypatch.setattr(Centre, "now", lambda one: right(one) + ahead.get(one.id, 0))
    await eventually(lambda: b"relay_clock_doubted 1.0" in centre.metrics.text())
    await asyncio.sleep(2)  # several runs of both loops
    shown = {one.check: one for one in (await checks(live[A], Readiness(live[A]))).checks}
    assert shown["clocks"].state == "critical"
    assert any("Nothing is purged or expired" in one for one in (await network(live[A])).centre.warnings)
    with pytest.raises(NotReady) as refused:
        await live[A].retention.purge(actor="officer", why="asked")
    assert refused.value.code == "clock-doubted"
    assert {one.id for one in (await live[A].retention.purge(dry_run=True)).listed} >= {kept.id}
    assert [one.id for one in await live[A].handover.take(10, 0)] == [unread.id]
    ahead.clear()
    await eventually(lambda: b"relay_clock_doubted 0.0" in centre.metrics.text())
    assert not (await live[A].retention.purge()).listed
    assert (await live.states(A, waiting.id, B))[-1] == "sent"
    await live.start(B)
    assert [one.id for one in await live.take(B, PATIENCE)] == [waiting.id]
    await live.reaches(A, waiting.id, B, "delivered")
