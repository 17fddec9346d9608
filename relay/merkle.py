"""The Merkle tree of RFC 6962 over the leaves of an audit log: roots, proofs, and their verification.

A leaf's hash is SHA-256 over the byte 0 and its bytes, a node's over the byte 1 and the hashes of its two children; a tree of n
leaves splits at the largest power of two below n, and the root of the empty tree is SHA-256 of nothing (RFC 6962, 2.1). An
*inclusion proof* shows that a leaf is in a tree of a given root, a *consistency proof* that a tree is the beginning of a larger
one (2.1.1, 2.1.2); both are verified as RFC 9162, 2.1.3.2 and 2.1.4.2, say.

A tree is never held whole. Proofs and roots are put together from *subtrees*: ``subtree(level, index)`` returns the root of the
complete subtree over the ``2**level`` leaves from ``index * 2**level`` on, wherever the caller keeps it. A :class:`Frontier`
holds only the largest complete subtrees of a growing tree: enough to append and to know the root. All functions are pure; a
proof that is no proof is False, positions outside of the tree raise ``ValueError``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

HASH_BYTES = 32
EMPTY = hashlib.sha256().digest()
MOST_HASHES = 128
"""Hashes in a proof: more than one of a tree of 2**63 leaves has."""

Subtree = Callable[[int, int], bytes]

_sha256 = hashlib.sha256


def hash_leaf(leaf: bytes) -> bytes:
    """Return the hash of a leaf."""
    return _sha256(b"\0" + leaf).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node with these children."""
    return _sha256(b"\1" + left + right).digest()


def hash_complete(hashes: Sequence[bytes]) -> bytes:
    """Return the root over the hashes of ``2**n`` leaves, or of as many complete subtrees of one size."""
    if not hashes or len(hashes) & (len(hashes) - 1):
        raise ValueError(f"{len(hashes)} hashes make no complete subtree")
    level = hashes
    while len(level) > 1:
        level = [_sha256(b"\1" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=True)]
    return level[0]


class Frontier:
    """A growing tree as the roots of its largest complete subtrees, the leftmost first: one for each bit set in its size."""

    __slots__ = ("roots", "size")

    def __init__(self, size: int = 0, roots: Iterable[bytes] = ()) -> None:
        self.size = size
        self.roots = list(roots)
        if len(self.roots) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} complete subtrees, not {len(self.roots)}")

    def append(self, leaf_hash: bytes) -> None:
        """Append the hash of a leaf."""
        roots, bits = self.roots, self.size
        while bits & 1:
            leaf_hash = _sha256(b"\1" + roots.pop() + leaf_hash).digest()
            bits >>= 1
        roots.append(leaf_hash)
        self.size += 1

    def append_complete(self, level: int, root: bytes) -> None:
        """Append a complete subtree of ``2**level`` leaves to a tree whose size is a multiple of that."""
        roots, bits = self.roots, self.size >> level
        if bits << level != self.size:
            raise ValueError(f"a tree of {self.size} leaves does not end at a subtree of {1 << level}")
        while bits & 1:
            root = hash_children(roots.pop(), root)
            bits >>= 1
        roots.append(root)
        self.size += 1 << level

    def root(self) -> bytes:
        """Return the root of the tree as it is now."""
        return join(self.roots)


def join(roots: Sequence[bytes]) -> bytes:
    """Return the root of the tree that these complete subtrees, the largest first, make up."""
    if not roots:
        return EMPTY
    root = roots[-1]
    for left in reversed(roots[:-1]):
        root = hash_children(left, root)
    return root


def frontier(size: int, subtree: Subtree) -> Frontier:
    """Return the frontier of the tree over the first ``size`` leaves."""
    return Frontier(size, _parts(0, size, subtree))


def root(size: int, subtree: Subtree) -> bytes:
    """Return the root of the tree over the first ``size`` leaves."""
    return join(_parts(0, size, subtree))


def inclusion(position: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the proof that the leaf at a position is in the tree over the first ``size`` leaves (RFC 6962, 2.1.1)."""
    if not 0 <= position < size:
        raise ValueError(f"position {position} is not in a tree of {size} leaves")
    path, first, count = [], 0, size
    while count > 1:
        half = _split(count)
        if position < first + half:
            path.append(_range(first + half, count - half, subtree))
            count = half
        else:
            path.append(_range(first, half, subtree))
            first, count = first + half, count - half
    return path[::-1]


def consistency(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """Return the proof that the tree over the first ``old`` leaves is the beginning of that over ``new`` (RFC 6962, 2.1.2).

    It is empty when the smaller tree is empty or both are one.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {old} leaves is not the beginning of one of {new}")
    if old in {0, new}:
        return []
    path, first, count, rest = [], 0, new, old
    while rest != count:
        half = _split(count)
        if rest <= half:
            path.append(_range(first + half, count - half, subtree))
            count = half
        else:
            path.append(_range(first, half, subtree))
            first, count, rest = first + half, count - half, rest - half
    if first:
        path.append(_range(first, rest, subtree))
    return path[::-1]


def includes(leaf_hash: bytes, position: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether a proof shows that a leaf is at a position of the tree of this size and root (RFC 9162, 2.1.3.2)."""
    if not 0 <= position < size or not _is_proof(proof):
        return False
    fn, sn, seen = position, size - 1, leaf_hash
    for one in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            seen = hash_children(one, seen)
            fn, sn = _to_right_child(fn, sn)
        else:
            seen = hash_children(seen, one)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and seen == root


def extends(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Return whether a proof shows that the tree of size ``old`` is the beginning of that of size ``new`` (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= new or not _is_proof(proof):
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    seen_old = seen_new = path[0]
    for one in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            seen_old, seen_new = hash_children(one, seen_old), hash_children(one, seen_new)
            fn, sn = _to_right_child(fn, sn)
        else:
            seen_new = hash_children(seen_new, one)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and seen_old == old_root and seen_new == new_root


def _to_right_child(fn: int, sn: int) -> tuple[int, int]:
    """Go up from a node that is a left child for as long as it is one: its subtree has no sibling in this tree."""
    while fn and not fn & 1:
        fn, sn = fn >> 1, sn >> 1
    return fn, sn


def _is_proof(proof: Sequence[bytes]) -> bool:
    return len(proof) <= MOST_HASHES and all(len(one) == HASH_BYTES for one in proof)


def _split(count: int) -> int:
    """Return the largest power of two below ``count``."""
    return 1 << (count - 1).bit_length() - 1


def _range(first: int, count: int, subtree: Subtree) -> bytes:
    """Return the root over ``count`` leaves from ``first`` on, a place where a split of the tree put the beginning."""
    return join(_parts(first, count, subtree))


def _parts(first: int, count: int, subtree: Subtree) -> list[bytes]:
    """Return the complete subtrees that make a range up, the largest first."""
    parts = []
    while count:
        level = count.bit_length() - 1
        parts.append(subtree(level, first >> level))
        first, count = first + (1 << level), count - (1 << level)
    return parts
