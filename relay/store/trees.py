"""The Merkle tree over an epoch's leaves: its hashes at rest, its roots and proofs at every size, and whether it still fits.

The hashes are not written with the leaves: appending stays one insert. :func:`complete` writes them behind, before a checkpoint
is made, in *tiles* of 256 leaves and the roots of complete subtrees above. Whatever is asked for costs the hashing of less than
256 leaves and a few rows, whichever size of the past it is for. :func:`check` hashes all leaves anew and compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from relay import merkle
from relay.merkle import HASH_BYTES, Frontier, Subtree
from relay.store.common import upsert
from relay.store.tables import AUDIT, AUDIT_SUBTREE, AUDIT_TILE, CHECKPOINT

TILE_LEVEL = 8
TILE = 1 << TILE_LEVEL
TILES_AT_ONCE = 64

_LEAVES = (
    select(AUDIT.c.position, AUDIT.c.leaf)
    .where(AUDIT.c.epoch == bindparam("of"), AUDIT.c.position >= bindparam("first"), AUDIT.c.position < bindparam("end"))
    .order_by(AUDIT.c.position)
)
_SUBTREE = select(AUDIT_SUBTREE.c.hash).where(
    AUDIT_SUBTREE.c.epoch == bindparam("of"), AUDIT_SUBTREE.c.level == bindparam("at"), AUDIT_SUBTREE.c.number == bindparam("n")
)


@dataclass(frozen=True, slots=True)
class Fault:
    """The first place at which a log is not what it was: an entry of ``first`` to ``last``, and what is wrong, in a sentence."""

    epoch: int
    first: int
    last: int
    detail: str


@dataclass(slots=True)
class Check:
    """How far a check of an epoch's log came: the tree so far, and the hashes of the tile that is not complete yet."""

    epoch: int
    tree: Frontier = field(default_factory=Frontier)
    tile: list[bytes] = field(default_factory=list)
    proved: int = 0
    """Size of the last checkpoint that the leaves fit."""


def size(connection: Connection, epoch: int) -> int:
    """Return how many leaves an epoch's log has, by its last position."""
    last = connection.execute(select(func.max(AUDIT.c.position)).where(AUDIT.c.epoch == epoch)).scalar()
    return 0 if last is None else int(last) + 1


def root(connection: Connection, epoch: int, size: int) -> bytes:
    """Return the root over the first ``size`` leaves of an epoch's log; raise ``LookupError`` when some are missing."""
    return merkle.root(size, subtrees(connection, epoch))


def inclusion(connection: Connection, epoch: int, position: int, size: int) -> list[bytes]:
    """Return the proof that the leaf at a position is in the tree over the first ``size`` leaves."""
    return merkle.inclusion(position, size, subtrees(connection, epoch))


def consistency(connection: Connection, epoch: int, old: int, new: int) -> list[bytes]:
    """Return the proof that the log of ``old`` leaves is the beginning of that of ``new``."""
    return merkle.consistency(old, new, subtrees(connection, epoch))


def subtrees(connection: Connection, epoch: int) -> Subtree:
    """Return the complete subtrees of an epoch's log, from the rows that hold them or else from the leaves."""
    known: dict[tuple[int, int], bytes] = {}

    def subtree(level: int, index: int) -> bytes:
        if (level, index) not in known:
            known[level, index] = _subtree(connection, epoch, level, index, subtree)
        return known[level, index]

    return subtree


