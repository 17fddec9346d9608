"""What reads bytes from outside, and what alone may come out of it.

Beyond "no other error" each target states what must hold of what was taken: a message that ``parse`` takes any reader of JSON
reads, ``read`` takes it as the same, and its warnings and regions can be told; an envelope is made of exactly its parts.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from relay import envelope as wire
from relay import messages, receipts, seal, witnessed
from relay.api import asked, auth, find, inbox, requests, retention, steering
from relay.api import messages as api_messages
from relay.api import received as api_received
from relay.directory import Bundle, Directory, Root, Signatures, Signed, begin, digest, read_directory, read_root, sign
from relay.envelope import Envelope
from relay.errors import EnvelopeError, Misconfigured, NotAuthentic, Refused, Rejected
from relay.settings import LimitSettings
from relay.web import body as web_body
from relay.web import problems
from relay.witnessed import Exchange
from tests.fuzz import corpus
from tests.fuzz.byte_edits import bytes_of
from tests.fuzz.json_edits import any_of, json_of
from tests.fuzz.run import Target
from tests.make_vectors import NETWORK, NOW, SUITES, sealing, signing

ROOT = Root.model_validate_json(corpus.ROOT)
DIRECTORY = Directory.model_validate_json(corpus.REGISTER)
AUTHORITIES = {authority.id: signing(f"authority {authority.id}") for authority in ROOT.authorities}
KEYS = {centre: {key.id: key} for centre, suite in SUITES.items() for key in [sealing(centre, suite)]}
BATCH_LINES = 20
ASKED: tuple[type[BaseModel], ...] = (
    inbox.Nack,
    api_received.ActAsked,
    retention.RetentionRun,
    retention.HoldAsked,
    steering.Steering,
)
LENGTHS = (0, 1, 47, 48, 80, 1168, 2**15, 2**16 - 1, 2**24, 2**31, 2**32 - 1)


def of_json(goods: Sequence[bytes]) -> Callable[[Random], bytes]:
    """Return a maker of cases from good JSON documents."""
    return lambda dice: any_of(dice, dice.choice(goods), goods)


def of_bytes(goods: Sequence[bytes]) -> Callable[[Random], bytes]:
    """Return a maker of cases from good bytes."""
    return lambda dice: bytes_of(dice, dice.choice(goods), goods)


def envelope(dice: Random) -> bytes:
    """Return a changed envelope: its bytes, its lengths, its core (framed anew), or parts of two."""
    draw = dice.random()
    if draw < 0.35:
        return bytes_of(dice, dice.choice(corpus.ENVELOPES), corpus.ENVELOPES)
    good, other = dice.choice(corpus.PARSED), dice.choice(corpus.PARSED)
    if draw < 0.5:
        return _with_length(dice, good)
    if draw < 0.55:
        wraps, digests = dice.choice((good, other)).wraps, dice.choice((good, other)).digests
        return wire.encode_signed(good.core_bytes, wraps, digests) + other.signature + dice.choice((good, other)).body
    core = json_of(dice, good.core_bytes, [one.core_bytes for one in corpus.PARSED])
    return _framed(core, good) if dice.random() < 0.5 else _fitted(core, good)


def signed_envelope(dice: Random) -> bytes:
    """Return an envelope that a member of the network changed and then signed himself, if its form allows."""
    good = dice.choice(corpus.PARSED)
    wraps, ciphertexts = list(good.wraps), list(good.ciphertexts)
    for parts in (wraps, ciphertexts):
        if dice.random() < 0.5:
            at = dice.randrange(len(parts))
            parts[at] = bytes_of(dice, parts[at], parts)
    core = (
        json_of(dice, good.core_bytes, [one.core_bytes for one in corpus.PARSED], 1) if dice.random() < 0.4 else good.core_bytes
    )
    digests = [hashlib.sha256(ciphertext).digest() for ciphertext in ciphertexts]
    unsigned = wire.encode_signed(core, [wrap[:65_535] for wrap in wraps], digests)
    signature = signing(good.core.origin).sign(wire.signature_prefix(good.core.type), unsigned)
    return unsigned + signature + wire.join_ciphertexts(ciphertexts)


def _with_length(dice: Random, good: Envelope) -> bytes:
    """Return an envelope in which one length is another."""
    raw, at = good.header + good.body, 8 + len(good.core_bytes)
    places = [(4, ">I")]
    for wrap in good.wraps:
        places.append((at, ">H"))
        at += 2 + len(wrap)
    at = len(good.header)
    for ciphertext in good.ciphertexts:
        places.append((at, ">I"))
        at += 4 + len(ciphertext)
    at, form = dice.choice(places)
    size = struct.calcsize(form)
    near = int.from_bytes(raw[at : at + size], "big") + dice.choice((-4, -1, 1, 2, 4, 48))
    return (
        raw[:at] + (max(near, 0) if dice.random() < 0.4 else dice.choice(LENGTHS)).to_bytes(5, "big")[-size:] + raw[at + size :]
    )


def _framed(core: bytes, good: Envelope) -> bytes:
    rest = (good.header + good.body)[8 + len(good.core_bytes) :]
    return wire.MAGIC + struct.pack(">I", len(core)) + core + rest


def _fitted(core: bytes, good: Envelope) -> bytes:
    """Return an envelope around a core in which everything that follows has the number and lengths that the core asks for."""
    try:
        document = json.loads(core)
        wraps = [bytes(wire.WRAP_BYTES[recipient["suite"]]) for recipient in document["to"]]
        count = len(document["messages"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return _framed(core, good)
    ciphertexts = wire.join_ciphertexts([bytes(wire.LEAST_CIPHERTEXT_BYTES)] * count)
    return wire.encode_signed(core, wraps, [bytes(32)] * count) + good.signature + ciphertexts


def submitted(raw: bytes) -> None:
    """Take a message as its own centre's system submits it."""
    message = messages.parse(raw)
    held(json.loads(raw.decode())["kind"] == message.kind, "another reader of JSON sees another kind")
    held(messages.read(raw) == message, "a receiver reads another message")
    messages.warnings(message)
    held(bool(message.regions), "a message concerns no region")


