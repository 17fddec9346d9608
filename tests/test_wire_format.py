"""The wire format holds without our code: a program written from the document alone opens what the relay seals, and the reverse.

The golden vectors pin the format for good: the relay and the independent opener must read all of them as they are stated.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import aio_pika
import pytest
from pydantic import BaseModel

from relay import codes, receipts, seal, topology, witnessed
from relay import envelope as wire
from relay.directory import Directory, read_directory, read_root
from relay.errors import CannotOpen, EnvelopeError, NotAuthentic, NotForUs, Rejected
from relay.keys import SealingKey, SigningKey, key_id
from relay.network import Network
from relay.rabbit import PrivateBroker
from relay.seal import Addressee, Draft, Sealer
from tests import make_control_vectors, make_vectors
from tests.independent import hpke, opener, sealer
from tests.independent.hpke import Private

TESTS = Path(__file__).parent
VECTORS = TESTS.parent / "schemas" / "vectors"
LIMIT = 60.0  # seconds, for a machine that stalls
OUTCOMES: dict[str, type[EnvelopeError]] = {"drop": NotForUs, "sample": NotAuthentic, "ask": CannotOpen}


def load(name: str) -> Any:
    """Return a file of the vectors."""
    return json.loads((VECTORS / name).read_bytes())


KEYS: dict[str, Any] = load("keys.json")
TO_OPEN: list[dict[str, Any]] = [*load("open.json"), *load("control.json")]
TO_REFUSE: list[dict[str, Any]] = load("refused.json")
NETWORK: str = KEYS["network"]
FILES = tuple((VECTORS / name).read_bytes() for name in ("root.json", "directory.json", "directory.signatures.json"))


def named(vector: Mapping[str, Any]) -> str:
    """Return a vector's name, for the report."""
    return str(vector["name"])


def private(centre: str) -> Private:
    """Return the independent opener's key of a centre of the vectors."""
    held = KEYS["centres"][centre]["sealing"]["private"]
    return Private(bytes.fromhex(held["mlkem768"]) if "mlkem768" in held else None, bytes.fromhex(held["x25519"]))


def ours(centre: str) -> dict[str, SealingKey]:
    """Return the relay's key of a centre of the vectors."""
    held = KEYS["centres"][centre]["sealing"]
    parts = tuple(bytes.fromhex(part) for part in held["private"].values())
    key = SealingKey(held["suite"], parts)
    return {key.id: key}


@pytest.fixture(scope="module")
def directory() -> Directory:
    """Read the vectors' directory as the relay does."""
    root, raw, signatures = FILES
    return read_directory(raw, signatures, read_root(root, NETWORK), NETWORK, make_vectors.NOW)


BODIES = len(list(make_control_vectors.bodies()))
MODELS: dict[str, type[BaseModel]] = {
    "receipt": receipts.Receipt,
    "mark": receipts.Mark,
    "nack": receipts.Nack,
    "void": receipts.Void,
    "heartbeat": receipts.Heartbeat,
    "epoch": receipts.EpochClosed,
    "comparison": receipts.Comparison,
    "checkpoint": witnessed.Exchange,
}


def expected(vector: Mapping[str, Any]) -> list[bytes | str]:
    """Return the contents that a vector states."""
    return [one["code"] if "code" in one else base64.b64decode(one["base64"]) for one in vector["contents"]]


def test_the_independent_programs_import_nothing_of_ours() -> None:
    """What claims to be written from the document alone has no way to look at our code."""
    allowed = {"__future__", "aio_pika", "base64", "collections", "cryptography", "dataclasses", "datetime", "hashlib"}
    allowed |= {"hmac", "json", "os", "pathlib", "re", "struct", "sys", "tests", "typing", "uuid"}
    for file in (TESTS / "independent").glob("*.py"):
        tree = ast.walk(ast.parse(file.read_text()))
        modules = [
            name for node in tree for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else _imported(node))
        ]
        assert {name.split(".")[0] for name in modules} <= allowed
        assert all(name.startswith("tests.independent") for name in modules if name.startswith("tests"))


def _imported(node: ast.AST) -> list[str]:
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


