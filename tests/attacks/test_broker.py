"""A malicious broker as a property: whatever it did, nothing is taken that was not sent, and all that was sent arrives."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.rabbit import PrivateBroker
from relay.store import incoming, samples
from tests.attacks.hostile import TRICKS, Hostile
from tests.chaos.mutants import MUTANTS
from tests.live import Live, eventually, message, private_network

CENTRES = ("FOED", "FOEE")
SEED = 20_161
ROUNDS, AT_ONCE = 8, 4


class Exchange:
    """What two centres sent each other, and what their systems were given."""

    def __init__(self, live: Live) -> None:
        self.sent: dict[str, dict[str, bytes]] = {centre: {} for centre in CENTRES}
        self.given: dict[str, list[tuple[str, bytes]]] = {centre: [] for centre in CENTRES}
        self._live = live

    async def send(self, number: int) -> None:
        """Let each centre send the other one message."""
        for origin, recipient in (CENTRES, CENTRES[::-1]):
            precedence = ("routine", "flash", "priority")[number % 3]
            raw = message(case_number=f"HOSTILE-{number}", to=[recipient], precedence=precedence)
            self.sent[recipient][(await self._live.submit(origin, raw)).id] = raw

    async def take(self) -> bool:
        """Take what waits at both; return whether all that was sent is there."""
        for centre in CENTRES:
            self.given[centre] += [(one.id, one.raw) for one in await self._live.take(centre, wait=0)]
        return all(len(self.given[centre]) >= len(self.sent[centre]) for centre in CENTRES)

    def check(self) -> None:
        """Show that what was given was sent, byte for byte, and no message twice."""
        for centre in CENTRES:
            ids = [one for one, _ in self.given[centre]]
            assert len(ids) == len(set(ids)), "handed over twice"
            assert all(self.sent[centre].get(one) == raw for one, raw in self.given[centre]), "taken, and never sent"


async def run(live: Live, hostile: Hostile, rounds: int, at_once: int, patience: float) -> Exchange:
    """Let two centres talk through a malicious broker, until it did all that it can, then through an honest one."""
    exchange = Exchange(live)
    for number in itertools.count():
        if number >= rounds and set(TRICKS) <= set(hostile.done):
            break
        for one in range(at_once):
            await exchange.send(number * at_once + one)
        await asyncio.sleep(0.2)
        await exchange.take()
        exchange.check()
    await hostile.become_honest()
    await eventually(exchange.take, patience)
    exchange.check()
    for centre in CENTRES:
        origin = next(one for one in CENTRES if one != centre)
        for sent in exchange.sent[centre]:
            await live.reaches(origin, sent, centre, "delivered", patience)
    return exchange


@contextlib.asynccontextmanager
async def between(broker: PrivateBroker, folder: Path, seed: int) -> AsyncIterator[tuple[Live, Hostile]]:
    """Run two centres with a malicious broker between them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_REPAIR__MARK_LONGEST", "1")
        patch.setenv("RELAY_REPAIR__GAP", "0.3")
        patch.setenv("RELAY_REPAIR__HEARTBEAT_SECONDS", "1")
        patch.setattr("relay.retry.RESEND_AGAIN_MS", 200)
        live = Live(private_network(folder / "network", broker, f"hostile{seed}", CENTRES), broker)
        hostile = Hostile(live.network, seed)
        await hostile.begin()
        try:
            await live.start(*CENTRES)
            yield live, hostile
        finally:
            await live.close()
            await hostile.end()


@pytest.mark.timeout(200)
@pytest.mark.parametrize("seed", range(SEED, SEED + int(os.environ.get("RELAY_HOSTILE_SEEDS", "1"))))
async def test_a_malicious_broker_changes_nothing_but_counters(broker: PrivateBroker, tmp_path: Path, seed: int) -> None:
    """It drops, repeats, holds back, alters, moves, splices, replays and adds junk, in every lane and among the receipts."""
    async with between(broker, tmp_path, seed) as (live, hostile):
        await run(live, hostile, ROUNDS, AT_ONCE, 60)
        assert set(TRICKS) <= set(hostile.done)
        for centre in CENTRES:
            assert live[centre].full() is None, "no forged word stopped it"
            assert await live[centre].centre.store.read(samples.listed)
            forks = live[centre].centre.metrics.forks.labels(next(one for one in CENTRES if one != centre))
            assert forks._value.get() == 0


@pytest.mark.timeout(200)
async def test_a_node_that_knows_no_copy_is_caught(
    broker: PrivateBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the property can fail is shown with a fault: a store that forgets what it took hands over what the broker repeats."""
    monkeypatch.setattr(incoming, "take", incoming.take)  # put back in the end
    MUTANTS["dedupe-removed"]()
    async with between(broker, tmp_path, SEED - 1) as (live, hostile):
        with pytest.raises(AssertionError, match="handed over twice"):
            await run(live, hostile, 10 * ROUNDS, AT_ONCE, 30)
