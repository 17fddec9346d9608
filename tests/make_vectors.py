"""Makes the golden vectors in ``schemas/vectors/``; run once per version of the format: ``python -m tests.make_vectors DIR``.

Keys, root and directory come out the same each time (they are derived from their names, and Ed25519 is deterministic). Sealing
draws random numbers, so envelopes come out anew: the vectors say what given bytes mean, not what sealing must produce. What is in
``schemas/vectors/`` is therefore final; this program refuses to write into a folder that has something in it.

``open.json`` holds what our code sealed and what must come out; ``refused.json`` what must be refused, and with which code. Rules
that our sealer can't break are broken by :mod:`tests.independent.sealer`.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import struct
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay import envelope as wire
from relay import receipts
from relay.directory import Authority, AuthorityKey, Contact, Directory, Key, Member, Policy, Root, Signatures, digest, sign
from relay.keys import SealingAlgorithm, SealingKey, SigningKey
from relay.seal import Addressee, Draft, Sealed, Sealer
from tests.independent import sealer
from tests.independent.sealer import Parts, To

FOLDER = Path(__file__).parent.parent / "schemas" / "vectors"
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
DEADLINE = NOW_MS + 72 * 3_600_000
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
SUITES: dict[str, SealingAlgorithm] = {
    "ALFA": "mlkem768-x25519",
    "BRAVO": "mlkem768-x25519",
    "CHARLIE": "x25519",
    "DELTA-XY": "mlkem768-x25519",
    "ECHO": "x25519",
}
EXTRA = {
    "expired": {"valid_until": datetime(2026, 5, 1, tzinfo=UTC)},
    "future": {"valid_from": datetime(2026, 7, 1, tzinfo=UTC)},
    "revoked": {"revoked_from": datetime(2026, 5, 1, tzinfo=UTC)},
}
CONTENTS = [b'{"kind":"alert"}', b"", bytes(range(256))]


def derive(name: str, length: int) -> bytes:
    """Return the secret bytes that a name stands for. Never use them for anything but vectors."""
    return hashlib.shake_256(b"intercentre-relay test vector: " + name.encode()).digest(length)


def signing(name: str) -> SigningKey:
    """Return the signing key of this name."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(derive(f"{name} signing", 32)))


def sealing(name: str, suite: SealingAlgorithm) -> SealingKey:
    """Return the sealing key of this name."""
    scalar = derive(f"{name} x25519", 32)
    return SealingKey(suite, (scalar,) if suite == "x25519" else (derive(f"{name} mlkem768", 64), scalar))


def listed(key: SigningKey | SealingKey, **changes: datetime) -> Key:
    """Return a key as the directory lists it."""
    algorithm = key.algorithm if isinstance(key, SealingKey) else "ed25519"
    public = base64.b64encode(key.public).decode()
    use = "sealing" if isinstance(key, SealingKey) else "signing"
    times = {"valid_from": START, "valid_until": END} | changes
    return Key.model_validate({"id": key.id, "use": use, "algorithm": algorithm, "public": public, **times})


def member(centre: str, suite: SealingAlgorithm) -> Member:
    """Return a centre of the vectors' network."""
    extra = [listed(signing(f"{centre} {name}"), **changes) for name, changes in EXTRA.items() if centre == "ALFA"]
    return Member(
        id=centre,
        name=centre.title(),
        organisation="Test vectors",
        seat="nowhere",
        time_zone="UTC",
        contact=Contact(name="Duty officer", telephone="+00 0 000 00 00", email=f"duty@{centre.lower()}.example"),
        status="suspended" if centre == "ECHO" else "active",
        keys=(listed(signing(centre)), listed(sealing(centre, suite)), *extra),
        reads={},
    )


def network() -> tuple[bytes, bytes, bytes]:
    """Return root, directory and signatures as bytes."""
    authorities = {name: signing(f"authority {name}") for name in ("NORTH", "SOUTH")}
    root = Root(
        name="Test vectors",
        authorities=tuple(
            Authority(id=name, keys=(AuthorityKey(id=key.id, public=base64.b64encode(key.public).decode()),))
            for name, key in authorities.items()
        ),
    )
    root_raw = root.model_dump_json(indent=1, exclude={"version", "previous"}).encode() + b"\n"  # these bytes are pinned
    directory = Directory(
        network=digest(root_raw),
        version=7,
        previous="0" * 64,
        issued_at=START,
        warn_after=datetime(2035, 1, 1, tzinfo=UTC),
        expires_at=END,
        members=tuple(member(centre, suite) for centre, suite in SUITES.items()),
    )
    pinned = {"suites", "default_expiry_hours", "max_expiry_hours"}  # with these bytes, before there were other fields
    younger = Policy.model_fields.keys() - pinned
    raw = directory.model_dump_json(indent=1, exclude={"reason": True, "policy": younger}).encode() + b"\n"
    signatures = Signatures(signatures=tuple(sign(raw, name, key) for name, key in authorities.items()))
    return root_raw, raw, signatures.model_dump_json(indent=1).encode() + b"\n"