@pytest.mark.parametrize("vector", TO_OPEN, ids=named)
def test_the_relay_opens_every_vector(vector: dict[str, Any], directory: Directory) -> None:
    """Core, content key, contents and commitments are those that the vector states."""
    envelope, now = wire.parse(base64.b64decode(vector["envelope"])), datetime.fromisoformat(vector["now"])
    assert envelope.core.model_dump(mode="json") == vector["core"]
    if vector.get("at_rest"):
        with pytest.raises(NotAuthentic) as caught:
            seal.verify(envelope, vector["me"], NETWORK, directory, now)
        assert caught.value.code == "altered"
    else:
        assert seal.verify(envelope, vector["me"], NETWORK, directory, now).id == vector["core"]["origin"]
    opened = seal.unseal(envelope, vector["me"], ours(vector["me"]))
    assert opened.content_key.hex() == vector["content_key"]
    assert [one.code if isinstance(one, Rejected) else one for one in opened.contents] == expected(vector)


@pytest.mark.parametrize("vector", TO_REFUSE, ids=named)
def test_the_relay_refuses_every_bad_vector(vector: dict[str, Any], directory: Directory) -> None:
    """Each is refused with the stated code, and by the class that leads to the stated outcome."""

    def take() -> None:
        envelope = wire.parse(base64.b64decode(vector["envelope"]))
        seal.verify(envelope, vector["me"], NETWORK, directory, datetime.fromisoformat(vector["now"]))
        seal.unseal(envelope, vector["me"], ours(vector["me"]))

    with pytest.raises(EnvelopeError) as caught:
        take()
    assert caught.value.code == vector["code"]
    assert type(caught.value) is OUTCOMES[vector["outcome"]]


@pytest.mark.parametrize("vector", TO_OPEN, ids=named)
def test_the_document_alone_opens_every_vector(vector: dict[str, Any]) -> None:
    """The independent opener comes to the same core, content key and contents."""
    parsed = opener.parse(base64.b64decode(vector["envelope"]))
    assert parsed.core == vector["core"]
    register = opener.read_directory(*FILES, NETWORK)
    check = lambda: opener.verify(parsed, vector["me"], NETWORK, register, datetime.fromisoformat(vector["now"]))  # noqa: E731
    assert code_of(check) == ("altered" if vector.get("at_rest") else None)
    key = private(vector["me"])
    opened = opener.unseal(parsed, vector["me"], {opener.key_id(key.suite, key.public): key})
    assert opened.content_key.hex() == vector["content_key"]
    assert opened.contents == expected(vector)


@pytest.mark.parametrize("vector", TO_REFUSE, ids=named)
def test_the_document_alone_refuses_every_bad_vector(vector: dict[str, Any]) -> None:
    """The independent opener gives every bad vector the stated code."""
    raw, now = base64.b64decode(vector["envelope"]), datetime.fromisoformat(vector["now"])
    key = private(vector["me"])
    keys = {opener.key_id(key.suite, key.public): key}
    register = opener.read_directory(*FILES, NETWORK)
    assert code_of(lambda: opener.open_envelope(raw, vector["me"], NETWORK, register, now, keys)) == vector["code"]


def code_of(call: Callable[[], object]) -> str | None:
    """Return the code with which the independent opener refuses, or None."""
    try:
        call()
    except opener.Failure as failure:
        return failure.code
    return None


def test_the_vectors_keys_and_directory_can_be_made_again() -> None:
    """Keys, root, directory and its signatures are deterministic, so the vectors pin them byte for byte."""
    assert make_vectors.network() == FILES
    assert make_vectors.keys() == KEYS
    assert {key_id(key.suite, key.public) for key in map(private, KEYS["centres"])} == {
        held["sealing"]["id"] for held in KEYS["centres"].values()
    }


def test_the_vectors_cover_what_the_generator_makes() -> None:
    """No vector was taken out or added by hand."""
    assert [(vector["name"], vector["code"], vector["me"]) for vector in TO_REFUSE] == [
        made[:3] for made in make_vectors.to_refuse()
    ]
    made = [*make_vectors.to_open(), *make_control_vectors.to_open()]
    assert [named(vector) for vector in TO_OPEN] == [named(vector) for vector in made]
    assert [vector["contents"] for vector in made[-BODIES:]] == [vector["contents"] for vector in TO_OPEN[-BODIES:]]
    assert {vector["core"]["type"] for vector in TO_OPEN} == set(get_args(wire.EnvelopeType))
    assert {recipient["suite"] for vector in TO_OPEN for recipient in vector["core"]["to"]} == set(wire.WRAP_BYTES)


def test_control_bodies_of_the_vectors_are_read() -> None:
    """The bodies pinned by the vectors are those that the relay reads and writes."""
    for vector in TO_OPEN:
        model = MODELS.get(vector["core"]["type"])
        if model is not None:
            (content,) = expected(vector)
            assert isinstance(content, bytes)
            assert receipts.write(receipts.read(model, content)) == content


