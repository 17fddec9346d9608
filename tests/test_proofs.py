"""Proofs: made by a real network, verified in a fresh place with the file and the authorities' keys; nothing changed unseen."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import cli, directory, proofs
from relay.api import Api
from relay.audit import digest
from relay.directory import Bundle
from relay.envelope import new_id
from relay.errors import Misconfigured, NotFound, Refused, RelayError
from relay.keys import SigningKey
from relay.proofs import Authorities
from relay.proving import Proving
from relay.rabbit import PrivateBroker
from relay.settings import load
from relay.store import checkpoints, record, trees
from relay.witnessed import Checkpoint, sign_checkpoint
from tests.independent import verifier
from tests.live import PATIENCE, Live, eventually, message, private_network
from tests.said import said

A, B, C = CENTRES = ("PRFA", "PRFB", "PRFC")


@pytest.fixture(scope="module")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run three centres that sign checkpoints of their records often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_REPAIR__GAP", "0.3")
        patch.setenv("RELAY_AUDIT__CHECKPOINT_SECONDS", "0.3")
        nodes = Live(private_network(tmp_path_factory.mktemp("proofs") / "network", broker, "proofs", CENTRES), broker)
        await nodes.start(*CENTRES)
        yield nodes
        await nodes.close()


@pytest.fixture(scope="module")
async def sent(live: Live) -> str:
    """Return the id of a message of A, sent among others to B, which delivered it, and to C, which accepted it."""
    others = [await live.submit(A, message(to=[B, C], case_number=f"PROOF-{one}")) for one in range(3)]
    stored = await live.submit(A, message(to=[B, C], case_number="PROOF-ME"))
    await asyncio.gather(*(live.reaches(A, one.id, at, "accepted") for one in (*others, stored) for at in (B, C)))
    await live.take(B)
    await live.reaches(A, stored.id, B, "delivered")
    for centre in CENTRES:
        await countersigned(live, centre)
    return str(stored.id)


@pytest.fixture(scope="module")
async def proof(live: Live, sent: str) -> bytes:
    """Return A's proof of that message."""
    return await Proving(live[A].centre).prove(sent, "tester")


@pytest.fixture(scope="module")
async def shown(live: Live, sent: str) -> bytes:
    """Return A's proof of that message with what it says."""
    return await Proving(live[A].centre).prove(sent, "tester", "court order 17/2026")


async def countersigned(live: Live, centre: str) -> None:
    """Wait until all that a centre's record has now is countersigned."""
    store = live[centre].centre.store
    size = await store.read(partial(trees.size, epoch=store.epoch))

    async def covered() -> bool:
        found = await store.read(partial(checkpoints.covering, epoch=store.epoch, position=size - 1))
        return any(one.countersignatures for one in found)

    await eventually(covered)


def authorities(live: Live) -> Authorities:
    """Return what a verifier knows: the network's root."""
    return Authorities.of_root((live.network.folder / "root.json").read_bytes(), live.network.id)


def keys(live: Live) -> list[str]:
    """Return one public key of each authority, as options of the command."""
    root = live.network.root
    return [f"{authority.id}={authority.keys[0].public}" for authority in root.authorities]


def refused(live: Live, raw: bytes) -> str:
    """Return the code with which a file is refused."""
    with pytest.raises(Refused) as error:
        proofs.check(raw, authorities(live))
    return error.value.code


async def test_a_proof_says_who_sent_what_to_whom_and_what_these_signed(live: Live, sent: str, proof: bytes) -> None:
    """Header, receipts, entries under a countersigned checkpoint: all in one file, and nothing of the content."""
    verdict = proofs.check(proof, authorities(live))
    assert (verdict.origin, verdict.message, set(verdict.recipients)) == (A, sent, {B, C})
    assert {(one.recipient, one.state) for one in verdict.stated} == {(B, "accepted"), (B, "delivered"), (C, "accepted")}
    assert {one.step for one in verdict.logged} == {"submitted", "sent", "accepted", "delivered"}
    [log] = verdict.checkpoints
    assert log.witnesses
    said = "\n".join(proofs.proved(verdict))
    assert f"{B} signed `delivered`" in said
    assert f"{A} sealed message {sent} for" in said
    assert any(one.startswith("What the message says") for one in proofs.unproved(verdict))
    assert b"PROOF-" not in proof
    assert b"PROOF-" not in b"".join(base64.b64decode(one["body"]) for one in json.loads(proof)["receipts"])


