"""What a node goes by, and how it gets from there to the next version.

``begin`` starts from the network's id and nothing else; ``advance`` goes on from what is trusted already. Both take a bundle from
wherever it came (a file, HTTP, a peer, an enemy) and either return what counts from now on or refuse all of it:

1. Roots are walked in order to the newest; no root that is held is ever left. The newest says whose signatures count.
2. The bundle's first version needs all authorities. Each after it follows the one before (+1, and its digest), and needs all of
   them, too, unless all it does is take rights away (:mod:`relay.directory.changes`): then one is enough.
3. A lower version than the one held is a rollback, the same or a linked one with other bytes a fork, an expired one a freeze.

A version that all authorities signed takes the place of a lower one that not all had signed, whatever that one said: one
authority can stop, never steer.

Errors raised: ``Misconfigured`` with the codes that :mod:`relay.directory` lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from relay.directory.bundle import Bundle, Signed
from relay.directory.changes import compare
from relay.directory.register import Directory, check_age, check_network, parse_directory
from relay.directory.roots import Root, follow_root, missing_of, read_root
from relay.directory.signatures import PREFIX, Signature, digest, read_signatures, signers
from relay.directory.strict import MAX_DIRECTORY_BYTES, shown
from relay.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class Trusted:
    """The root and the version in force, and the bundle from which another node can follow."""

    network: str
    root: Root
    directory: Directory
    bundle: Bundle

    @property
    def full(self) -> bool:
        """Whether all authorities signed the version in force."""
        return len(self.bundle.versions) == 1


@dataclass(frozen=True, slots=True)
class _Version:
    """A version whose signatures are verified, and whether they are all."""

    signed: Signed
    directory: Directory
    full: bool


def begin(
    network: str, first_root: bytes, bundle: Bundle, now: datetime, *, held: int = 0, held_digest: str | None = None
) -> Trusted:
    """Return what counts, starting from the network's id.

    ``held`` and ``held_digest`` are the version that was in force before, so that a restart is no way back.
    """
    root = _walk(read_root(first_root, network), network, bundle.roots)
    versions = _verified(bundle.versions, root, network)
    _check_held(versions, held, held_digest)
    check_age(versions[-1].directory, now)
    return _trusted(network, root, bundle.roots, versions)


def advance(trusted: Trusted, bundle: Bundle, now: datetime) -> Trusted:
    """Return what counts after a bundle came: the same object when nothing in it is newer."""
    if bundle == trusted.bundle:
        return trusted
    roots = _longer(trusted.bundle.roots, bundle.roots)
    held = trusted.bundle.roots
    root = _walk(trusted.root, digest(held[-1].raw) if held else trusted.network, roots[len(held) :])
    versions = _verified(bundle.versions, root, trusted.network)
    _check_held(versions, trusted.directory.version, trusted.directory.digest)
    if trusted.full:
        _check_link(versions[0].directory, trusted.directory)
    check_age(versions[-1].directory, now)
    found = _trusted(trusted.network, root, roots, versions)
    return trusted if _is_same(trusted, found) else found


def read_directory(raw: bytes, signatures: bytes, root: Root, network: str, now: datetime, *, held: int = 0) -> Directory:
    """Return a version once every authority's signature over exactly these bytes is verified.

    ``held`` is the version already in force; a lower one is refused as ``directory-rollback``.
    """
    versions = _verified((Signed(raw, signatures),), root, network)
    _check_held(versions, held, None)
    check_age(versions[0].directory, now)
    return versions[0].directory


def verified_signers(signed: Signed, root: Root) -> frozenset[str]:
    """Return the ids of the root's authorities that signed these bytes of a version."""
    if len(signed.raw) > MAX_DIRECTORY_BYTES:
        sentence = f"The directory has {len(signed.raw)} bytes, more than {MAX_DIRECTORY_BYTES}; it was not read."
        raise Misconfigured("directory-too-large", sentence)
    given: tuple[Signature, ...] = read_signatures(signed.signatures, "bad-directory")
    try:
        return signers(signed.raw, given, root.authorities, PREFIX)
    except ValueError as error:
        raise Misconfigured("bad-directory", f"The signatures are not valid: {shown(str(error))}") from error


