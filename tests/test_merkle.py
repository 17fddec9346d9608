"""The Merkle tree: its roots and proofs are those of RFC 6962, and nothing that is no proof passes for one."""

from __future__ import annotations

import hashlib
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import merkle
from relay.merkle import EMPTY, Frontier, hash_children, hash_leaf
from tests.spent import spent

# The leaves and roots that the tests of Certificate Transparency's own implementations use.
CT_LEAVES = [bytes.fromhex(one) for one in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")] + [
    bytes.fromhex("606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_INCLUSIONS = {  # (position, size): proof
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CT_CONSISTENCIES = {  # (old, new): proof
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word for word."""
    n = len(leaves)
    if n == 0:
        return hashlib.sha256(b"").digest()
    if n == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = naive_split(n)
    return hashlib.sha256(b"\1" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, 2.1.1, word for word."""
    n = len(leaves)
    if n == 1:
        return []
    k = naive_split(n)
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962, 2.1.2, word for word."""
    n = len(leaves)
    if m == n:
        return [] if whole else [naive_root(leaves)]
    k = naive_split(n)
    if m <= k:
        return [*naive_subproof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], False), naive_root(leaves[:k])]


def naive_split(n: int) -> int:
    """Return the largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def subtree_of(leaves: list[bytes], level: int, index: int) -> bytes:
    """Return a complete subtree's root; leaves that are not there raise."""
    return merkle.hash_complete([hash_leaf(leaves[at]) for at in range(index << level, (index + 1) << level)])


def leaves_of(count: int) -> list[bytes]:
    """Return so many different leaves."""
    return [f"leaf {n}".encode() for n in range(count)]


def test_roots_are_those_of_certificate_transparency() -> None:
    """The roots over its eight leaves, at every size."""
    for size, root in enumerate(CT_ROOTS):
        assert merkle.root(size, partial(subtree_of, CT_LEAVES)).hex() == root
    assert EMPTY.hex() == CT_ROOTS[0]


@pytest.mark.parametrize(("position", "size"), CT_INCLUSIONS)
def test_inclusion_proofs_are_those_of_certificate_transparency(position: int, size: int) -> None:
    """Made as there, and accepted as there."""
    proof = merkle.inclusion(position, size, partial(subtree_of, CT_LEAVES))
    assert [one.hex() for one in proof] == CT_INCLUSIONS[position, size]
    assert merkle.includes(hash_leaf(CT_LEAVES[position]), position, size, proof, bytes.fromhex(CT_ROOTS[size]))


@pytest.mark.parametrize(("old", "new"), CT_CONSISTENCIES)
def test_consistency_proofs_are_those_of_certificate_transparency(old: int, new: int) -> None:
    """Made as there, and accepted as there."""
    proof = merkle.consistency(old, new, partial(subtree_of, CT_LEAVES))
    assert [one.hex() for one in proof] == CT_CONSISTENCIES[old, new]
    assert merkle.extends(old, new, proof, bytes.fromhex(CT_ROOTS[old]), bytes.fromhex(CT_ROOTS[new]))


@given(st.integers(0, 300), st.data())
def test_roots_and_proofs_are_the_naive_definitions(size: int, data: st.DataObject) -> None:
    """What is put together from subtrees equals the RFC's recursive definitions, and verifies."""
    leaves = leaves_of(size)
    subtree = partial(subtree_of, leaves)
    root = naive_root(leaves)
    assert merkle.root(size, subtree) == root
    old = data.draw(st.integers(0, size), "old")
    grown = merkle.consistency(old, size, subtree)
    assert grown == ([] if old == 0 else naive_subproof(old, leaves, whole=True))
    assert merkle.extends(old, size, grown, naive_root(leaves[:old]), root)
    if size:
        position = data.draw(st.integers(0, size - 1), "position")
        path = merkle.inclusion(position, size, subtree)
        assert path == naive_path(position, leaves)
        assert merkle.includes(hash_leaf(leaves[position]), position, size, path, root)


@given(st.integers(1, 80), st.data())
def test_an_altered_inclusion_proof_shows_nothing(size: int, data: st.DataObject) -> None:
    """Another leaf, position or root, a hash more or less or changed: none of it is believed."""
    leaves = leaves_of(size)
    root = naive_root(leaves)
    position = data.draw(st.integers(0, size - 1), "position")
    proof = naive_path(position, leaves)
    leaf = hash_leaf(leaves[position])
    assert not merkle.includes(hash_leaf(b"another"), position, size, proof, root)
    assert not merkle.includes(leaf, position, size, proof, bytes(32))
    assert not merkle.includes(leaf, position, size, [*proof, bytes(32)], root)
    assert not merkle.includes(leaf, position, size, proof[:-1] if proof else [root], root)
    assert not merkle.includes(leaf, size, size, proof, root)
    assert not merkle.includes(leaf, -1, size, proof, root)
    other = data.draw(st.integers(0, size - 1), "other")
    assert merkle.includes(leaf, other, size, proof, root) == (other == position)
    if proof:
        at, bit = data.draw(st.integers(0, len(proof) - 1), "hash"), data.draw(st.integers(0, 255), "bit")
        assert not merkle.includes(leaf, position, size, flipped(proof, at, bit), root)


@given(st.integers(1, 80), st.integers(1, 80), st.data())
def test_an_altered_consistency_proof_shows_nothing(one: int, two: int, data: st.DataObject) -> None:
    """Another history, another size or root, a hash more or less or changed: none of it is believed."""
    old, new = sorted((one, two))
    leaves = leaves_of(new)
    roots = naive_root(leaves[:old]), naive_root(leaves)
    proof = naive_subproof(old, leaves, whole=True)
    assert not merkle.extends(old, new, proof, bytes(32), roots[1])
    assert not merkle.extends(old, new, proof, roots[0], bytes(32))
    assert not merkle.extends(old, new, [*proof, bytes(32)], *roots)
    assert not merkle.extends(new + 1, new, proof, *roots)
    assert not merkle.extends(0, new, proof, roots[0], roots[1]) or old == 0
    if proof:
        assert not merkle.extends(old, new, proof[:-1], *roots)
        at, bit = data.draw(st.integers(0, len(proof) - 1), "hash"), data.draw(st.integers(0, 255), "bit")
        assert not merkle.extends(old, new, flipped(proof, at, bit), *roots)
    position = data.draw(st.integers(0, old - 1), "rewritten")
    rewritten = [*leaves[:position], b"rewritten", *leaves[position + 1 :]]
    assert not merkle.extends(old, new, naive_subproof(old, rewritten, whole=True), roots[0], naive_root(rewritten))


@given(st.lists(st.binary(min_size=0, max_size=40), max_size=20))
def test_hashes_of_another_length_are_no_proof(proof: list[bytes]) -> None:
    """Whatever comes in from outside is judged without an error."""
    assert not merkle.includes(bytes(32), 3, 9, proof, bytes(32))
    assert not merkle.extends(3, 9, proof, bytes(32), bytes(32))
    assert not merkle.includes(bytes(32), 0, 2**62, [bytes(32)] * 1000, bytes(32))


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_frontier_grows_to_the_same_root(before: int, more: int) -> None:
    """Appending one by one, also to a frontier that was restored from its parts, is the same tree."""
    leaves = leaves_of(before + more)
    grown = merkle.frontier(before, partial(subtree_of, leaves))
    assert grown.root() == naive_root(leaves[:before])
    restored = Frontier(grown.size, grown.roots)
    for leaf in leaves[before:]:
        restored.append(hash_leaf(leaf))
    assert (restored.size, restored.root()) == (len(leaves), naive_root(leaves))


@given(st.integers(0, 9), st.integers(0, 7))
def test_a_frontier_takes_complete_subtrees(subtrees: int, more: int) -> None:
    """Eight leaves at once are the same as one by one; a place where no subtree begins is refused."""
    leaves = leaves_of(subtrees * 8 + more)
    grown = Frontier()
    for index in range(subtrees):
        grown.append_complete(3, subtree_of(leaves, 3, index))
    for leaf in leaves[subtrees * 8 :]:
        grown.append(hash_leaf(leaf))
    assert grown.root() == naive_root(leaves)
    if more:
        with pytest.raises(ValueError, match="does not end at a subtree"):
            grown.append_complete(3, bytes(32))


def test_what_is_not_there_can_not_be_proved() -> None:
    """Positions outside of the tree, and sizes that are none, raise."""
    subtree = partial(subtree_of, leaves_of(8))
    with pytest.raises(ValueError, match="not in a tree"):
        merkle.inclusion(8, 8, subtree)
    with pytest.raises(ValueError, match="not the beginning"):
        merkle.consistency(9, 8, subtree)
    with pytest.raises(ValueError, match="no complete subtree"):
        merkle.hash_complete([bytes(32)] * 3)
    with pytest.raises(ValueError, match="complete subtrees"):
        Frontier(3, [bytes(32)])


def test_a_leaf_can_not_pass_for_a_node() -> None:
    """The two prefixes keep a leaf made of two hashes from being the node over them."""
    left, right = hash_leaf(b"a"), hash_leaf(b"b")
    assert hash_leaf(left + right) != hash_children(left, right)


def test_a_hundred_thousand_leaves_take_a_fraction_of_a_second() -> None:
    """A million within a few seconds of CPU."""
    tree, leaves = Frontier(), leaves_of(100_000)

    def append() -> bytes:
        for leaf in leaves:
            tree.append(hash_leaf(leaf))
        return tree.root()

    assert spent(append)[1] < 1.0


def flipped(proof: list[bytes], at: int, bit: int) -> list[bytes]:
    """Return a proof with one bit of one hash changed."""
    changed = (int.from_bytes(proof[at], "big") ^ (1 << bit)).to_bytes(32, "big")
    return [*proof[:at], changed, *proof[at + 1 :]]