@pytest.mark.parametrize("suite", ["mlkem768-x25519", "x25519"])
def test_what_the_document_alone_seals_the_relay_opens(suite: str, directory: Directory) -> None:
    """The other direction: an envelope made by the independent sealer is opened by the relay."""
    me = "BRAVO" if suite == "mlkem768-x25519" else "CHARLIE"
    to = [sealer.To(me, suite, private(me).public)]
    seed = bytes.fromhex(KEYS["centres"]["ALFA"]["signing"]["seed"])
    core, plaintexts = sealer.core_of(NETWORK, "ALFA", seed, to, [b"first", b"second"], directory=7)
    envelope = wire.parse(sealer.enclose(core, plaintexts, to).sign(seed))
    seal.verify(envelope, me, NETWORK, directory, make_vectors.NOW)
    assert seal.unseal(envelope, me, ours(me)).contents == (b"first", b"second")


def test_hpke_from_hash_and_curve_up_agrees_with_the_library() -> None:
    """The parameters the document names are those the library uses: each side opens what the other wraps."""
    for centre in ("BRAVO", "CHARLIE"):
        key, (mine,) = private(centre), ours(centre).values()
        assert mine.unwrap(hpke.seal(key.suite, key.public, b"info", bytes(32)), b"info") == bytes(32)
        assert mine.unwrap(hpke.seal(key.suite, key.public, b"info", bytes(32)), b"other") is None


async def test_a_captured_envelope_opens_with_the_document_and_a_key_file_alone(network: Network, broker: PrivateBroker) -> None:
    """An envelope that passed a real RabbitMQ is opened by a plain AMQP client with the centre's own key files."""
    content = b'{"kind":"alert","text":"captured"}'
    sealed = _sealed_by_lyo(network, content)
    async with asyncio.timeout(LIMIT):
        operator = await aio_pika.connect(broker.url(network.broker.admin, network.broker.admin_password))
        lyo = await aio_pika.connect(broker.url("LYO", network.passwords["LYO"]))
        async with operator, lyo:
            tap = await opener.listen(await operator.channel(), "relay.intel", "LYO.intel.actual.routine.155.drugs.cocaine")
            exchange = await (await lyo.channel()).get_exchange("relay.out.LYO", ensure=False)
            (key,) = topology.intel_keys("LYO", "actual", "routine", ["155"], ["drugs.cocaine"])
            await exchange.publish(aio_pika.Message(sealed, delivery_mode=2), key, mandatory=True)
            captured = await tap.get(timeout=LIMIT)
            await captured.ack()
            await _forget(broker, network)
    _open_as_bru(network, captured.body, content)


def _sealed_by_lyo(network: Network, content: bytes) -> bytes:
    bru = network.directory.active["BRU"].sealing_keys(datetime.now(UTC))[0]
    key = SigningKey.load(network.centre("LYO") / "keys" / "signing.pem")
    drafts = [Draft(wire.new_id("LYO"), content, 1_900_000_000_000)]
    sealed = Sealer("LYO", network.id, key).seal(
        "batch", codes.PRECEDENCES[-1], drafts, [Addressee("BRU", bru, 1)], epoch=1, directory=1, now=1_800_000_000_000
    )
    return sealed.raw


async def _forget(broker: PrivateBroker, network: Network) -> None:
    """Take the copies out of everyone's queue, so that other tests find theirs empty."""
    for centre, password in network.passwords.items():
        async with await aio_pika.connect(broker.url(centre, password)) as connection:
            queue = await (await connection.channel()).get_queue(f"relay.in.{centre}.routine", ensure=False)
            while message := await queue.get(fail=False, timeout=LIMIT):
                await message.ack()


def _open_as_bru(network: Network, raw: bytes, content: bytes) -> None:
    folder = network.centre("BRU")
    files = [(folder / name).read_bytes() for name in ("root.json", "directory.json", "directory.signatures.json")]
    register = opener.read_directory(files[0], files[1], files[2], network.id)
    key = opener.load_private((folder / "keys" / "sealing.pem").read_bytes())
    keys = {opener.key_id(key.suite, key.public): key}
    opened = opener.open_envelope(raw, "BRU", network.id, register, datetime.now(UTC), keys)
    assert (opened.core["origin"], opened.contents) == ("LYO", [content])
    flipped = make_vectors.flip(raw, len(raw) - 1)
    assert code_of(lambda: opener.open_envelope(flipped, "BRU", network.id, register, datetime.now(UTC), keys)) == "altered"
