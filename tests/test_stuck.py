"""What of this centre's own is stuck, read in pages: each costs what it shows, however much there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from relay.store import stuck
from relay.store.common import bits, signed
from relay.store.engine import open_engine
from relay.store.history import AGAIN, DEAD, NEVER_SENT
from relay.store.stuck import State, Stuck
from relay.store.tables import OUTBOX_DELIVERY, OUTBOX_ENVELOPE, OUTBOX_MESSAGE, OUTBOX_STEP

NOW = 1_790_000_000_000
PEERS = ("STKA", "STKB")
EACH = 10
ENVELOPES = 500
PAGE = 50


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """Fill a store: half of the envelopes are dead at both peers (10,000 dead letters in all), half deferred at one of them."""
    engine = open_engine(tmp_path_factory.mktemp("stuck") / "store.sqlite")
    with engine.connect().execution_options(writes=True) as open_, open_.begin():
        for rows in _rows(ENVELOPES * 2):
            table, values = rows
            open_.execute(insert(table), values)
    with engine.connect() as reading:
        yield reading
    engine.dispose()


def _rows(envelopes: int) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    numbers = range(1, envelopes + 1)
    sent = {"epoch": 1, "lane": "routine", "rank": 3, "keys": "[]", "created_at": NOW}
    yield OUTBOX_ENVELOPE, [{"n": n, "id": f"e{n}", "sent_at": NOW + 1, **sent} for n in numbers]
    message = {"purge_at": 0, "found": 0, "purged_at": None}
    yield (
        OUTBOX_MESSAGE,
        [
            {"id": _id(n, at), "envelope": n, "position": at, "held_at": NOW + 9 if _is_held(n, at) else None, **message}
            for n in numbers
            for at in range(EACH)
        ],
    )
    mask = signed(bits(EACH))
    delivery = {"epoch": 1, "lane": "routine", "open": mask, "unaccepted": mask, "size": 1, "deadline": NOW + 10**9}
    yield (
        OUTBOX_DELIVERY,
        [
            {
                "recipient": peer,
                "envelope": n,
                "first": n * EACH,
                "last": n * EACH + EACH - 1,
                "behind": _behind(n, peer),
                **delivery,
            }
            for n in numbers
            for peer in PEERS
        ],
    )
    step = {"state": "dead", "mask": mask, "code": "recipient-left"}
    dead = [n for n in numbers if _behind(n, PEERS[0]) & DEAD]
    yield OUTBOX_STEP, [{"envelope": n, "recipient": peer, "at": NOW + 5, **step} for n in dead for peer in PEERS]


def _id(n: int, at: int) -> str:
    return f"m{n:05}-{at:02}"


def _is_held(n: int, at: int) -> bool:
    return n == 2 and at == 3


def _behind(n: int, peer: str) -> int:
    if n % 2:
        return NEVER_SENT | DEAD
    return AGAIN if peer == PEERS[0] else 0


def read(connection: Connection, state: State, **asked: Any) -> list[Stuck]:
    """Return everything in a state, page by page."""
    found = page = stuck.listed(connection, state, PAGE, **asked)
    while len(page) == PAGE:
        page = stuck.listed(connection, state, PAGE, after=page[-1].place, **asked)
        found = found + page
    return found


def test_pages_show_every_dead_letter_once_the_oldest_of_each_peer_first(connection: Connection) -> None:
    """Page after page, each message and recipient comes once, with the code and time of its end and where it goes on."""
    found = read(connection, "dead")
    assert [(one.peers[0], one.id) for one in found] == [
        (peer, _id(n, at)) for peer in PEERS for n in range(1, 2 * ENVELOPES, 2) for at in range(EACH)
    ]
    assert {(one.code, one.since, one.never_sent) for one in found} == {("recipient-left", NOW + 5, True)}


def test_what_is_held_is_not_listed_as_deferred(connection: Connection) -> None:
    """A hold is the message's own: it stands once, with all its recipients, and not among what is tried again."""
    (held,) = read(connection, "held")
    assert (held.id, held.peers, held.since) == (_id(2, 3), PEERS, NOW + 9)
    deferred = read(connection, "deferred")
    assert len(deferred) == ENVELOPES * EACH - 1
    assert {one.peers for one in deferred} == {(PEERS[0],)}
    assert {(one.since, one.never_sent) for one in deferred} == {(NOW + 1, False)}


def test_filters_by_peer_and_code(connection: Connection) -> None:
    """Only what waits at a peer, or is dead under a code; a code says nothing of what is deferred or held."""
    assert {one.peers for one in read(connection, "dead", peer=PEERS[1])} == {(PEERS[1],)}
    assert len(read(connection, "dead", code="recipient-left", peer=PEERS[0])) == ENVELOPES * EACH
    assert read(connection, "dead", code="cannot-decrypt") == []
    assert read(connection, "deferred", code="recipient-left") == []
    assert len(read(connection, "held", peer=PEERS[1])) == 1


def test_one_message_says_where_it_is_stuck(connection: Connection) -> None:
    """By recipient; where an operator holds it, that alone."""
    assert [(one.state, one.peers) for one in stuck.of_message(connection, _id(1, 0))] == [("dead", (one,)) for one in PEERS]
    assert [(one.state, one.peers) for one in stuck.of_message(connection, _id(4, 0))] == [("deferred", (PEERS[0],))]
    assert [(one.state, one.peers) for one in stuck.of_message(connection, _id(2, 3))] == [("held", PEERS)]
    assert [(one.state, one.peers) for one in stuck.of_message(connection, _id(6, 0))][:1] == [("deferred", (PEERS[0],))]
    assert stuck.of_message(connection, "nobody-sent-this") == []


def test_no_page_takes_long(connection: Connection) -> None:
    """The first page and the last one of ten thousand dead letters each take well under a tenth of a second of CPU."""
    last = read(connection, "dead")[-2].place
    pages: list[tuple[State, stuck.Place]] = [("dead", ()), ("dead", last), ("deferred", ()), ("held", ())]
    for state, after in pages:
        assert cpu(partial(stuck.listed, connection, state, PAGE, after=after)) < 0.1


def cpu(job: Callable[[], Any]) -> float:
    """Return how many seconds of this thread's CPU something takes, at best."""
    took = []
    for _ in range(3):
        begun = time.thread_time()
        job()
        took.append(time.thread_time() - begun)
    return min(took)


def test_nothing_is_stuck_in_a_new_store(tmp_path: Path) -> None:
    """An empty store has no page."""
    engine = open_engine(tmp_path / "store.sqlite")
    with engine.connect() as connection:
        assert not any(stuck.listed(connection, state, PAGE) for state in ("dead", "deferred", "held"))
    engine.dispose()
