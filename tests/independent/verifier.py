"""Verifies proofs as ``docs/reference/proof-format.md`` says, and knows the relay by that document and those it names alone.

Standard library and ``cryptography``: nothing from ``relay``. As a program it takes a proof's file and ``root.json``::

    python -m tests.independent.verifier proof.json root.json
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.independent import opener, register
from tests.independent.opener import Failure

MAX_BYTES = 64 * 1024 * 1024
DIGEST = b',"digest":"'
HEX, KEY_ID, SIGNATURE = r"[0-9a-f]{64}", r"[0-9a-f]{32}", r"[0-9a-f]{128}"
STATES = ("accepted", "delivered", "rejected", "purged")
LANES = opener.LANES
CODE = r"[a-z0-9-]{1,64}"
NOTES: dict[str, tuple[tuple[str, str | int], ...]] = {  # a pattern, or the least of a number
    "checkpoint": (
        ("network", HEX),
        ("centre", opener.CENTRE),
        ("epoch", 1),
        ("size", 1),
        ("root", HEX),
        ("time", 0),
        ("directory", 1),
    ),
    "countersignature": (("network", HEX), ("witness", opener.CENTRE), ("checkpoint", HEX), ("time", 0)),
}


@dataclass
class Proved:
    """What a proof proves: who sealed the message for whom, who signed which state of it, what the log says, seen by whom."""

    origin: str
    recipients: list[str]
    stated: list[tuple[str, str]] = field(default_factory=list)
    logged: list[tuple[int, str]] = field(default_factory=list)
    witnesses: list[str] = field(default_factory=list)
    content: bytes | None = None


def verify(raw: bytes, root: bytes | None = None, keys: Mapping[str, Sequence[bytes]] | None = None) -> Proved:
    """Return what a file proves to whoever has the first root, or raw public keys of the authorities; else raise ``Failure``."""
    raw = raw.removesuffix(b"\n")
    proof, digest = _read(raw)
    bundles = [_bytes(one) for one in proof["directories"]]
    with_code = _coded("proof-directory")
    versions = [with_code(register.version_of, one, proof["network"], root, keys) for one in bundles]
    envelope = _header(_bytes(proof["envelope"]), "batch", "proof-envelope", proof, versions)
    to = [one["centre"] for one in envelope["to"]]
    commitment = next((one["commitment"] for one in envelope["messages"] if one["id"] == proof["message"]), "")
    _must(bool(commitment) and proof["centre"] in [envelope["origin"], *to], "proof-envelope")
    proved = Proved(envelope["origin"], to)
    for one in proof["receipts"]:
        proved.stated += _receipt(one, envelope, commitment, proof, versions)
    for log in proof["logs"]:
        _log(log, commitment, proof, versions, proved)
    if "revealed" in proof:
        proved.content = _bytes(proof["revealed"]["content"])
        _must(_commitment(_bytes(proof["revealed"]["salt"]), proved.content) == commitment, "proof-content")
    _must(hashlib.sha256(b"intercentre-relay/1 proof\0" + raw[: raw.rindex(DIGEST)]).hexdigest() == digest, "proof-altered")
    return proved


def _read(raw: bytes) -> tuple[dict[str, Any], str]:
    """Return the file's object without its last member, and that (section 1)."""
    tail = re.fullmatch(rb',"digest":"([^"]{64})"}', raw[-len(DIGEST) - 66 :])
    _must(tail is not None and len(raw) <= MAX_BYTES, "proof-malformed")
    assert tail is not None
    spelled = raw[: -len(DIGEST) - 66] + b"}"
    try:
        proof = json.loads(spelled)
        again = json.dumps(proof, separators=(",", ":"), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Failure("proof-malformed") from None
    _must(again == spelled and _is_proof(proof), "proof-malformed")
    return proof, tail[1].decode("ascii", "replace")


def _is_proof(proof: object) -> bool:
    names = ("format", "network", "centre", "message", "directories", "envelope", "receipts", "logs")
    if not isinstance(proof, dict) or tuple(proof) not in (names, (*names, "revealed")):
        return False
    return (
        proof["format"] == "intercentre-relay/1 proof"
        and _text(HEX)(proof["network"])
        and _text(opener.CENTRE)(proof["centre"])
        and _text(opener.UUID)(proof["message"])
        and _array(proof["directories"], 1, 32, _octets)
        and _octets(proof["envelope"])
        and _array(proof["receipts"], 0, 4096, _object(header=_octets, salt=_salt, body=_octets))
        and _array(proof["logs"], 0, 64, _is_log)
        and ("revealed" not in proof or _object(salt=_salt, content=_octets)(proof["revealed"]))
    )


def _is_log(log: object) -> bool:
    note = _object(statement=_statement, key=_text(KEY_ID), signature=_text(SIGNATURE))
    leaf = _object(
        position=_number,
        leaf=_octets,
        commitments=lambda value: _array(value, 0, 2**20, _text(HEX)),
        inclusion=lambda value: _array(value, 0, 64, _text(HEX)),
    )
    return _object(
        checkpoint=note,
        countersignatures=lambda value: _array(value, 0, 64, note),
        leaves=lambda value: _array(value, 1, 4096, leaf),
    )(log)


def _header(
    header: bytes, kind: str, code: str, proof: Mapping[str, Any], versions: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the core of a header whose signature holds (section 4, checks 3 and 4)."""
    try:
        count = len(json.loads(header[8 : 8 + int.from_bytes(header[4:8], "big")])["messages"])
        parsed = opener.parse(header + bytes(4 * count))
    except (Failure, ValueError, RecursionError, TypeError, KeyError):
        raise Failure(code) from None
    core = parsed.core
    _must(core["type"] == kind and core["network"] == proof["network"], code)
    listed = [
        key
        for version in versions
        for key in register.keys_of(version, core["origin"])
        if (key["id"], key["use"]) == (core["key"], "signing")
    ]
    _must(bool(listed) and all(register.usable(key, _moment(core["time"])) for key in listed), code)
    prefix = b"intercentre-relay/1 envelope " + kind.encode() + b"\0"
    _must(opener.verifies(_bytes(listed[-1]["public"]), parsed.signature, prefix + parsed.signed), code)
    return core


def _receipt(
    given: Mapping[str, str],
    envelope: Mapping[str, Any],
    commitment: str,
    proof: Mapping[str, Any],
    versions: Sequence[Mapping[str, Any]],
) -> list[tuple[str, str]]:
    """Return what a receipt states of the message, by whom."""
    core = _header(_bytes(given["header"]), "receipt", "proof-receipt", proof, versions)
    body = _bytes(given["body"])
    holds = core["origin"] in [one["centre"] for one in envelope["to"]] and core["to"][0]["centre"] == envelope["origin"]
    _must(holds and _commitment(_bytes(given["salt"]), body) == core["messages"][0]["commitment"], "proof-receipt")
    read = _coded("proof-receipt")(register.read, body)
    statements = read.get("statements") if isinstance(read, dict) else None
    _must(_array(statements, 0, 4096, _is_statement), "proof-receipt")
    assert isinstance(statements, list)
    found = [one["state"] for one in statements if one["state"] in STATES and commitment in one["commitments"]]
    _must(bool(found), "proof-receipt")
    return [(core["origin"], state) for state in found]


def _is_statement(given: object) -> bool:
    return (
        isinstance(given, dict)
        and all(_number(given.get(name)) and given[name] >= 1 for name in ("epoch", "first"))
        and given.get("lane") in LANES
        and _array(given.get("commitments"), 1, 1024, _text(HEX))
        and _text(r"[a-z-]{1,32}")(given.get("state"))
        and _time(given.get("time"))
        and (given.get("code") is None or _text(CODE)(given["code"]))
        and (given["state"] not in STATES or (given["state"] == "rejected") == (given.get("code") is not None))
    )


def _log(
    log: Mapping[str, Any], commitment: str, proof: Mapping[str, Any], versions: Sequence[Mapping[str, Any]], proved: Proved
) -> None:
    """Verify a checkpoint, who countersigned it and the leaves under it (section 4, checks 5 to 8)."""
    said = _note("checkpoint", log["checkpoint"], "centre", proof, versions)
    _must(said["centre"] == proof["centre"], "proof-checkpoint")
    about = hashlib.sha256(log["checkpoint"]["statement"].encode()).hexdigest()
    by = []
    for note in log["countersignatures"]:
        countersigned = _note("countersignature", note, "witness", proof, versions)
        _must(countersigned["checkpoint"] == about, "proof-countersignature")
        by.append(countersigned["witness"])
    _must(len({*by, said["centre"]}) == len(by) + 1, "proof-countersignature")
    proved.witnesses += by
    for leaf in log["leaves"]:
        step = _leaf(leaf, said, commitment)
        path = [bytes.fromhex(one) for one in leaf["inclusion"]]
        leads = _leads_to(_bytes(leaf["leaf"]), leaf["position"], said["size"], path)
        _must(leads == bytes.fromhex(said["root"]), "proof-inclusion")
        proved.logged.append((leaf["position"], step))


def _note(
    kind: str, note: Mapping[str, str], author: str, proof: Mapping[str, Any], versions: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what a note says once its form, spelling and signature are verified (section 3)."""
    code = "proof-" + kind
    said: dict[str, Any] = _coded(code)(register.read, note["statement"].encode())
    forms = NOTES[kind]
    _must(isinstance(said, dict) and tuple(said) == ("v", *(name for name, _ in forms)), code)
    _must(said["v"] == 1 and json.dumps(said, separators=(",", ":")) == note["statement"], code)
    for name, form in forms:
        _must(_text(form)(said[name]) if isinstance(form, str) else _number(said[name]) and said[name] >= form, code)
    _must(said["network"] == proof["network"] and _time(said["time"]), code)
    prefix = f"intercentre-relay/1 {kind}\0".encode()
    keys = [
        key
        for version in versions
        for key in register.keys_of(version, said[author], active=True)
        if key["id"] == note["key"] and key["use"] in ("checkpoint", "signing") and register.usable(key, _moment(said["time"]))
    ]
    signature, text = bytes.fromhex(note["signature"]), prefix + note["statement"].encode()
    _must(any(opener.verifies(_bytes(key["public"]), signature, text) for key in keys), code)
    return said


def _leaf(given: Mapping[str, Any], checkpoint: Mapping[str, Any], commitment: str) -> str:
    """Return the step of a leaf that binds the message."""
    said = _coded("proof-leaf")(register.read, _bytes(given["leaf"]))
    listed = given["commitments"]
    digest = hashlib.sha256(b"intercentre-relay/1 commitments\0" + bytes.fromhex("".join(listed))).hexdigest()
    holds = (
        isinstance(said, dict)
        and (said.get("commitments"), said.get("count")) == (digest, len(listed))
        and _number(said["count"])
        and commitment in listed
        and _number(said.get("epoch"))
        and said["epoch"] == checkpoint["epoch"]
        and _time(said.get("time"))
        and isinstance(said.get("step"), str)
        and isinstance(said.get("peer", ""), str)
    )
    _must(holds, "proof-leaf")
    return str(said["step"])


def _leads_to(leaf: bytes, position: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root to which an inclusion proof leads (RFC 9162, 2.1.3.2), None when it has not the form of one."""
    if position >= size:
        return None
    first, last, found = position, size - 1, hashlib.sha256(b"\0" + leaf).digest()
    for other in path:
        if last == 0:
            return None
        if first & 1 or first == last:
            found = hashlib.sha256(b"\1" + other + found).digest()
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            found = hashlib.sha256(b"\1" + found + other).digest()
        first, last = first >> 1, last >> 1
    return found if last == 0 else None


def _commitment(salt: bytes, content: bytes) -> str:
    return hashlib.sha256(b"intercentre-relay/1 commitment\0" + salt + content).hexdigest()


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _coded(code: str) -> Callable[..., Any]:
    """Return what runs a function and gives its failure another code."""

    def run(do: Callable[..., Any], *words: Any) -> Any:
        try:
            return do(*words)
        except Failure:
            raise Failure(code) from None

    return run


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


def _octets(value: object) -> bool:
    try:
        return isinstance(value, str) and base64.b64encode(base64.b64decode(value, validate=True)).decode() == value
    except ValueError:
        return False


def _salt(value: object) -> bool:
    return _octets(value) and isinstance(value, str) and len(_bytes(value)) == 32


def _statement(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 1024


def _number(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _time(value: object) -> bool:
    return type(value) is int and 0 <= value < 253_402_300_800_000


def _text(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _array(value: object, least: int, most: int, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and least <= len(value) <= most and all(map(holds, value))


def _object(**members: Callable[[Any], bool]) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, dict) and tuple(value) == tuple(members) and all(holds(value[name]) for name, holds in members.items())
    )


def _must(holds: bool, code: str) -> None:
    if not holds:
        raise Failure(code)


def main(words: Sequence[str]) -> Iterable[str]:
    """Yield what the file named first proves under the root named second, in lines."""
    proved = verify(Path(words[0]).read_bytes(), Path(words[1]).read_bytes())
    yield f"{proved.origin} sealed it for {', '.join(proved.recipients)}"
    yield from (f"{centre} signed {state}" for centre, state in proved.stated)
    yield from (f"entry {position} says {step}" for position, step in proved.logged)
    yield f"witnesses: {', '.join(proved.witnesses)}"


if __name__ == "__main__":
    try:
        print("\n".join(main(sys.argv[1:])))
    except Failure as failure:
        sys.exit(failure.code)
