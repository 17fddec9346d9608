"""Whether every end that a node shows of its own messages rests on its recipient's signed word.

For each message and recipient of which an origin says ``delivered`` or ``rejected``, the origin's store must hold a receipt that
the recipient signed and that names this very message and state. The receipt is opened and verified by
:mod:`tests.independent.opener`, which knows the wire format by its document alone; the store is read as a plain SQLite file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.independent import opener
from tests.independent.hpke import Private

SIGNED = ("delivered", "rejected")
_WAYS = """
    SELECT m.id, s.recipient, s.state, s.receipt, s.mask, m.position, e.header
    FROM outbox_step s JOIN outbox_message m ON m.envelope = s.envelope JOIN outbox_sealed e ON e.n = s.envelope
    WHERE s.state IN ('delivered', 'rejected')
"""


@dataclass(slots=True)
class Evidence:
    """A centre's keys and directory, and the receipts opened so far: what each says, as (commitment, state)."""

    centre: str
    network: str
    directory: Mapping[str, Any]
    keys: Mapping[str, Private]
    now: datetime
    opened: dict[int, tuple[str, frozenset[tuple[str, str]]]] = field(default_factory=dict)


def evidence(folder: Path, centre: str, now: datetime) -> Evidence:
    """Load what judges a centre's evidence from the folder of a network."""
    root = (folder / "root.json").read_bytes()
    directory, signatures = (folder / name for name in ("directory.json", "directory.signatures.json"))
    network = json.loads(directory.read_bytes())["network"]
    register = opener.read_directory(root, directory.read_bytes(), signatures.read_bytes(), network)
    private = opener.load_private((folder / "centres" / centre / "keys" / "sealing.pem").read_bytes())
    member = next(one for one in register["members"] if one["id"] == centre)
    keys = {key["id"]: private for key in member["keys"] if key["use"] == "sealing"}
    return Evidence(centre, network, register, keys, now)


def unsigned(store: Path, known: Evidence, states: Mapping[tuple[str, str], str]) -> list[tuple[str, str]]:
    """Return the (message id, recipient) pairs whose terminal state in ``states`` no valid receipt supports."""
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    try:
        supported = {pair for pair, state in _supported(connection, known) if states.get(pair) == state}
    finally:
        connection.close()
    return sorted(pair for pair, state in states.items() if state in SIGNED and pair not in supported)


def _supported(connection: sqlite3.Connection, known: Evidence) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield each message and recipient with a state that a valid receipt in the store gives them."""
    for message, recipient, state, receipt, mask, position, header in connection.execute(_WAYS):
        if receipt is None or not mask >> position & 1:
            continue
        if receipt not in known.opened:
            known.opened[receipt] = _open(connection, known, receipt)
        sender, said = known.opened[receipt]
        if sender == recipient and (_commitment(header, position), state) in said:
            yield (message, recipient), state


def _open(connection: sqlite3.Connection, known: Evidence, receipt: int) -> tuple[str, frozenset[tuple[str, str]]]:
    row = connection.execute("SELECT header, body FROM receipt_in WHERE n = ?", (receipt,)).fetchone()
    try:
        raw = row[0] + row[1]
        opened = opener.open_envelope(raw, known.centre, known.network, known.directory, known.now, known.keys)
        (content,) = opened.contents
        statements = json.loads(content)["statements"] if isinstance(content, bytes) else []
    except (opener.Failure, TypeError):
        return "", frozenset()
    if opened.core["type"] != "receipt":
        return "", frozenset()
    said = {(commitment, one["state"]) for one in statements for commitment in one["commitments"]}
    return opened.core["origin"], frozenset(said)


def _commitment(header: bytes, position: int) -> str:
    length = int.from_bytes(header[4:8], "big")
    commitment: str = json.loads(header[8 : 8 + length])["messages"][position]["commitment"]
    return commitment