NETWORK = digest(network()[0])


def keys() -> dict[str, Any]:
    """Return every private and public key that the vectors use."""
    centres = {}
    for centre, suite in SUITES.items():
        key = sealing(centre, suite)
        private = {"x25519": derive(f"{centre} x25519", 32).hex()}
        if suite != "x25519":
            private = {"mlkem768": derive(f"{centre} mlkem768", 64).hex(), **private}
        centres[centre] = {
            "signing": {"id": signing(centre).id, "seed": derive(f"{centre} signing", 32).hex()},
            "sealing": {"id": key.id, "suite": suite, "private": private, "public": key.public.hex()},
        }
    return {"network": NETWORK, "centres": centres}


def sealed(kind: Any, lane: str, contents: list[bytes], to: list[str], first: int = 1, origin: str = "ALFA") -> Sealed:
    """Seal with the relay's own code."""
    deadline = DEADLINE if kind == "batch" else 0
    drafts = [Draft(wire.new_id(origin), content, deadline) for content in contents]
    addressees = [Addressee(centre, listed(sealing(centre, SUITES[centre])), first + at) for at, centre in enumerate(to)]
    return Sealer(origin, NETWORK, signing(origin)).seal(
        kind, lane, drafts, addressees, epoch=1_780_000_000, directory=7, now=NOW_MS
    )


def recipients(*centres: str) -> list[To]:
    """Return recipients for the sealer that breaks rules."""
    return [To(centre, SUITES[centre], sealing(centre, SUITES[centre]).public) for centre in centres]


def parts(to: list[To], contents: list[bytes] | None = None, /, **changes: Any) -> Parts:
    """Seal with the independent sealer, core fields replaced."""
    core, plaintexts = sealer.core_of(NETWORK, "ALFA", derive("ALFA signing", 32), to, contents or [b"content"], **changes)
    return sealer.enclose(core, plaintexts, to)


def to_sign(made: Parts, name: str = "ALFA", **how: Any) -> bytes:
    """Sign as a centre, or with one of its other keys."""
    return made.sign(derive(f"{name} signing", 32), **how)


def receipt(commitments: tuple[str, ...]) -> bytes:
    """Return a receipt's body: two accepted, one of them refused later."""
    common = {"epoch": 1_780_000_000, "lane": "routine", "time": NOW_MS}
    said = [
        receipts.Statement(first=1, commitments=commitments, state="accepted", **common),
        receipts.Statement(first=2, commitments=commitments[1:], state="rejected", code="expired", **common),
    ]
    return receipts.write(receipts.Receipt(statements=tuple(said)))


def opened(name: str, says: str, me: str, made: Sealed, contents: list[bytes | str], **more: Any) -> dict[str, Any]:
    """Return an entry of ``open.json``."""
    return {
        "name": name,
        "says": says,
        "me": me,
        "now": NOW.isoformat(),
        "envelope": base64.b64encode(made.raw).decode(),
        "core": made.envelope.core.model_dump(mode="json"),
        "content_key": made.content_key.hex(),
        "contents": [{"code": one} if isinstance(one, str) else {"base64": base64.b64encode(one).decode()} for one in contents],
        **more,
    }


def to_open() -> Iterator[dict[str, Any]]:
    """Yield what must open."""
    one = sealed("batch", "routine", CONTENTS[:1], ["BRAVO"])
    yield opened("one-hybrid", "One message to one centre, hybrid suite.", "BRAVO", one, [*CONTENTS[:1]])
    one = sealed("batch", "flash", CONTENTS[:1], ["CHARLIE"], 41)
    yield opened("one-x25519", "One message to one centre, X25519 suite.", "CHARLIE", one, [*CONTENTS[:1]])
    several = sealed("batch", "exercise", CONTENTS, ["BRAVO", "CHARLIE", "DELTA-XY"], 2**53 - 10)
    for me in ("BRAVO", "CHARLIE", "DELTA-XY"):
        says = "Three messages (one empty) to three centres of both suites, at the highest sequences there are."
        yield opened(f"three-to-three-{me.lower()}", says, me, several, [*CONTENTS])
    full = sealed("batch", "priority", [b"%d" % number for number in range(64)], ["BRAVO"])
    yield opened("sixty-four", "A full batch.", "BRAVO", full, [b"%d" % number for number in range(64)])
    yield from _control_to_open(tuple(item.commitment for item in several.envelope.core.messages[:2]))
    yield from _damaged_to_open()