async def test_it_is_verified_in_a_fresh_place_with_the_authorities_keys_alone(
    live: Live, proof: bytes, sent: str, tmp_path: Path
) -> None:
    """An empty folder, no settings, no store, no environment: the file with the root, and the file with two public keys."""
    (tmp_path / "proof.json").write_bytes(proof + b"\n")
    (tmp_path / "root.json").write_bytes((live.network.folder / "root.json").read_bytes())
    named = [word for key in keys(live) for word in ("--authority-key", key)]
    assert len(keys(live)) == 2
    for options in (["--root", "root.json", "--network", live.network.id], named):
        done = await asyncio.to_thread(command, "check-proof", "proof.json", *options, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"{A} sealed message {sent}" in done.stdout
        assert f"{B} signed `delivered`" in done.stdout
        assert "Not proved:" in done.stdout


async def test_every_single_byte_counts(live: Live, proof: bytes) -> None:
    """A byte flipped anywhere in the file is found, and every part of the file has its code."""
    chosen = random.Random(7)  # noqa: S311 - the same places in each run
    codes: dict[str, int] = {}
    for at in sorted(chosen.sample(range(len(proof)), 400)):
        code = refused(live, proof[:at] + bytes([proof[at] ^ (1 << chosen.randrange(8))]) + proof[at + 1 :])
        codes[code] = codes.get(code, 0) + 1
    assert set(codes) <= {
        "proof-malformed",
        "proof-altered",
        "proof-directory",
        "proof-envelope",
        "proof-receipt",
        "proof-checkpoint",
        "proof-countersignature",
        "proof-leaf",
        "proof-inclusion",
    }


def independent(raw: bytes, live: Live) -> str | None:
    """Return the code with which the program that knows the document alone refuses a file, None when it verifies it."""
    try:
        verifier.verify(raw, (live.network.folder / "root.json").read_bytes())
    except verifier.Failure as failure:
        return failure.code
    return None


async def test_a_program_written_from_the_document_alone_proves_the_same(
    live: Live, sent: str, proof: bytes, shown: bytes
) -> None:
    """Under the root, and under a public key of each authority, a verifier that shares no line with ours says the same."""
    named = {name: [base64.b64decode(key)] for name, _, key in (one.partition("=") for one in keys(live))}
    ours = proofs.check(proof, authorities(live))
    for proved in (verifier.verify(proof, (live.network.folder / "root.json").read_bytes()), verifier.verify(proof, keys=named)):
        assert (proved.origin, set(proved.recipients)) == (A, {B, C})
        assert proved.stated == [(one.recipient, one.state) for one in ours.stated]
        assert proved.logged == [(one.position, one.step) for one in ours.logged]
        assert proved.witnesses == [witness for one in ours.checkpoints for witness, _ in one.witnesses]
    of_b = await Proving(live[B].centre).prove(sent, "tester")
    assert verifier.verify(of_b, (live.network.folder / "root.json").read_bytes()).stated == []
    content = verifier.verify(shown, (live.network.folder / "root.json").read_bytes()).content
    assert content == proofs.check(shown, authorities(live)).content
    assert content is not None


async def test_that_program_runs_wherever_its_few_files_are_put(live: Live, proof: bytes, tmp_path: Path) -> None:
    """A folder with its own files, the proof and the root; one byte changed, and it says where and ends with 1."""
    shutil.copytree(Path(verifier.__file__).parent, tmp_path / "tests" / "independent")
    (tmp_path / "proof.json").write_bytes(proof)
    (tmp_path / "altered.json").write_bytes(forged(proof, ("envelope",)))
    (tmp_path / "root.json").write_bytes((live.network.folder / "root.json").read_bytes())
    words = [sys.executable, "-m", "tests.independent.verifier"]
    for file, status, expected in (("proof.json", 0, f"{B} signed delivered"), ("altered.json", 1, "proof-envelope")):
        run = partial(
            subprocess.run,
            [*words, file, "root.json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        done = await asyncio.to_thread(run)
        assert done.returncode == status, done.stderr
        assert expected in done.stdout + done.stderr


async def test_it_refuses_each_field_that_was_changed_as_the_relay_does(live: Live, shown: bytes) -> None:
    """Every value of the file changed in its turn, the digest made anew, and the same code from two programs."""
    places = [place for place in values(json.loads(shown)) if place != ("digest",)]
    assert {str(place[-1]) for place in places} >= {"network", "centre", "message", "salt", "content", "position", "key"}
    assert independent(shown, live) is None
    for place in places:
        raw = forged_as_it_is(shown, place)
        code = independent(raw, live)
        assert code is not None, place
        assert code == refused(live, raw), place
    assert independent(forged(shown, ("digest",)), live) == "proof-altered"


async def test_it_refuses_bytes_that_were_changed_as_the_relay_does(live: Live, proof: bytes) -> None:
    """A bit flipped, a byte left out or put in, at places drawn from a seed: the same code from two programs."""
    drawn = random.Random(11)  # noqa: S311 - the same places in each run
    for at in drawn.sample(range(len(proof)), 200):
        for raw in (
            proof[:at] + bytes([proof[at] ^ (1 << drawn.randrange(8))]) + proof[at + 1 :],
            proof[:at] + proof[at + 1 :],
            proof[:at] + b" " + proof[at:],
        ):
            assert independent(raw, live) == refused(live, raw), at


def values(inside: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where each value stands in a file."""
    steps = inside.items() if isinstance(inside, dict) else enumerate(inside) if isinstance(inside, list) else ()
    if not isinstance(inside, dict | list):
        yield place
    for step, one in steps:
        yield from values(one, (*place, step))


def forged_as_it_is(proof: bytes, place: tuple[Any, ...]) -> bytes:
    """Return a proof with one value changed to another of its kind, whether a proof may have it or not, its digest made anew."""
    given = json.loads(proof)
    del given["digest"]
    inside = given
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = changed(inside[place[-1]], str(place[-1]))
    return spelled(given)


def spelled(given: dict[str, Any]) -> bytes:
    """Return an object spelled as a proof is, with the digest that fits."""
    start = json.dumps(given, separators=(",", ":"), ensure_ascii=False).encode()[:-1]
    digest = hashlib.sha256(b"intercentre-relay/1 proof\0" + start).hexdigest()
    return start + f',"digest":"{digest}"}}'.encode()


DEEP = 100_000


@pytest.mark.parametrize(
    ("place", "value", "code"),
    [
        (("logs", 0, "leaves", 0, "leaf"), base64.b64encode(b"[" * DEEP).decode(), "proof-leaf"),
        (("logs", 0, "checkpoint", "statement"), "[" * 1024, "proof-checkpoint"),
        (("logs", 0, "countersignatures", 0, "statement"), "[" * 1024, "proof-countersignature"),
        (("logs", 0, "countersignatures", 0, "statement"), '{"time":1e999}', "proof-countersignature"),
        (("receipts", 0, "body"), base64.b64encode(b"[" * DEEP).decode(), "proof-receipt"),
        (("envelope",), base64.b64encode(b"ICR1" + DEEP.to_bytes(4, "big") + b"[" * DEEP).decode(), "proof-envelope"),
    ],
    ids=["leaf", "checkpoint", "countersignature", "time", "receipt", "envelope"],
)
async def test_nesting_without_bottom_is_refused_like_all_else(
    live: Live, proof: bytes, place: tuple[Any, ...], value: str, code: str
) -> None:
    """A file by whoever wants the check to break gets a code where it breaks the rules, from both programs."""
    given = json.loads(proof)
    del given["digest"]
    inside = given
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    assert refused(live, spelled(given)) == independent(spelled(given), live) == code


@pytest.mark.parametrize(
    "more",
    [{"time": "at night"}, {"time": 10**15}, {"step": None}, {"peer": 7}, {"count": True}, {"twice": True}],
    ids=str,
)
async def test_an_entry_of_a_hostile_log_is_no_entry(live: Live, proof: bytes, more: dict[str, Any]) -> None:
    """A centre that logged, and signed a checkpoint of, what is no entry proves nothing with it, and breaks nothing."""
    given = json.loads(proof)
    del given["digest"]
    log = given["logs"][0]
    commitment = proofs.check(proof, authorities(live)).commitment
    said = {**json.loads(base64.b64decode(log["leaves"][0]["leaf"])), "count": 1, "commitments": digest([commitment])}
    checkpoint = json.loads(log["checkpoint"]["statement"])
    for changes in ({}, more):
        leaf = json.dumps(said | changes, separators=(",", ":")).encode()
        leaf = leaf.replace(b'"twice":true', b'"step":"delivered"')
        checkpoint |= {"size": 1, "root": hashlib.sha256(b"\0" + leaf).hexdigest()}
        note = sign_checkpoint(live.signing_key(A), Checkpoint(**checkpoint))
        entry = {
            "position": 0,
            "leaf": base64.b64encode(leaf).decode(),
            "commitments": [commitment],
            "inclusion": [],
        }
        given["logs"] = [{"checkpoint": note.model_dump(), "countersignatures": [], "leaves": [entry]}]
        raw = spelled(given)
        if changes:
            assert refused(live, raw) == independent(raw, live) == "proof-leaf"
        else:
            assert independent(raw, live) is None
            assert proofs.proved(proofs.check(raw, authorities(live)))


@pytest.mark.parametrize(
    ("change", "by", "counts"),
    [
        ({"status": "suspended"}, 1, True),
        ({"subscribe": []}, 1, True),
        ({"name": "Another"}, 1, False),
        ({"name": "Another"}, 2, True),
        ({"clearance": "unclassified"}, 1, False),
        ({"publish": [{"crime_types": ["drugs.cocaine"], "regions": ["150"]}]}, 1, True),
        ({"publish": [{"crime_types": ["drugs.cocaine"], "regions": ["150"], "nominal": True, "kinds": ["*"]}]}, 0, False),
        ({"keys": "first revoked"}, 1, True),
        ({"keys": "first removed"}, 1, True),
        ({"keys": "first prolonged"}, 1, False),
    ],
    ids=str,
)
async def test_both_agree_who_had_to_sign_a_version(
    live: Live, proof: bytes, change: dict[str, Any], by: int, counts: bool
) -> None:
    """A later version in the file, changed in one member and signed by one authority, by both, or by nobody."""
    given = json.loads(proof)
    del given["digest"]
    bundle = Bundle.unpack(base64.b64decode(given["directories"][-1]))
    document = json.loads(bundle.versions[-1].raw)
    document |= {"version": document["version"] + 1, "previous": directory.digest(bundle.versions[-1].raw)}
    member = next(one for one in document["members"] if one["id"] == C)
    member |= {name: value for name, value in change.items() if name != "keys"}
    match change.get("keys"):
        case "first revoked":
            member["keys"][0]["revoked_from"] = "2999-01-01T00:00:00+00:00"
        case "first removed":
            given["receipts"] = [
                one for one in given["receipts"] if b'"origin":"%s"' % C.encode() not in base64.b64decode(one["header"])
            ]
            del member["keys"][0]
        case "first prolonged":
            member["keys"][0]["valid_until"] = "2999-01-01T00:00:00Z"
    raw = json.dumps(document).encode()
    signatures = [directory.sign(raw, *one) for one in authority_keys(live)[:by]]
    signed = directory.Signed(raw, directory.Signatures(signatures=tuple(signatures)).model_dump_json().encode())
    packed = Bundle(bundle.roots, (*bundle.versions, signed)).pack()
    given["directories"].append(base64.b64encode(packed).decode())
    found = independent(spelled(given), live)
    assert found == (None if counts else "proof-directory")
    if counts:
        proofs.check(spelled(given), authorities(live))
    else:
        assert refused(live, spelled(given)) == found


def authority_keys(live: Live) -> list[tuple[str, SigningKey]]:
    """Return the network's authorities, each with its private key."""
    folder = live.network.folder / "authorities"
    return [(one.id, SigningKey.load(min((folder / one.id).iterdir()))) for one in live.network.root.authorities]


@pytest.mark.parametrize(
    ("place", "code"),
    [
        (("envelope",), "proof-envelope"),
        (("receipts", 0, "header"), "proof-receipt"),
        (("receipts", 0, "body"), "proof-receipt"),
        (("receipts", 0, "salt"), "proof-receipt"),
        (("logs", 0, "leaves", 0, "leaf"), "proof-leaf proof-inclusion"),
        (("logs", 0, "leaves", 1, "commitments", 0), "proof-leaf"),
        (("logs", 0, "leaves", 1, "inclusion", 0), "proof-inclusion"),
        (("logs", 0, "leaves", 1, "position"), "proof-inclusion"),
        (("logs", 0, "checkpoint", "statement"), "proof-checkpoint"),
        (("logs", 0, "checkpoint", "signature"), "proof-checkpoint"),
        (("logs", 0, "countersignatures", 0, "statement"), "proof-countersignature"),
        (("logs", 0, "countersignatures", 0, "signature"), "proof-countersignature"),
        (("directories", 0), "proof-directory"),
        (("digest",), "proof-altered"),
    ],
    ids=str,
)
async def test_what_was_changed_is_said_where(live: Live, proof: bytes, place: tuple[Any, ...], code: str) -> None:
    """Whoever changes a part and writes the file anew, with a right digest, is told which part does not hold."""
    assert refused(live, forged(proof, place)) in code.split()


def forged(proof: bytes, place: tuple[Any, ...]) -> bytes:
    """Return a proof with one bit of a part changed, spelled as a proof is, its digest made anew (unless that is the part)."""
    given = json.loads(proof)
    digest = given.pop("digest")
    if place == ("digest",):
        return proof.replace(digest.encode(), (("0" if digest[0] != "0" else "1") + digest[1:]).encode())
    inside = given
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = changed(inside[place[-1]], str(place[-1]))
    return proofs.write(proofs.Proof.model_validate_json(json.dumps(given)))


def changed(value: Any, name: str) -> Any:
    """Return a value that is another, and of the same form."""
    if isinstance(value, int):
        return value + 1
    if name in ("format", "centre"):
        return value + "X"
    if name in ("message", "signature") or set(value) <= set("0123456789abcdef"):
        return value[:-1] + ("0" if value[-1] != "0" else "1")
    if name == "statement":
        said = json.loads(value)
        said["time"] += 1
        return json.dumps(said, separators=(",", ":"))
    raw = bytearray(base64.b64decode(value))
    raw[len(raw) // 2] ^= 1
    return base64.b64encode(raw).decode()


async def test_a_proof_of_another_network_counts_for_nothing(live: Live, proof: bytes, tmp_path: Path) -> None:
    """Under another root, other keys, or not all of them, nobody's signature is believed."""
    from relay.network import write_network

    other = write_network(tmp_path / "other", ("OTHA", "OTHB"))
    with pytest.raises(Refused) as error:
        proofs.check(proof, Authorities.of_root((other.folder / "root.json").read_bytes()))
    assert error.value.code == "proof-directory"
    stranger = base64.b64encode(SigningKey.generate().public).decode()
    for given_ in ([*keys(live)[:1], f"WCO-NOT={stranger}"], [f"STRANGER={stranger}"]):
        with pytest.raises(Refused) as error:
            proofs.check(proof, Authorities.of_keys(given_))
        assert error.value.code == "proof-directory"
    with pytest.raises(Misconfigured) as bad:
        Authorities.of_keys(["WCO=nothing"])
    assert bad.value.code == "bad-authority-key"


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_whatever_is_no_proof_is_refused(raw: bytes) -> None:
    """Any bytes get a code, never an exception of another kind."""
    with pytest.raises(Refused) as error:
        proofs.read(raw)
    assert error.value.code == "proof-malformed"


async def test_what_is_revealed_is_shown_to_be_what_was_sealed(live: Live, shown: bytes) -> None:
    """Only on purpose: the very bytes, who asked for it and why on record; other bytes are refused."""
    verdict = proofs.check(shown, authorities(live))
    assert verdict.content is not None
    assert json.loads(verdict.content)["case_number"] == "PROOF-ME"
    assert refused(live, forged(shown, ("revealed", "content"))) == "proof-content"
    store = live[A].centre.store
    leaves = [json.loads(one) for one in await store.read(partial(record.leaves, epoch=store.epoch, limit=100_000))]
    assert [(one["actor"], one.get("why")) for one in leaves if one["step"] == "revealed"] == [("tester", "court order 17/2026")]


async def test_a_recipient_can_prove_what_it_was_sent(live: Live, sent: str) -> None:
    """B's proof: the header that A signed, and its own entries; what others signed the origin has."""
    verdict = proofs.check(await Proving(live[B].centre).prove(sent, "tester"), authorities(live))
    assert (verdict.centre, verdict.origin, verdict.stated) == (B, A, [])
    assert {one.step for one in verdict.logged} >= {"taken"}
    assert any("the origin holds the receipts" in one for one in proofs.unproved(verdict))
    with pytest.raises(NotFound) as error:
        await Proving(live[B].centre).prove(new_id(B), "tester")
    assert error.value.code == "not-kept-here"


async def test_who_received_is_answered_from_signed_receipts(live: Live, sent: str) -> None:
    """Times, and the receipt that says so; a recipient knows of itself alone."""
    found = await Proving(live[A].centre).receivers(sent)
    by = {one.centre: one for one in found.recipients}
    assert by[B].delivered_at is not None
    assert by[C].delivered_at is None
    assert set(by[B].receipts) == {"accepted", "delivered"}
    mine = {one.centre: one for one in (await Proving(live[B].centre).receivers(sent)).recipients}
    assert mine[B].delivered_at is not None
    assert mine[C].accepted_at is None


async def test_the_commands_ask_the_node(live: Live, sent: str, tmp_path: Path) -> None:
    """Who received it, its proof, the verification and the export, over the API."""
    api, config = Api(), ["--config", str(live.network.node_file(A))]

    async def run(*words: str, status: int = 0) -> str:
        done, out = await asyncio.to_thread(said, ["audit", *words, *config])
        assert done == status, (words, out)
        return out

    task = asyncio.create_task(api.run(live[A]))
    try:
        await eventually(partial(listening, live))
        [shown] = [json.loads(line) for line in (await run("who-received", sent, "--json")).splitlines() if line[:1] == "{"]
        assert {one["centre"] for one in shown["recipients"]} == {B, C}
        assert "  delivered 20" in await run("who-received", sent)
        out = tmp_path / "made.json"
        await run("proof", sent, "--out", str(out))
        assert proofs.check(out.read_bytes(), authorities(live)).message == sent
        await run("proof", sent, "--reveal", status=65)
        await run("proof", new_id(A), status=66)
        assert "entries fit" in await run("verify")
        lines = [json.loads(line) for line in (await run("export")).splitlines() if line.startswith("{")]
        entries = [line for line in lines if "position" in line]
        assert [line["position"] for line in entries] == list(range(len(entries)))
        assert any("checkpoint" in line for line in lines)
        assert '"position"' not in await run("export", "--from", "2100-01-01T00:00:00Z")
    finally:
        await api.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def listening(live: Live) -> bool:
    """Return whether A's API answers."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        try:
            await client.get(f"http://{load(live.network.node_file(A)).api.listen}/")
        except httpx2.HTTPError:
            return False
    return True


def command(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `relay audit` as a process of its own, in a folder, with no environment to speak of."""
    given = [sys.executable, "-I", "-m", "relay", "audit", *words]
    env = {"PATH": "/usr/bin:/bin"}
    return subprocess.run(given, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_an_error_of_the_verification_is_one_of_the_relay() -> None:
    """A proof without authorities is a wrong use."""
    assert issubclass(Refused, RelayError)
    assert cli.run(["audit", "check-proof", "nothing.json"]) == 78
