"""A large store, written by SQL in seconds: messages sent and received, delivered but for a few, with their audit record."""
# ruff: noqa: S608 - every part of the statements stands here

from __future__ import annotations

import sqlite3
from pathlib import Path

from relay.clock import now_ms
from relay.envelope import new_id
from relay.store import Store

ME = "WEST"
LANES = ("flash", "immediate", "priority", "routine", "exercise")
STEP_MS = 1_000
"""Time from one message to the next."""

_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)"
_AT = "(:begun + i * :step)"
_TAG = {centre: new_id(centre)[-8:] for centre in (ME, "EAST", "NORTH", "QUIET")}
_ID = "printf('%08x-%04x-7%03x-8000-0000%s', ({at}) >> 16, ({at}) & 65535, i % 4096, '{tag}')"
_PEER = "CASE WHEN i % 1000 = 0 THEN 'QUIET' WHEN i % 3 = 0 THEN 'NORTH' ELSE 'EAST' END"
_LANE = "CASE WHEN i % 500 = 0 THEN 'flash' WHEN i % 50 = 0 THEN 'priority' ELSE 'routine' END"
_RANK = "CASE WHEN i % 500 = 0 THEN 0 WHEN i % 50 = 0 THEN 2 ELSE 3 END"
_OPEN = "CASE WHEN i % 10000 = 1 OR i > :count - 5 THEN 1 ELSE 0 END"
"""Whether a message is open: a few old ones, and the newest."""


async def write(file: Path, count: int, network: str = "0" * 64) -> int:
    """Write a store of so many messages sent and as many received, an envelope each; return when the first was, in ms."""
    begun = now_ms() - count * STEP_MS
    store = await Store.open(file, ME, network, begun)
    await store.close()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in _statements():
            connection.execute(statement, {"count": count, "begun": begun, "step": STEP_MS, "epoch": begun // 1000})
    return begun


def _statements() -> list[str]:
    own, theirs = _ID.format(at=_AT, tag=_TAG[ME]), _ID.format(at=_AT, tag=_TAG["EAST"])
    return [
        f"{_NUMBERS} INSERT INTO outbox_envelope (n, id, epoch, lane, rank, keys, created_at, sent_at) "
        f"SELECT i, 'e' || {own}, :epoch, {_LANE}, {_RANK}, '[]', {_AT}, {_AT} + 5 FROM n",
        f"{_NUMBERS} INSERT INTO outbox_sealed (n, content_key, header, body) SELECT i, x'', zeroblob(200), zeroblob(200) FROM n",
        f"{_NUMBERS} INSERT INTO outbox_message (id, envelope, position, purge_at, found) "
        f"SELECT {own}, i, 0, 0, {_AT} << 21 FROM n",
        f"{_NUMBERS} INSERT INTO outbox_delivery "
        "(recipient, epoch, lane, first, last, envelope, open, unaccepted, size, deadline, behind) "
        f"SELECT {_PEER}, :epoch, {_LANE}, i, i, i, {_OPEN}, {_OPEN}, 400, {_AT} + 86400000, 0 FROM n",
        f"{_NUMBERS} INSERT INTO outbox_step (envelope, recipient, state, mask, at) "
        f"SELECT i, {_PEER}, 'accepted', 1, {_AT} + 20 FROM n WHERE NOT {_OPEN}",
        f"{_NUMBERS} INSERT INTO outbox_step (envelope, recipient, state, mask, at, code) "
        f"SELECT i, {_PEER}, CASE WHEN i % 5000 = 7 THEN 'rejected' ELSE 'delivered' END, 1, {_AT} + 50, "
        f"CASE WHEN i % 5000 = 7 THEN 'unknown-case' END FROM n WHERE NOT {_OPEN}",
        f"{_NUMBERS} INSERT INTO inbox_envelope "
        "(n, origin, id, epoch, lane, first, received_at, content_key, header, body) "
        f"SELECT i, {_PEER}, 'e' || {theirs}, :epoch, {_LANE}, i, {_AT}, x'', zeroblob(200), zeroblob(200) FROM n",
        f"{_NUMBERS} INSERT INTO inbox_message "
        "(n, origin, id, envelope, position, rank, deadline, state, at, flags, attempts, purge_at, found, given_at) "
        f"SELECT i, {_PEER}, {theirs}, i, 0, {_RANK}, 0, CASE WHEN i % 20000 = 3 THEN 'dead' WHEN i % 20000 = 5 THEN 'held' "
        f"WHEN {_OPEN} THEN 'waiting' ELSE 'delivered' END, {_AT} + 9, 0, 0, 0, ({_AT} << 21) | 1, {_AT} FROM n",
        f"{_NUMBERS} INSERT INTO audit (epoch, position, leaf) SELECT :epoch, i - 1, CAST(printf('"
        '{"v":1,"epoch":%d,"time":%d,"step":"submitted","envelope":"%s","count":1,"commitments":"%064x"}'
        f"', :epoch, {_AT}, {own}, i) AS BLOB) FROM n",
    ]