def _control_to_open(commitments: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    body = receipt(commitments)
    yield opened("receipt", "A receipt.", "ALFA", sealed("receipt", "control", [body], ["ALFA"], 0, "BRAVO"), [body])
    body = receipts.write(receipts.Mark(epoch=1_780_000_000, lane="routine", highest=9, open=((3, 5), (9, 9))))
    yield opened("mark", "A mark, number 17.", "CHARLIE", sealed("mark", "routine", [body], ["CHARLIE"], 17), [body])
    nack = receipts.Nack(epoch=1_780_000_000, lane="routine", missing=((4, 5),), mark=17)
    body = receipts.write(nack)
    yield opened("nack", "A nack, number 3.", "ALFA", sealed("nack", "control", [body], ["ALFA"], 3, "CHARLIE"), [body])


def _damaged_to_open() -> Iterator[dict[str, Any]]:
    made = sealed("batch", "routine", CONTENTS, ["CHARLIE"])
    ciphertexts = (made.envelope.ciphertexts[0], b"", made.envelope.ciphertexts[2])
    at_rest = Sealed(dataclasses.replace(made.envelope, ciphertexts=ciphertexts), made.content_key)
    says = "At rest, the second message purged: signature and neighbours still verify; on the wire it is refused as altered."
    yield opened("at-rest-purged", says, "CHARLIE", at_rest, [CONTENTS[0], "purged", CONTENTS[2]], at_rest=True)
    to = recipients("CHARLIE")
    for name, says, changed in (
        ("other-commitment", "The second message is not what the core commits to.", "commitment-mismatch"),
        ("other-key", "The second message is encrypted under another key.", "cannot-decrypt"),
    ):
        broken = _second_broken(to, changed)
        raw = wire.parse(to_sign(broken))
        yield opened(name, says, "CHARLIE", Sealed(raw, broken.content_key), [b"first", changed, b"third"])


def _second_broken(to: list[To], how: str) -> Parts:
    core, plaintexts = sealer.core_of(NETWORK, "ALFA", derive("ALFA signing", 32), to, [b"first", b"second", b"third"])
    if how == "commitment-mismatch":
        plaintexts[1] = bytes(32) + b"forged"
    made = sealer.enclose(core, plaintexts, to)
    if how == "cannot-decrypt":
        made.ciphertexts[1] = bytes(len(made.ciphertexts[1]))
    return made


def to_refuse() -> Iterator[tuple[str, str, str, bytes]]:
    """Yield (name, code, me, envelope) of what must be refused."""
    good = sealed("batch", "routine", [b"content", b"another"], ["BRAVO", "CHARLIE"]).raw
    size = struct.unpack(">I", good[4:8])[0]
    yield "empty", "not-an-envelope", "CHARLIE", b""
    yield "other-magic", "not-an-envelope", "CHARLIE", b"ICR2" + good[4:]
    yield "cut-in-the-header", "not-an-envelope", "CHARLIE", good[:200]
    yield "cut-in-the-last-ciphertext", "not-an-envelope", "CHARLIE", good[:-1]
    yield "one-byte-more", "not-an-envelope", "CHARLIE", good + b"\0"
    yield "core-longer-than-allowed", "not-an-envelope", "CHARLIE", good[:4] + struct.pack(">I", 2**32 - 1) + good[8:]
    yield "core-bit-flipped", "bad-signature", "CHARLIE", flip(good, 8 + good[8:].index(b'"time":') + 8)
    yield "wrap-bit-flipped", "bad-signature", "CHARLIE", flip(good, 8 + size + 10)
    yield "digest-bit-flipped", "bad-signature", "CHARLIE", flip(good, 8 + size + 1170 + 82 + 5)
    yield "signature-bit-flipped", "bad-signature", "CHARLIE", flip(good, 8 + size + 1170 + 82 + 64 + 5)
    yield "ciphertext-bit-flipped", "altered", "CHARLIE", flip(good, len(good) - 1)
    yield "not-addressed", "not-addressed", "DELTA-XY", good
    yield from _forged()
    yield from _malformed()


def _forged() -> Iterator[tuple[str, str, str, bytes]]:
    """Envelopes of the right form whose signer, network or keys are not right."""
    to = recipients("CHARLIE")
    yield "other-network", "other-network", "CHARLIE", to_sign(parts(to, network="0" * 64))
    yield "unknown-centre", "unknown-centre", "CHARLIE", to_sign(parts(to, origin="ZULU"))
    yield "suspended-centre", "unknown-centre", "CHARLIE", to_sign(parts(to, origin="ECHO", key=signing("ECHO").id), "ECHO")
    yield "key-of-another-centre", "unknown-key", "CHARLIE", to_sign(parts(to, key=signing("BRAVO").id), "BRAVO")
    sealing_key = sealing("ALFA", SUITES["ALFA"]).id
    yield "signed-with-a-sealing-key", "unknown-key", "CHARLIE", to_sign(parts(to, key=sealing_key))
    for name in EXTRA:
        yield f"{name}-key", "unknown-key", "CHARLIE", to_sign(parts(to, key=signing(f"ALFA {name}").id), f"ALFA {name}")
    yield "directory-too-old", "directory-too-old", "CHARLIE", to_sign(parts(to, key="0" * 32, directory=8))
    yield "prefix-of-another-type", "bad-signature", "CHARLIE", to_sign(parts(to), prefix="receipt")
    yield "signed-by-another", "bad-signature", "CHARLIE", to_sign(parts(to), "BRAVO")
    both = parts(to, [b"first", b"other"])
    raw = to_sign(both)
    body = b"".join(struct.pack(">I", len(one)) + one for one in both.ciphertexts)
    swapped = b"".join(struct.pack(">I", len(one)) + one for one in reversed(both.ciphertexts))
    yield "ciphertexts-swapped", "altered", "CHARLIE", raw.removesuffix(body) + swapped
    yield "purged-on-the-wire", "altered", "CHARLIE", raw.removesuffix(body) + bytes(8)
    empty = parts(to)
    empty.ciphertexts = [b""]
    yield "signed-empty", "altered", "CHARLIE", to_sign(empty)
    yield from _unwrappable()


def _unwrappable() -> Iterator[tuple[str, str, str, bytes]]:
    pair = [To("CHARLIE", "x25519", sealing("CHARLIE", "x25519").public), To("BRAVO", "x25519", sealing("ECHO", "x25519").public)]
    crossed = parts(pair)
    crossed.wraps.reverse()
    yield "wraps-swapped", "cannot-unwrap", "CHARLIE", to_sign(crossed)
    other = [To("CHARLIE", "x25519", sealing("ECHO", "x25519").public)]
    yield "key-not-ours", "cannot-unwrap", "CHARLIE", to_sign(parts(other))
    made = parts(recipients("CHARLIE"))
    made.wraps = [sealer.wrap(made.content_key, bytes(32), recipients("CHARLIE")[0])]
    yield "wrapped-for-another-core", "cannot-unwrap", "CHARLIE", to_sign(made)


def _malformed() -> Iterator[tuple[str, str, str, bytes]]:
    """Envelopes that are signed rightly and break one rule of the form."""
    to = recipients("CHARLIE")
    good, plaintexts = sealer.core_of(NETWORK, "ALFA", derive("ALFA signing", 32), to, [b"content"])
    entry, item = good["to"][0], good["messages"][0]
    changes: dict[str, dict[str, Any]] = {
        "version-2": {"version": 2},
        "version-true": {"version": True},
        "unknown-type": {"type": "gossip"},
        "unknown-lane": {"lane": "urgent"},
        "batch-in-control": {"lane": "control"},
        "epoch-0": {"epoch": 0},
        "directory-0": {"directory": 0},
        "time-beyond-the-year-9999": {"time": 253_402_300_800_000},
        "upper-case-network": {"network": NETWORK.upper()},
        "id-without-hyphens": {"id": good["id"].replace("-", "")},
        "id-with-another-tag": {"id": good["id"][:-8] + "00000000"},
        "message-id-with-another-tag": {"messages": [item | {"id": good["id"][:-8] + "00000000"}]},
        "centre-in-small-letters": {"origin": "alfa"},
        "no-recipient": {"to": []},
        "recipient-twice": {"to": [entry, entry]},
        "to-its-origin": {"to": [entry | {"centre": "ALFA"}]},
        "unknown-suite": {"to": [entry | {"suite": "x448"}]},
        "sequence-0": {"to": [entry | {"first": 0, "last": 0}]},
        "sequence-too-high": {"to": [entry | {"first": 2**53, "last": 2**53}]},
        "sequences-miscounted": {"to": [entry | {"last": 2}]},
        "sequence-as-float": {"to": [entry | {"first": 1.0}]},
        "unknown-field": {"more": 1},
        "no-message": {"messages": []},
        "message-twice": {"messages": [item, item], "to": [entry | {"last": 2}]},
        "commitment-twice": {"messages": [item, item | {"id": good["id"]}], "to": [entry | {"last": 2}]},
        "no-deadline": {"messages": [item | {"deadline": 0}]},
        "receipt-in-a-lane": {"type": "receipt", "messages": [item | {"deadline": 0}]},
        "mark-in-control": {"type": "mark", "lane": "control", "messages": [item | {"deadline": 0}]},
        "receipt-with-a-number": {"type": "receipt", "lane": "control", "messages": [item | {"deadline": 0}]},
        "nack-with-deadline": {"type": "nack", "lane": "control"},
    }
    for name, change in changes.items():
        core = good | change
        count = len(core["messages"])
        made = sealer.enclose(core, plaintexts * count, to * len(core["to"]))
        yield name, "not-an-envelope", "CHARLIE", to_sign(made)
    yield from _misspelled(good, plaintexts, to)
    yield from _mismeasured(to)
    pair = recipients("CHARLIE", "BRAVO")
    zero = [{**one, "first": 3, "last": 3} for one in sealer.core_of(NETWORK, "ALFA", bytes(32), pair, [b""])[0]["to"]]
    many = parts(pair, type="nack", lane="control", to=zero, messages=[item | {"deadline": 0}])
    yield "nack-to-two", "not-an-envelope", "CHARLIE", to_sign(many)


def _misspelled(good: dict[str, Any], plaintexts: list[bytes], to: list[To]) -> Iterator[tuple[str, str, str, bytes]]:
    compact = sealer.compact(good)
    for name, core_bytes in {
        "white-space": compact.replace(b",", b", ", 1),
        "duplicate-key": compact.replace(b'"epoch":1', b'"epoch":1,"epoch":1'),
        "other-order": sealer.compact(dict(reversed(good.items()))),
        "escaped-letter": compact.replace(b"routine", b"\\u0072outine"),
        "number-with-exponent": compact.replace(b'"epoch":1', b'"epoch":1e0'),
        "not-a-number": compact.replace(b'"epoch":1', b'"epoch":NaN'),
        "byte-order-mark": b"\xef\xbb\xbf" + compact,
    }.items():
        made = sealer.enclose(good, plaintexts, to, lambda _, spelled=core_bytes: spelled)
        yield f"core-{name}", "not-an-envelope", "CHARLIE", to_sign(made)


def _mismeasured(to: list[To]) -> Iterator[tuple[str, str, str, bytes]]:
    short = parts(to)
    short.ciphertexts = [short.ciphertexts[0][:47]]
    yield "ciphertext-too-short", "not-an-envelope", "CHARLIE", to_sign(short)
    for name, change in (("wrap-too-short", slice(0, 79)), ("wrap-empty", slice(0, 0))):
        made = parts(to)
        made.wraps = [made.wraps[0][change]]
        yield name, "not-an-envelope", "CHARLIE", to_sign(made)


def flip(raw: bytes, at: int) -> bytes:
    """Return the bytes with the lowest bit at a place flipped."""
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def refused(name: str, code: str, me: str, raw: bytes) -> dict[str, Any]:
    """Return an entry of ``refused.json``."""
    outcome = {"not-addressed": "drop", "cannot-unwrap": "ask"}.get(code, "sample")
    envelope = base64.b64encode(raw).decode()
    return {"name": name, "me": me, "now": NOW.isoformat(), "code": code, "outcome": outcome, "envelope": envelope}


def main(folder: Path) -> None:
    """Write all vectors into an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        sys.exit(f"{folder} is not empty, and vectors are never made anew in place")
    for name, raw in zip(("root.json", "directory.json", "directory.signatures.json"), network(), strict=True):
        (folder / name).write_bytes(raw)
    for name, document in {
        "keys.json": keys(),
        "open.json": list(to_open()),
        "refused.json": [refused(*one) for one in to_refuse()],
    }.items():
        (folder / name).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
