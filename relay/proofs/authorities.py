"""What the verifier of a proof knows already: the network's first root, or public keys of its authorities. Nothing else counts.

With the root (``root.json``; its SHA-256 is the network's id) the chain of roots and versions is walked as a node does. With
keys alone, one or more an authority, a version counts when every one of the named authorities signed it with one of them; the
network's id is then what they signed. A version need not be in force any more: a proof is about what was.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from relay.directory import (
    Authority,
    AuthorityKey,
    Bundle,
    Directory,
    Root,
    begin,
    compare,
    digest,
    parse_directory,
    read_directory,
    read_root,
)
from relay.directory.trust import verified_signers
from relay.errors import Misconfigured, Refused
from relay.keys import SIGNING_ALGORITHM, VerifyKey, key_id


@dataclass(frozen=True, slots=True)
class Authorities:
    """Whose signatures count: the first root's bytes, or else a root made of the keys that the verifier named."""

    root: bytes | None
    named: Root | None

    @classmethod
    def of_root(cls, raw: bytes, network: str | None = None) -> Authorities:
        """Return the authorities of a network's first root; raise ``Misconfigured`` when it is none, or not ``network``'s."""
        read_root(raw, network or digest(raw))
        return cls(raw, None)

    @classmethod
    def of_keys(cls, given: Sequence[str]) -> Authorities:
        """Return the authorities that ``NAME=BASE64`` names, each with a raw Ed25519 key; a name may stand several times."""
        keys: dict[str, list[AuthorityKey]] = {}
        for one in given:
            name, _, text = one.partition("=")
            try:
                raw = base64.b64decode(text, validate=True)
                VerifyKey(raw)
            except (binascii.Error, ValueError):
                raise Misconfigured(
                    "bad-authority-key", f"{one[:100]!r} is not NAME=KEY with a raw Ed25519 key in base64."
                ) from None
            keys.setdefault(name, []).append(AuthorityKey(id=key_id(SIGNING_ALGORITHM, raw), public=text))
        authorities = tuple(Authority(id=name, keys=tuple(some)) for name, some in keys.items())
        return cls(None, Root(name="named by the verifier", authorities=authorities))

    def verified(self, packed: Sequence[bytes], network: str) -> list[Directory]:
        """Return the versions that packed bundles end with, each verified; raise ``Refused`` (``proof-directory``)."""
        try:
            if self.root is not None and digest(self.root) != network:
                raise Refused("proof-directory", f"The proof is about network {network}, the root given is another one's.")
            return [self._verified(Bundle.unpack(one), network) for one in packed]
        except Misconfigured as error:
            raise Refused("proof-directory", f"The directory in the file does not count: {error.detail}") from None

    def _verified(self, given: Bundle, network: str) -> Directory:
        if self.root is not None:
            issued = parse_directory(given.versions[-1].raw).issued_at  # it counted when it was issued
            return begin(network, self.root, given, issued).directory
        assert self.named is not None  # noqa: S101 - one of the two is there
        return _signed_by(self.named, given, network)


def _signed_by(root: Root, given: Bundle, network: str) -> Directory:
    """Return the last version of a bundle: the first signed by all, each after it by all, or by one if it only takes away."""
    first = given.versions[0]
    found = read_directory(first.raw, first.signatures, root, network, parse_directory(first.raw).issued_at)
    for signed in given.versions[1:]:
        by, following = verified_signers(signed, root), parse_directory(signed.raw)
        if (following.version, following.previous, following.network) != (found.version + 1, found.digest, network):
            raise Misconfigured("directory-chain", f"Version {following.version} does not follow version {found.version}.")
        enough = len(by) == len(root.authorities) or (by and not compare(found, following).widening)
        if not enough:
            raise Misconfigured("directory-unsigned", f"Version {following.version} is not signed by the authorities given.")
        found = following
    return found
