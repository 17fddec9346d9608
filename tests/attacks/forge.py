"""What makes bad envelopes: good ones of a hostile member, changed in one place and signed again, or not."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from relay import envelope as wire
from relay import receipts
from relay.broker import Delivery
from relay.directory import Directory
from relay.envelope import Envelope, EnvelopeType, new_id
from relay.keys import SigningKey
from relay.policy import Judge
from relay.seal import Addressee, Draft, Sealed
from tests.live import LANE, Live, message

A, B, C = CENTRES = ("FOEA", "FOEB", "FOEC")
"""Who attacks, who is attacked, who looks on."""


def batch(live: Live, *numbers: str, to: Sequence[str] = (B,), first: int | None = None) -> Envelope:
    """Return a good batch of A."""
    return live.seal(A, list(to), [message(case_number=number) for number in numbers or ("GOOD",)], first).envelope


def raw(envelope: Envelope) -> bytes:
    """Return an envelope as it goes on the wire."""
    return envelope.header + envelope.body


def core(envelope: Envelope, **fields: Any) -> bytes:
    """Return the core with some of its fields changed, spelled as it must be otherwise."""
    return spelled({**json.loads(envelope.core_bytes), **fields})


def recipient(envelope: Envelope, **fields: Any) -> bytes:
    """Return the core with fields of its first recipient changed."""
    first, *others = json.loads(envelope.core_bytes)["to"]
    return core(envelope, to=[{**first, **fields}, *others])


def item(envelope: Envelope, **fields: Any) -> bytes:
    """Return the core with fields of its first message changed."""
    first, *others = json.loads(envelope.core_bytes)["messages"]
    return core(envelope, messages=[{**first, **fields}, *others])


def spelled(document: object) -> bytes:
    """Return JSON as a core is spelled."""
    return json.dumps(document, separators=(",", ":")).encode()


def signed(
    key: SigningKey,
    envelope: Envelope,
    core_bytes: bytes | None = None,
    wraps: Sequence[bytes] | None = None,
    ciphertexts: Sequence[bytes] | None = None,
    purpose: str | None = None,
) -> bytes:
    """Return an envelope with parts replaced, its digests made to fit, signed by whoever has this key."""
    ciphertexts = envelope.ciphertexts if ciphertexts is None else ciphertexts
    digests = [hashlib.sha256(ciphertext).digest() for ciphertext in ciphertexts]
    unsigned = wire.encode_signed(core_bytes or envelope.core_bytes, wraps or envelope.wraps, digests)
    signature = key.sign(wire.signature_prefix(purpose or envelope.core.type), unsigned)
    return unsigned + signature + wire.join_ciphertexts(ciphertexts)


def control(
    live: Live,
    kind: EnvelopeType,
    body: BaseModel | bytes,
    number: int,
    epoch: int | None = None,
    lane: str = "control",
    origin: str = A,
) -> Sealed:
    """Return a control envelope to B as a hostile member could seal it."""
    centre = live[origin].centre
    content = body if isinstance(body, bytes) else receipts.write(body)
    return centre.sealer.seal(
        kind,
        lane,
        [Draft(new_id(origin), content)],
        [Addressee(B, centre.sealing_key(B), number)],
        epoch=epoch or centre.store.epoch,
        directory=centre.directory.version,
        now=centre.now(),
    )


def delivery(live: Live, envelope: bytes, lane: str = LANE, key: str = f"{A}.to.{B}.actual.routine") -> Delivery:
    """Return what B's inbox gets from the broker; it can't be acknowledged."""
    link = live[B].broker._link
    channel = next((consumed.channel for consumed in link.lanes.values()), None) if link is not None else None
    return Delivery(lane, envelope, key, False, None, channel)  # type: ignore[arg-type]


def judged(live: Live, envelope: bytes, lane: str = LANE) -> list[str | None]:
    """Return the code with which B refuses an envelope, or the code of each message, None when it takes it."""
    found = live[B].inbox._judging.judge(delivery(live, envelope, lane))
    if found.error is not None:
        return [found.error.code]
    return [verdict.refusal.code if verdict.refusal else None for verdict in found.verdicts]


@contextlib.contextmanager
def directory(live: Live, at: str = B, **changes: Any) -> Iterator[None]:
    """Let a centre go by another directory for a block: with fields of A's signing key, of A or of the policy changed."""
    centre = live[at].centre
    register = json.loads(centre.directory.model_dump_json())
    member = next(one for one in register["members"] if one["id"] == A)
    key = next(one for one in member["keys"] if one["use"] == "signing")
    for name, value in changes.items():
        place = key if name in key else member if name in member else register["policy"]
        place[name] = value
    whole, centre.judge = centre.judge, Judge(Directory.model_validate(register), at)
    try:
        yield
    finally:
        centre.judge = whole
