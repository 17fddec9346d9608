"""Good input to make bad input from: the published examples, the golden vectors, and bodies of every other form."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from relay import envelope as wire
from relay import receipts
from relay.envelope import Envelope
from relay.receipts import Echo, EpochClosed, Heartbeat, Mark, Nack, Receipt, Statement, Void
from tests import make_vectors
from tests.make_control_vectors import bodies

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

VOIDS = [
    receipts.write(Void(statements=(Statement(first=first, commitments=(_HASH,) * count, state=state, **_SAID),)))
    for first, count, state in ((1, 1, "expired"), (9, 5, "cancelled"), (2**52, 2, "later"))
]
_ECHO = (Echo(epoch=1, lane="flash", highest=7), Echo(epoch=1, lane="routine", highest=2**53 - 1))
BEATS = [
    receipts.write(Heartbeat(time=1_780_000_000_000, epoch=1, directory=2, digest=_HASH, release="1.0", **more))
    for more in ({}, {"echo": _ECHO, "answer": True}, {"show": _ECHO[0]}, {"shown": base64.b64encode(PARSED[0].header).decode()})
]
EPOCHS = [
    receipts.write(EpochClosed(epoch=5, closed=closed, time=1_780_000_000_000)) for closed in ((), (1,), tuple(range(1, 200)))
]
HEADERS_SHOWN = [one.header for one in PARSED]

ROOT, REGISTER, SIGNATURES = make_vectors.network()
DIRECTORIES, SIGNED, ROOTS = [_compact(json.loads(REGISTER))], [_compact(json.loads(SIGNATURES))], [_compact(json.loads(ROOT))]

ACKNOWLEDGEMENTS = [_compact({"ids": ["019c2a51-7e00-7a30-9d11-2f6f0f1c8a02"] * count}) for count in (1, 3, 1000)]
_ID = "019c2a51-7e00-7a30-9d11-2f6f0f1c8a02"
ASKED = [
    _compact(one)
    for one in (
        {"id": _ID, "code": "archive-closed", "reason": "the archive is closed", "retry_after": 60},
        {"id": _ID, "code": "unknown-case"},
        {"reason": "sent by mistake"},
        {"dry_run": True},
        {"dry_run": False, "reason": "monthly run"},
        {"id": _ID, "reason": "order 17"},
        {"to": ["BRU", "LYO"], "reason": "the case concerns them", "urgency": "urgent-direct"},
    )
]
QUERIES = [
    b"kind=seizure&crime_type=drugs&region=150&country=BE&reason=case+17",
    b"identifier=MSCU6639870&identifier=KA-1&reason=r&limit=1000&direction=any",
    b"since=2026-01-01T00:00:00Z&until=2026-02-01T00:00:00%2B01:00&origin=BE-CUS&reason=r&before=ff",
    b"state=queued&limit=1",
    b"thread=" + _ID.encode() + b"&status=exercise&reason=r",
    b"",
]
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

_BODIES = {name: body for name, _, _, body in bodies()}
COMPARISONS = [_BODIES["comparison"]]
EXCHANGES = [_BODIES["checkpoint"]]
BUNDLES = [_BODIES["directory"]]
"""As the golden vectors have them."""
