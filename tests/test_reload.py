"""A running node takes up key files that changed when it is sent SIGHUP, and goes on with its keys when they can't be used."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from relay.cli import run
from relay.network import Network, write_network
from relay.settings import load

CENTRE = "RELOADED"


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """Write a network of one centre; nobody answers at its broker's address, which is no matter of its keys."""
    return write_network(tmp_path / "net", (CENTRE,))


@contextlib.contextmanager
def node(network: Network, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the centre's node as a process, outside a terminal; it ends when it is asked to."""
    words = [sys.executable, "-W", "ignore", "-m", "relay", "node", "run", "--config", str(network.node_file(CENTRE))]
    environment = {"PATH": "/usr/bin:/bin", "RELAY_LOG__FILE": str(log)}
    running = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL)
    try:
        yield running
        running.terminate()
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.wait()


def lines(log: Path, event: str) -> list[dict[str, Any]]:
    """Return the lines of an event."""
    whole = log.read_text(encoding="utf-8").rpartition("\n")[0] if log.exists() else ""  # the last may be half written
    found = [json.loads(line) for line in whole.splitlines()]
    return [one for one in found if one["event"] == event]


def waited(log: Path, event: str, count: int = 1) -> dict[str, Any]:
    """Wait for so many lines of an event; return the last."""
    limit = time.monotonic() + 60
    while len(found := lines(log, event)) < count:
        assert time.monotonic() < limit, f"{event} was not said"
        time.sleep(0.05)
    return found[-1]


def test_key_files_are_taken_up_at_sighup(network: Network, tmp_path: Path) -> None:
    """A key that was made while the node ran is held; a file that others may read changes nothing, and why is said."""
    log, config, lives = tmp_path / "relay.jsonl", network.node_file(CENTRE), f"http://{network.health(CENTRE)}/livez"
    with node(network, log) as running:
        waited(log, "audit.verified")
        assert run(["key", "rotate", "--use", "signing", "--config", str(config), "--out", str(tmp_path / "new.json")]) == 0
        (made,) = json.loads((tmp_path / "new.json").read_bytes())["keys"]
        running.send_signal(signal.SIGHUP)
        said = waited(log, "key.taken-up")
        assert (said["added"], said["removed"]) == ([made["id"]], [])
        newest = load(config).keys.signing[0]
        newest.chmod(0o644)
        running.send_signal(signal.SIGHUP)
        said = waited(log, "key.refused")
        assert said["code"] == "key-file-exposed"
        assert str(newest) in said["detail"]
        newest.chmod(0o600)
        config.write_text("not = [toml", encoding="utf-8")
        running.send_signal(signal.SIGHUP)
        assert waited(log, "key.refused", 2)["code"] == "bad-settings"
        assert httpx2.get(lives, timeout=60, trust_env=False).text == "yes"
        assert len(lines(log, "key.taken-up")) == 1