def _walk(root: Root, root_digest: str, roots: tuple[Signed, ...]) -> Root:
    for signed in roots:
        root, root_digest = follow_root(root, root_digest, signed), digest(signed.raw)
    return root


def _longer(held: tuple[Signed, ...], given: tuple[Signed, ...]) -> tuple[Signed, ...]:
    """Return the longer of two chains of roots; one must be the beginning of the other."""
    for number, (mine, other) in enumerate(zip(held, given, strict=False), start=2):
        if mine.raw != other.raw:
            raise Misconfigured("root-fork", f"Root {number} of the bundle is another than the one held.")
    return held + given[len(held) :]


def _verified(given: tuple[Signed, ...], root: Root, network: str) -> list[_Version]:
    if not given:
        raise Misconfigured("bad-bundle", "The bundle has no version of the directory.")
    versions: list[_Version] = []
    for signed in given:
        versions.append(_judged(signed, root, network, versions[-1].directory if versions else None))
    return versions


def _judged(signed: Signed, root: Root, network: str, before: Directory | None) -> _Version:
    """Return a version once enough authorities signed it; ``before`` is the one it must follow."""
    by = verified_signers(signed, root)
    missing = missing_of(root, by)
    if not by or (missing and before is None):
        needed = "all authorities must sign" if before is None else "at least one authority must sign"
        raise Misconfigured("directory-unsigned", f"The directory has no valid signature of {missing}; {needed}.")
    directory = parse_directory(signed.raw)
    check_network(directory, network)
    if before is not None:
        _check_follows(directory, before)
        widening = compare(before, directory).widening
        if missing and widening:
            sentence = f"Version {directory.version} has no valid signature of {missing}, and one is not enough: {widening[0]}"
            raise Misconfigured("directory-unsigned", f"{sentence}.")
    return _Version(signed, directory, not missing)


def _check_follows(directory: Directory, before: Directory) -> None:
    if directory.version != before.version + 1 or directory.previous != before.digest:
        sentence = f"Version {directory.version} does not follow version {before.version}: its number or the digest it names is"
        raise Misconfigured("directory-chain", f"{sentence} another.")


def _check_held(versions: list[_Version], held: int, held_digest: str | None) -> None:
    newest = versions[-1].directory
    if newest.version < held:
        raise Misconfigured("directory-rollback", f"Directory version {newest.version} is older than {held}.")
    for version in versions:
        found = version.directory
        if held_digest is not None and found.version == held and found.digest != held_digest:
            raise _fork(f"Version {held} has the digest {found.digest}, but the one held has {held_digest}.")


def _check_link(first: Directory, held: Directory) -> None:
    """Refuse a next version that names another as the one before it than the one all authorities signed."""
    if first.version == held.version + 1 and first.previous != held.digest:
        raise _fork(f"Version {first.version} follows another version {held.version} than the one held, {held.digest}.")


def _fork(sentence: str) -> Misconfigured:
    return Misconfigured("directory-fork", sentence)


def _trusted(network: str, root: Root, roots: tuple[Signed, ...], versions: list[_Version]) -> Trusted:
    """Return what counts, its bundle cut to the last version that all signed and those after it."""
    last_full = max(index for index, version in enumerate(versions) if version.full)
    kept = tuple(version.signed for version in versions[last_full:])
    return Trusted(network, root, versions[-1].directory, Bundle(roots, kept))


def _is_same(held: Trusted, found: Trusted) -> bool:
    """Return whether nothing is gained: no newer root, no newer version, no more signatures on the one there is."""
    return (
        held.root == found.root
        and held.directory.digest == found.directory.digest
        and len(held.bundle.versions) <= len(found.bundle.versions)
    )
