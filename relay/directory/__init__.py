"""The directory: the signed register of centres, their keys, and what each may publish and receive.

Three files travel together and are read as bytes: ``root.json`` (the authorities and their public keys; its SHA-256 is the
network's id for ever, obtained out of band), ``directory.json`` (one version of the register) and ``directory.signatures.json``.
Nothing in the code knows a centre by name: centres are this data. The rules are those of The Update Framework; why it is not its
library, and who must sign what, stands in ``docs/adr/0001``. How trust is carried from one version to the next::

    root.json ──signed by all of both──▶ root.2.json ──▶ ...        the newest root says whose signatures count
    version N ──digest in `previous`──▶ N+1 ──▶ N+2                 N: signed by every authority
                                                                    N+1, N+2: only take rights away, so one authority is enough

``members`` centres, their keys and entitlements; ``policies`` rules every node applies; ``register`` one version of all that;
``roots`` the authorities, and how one root follows another; ``signatures`` who signed given bytes; ``changes`` what differs
between two versions, and whether it can only take rights away; ``bundle`` everything a node needs to follow, as bytes; ``trust``
what a node goes by, and how it advances; ``folder`` all of it as files; ``strict`` the gate before the models.

Errors raised: ``Misconfigured`` with the codes ``bad-root``, ``root-mismatch``, ``root-unsigned``, ``root-chain``, ``root-fork``,
``bad-directory``, ``bad-bundle``, ``directory-too-large``, ``directory-unsigned``, ``directory-chain``, ``directory-expired``,
``directory-rollback``, ``directory-fork``.
"""

from relay.directory.bundle import MAX_BUNDLE_BYTES, Bundle, Signed
from relay.directory.changes import Change, Comparison, compare
from relay.directory.folder import Paths, read_bundle, write_bundle
from relay.directory.members import CentreId, Contact, Entitlement, Key, Member
from relay.directory.policies import Policy, Retention, RetentionPolicy
from relay.directory.register import Directory, parse_directory
from relay.directory.roots import Authority, AuthorityKey, Root, read_root
from relay.directory.signatures import Signature, Signatures, digest, sign, sign_root
from relay.directory.trust import Trusted, advance, begin, read_directory

__all__ = [
    "MAX_BUNDLE_BYTES",
    "Authority",
    "AuthorityKey",
    "Bundle",
    "CentreId",
    "Change",
    "Comparison",
    "Contact",
    "Directory",
    "Entitlement",
    "Key",
    "Member",
    "Paths",
    "Policy",
    "Retention",
    "RetentionPolicy",
    "Root",
    "Signature",
    "Signatures",
    "Signed",
    "Trusted",
    "advance",
    "begin",
    "compare",
    "digest",
    "parse_directory",
    "read_bundle",
    "read_directory",
    "read_root",
    "sign",
    "sign_root",
    "write_bundle",
]