def received(raw: bytes) -> None:
    """Take a message as it comes from a peer."""
    message = messages.read(raw)
    json.loads(raw.decode())
    messages.warnings(message)


def parsed(raw: bytes) -> None:
    """Take an envelope's bytes apart."""
    found = wire.parse(raw)
    held(found.header + found.body == raw, "an envelope is not the sum of its parts")
    held(wire.read_core(found.header) == found.core, "a header at rest has another core")


def opened(raw: bytes) -> None:
    """Verify and open an envelope as the first recipient that the vectors have a key of."""
    found = wire.parse(raw)
    me = next((one.centre for one in found.core.to if one.centre in KEYS), "CHARLIE")
    seal.verify(found, me, NETWORK, DIRECTORY, NOW)
    contents = seal.unseal(found, me, KEYS[me]).contents
    held(len(contents) == len(found.core.messages), "a message is missing")
    held(all(isinstance(one, bytes | Rejected) for one in contents), "neither content nor refusal")


def control(model: type[Any], raw: bytes) -> None:
    """Take the body of a control envelope."""
    found = receipts.read(model, raw)
    held(receipts.read(model, receipts.write(found)) == found, "what was read is written as another body")


def register(raw: bytes) -> None:
    """Take a register that all its authorities signed."""
    signed = Signatures(signatures=tuple(sign(raw, name, key) for name, key in AUTHORITIES.items()))
    read_directory(raw, signed.model_dump_json().encode(), ROOT, NETWORK, NOW)


def signatures(raw: bytes) -> None:
    """Take signatures of the register."""
    read_directory(corpus.REGISTER, raw, ROOT, NETWORK, NOW)


def root(raw: bytes) -> None:
    """Take a root whose digest the operator was given, and a register under it."""
    found = read_root(raw, digest(raw))
    read_directory(corpus.REGISTER, corpus.SIGNATURES, found, NETWORK, NOW)


def bundle(raw: bytes) -> None:
    """Take a bundle as it travels, and follow it as far as it is signed."""
    found = Bundle.unpack(raw)
    held(found.pack() == raw, "what was unpacked is packed as other bytes")
    begin(NETWORK, corpus.ROOT, found, NOW)


def exchange(raw: bytes) -> None:
    """Take what a peer says about logs, and check every note of it."""
    said = receipts.read(Exchange, raw)
    for note in (said.checkpoint, *said.asks, *said.seen):
        if note is not None:
            witnessed.checkpoint(note, NETWORK, DIRECTORY, lambda _: True)
    if said.countersignature is not None:
        witnessed.countersignature(said.countersignature, NETWORK, DIRECTORY, lambda _: True)


def headers(raw: bytes) -> None:
    """Take the headers that the API reads itself."""
    names = (b"idempotency-key", b"authorization", b"host", b"content-length")
    given = [(name, value) for value in raw.split(b"\n") for name in names]
    server = {"type": "http", "scheme": "http", "server": ("127.0.0.1", 8080), "method": "GET", "query_string": b""}
    for some in (given, given[:4]):
        request = Request({**server, "path": "/docs", "headers": some})
        auth._token(request)
        web_body._declared(request)
        web_body.idempotency_key(request)


def acknowledgement(raw: bytes) -> None:
    """Take the body of an acknowledgement."""
    inbox._acknowledgement(raw)


def question(raw: bytes) -> None:
    """Take the body of whatever an operator or a system asks for, as each route would that fits it."""
    taken, refusal = 0, None
    for model in ASKED:
        try:
            asked.read(model, raw)
            taken += 1
        except Refused as refused:
            refusal = refused
    forms: tuple[Any, ...] = (requests.ReleaseQuestion, requests.ReleaseDecision)
    for form in forms:
        try:
            requests._given(form, raw)
            taken += 1
        except Refused as refused:
            refusal = refused
    if not taken and refusal is not None:
        json.dumps(problems.document(refusal))
        raise refusal


