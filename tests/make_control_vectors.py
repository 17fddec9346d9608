"""Makes ``schemas/vectors/control.json``, once: one envelope of each control type that the first vectors do not have.

As with the others (:mod:`tests.make_vectors`), keys and bodies come out the same each time and the sealing does not; a file that
is there is never made anew. ``python -m tests.make_control_vectors DIR`` refuses to write where one is.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relay import merkle, receipts, witnessed
from relay.directory import Bundle, Signed, digest
from tests.make_vectors import FOLDER, NETWORK, NOW_MS, network, opened, sealed, signing

EPOCH = 1_780_000_000
HOUR_MS = 3_600_000
COMMITMENTS = ("11" * 32, "22" * 32)
LEAVES = [b"a leaf", b"another", b"", b"the fourth", b"the fifth"]


def to_open() -> Iterator[dict[str, Any]]:
    """Yield one envelope of each type, with what comes out of it."""
    for number, (name, kind, says, body) in enumerate(bodies(), 1):
        made = sealed(kind, "control", [body], ["CHARLIE"], 0 if kind == "directory" else number, "BRAVO")
        yield opened(name, says, "CHARLIE", made, [body])


def bodies() -> Iterator[tuple[str, str, str, bytes]]:
    """Yield (name, type, what it says, body)."""
    common = {"epoch": EPOCH, "lane": "routine", "time": NOW_MS}
    expired = receipts.Statement(first=4, commitments=COMMITMENTS, state="expired", code="expired", **common)
    cancelled = receipts.Statement(first=9, commitments=COMMITMENTS[:1], state="cancelled", code="discarded", **common)
    yield "void", "void", "Two expired, one discarded.", receipts.write(receipts.Void(statements=(expired, cancelled)))
    yield from _heartbeats()
    closed = receipts.EpochClosed(epoch=EPOCH, closed=(EPOCH - 86_400,), time=NOW_MS)
    yield "epoch", "epoch", "The epoch of a day before is closed.", receipts.write(closed)
    counted = receipts.LaneCount(lane="routine", count=2, digest=COMMITMENTS[0], apart=COMMITMENTS[1:])
    compared = receipts.Comparison(of="sent", first=NOW_MS - HOUR_MS, until=NOW_MS, lanes=(counted,))
    yield "comparison", "comparison", "An hour of one lane; one message apart.", receipts.write(compared)
    yield "checkpoint", "checkpoint", "A log of five leaves, grown from three; a countersignature.", receipts.write(exchange())
    _, raw, signatures = network()
    yield "directory", "directory", "The vectors' own directory.", Bundle((), (Signed(raw, signatures),)).pack()


def _heartbeats() -> Iterator[tuple[str, str, str, bytes]]:
    _, raw, _ = network()
    echo = receipts.Echo(epoch=EPOCH, lane="flash", highest=41)
    given: dict[str, Any] = {"time": NOW_MS, "epoch": EPOCH, "directory": 7, "digest": digest(raw), "release": "0.1.0"}
    plain = receipts.Heartbeat(**given, echo=(echo,), answer=True)
    yield "heartbeat", "heartbeat", "What it holds of the recipient; asks for an answer.", receipts.write(plain)
    shown = base64.b64encode(b"a header").decode()
    proving = receipts.Heartbeat(**given, show=echo, shown=shown)
    yield "heartbeat-show", "heartbeat", "Asks for proof of an echo, and gives one.", receipts.write(proving)


def exchange() -> witnessed.Exchange:
    """Return the exchange of a checkpoint over :data:`LEAVES`, its proof from three, and a countersignature."""
    key = signing("BRAVO")
    common = {"network": NETWORK, "time": NOW_MS}
    note = witnessed.sign_checkpoint(
        key, witnessed.Checkpoint(centre="BRAVO", epoch=EPOCH, size=len(LEAVES), root=root().hex(), directory=7, **common)
    )
    seen = witnessed.countersign(key, witnessed.Countersignature(witness="BRAVO", checkpoint=COMMITMENTS[0], **common))
    proof = witnessed.Proof(size=3, hashes=tuple(one.hex() for one in merkle.consistency(3, len(LEAVES), subtree)))
    return witnessed.Exchange(checkpoint=note, proofs=(proof,), countersignature=seen)


def root() -> bytes:
    """Return the root over the leaves."""
    return merkle.root(len(LEAVES), subtree)


def subtree(level: int, index: int) -> bytes:
    """Return the root of a complete subtree of the leaves."""
    size = 1 << level
    return merkle.hash_complete([merkle.hash_leaf(leaf) for leaf in LEAVES[index * size : (index + 1) * size]])


def main(folder: Path) -> None:
    """Write the file into a folder that does not have it."""
    file = folder / "control.json"
    if file.exists():
        sys.exit(f"{file} is there, and vectors are never made anew in place")
    file.write_text(json.dumps(list(to_open()), indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
