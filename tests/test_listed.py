"""Lists of messages against the history of each: the same words by masks and SQL as by looking at one message alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import insert

from relay.envelope import new_id
from relay.store import Connection, Store, outgoing
from relay.store.common import mask_of, signed
from relay.store.history import AGAIN, DEAD, FINAL, NEVER_SENT, Step
from relay.store.listed import Asked, Page, first_at, sent
from relay.store.tables import OUTBOX_DELIVERY, OUTBOX_ENVELOPE, OUTBOX_MESSAGE, OUTBOX_SEALED, OUTBOX_STEP

ME = "WEST"
ENVELOPES = 150
PEERS = ("EAST", "NORTH", "SOUTH")
LANES = ("flash", "routine")
BEHIND = (0, 0, 0, NEVER_SENT, AGAIN, NEVER_SENT | DEAD, AGAIN | DEAD)


@pytest.fixture(scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
    """Open a store of envelopes drawn at random: every state, alone and beside others in one envelope."""
    store = await Store.open(tmp_path_factory.mktemp("listed") / "store.db", ME, "0" * 64, 1)
    drawn = random.Random(7)  # noqa: S311 - no secret

    def fill(connection: Connection) -> None:
        for n in range(1, ENVELOPES + 1):
            _draw(connection, drawn, n)

    await store.write(fill)
    yield store
    await store.close()


def _draw(connection: Connection, drawn: random.Random, n: int) -> None:
    at, count = 1_790_000_000_000 + n * 1000, 64 if n == 77 else drawn.choice((1, 1, 2, 3))
    sent_at = None if drawn.random() < 0.1 else at + 5
    row = {"n": n, "id": f"e{n}", "epoch": 1, "lane": drawn.choice(LANES), "rank": 0, "keys": "[]", "created_at": at}
    connection.execute(insert(OUTBOX_ENVELOPE), {**row, "sent_at": sent_at})
    connection.execute(insert(OUTBOX_SEALED), {"n": n, "content_key": b"", "header": b"", "body": b""})
    messages = [
        {"id": new_id(ME), "envelope": n, "position": position, "purge_at": 0, "found": at << 21}
        | {"held_at": at + 7 if drawn.random() < 0.1 else None, "purged_at": at + 9 if drawn.random() < 0.1 else None}
        for position in range(count)
    ]
    connection.execute(insert(OUTBOX_MESSAGE), messages)
    for peer in drawn.sample(PEERS, drawn.randint(1, len(PEERS))):
        _deliver(connection, drawn, row, peer, count)


def _deliver(connection: Connection, drawn: random.Random, envelope: dict[str, Any], peer: str, count: int) -> None:
    """Draw what happened to each message at a recipient: nothing, its acceptance, a final word, or two that contradict."""
    happened = [drawn.choice(((), (), ("accepted",), *((one,) for one in FINAL), ("expired", "delivered"))) for _ in range(count)]
    for state in ("accepted", "expired", *sorted(FINAL - {"expired"})):
        if positions := [at for at, said in enumerate(happened) if state in said]:
            step = {"envelope": envelope["n"], "recipient": peer, "state": state, "mask": signed(mask_of(positions))}
            code = "unknown-case" if state == "rejected" else None
            connection.execute(insert(OUTBOX_STEP), {**step, "at": envelope["created_at"] + 20, "code": code})
    unaccepted = mask_of(at for at, said in enumerate(happened) if not said)
    delivery = {
        "recipient": peer,
        "epoch": 1,
        "lane": envelope["lane"],
        "first": envelope["n"] * 64,
        "last": envelope["n"] * 64 + count - 1,
        "envelope": envelope["n"],
        "open": signed(mask_of(at for at, said in enumerate(happened) if not FINAL & set(said))),
        "unaccepted": signed(unaccepted),
        "size": 1,
        "deadline": 0,
        "behind": drawn.choice(BEHIND) if unaccepted and envelope["n"] % 2 else 0,
    }
    connection.execute(insert(OUTBOX_DELIVERY), delivery)


@pytest.fixture(scope="module")
async def known(store: Store) -> tuple[list[Any], dict[str, dict[str, tuple[Step, ...]]]]:
    """Return every row of the list, and the history of each message at each recipient."""
    rows = await everything(store, Asked())
    whole = await store.read(lambda connection: {row.id: outgoing.message(connection, row.id) for row in rows})
    return rows, {id_: one.recipients for id_, one in whole.items() if one is not None}


def last(steps: tuple[Step, ...]) -> str:
    """Return where a message stands by its history: its final word that stands, else why it waits, else how far it is."""
    own = [step.state for step in steps if not step.note]
    for states in (FINAL, ("held", "dead", "deferred"), ("accepted",), ("sent",)):
        if found := [state for state in own if state in states]:
            return found[0]
    return "queued"


async def everything(store: Store, asked: Asked, limit: int = 500) -> list[Any]:
    """Return all pages of a list together."""
    rows: list[Any] = []
    below: int | None = None
    while True:
        page: Page = await store.read(lambda connection, below=below: sent.page(connection, asked, below, limit))
        rows += page.rows
        if (below := page.below) is None:
            return rows


def test_the_list_says_of_each_message_what_its_history_says(known: Any) -> None:
    """At as many recipients in each state, for every message."""
    rows, of = known
    for row in rows:
        assert row.states == dict(Counter(map(last, of[row.id].values())))
        assert set(row.peers) == set(of[row.id])
    assert {state for row in rows for state in row.states} == set(sent.STATES) - {"open"}


@pytest.mark.parametrize("few", [True, False], ids=["by its index", "looked for"])
@pytest.mark.parametrize("peer", [None, "NORTH"])
@pytest.mark.parametrize("state", sent.STATES)
async def test_a_state_lists_what_stands_in_it(
    store: Store, known: Any, monkeypatch: pytest.MonkeyPatch, state: str, peer: str | None, few: bool
) -> None:
    """Every message that is in the state at a recipient, or at the one asked for; found by an index or by looking, the same."""
    if not few:
        monkeypatch.setattr(sent, "MOST", 0)
    rows, of = known

    def stands(id_: str) -> bool:
        some = [steps for to, steps in of[id_].items() if peer in (None, to)]
        if state == "open":
            return any(last(steps) not in FINAL for steps in some)
        if state in FINAL:  # its word was said, if only against the one that stands
            return any(state in {step.state for step in steps} for steps in some)
        return state in map(last, some)

    listed = [row.id for row in await everything(store, Asked(peer=peer, state=state), limit=7)]
    assert listed == [row.id for row in rows if stands(row.id)]
    assert listed


@pytest.mark.parametrize("lane", LANES)
async def test_a_lane_and_a_time_list_what_is_of_them(store: Store, known: Any, lane: str) -> None:
    """Both bounds of a time, and a lane, with and without an index for the rest."""
    since, until = 1_790_000_000_000 + 50_000, 1_790_000_000_000 + 100_000
    rows, _ = known
    wanted = [row.id for row in rows if row.lane == lane and since <= row.at < until]
    assert [row.id for row in await everything(store, Asked(lane=lane, since=since, until=until), 5)] == wanted
    every = {row.id for row in await everything(store, Asked(state="open"))}
    opened = [row.id for row in await everything(store, Asked(lane=lane, state="open", since=since, until=until), 5)]
    assert opened == [id_ for id_ in wanted if id_ in every]


async def test_the_beginning_of_an_id_lists_what_has_it(store: Store, known: Any) -> None:
    """All that begin so, and an id alone."""
    rows, _ = known
    one = rows[len(rows) // 2].id
    assert [row.id for row in await everything(store, Asked(prefix=one))] == [one]
    assert {row.id for row in await everything(store, Asked(prefix=one[:8]), 9)} == {
        row.id for row in rows if row.id.startswith(one[:8])
    }


@pytest.mark.parametrize("holes", [(), (3, 4, 5), (1, 2, 9)])
def test_the_first_of_a_time_is_found_by_halves(holes: tuple[int, ...]) -> None:
    """Whatever numbers are missing; behind the last there is none."""
    times = {n: n * 10 for n in range(1, 11) if n not in holes}

    def time_of(number: int) -> int | None:
        return next((times[n] for n in sorted(times) if n >= number), None)

    for time in range(0, 120, 5):
        found = first_at(time_of, 1, 10, time)
        assert [n for n in times if n >= found] == [n for n in times if times[n] >= time]
