"""No secret and no content stands where it does not belong: not in logs, errors, process titles, environments or the store."""

from __future__ import annotations

import base64
import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from relay.network import Network
from relay.rabbit import PrivateBroker
from tests.live import message, private_network

CENTRES = ("SEA", "SEB")
CANARY = "Canary 7f3a19c2 of the lighthouse (invented)"
SHORTEST = 12
"""Bytes below which a secret would be found by chance."""


@dataclass(frozen=True, slots=True)
class Left:
    """What two nodes left behind: what they wrote, how they looked to other users, their stores, what they answered."""

    written: bytes
    titles: bytes
    stores: bytes
    answers: bytes


def secrets_of(network: Network) -> dict[str, bytes]:
    """Return every secret of the network's centres in each form in which it could turn up, by name."""
    found = {}
    for centre in CENTRES:
        folder = network.centre(centre)
        for path in sorted([*(folder / "keys").iterdir(), *(folder / "tokens").iterdir()]):
            text = path.read_text(encoding="utf-8")
            for number, form in enumerate(forms(text)):
                found[f"{centre} {path.name} {number}"] = form
    found["administrator"] = network.broker.admin_password.encode()
    return found


def forms(text: str) -> Iterator[bytes]:
    """Yield a file's secret as it stands there, in base64, raw and in hex; of a PEM file each line and each key."""
    blocks = re.findall(r"-----BEGIN [A-Z0-9 ]+-----(.+?)-----END", text, re.DOTALL)
    for block in blocks or [text]:
        for line in block.split():
            yield line.encode()
        raw = base64.b64decode("".join(block.split()) + "==", altchars=b"-_") if blocks else b""
        seed = raw[-32:]  # of an Ed25519 or X25519 key the last bytes of PKCS 8, of ML-KEM-768 the end of its seed
        yield from (form for form in (seed, seed.hex().encode()) if form)
    with contextlib.suppress(ValueError):
        raw = base64.b64decode(text.strip(), validate=True)
        yield from (raw, raw.hex().encode())


@pytest.fixture(scope="module")
def centres(tmp_path_factory: pytest.TempPathFactory, broker: PrivateBroker) -> Network:
    """Write a network on a virtual host of its own."""
    return private_network(tmp_path_factory.mktemp("secrets") / "net", broker, "secrets", CENTRES)


@pytest.fixture(scope="module")
def left(centres: Network, tmp_path_factory: pytest.TempPathFactory) -> Left:
    """Run both nodes as processes with the most talkative log, let good and bad things happen, and gather what they left."""
    folder = tmp_path_factory.mktemp("written")
    running = [_node(centres, centre, folder / f"{centre}.log") for centre in CENTRES]
    try:
        answers = _talk(centres)
        titles = b"".join(_title(process.pid) for process in running)
        for process in running:
            process.terminate()
        for process in running:
            process.wait(60)
    finally:
        for process in running:
            process.kill()
            process.wait()
    broken = [_broken(centres, file) for file in ("signing.pem", "sealing.pem", "storage.key", "broker.password")]
    written = b"".join(path.read_bytes() for path in folder.iterdir()) + b"".join(broken)
    stores = b"".join(path.read_bytes() for centre in CENTRES for path in (centres.centre(centre) / "store").iterdir())
    return Left(written, titles, stores, answers)


def _node(network: Network, centre: str, log: Path) -> subprocess.Popen[bytes]:
    words = [
        sys.executable,
        "-X",
        "dev",
        "-W",
        "ignore",
        "-m",
        "relay",
        "node",
        "run",
        "--config",
        str(network.node_file(centre)),
    ]
    environment = {"PATH": "/usr/bin:/bin", "RELAY_LOG__LEVEL": "debug", "RELAY_REPAIR__ECHO_SECONDS": "1"}
    with log.open("wb") as out:
        return subprocess.Popen(words, stdout=out, stderr=out, env=environment)


def _title(process: int) -> bytes:
    return b"".join((Path(f"/proc/{process}") / name).read_bytes() for name in ("cmdline", "comm", "environ"))


def _talk(network: Network) -> bytes:
    """Submit, take, ask wrongly; return everything that was answered to who has no right to content."""
    urls = {centre: f"http://{network.listen(centre)}" for centre in CENTRES}
    clients = {centre: httpx2.Client(base_url=url, timeout=60, trust_env=False) for centre, url in urls.items()}
    system = {centre: {"Authorization": f"Bearer {network.token(centre, 'system')}"} for centre in CENTRES}
    sender, taker = (clients[centre] for centre in CENTRES)
    good = message(case_number=CANARY)
    _until(lambda: sender.post("/v1/messages", content=good, headers=system["SEA"]).status_code == 202)
    _until(lambda: CANARY in taker.get("/v1/inbox", params={"wait": 1}, headers=system["SEB"]).text)
    near = f"{network.token('SEA', 'system')}x"
    refused = [
        sender.post("/v1/messages", content=good, headers={"Authorization": f"Bearer {near}"}),
        sender.get(f"/v1/{CANARY}/nowhere", headers=system["SEA"]),
        sender.post("/v1/messages", content=good[:-1], headers=system["SEA"]),
        sender.post("/v1/messages", content=message(case_number=CANARY, kind="nonsense"), headers=system["SEA"]),
    ]
    assert all(answer.is_error for answer in refused)
    for client in clients.values():
        client.close()
    return b"".join(answer.content + str(answer.headers).encode() for answer in refused)


def _until(holds: object, seconds: float = 90) -> None:
    limit = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx2.TransportError):
            if holds():  # type: ignore[operator]
                return
        assert time.monotonic() < limit, "the nodes did not work in time"
        time.sleep(0.2)


def _broken(network: Network, file: str) -> bytes:
    """Start a node whose secret is damaged, as after a bad copy, and return what it said; the secret is put back."""
    path = network.centre("SEA") / "keys" / file
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        words = [sys.executable, "-m", "relay", "check", "--config", str(network.node_file("SEA"))]
        done = subprocess.run(words, capture_output=True, check=False, timeout=90)
    finally:
        path.write_bytes(whole)
    assert done.returncode != 0
    return done.stdout + done.stderr


@pytest.mark.parametrize("where", ["written", "titles", "stores", "answers"])
def test_no_secret_is_found(centres: Network, left: Left, where: str) -> None:
    """No private key, password or token is in what the nodes wrote, showed, stored or answered, in any of its forms."""
    searched, secrets = getattr(left, where), secrets_of(centres)
    long = {name: secret for name, secret in secrets.items() if len(secret) >= SHORTEST}
    assert len(long) > 20, "the search would find nothing"
    assert searched, "there was nothing to search"
    assert [name for name, secret in long.items() if secret in searched] == []


@pytest.mark.parametrize("where", ["written", "titles", "stores"])
def test_no_content_is_found(left: Left, where: str) -> None:
    """What a message says is in no log and no store; its file number is not, either, in any of the parts a search would use."""
    searched = getattr(left, where)
    if where == "written":
        assert b'"event":"message.taken"' in searched, "the lines of messages were not searched"
    assert CANARY.encode() not in searched
    assert b"7f3a19c2" not in searched


def test_the_search_finds_what_is_there(centres: Network) -> None:
    """A store that held the storage key, or a log with a token, would be found out."""
    secrets = secrets_of(centres)
    key = (centres.centre("SEA") / "keys" / "storage.key").read_bytes()
    assert any(secret in b"before" + base64.b64decode(key) + b"after" for secret in secrets.values())
    assert any(secret in f"Bearer {centres.token('SEB', 'operator')}".encode() for secret in secrets.values())
