"""Proofs: what became of one message, as a file that anybody verifies who knows the authorities' keys, and nothing else.

``bundle`` the file; ``authorities`` what the verifier knows; ``check`` the verification, which needs no store, no settings and
no network; ``words`` what is proved, in sentences. Proofs are made by :mod:`relay.proving`, in the node that has the store.
"""

from relay.proofs.authorities import Authorities
from relay.proofs.bundle import MAX_PROOF_BYTES, LeafProof, LogProof, Proof, Receipt, Revealed, read, write
from relay.proofs.check import Logged, Stated, Verdict, Watched, check
from relay.proofs.words import as_json, proved, unproved

__all__ = [
    "MAX_PROOF_BYTES",
    "Authorities",
    "LeafProof",
    "LogProof",
    "Logged",
    "Proof",
    "Receipt",
    "Revealed",
    "Stated",
    "Verdict",
    "Watched",
    "as_json",
    "check",
    "proved",
    "read",
    "unproved",
    "write",
]