def query(raw: bytes) -> None:
    """Take the query of a search, as far as it is read before the store is asked."""
    request = Request({"type": "http", "method": "GET", "path": "/v1/messages", "query_string": raw, "headers": []})
    given: dict[str, object] = {**request.query_params, "identifier": request.query_params.getlist("identifier")}
    try:
        filters = find.Filters.model_validate(given)
    except ValidationError as error:
        raise Refused("bad-request", f"{error.error_count()} parameters are not of their form.") from None
    try:
        find._check(request, filters, filtered=bool(given.keys() - find._NO_FILTERS - find._BY_STATE - {"identifier"}))
    except Refused as refused:
        json.dumps(problems.document(refused))
        raise


def shown(raw: bytes) -> None:
    """Take a header that a peer shows as proof, as the centre that should have signed it."""
    core = next((one for member in DIRECTORY.members if (one := seal.signed_by(raw, member, NETWORK))), None)
    if core is None:
        raise NotAuthentic("bad-signature", "Nobody of the network signed it.")
    held(any(raw == one.header for one in corpus.PARSED), "a header that nobody signed proves something")


def batch(raw: bytes) -> None:
    """Take a batch of lines, and tell what is wrong with each."""
    lines = api_messages._lines(raw, BATCH_LINES)
    for some in api_messages._slices(lines):
        judged, _ = api_messages._validate(some, LimitSettings(), None, 100)
        refused = [one for one in judged if isinstance(one, Refused)]
        json.dumps([problems.document(one) for one in refused])
        if refused:
            raise refused[0]


def held(holds: bool, otherwise: str) -> None:
    """Fail with a sentence when something that must hold does not."""
    if not holds:
        raise AssertionError(otherwise)


def _bundled(dice: Random) -> bytes:
    """Return a bundle with bytes edited or, now and then, of a register that was edited before all authorities signed it."""
    if dice.random() < 0.5:
        return bytes_of(dice, dice.choice(corpus.BUNDLES), corpus.BUNDLES)
    raw = any_of(dice, dice.choice(corpus.DIRECTORIES), corpus.DIRECTORIES)
    signed = Signatures(signatures=tuple(sign(raw, name, key) for name, key in AUTHORITIES.items()))
    return Bundle((), (Signed(raw, signed.model_dump_json().encode()),)).pack()


def _header_lines(dice: Random) -> bytes:
    return b"\n".join(bytes_of(dice, dice.choice(corpus.HEADERS), corpus.HEADERS) for _ in range(dice.randint(1, 4)))


def _header_shown(dice: Random) -> bytes:
    """Return a header, mostly changed: of a changed one none may count."""
    good = dice.choice(corpus.HEADERS_SHOWN)
    return good if dice.random() < 0.1 else bytes_of(dice, good, corpus.HEADERS_SHOWN)


TARGETS = (
    Target("messages.parse", 300, of_json(corpus.MESSAGES), submitted, Refused),
    Target("messages.read", 185, of_json([*corpus.MESSAGES, *corpus.NEWER]), received, Refused),
    Target("envelope.parse", 150, envelope, parsed, NotAuthentic),
    Target("seal.unseal", 20, signed_envelope, opened, EnvelopeError),
    Target("receipts.receipt", 40, of_json(corpus.CONTROL), partial(control, receipts.Receipt), Rejected),
    Target("receipts.mark", 40, of_json(corpus.CONTROL), partial(control, receipts.Mark), Rejected),
    Target("receipts.nack", 40, of_json(corpus.CONTROL), partial(control, receipts.Nack), Rejected),
    Target("receipts.void", 10, of_json(corpus.VOIDS), partial(control, receipts.Void), Rejected),
    Target("receipts.heartbeat", 15, of_json(corpus.BEATS), partial(control, receipts.Heartbeat), Rejected),
    Target("receipts.epoch", 10, of_json(corpus.EPOCHS), partial(control, receipts.EpochClosed), Rejected),
    Target("seal.shown", 10, _header_shown, shown, NotAuthentic),
    Target("directory.register", 15, of_json(corpus.DIRECTORIES), register, Misconfigured),
    Target("directory.signatures", 10, of_json(corpus.SIGNED), signatures, Misconfigured),
    Target("directory.root", 10, of_json(corpus.ROOTS), root, Misconfigured),
    Target("directory.bundle", 10, _bundled, bundle, Misconfigured),
    Target("witnessed.exchange", 10, of_json(corpus.EXCHANGES), exchange, Rejected),
    Target("receipts.comparison", 10, of_json(corpus.COMPARISONS), partial(control, receipts.Comparison), Rejected),
    Target("api.headers", 25, _header_lines, headers, Refused),
    Target("api.acknowledgement", 25, of_json(corpus.ACKNOWLEDGEMENTS), acknowledgement, Refused),
    Target("api.bodies", 25, of_json(corpus.ASKED), question, Refused),
    Target("api.query", 15, of_bytes(corpus.QUERIES), query, Refused),
    Target("api.batch", 25, of_bytes(corpus.BATCHES), batch, Refused),
)