def complete(connection: Connection, epoch: int) -> bool:
    """Write the hashes of tiles that became complete, a bounded number of them; return whether there are more."""
    first = connection.execute(select(func.max(AUDIT_TILE.c.number)).where(AUDIT_TILE.c.epoch == epoch)).scalar()
    first = 0 if first is None else int(first) + 1
    whole = min(size(connection, epoch) // TILE, first + TILES_AT_ONCE)
    for number in range(first, whole):
        _write_tile(connection, epoch, number, leaf_hashes(connection, epoch, number * TILE, TILE))
    return whole == first + TILES_AT_ONCE


def leaf_hashes(connection: Connection, epoch: int, first: int, count: int) -> list[bytes]:
    """Return the hashes of consecutive leaves; raise ``LookupError`` when some are missing."""
    found = connection.execute(_LEAVES, {"of": epoch, "first": first, "end": first + count}).all()
    if len(found) != count:
        raise LookupError(f"The log of epoch {epoch} lacks {count - len(found)} of the entries {first} to {first + count - 1}.")
    return [merkle.hash_leaf(_octets(row.leaf)) for row in found]


def check(connection: Connection, state: Check, limit: int) -> Fault | None:
    """Hash the next leaves of a log anew and compare them with its tiles and checkpoints; return the first fault, or None.

    ``state`` is moved on; at the end of the log its tree has the log's size. A log that is shorter than its last checkpoint says
    is a fault of the entry that is missing first.
    """
    begun = state.tree.size
    found = connection.execute(_LEAVES, {"of": state.epoch, "first": begun, "end": begun + limit}).all()
    if (fault := _check_places(state.epoch, begun, found)) is not None:
        return fault
    sizes = _checkpoints(connection, state.epoch, begun, begun + limit)
    tiles = _tiles(connection, state.epoch, begun, begun + limit)
    for row in found:
        hashed = merkle.hash_leaf(row.leaf)
        kept = tiles.get(row.position // TILE)
        if (fault := _check_entry(connection, state, row.position, hashed, kept)) is not None:
            return fault
        state.tree.append(hashed)
        if (said := sizes.pop(state.tree.size, None)) is not None and (fault := _check_root(state, said)) is not None:
            return fault
    if len(found) < limit and sizes:
        return _missing(state.epoch, state.tree.size)
    return None


def _subtree(connection: Connection, epoch: int, level: int, index: int, subtree: Subtree) -> bytes:
    if level < TILE_LEVEL:
        return merkle.hash_complete(leaf_hashes(connection, epoch, index << level, 1 << level))
    kept = connection.execute(_SUBTREE, {"of": epoch, "at": level, "n": index}).scalar()
    if kept is not None:
        return _octets(kept)
    if level == TILE_LEVEL:
        return merkle.hash_complete(leaf_hashes(connection, epoch, index << level, 1 << level))
    return merkle.hash_children(subtree(level - 1, 2 * index), subtree(level - 1, 2 * index + 1))


def _write_tile(connection: Connection, epoch: int, number: int, hashes: Sequence[bytes]) -> None:
    """Write a tile, and every subtree that is complete with it."""
    upsert(connection, AUDIT_TILE, [{"epoch": epoch, "number": number, "hashes": b"".join(hashes)}], ["hashes"])
    level, hashed, rows = TILE_LEVEL, merkle.hash_complete(hashes), list[dict[str, Any]]()
    rows.append({"epoch": epoch, "level": level, "number": number, "hash": hashed})
    while number & 1:
        left = _octets(connection.execute(_SUBTREE, {"of": epoch, "at": level, "n": number - 1}).scalar())
        level, number, hashed = level + 1, number >> 1, merkle.hash_children(left, hashed)
        rows.append({"epoch": epoch, "level": level, "number": number, "hash": hashed})
    upsert(connection, AUDIT_SUBTREE, rows, ["hash"])


def _checkpoints(connection: Connection, epoch: int, above: int, upto: int) -> dict[int, str]:
    """Return the texts of the checkpoints by size: those of these leaves, and the next one behind them, if any."""
    of = CHECKPOINT.c
    rows = connection.execute(
        select(of.size, of.statement).where(of.epoch == epoch, of.size > above, of.size <= upto).order_by(of.size)
    ).all()
    following = connection.execute(
        select(of.size, of.statement).where(of.epoch == epoch, of.size > upto).order_by(of.size).limit(1)
    ).all()
    return {row.size: row.statement for row in (*rows, *following)}


def _tiles(connection: Connection, epoch: int, above: int, upto: int) -> dict[int, bytes]:
    of = AUDIT_TILE.c
    query = select(of.number, of.hashes).where(of.epoch == epoch, of.number >= above // TILE, of.number <= upto // TILE)
    return {row.number: row.hashes if isinstance(row.hashes, bytes) else b"damaged" for row in connection.execute(query)}


def _check_places(epoch: int, first: int, found: Sequence[Any]) -> Fault | None:
    """Look for a hole between entries, and for one that is not even bytes."""
    for row, position in zip(found, range(first, first + len(found)), strict=True):
        if row.position != position:
            return _missing(epoch, position)
        if not isinstance(row.leaf, bytes):
            return Fault(epoch, position, position, f"Entry {position} of epoch {epoch} is no entry.")
    return None


def _check_entry(connection: Connection, state: Check, position: int, hashed: bytes, kept: bytes | None) -> Fault | None:
    """Compare an entry's hash with the one that was kept, if its tile was, and with the last of a tile the subtrees above."""
    at = position % TILE * HASH_BYTES
    if kept and kept[at : at + HASH_BYTES] != hashed:
        sentence = f"Entry {position} of epoch {state.epoch} is not what it was when its hash was kept."
        return Fault(state.epoch, position, position, sentence)
    state.tile.append(hashed)
    if len(state.tile) < TILE:
        return None
    whole, state.tile = state.tile, []
    return _check_subtrees(connection, state.epoch, position // TILE, whole) if kept else None


def _check_subtrees(connection: Connection, epoch: int, number: int, hashes: Sequence[bytes]) -> Fault | None:
    """Compare the kept subtrees that end with a tile with what its hashes make them."""
    level, hashed = TILE_LEVEL, merkle.hash_complete(hashes)
    while True:
        if connection.execute(_SUBTREE, {"of": epoch, "at": level, "n": number}).scalar() != hashed:
            first, last = number << level, ((number + 1) << level) - 1
            return Fault(epoch, first, last, f"The kept hash of entries {first} to {last}, epoch {epoch}, is not theirs.")
        if not number & 1:
            return None
        left = connection.execute(_SUBTREE, {"of": epoch, "at": level, "n": number - 1}).scalar_one()
        level, number, hashed = level + 1, number >> 1, merkle.hash_children(left, hashed)


def _check_root(state: Check, said: str) -> Fault | None:
    """Compare the root so far with what a checkpoint of that size says."""
    known, state.proved = state.proved, state.tree.size
    if f'"root":"{state.tree.root().hex()}"' in said:
        return None
    sentence = f"Entries {known} to {state.tree.size - 1} of epoch {state.epoch} do not have the root that was signed for them."
    return Fault(state.epoch, known, state.tree.size - 1, sentence)


def _octets(value: object) -> bytes:
    """Return what a column of bytes holds; SQLite would hold anything else as well, put there by somebody else."""
    if isinstance(value, bytes):
        return value
    raise LookupError("The log of an epoch holds something that is no entry and no hash.")


def _missing(epoch: int, position: int) -> Fault:
    return Fault(epoch, position, position, f"Entry {position} of epoch {epoch} is missing.")
