"""What is deployed: the systemd unit exposes little, and its page's settings are settings."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from deploy import advisories
from relay.network import write_network
from relay.settings import load

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "deploy" / "systemd" / "intercentre-relay@.service"
PAGE = ROOT / "docs" / "howto" / "run-as-a-service.md"
MOST_EXPOSED = 2.0  # of 10; issue 5


def exposure(unit: Path) -> float:
    """Return how exposed systemd finds a unit, from 0 to 10."""
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said.stdout)
    assert found, said.stderr
    return float(found[1])


def spelled(settings: dict[str, Any]) -> str:
    """Return settings as TOML, whose strings and lists are those of JSON."""
    plain = {key: value for key, value in settings.items() if not isinstance(value, dict)}
    sections = [f"[{name}]\n{spelled(value)}" for name, value in settings.items() if isinstance(value, dict)]
    return "\n".join([*(f"{key} = {json.dumps(value)}" for key, value in plain.items()), *sections]) + "\n"


def test_the_unit_exposes_little() -> None:
    """Systemd's own rating is at most 2.0, and the one that the page and the unit's reader are told."""
    assert shutil.which("systemd-analyze"), "the system package systemd is needed: make test-packages installs it"
    found = exposure(UNIT)
    assert found <= MOST_EXPOSED
    assert f"rates it {found} of 10" in PAGE.read_text(encoding="utf-8")


def test_a_unit_without_its_protection_would_be_found_out(tmp_path: Path) -> None:
    """The rating sees it when what protects is taken away."""
    bare = tmp_path / UNIT.name
    bare.write_text(re.sub(r"^(Protect|Private|Restrict|SystemCall|Capability).*\n", "", UNIT.read_text(), flags=re.MULTILINE))
    assert exposure(bare) > MOST_EXPOSED


def test_the_unit_hands_over_exactly_the_secrets_that_the_page_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each credential of the page's settings is loaded by the unit, and a node reads them from systemd's folder."""
    loaded = set(re.findall(r"^LoadCredential=([^:]+):", UNIT.read_text(encoding="utf-8"), re.MULTILINE))
    block = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert set(re.findall(r'"credential:([^"]+)"', block)) == loaded
    network = write_network(tmp_path / "net", ("AAA",))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(network.centre("AAA") / "keys"))
    file = network.node_file("AAA")
    given = tomllib.loads(file.read_text(encoding="utf-8"))
    for section, keys in tomllib.loads(block).items():
        given[section].update(keys)
    file.write_text(spelled(given), encoding="utf-8")
    settings = load(file)
    assert settings.keys.storage == network.centre("AAA") / "keys" / "storage.key"
    assert str(settings.store.file) == "/var/lib/intercentre-relay/AAA/relay.db"


def test_an_advisory_about_a_locked_version_fails_the_check() -> None:
    """A known vulnerability is named with the version that mends it; what could not be asked is said and is no failure."""
    known = {"name": "one", "version": "1.0", "vulns": [{"id": "INVENTED-1", "fix_versions": ["1.1"]}]}
    sound = {"name": "two", "version": "2.0", "vulns": []}
    skipped = {"name": "three", "skip_reason": "not found"}
    assert advisories.judge("lock", [sound]) == (True, ["lock: 1 of 1 dependencies audited, 0 advisories."])
    fine, lines = advisories.judge("lock", [known, sound, skipped])
    assert not fine
    assert "NOT AUDITED: 1 " in lines[0]
    assert lines[1] == "lock: one 1.0: INVENTED-1, mended in 1.1"
    assert advisories.judge("lock", None)[0]


def test_no_secret_is_on_the_command_line_or_in_the_environment_of_the_unit() -> None:
    """What other users can see of a service names no secret."""
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if line.startswith(("Environment", "PassEnvironment", "SetCredential"))]
    assert [line for line in lines if line.startswith("ExecStart=")] == [
        "ExecStart=/opt/intercentre-relay/.venv/bin/relay node run --config /etc/intercentre-relay/%i/node.toml"
    ]
