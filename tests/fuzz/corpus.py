"""Good input to make bad input from: the published examples, the golden vectors, and bodies of every other form."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from relay import envelope as wire
from relay import receipts
from relay.envelope import Envelope
from relay.receipts import Mark, Nack, Receipt, Statement
from tests import make_vectors

SCHEMAS = Path(__file__).parents[2] / "schemas"


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _vectors(name: str) -> list[bytes]:
    return [base64.b64decode(one["envelope"]) for one in json.loads((SCHEMAS / "vectors" / name).read_bytes())]


_FILES = [*sorted((SCHEMAS / "examples").glob("*.json")), *sorted((SCHEMAS / "counter-examples").glob("*.*.json"))]
_DOCUMENTS = [json.loads(path.read_bytes()) for path in _FILES]

MESSAGES = [_compact(document) for document in _DOCUMENTS]
NEWER = [_compact(document | {"version": "1.7", "not_yet": [1]}) for document in _DOCUMENTS]
"""The same, as a node of a later release would send them."""

ENVELOPES = [*_vectors("open.json"), *(raw for raw in _vectors("refused.json") if raw)]
PARSED: list[Envelope] = [wire.parse(raw) for raw in _vectors("open.json")]

_HASH = "a" * 64
_SAID: dict[str, Any] = {"epoch": 1_780_000_000, "lane": "routine", "time": 1_780_000_000_000}
CONTROL = [
    receipts.write(body)
    for body in (
        Receipt(
            statements=(
                Statement(first=1, commitments=(_HASH, "b" * 64), state="accepted", **_SAID),
                Statement(first=2, commitments=(_HASH,), state="rejected", code="expired", **_SAID),
            )
        ),
        Receipt(statements=()),
        Mark(epoch=1, lane="routine", highest=9, open=((3, 5), (9, 9))),
        Mark(epoch=2**53 - 1, lane="flash", highest=2**53 - 1, open=()),
        Nack(epoch=1, lane="exercise", missing=((4, 5), (7, 7)), mark=17, reason="cannot-unwrap"),
    )
]

ROOT, REGISTER, SIGNATURES = make_vectors.network()
DIRECTORIES, SIGNED, ROOTS = [_compact(json.loads(REGISTER))], [_compact(json.loads(SIGNATURES))], [_compact(json.loads(ROOT))]

ACKNOWLEDGEMENTS = [_compact({"ids": ["019c2a51-7e00-7a30-9d11-2f6f0f1c8a02"] * count}) for count in (1, 3, 1000)]
BATCHES = [b"\n".join(MESSAGES[at : at + 3]) + b"\r\n\n" for at in range(0, len(MESSAGES), 3)]
HEADERS = [
    b"019c2a51-7e00-7a30-9d11-2f6f0f1c8a02",
    b"key-1",
    b"Bearer 0123456789abcdef0123456789abcdef",
    b"Basic " + base64.b64encode(b"user:0123456789abcdef"),
    b"relay.example:8443",
    b"[::1]:80",
    b"6291456",
]
