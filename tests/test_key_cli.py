"""``relay key`` on the files of a centre: from a new key to its listing, its revocation and its end."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.cli import run
from relay.keys import SealingKey, SigningKey
from relay.network import Network, load_network, write_network
from tests.live import redirect

PAGE = Path(__file__).resolve().parent.parent / "docs" / "howto" / "rotate-and-revoke-keys.md"
CENTRES = ("KEYA", "KEYB")


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """Write a network of two centres."""
    return write_network(tmp_path / "net", CENTRES)


def relay(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> tuple[str, str]:
    """Run a command; return what it wrote to its two outputs."""
    assert run([str(one) for one in arguments]) == status, capsys.readouterr().err
    written = capsys.readouterr()
    return written.out, written.err


def keys(capsys: pytest.CaptureFixture[str], config: Path) -> list[dict[str, Any]]:
    """Return what ``relay key list`` says."""
    found: list[dict[str, Any]] = json.loads(relay(capsys, "key", "list", "--json", "--config", config)[0])
    return found


@pytest.mark.parametrize(("use", "kind"), [("signing", SigningKey), ("sealing", SealingKey), ("checkpoint", SigningKey)])
def test_a_rotation_makes_a_key_names_it_and_announces_it(
    network: Network, capsys: pytest.CaptureFixture[str], use: str, kind: Any
) -> None:
    """The private half lies beside the others, private, the settings name all, the authorities can list the other half."""
    config = network.node_file("KEYA")
    before = tomllib.loads(config.read_text())
    out = json.loads(relay(capsys, "key", "rotate", "--use", use, "--config", config, "--json")[0])
    path = Path(out["file"])
    assert path.stat().st_mode & 0o777 == 0o600
    assert kind.load(path).id == out["key"]["id"]
    after = tomllib.loads(config.read_text())
    older = before["keys"].get(use, [])
    assert after["keys"].pop(use) == [f"keys/{path.name}", *([older] if isinstance(older, str) else older)]
    before["keys"].pop(use, None)
    assert after == before
    start = datetime.fromisoformat(out["key"]["valid_from"])
    assert start >= datetime.now(UTC) + timedelta(hours=network.directory.policy.key_notice_hours)
    assert [one["state"] for one in keys(capsys, config) if one["id"] == out["key"]["id"]] == ["unlisted"]
    proposal = network.folder / "v2.json"
    relay(
        capsys, "directory", "propose", "--current", network.folder, "--why", "Rotation", "--out", proposal,
        "--add-key", out["announcement"],
    )  # fmt: skip
    listed = next(member for member in json.loads(proposal.read_text())["members"] if member["id"] == "KEYA")["keys"]
    assert out["key"]["id"] in [key["id"] for key in listed]


def test_less_notice_than_the_policy_gives_needs_a_word(network: Network, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it nothing is made: nodes that lack the directory would refuse what the key signs."""
    config = network.node_file("KEYA")
    soon = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    rotate = ("key", "rotate", "--use", "signing", "--config", config, "--from", soon)
    assert "key-notice" in relay(capsys, *rotate, status=65)[1]
    assert len(list((network.centre("KEYA") / "keys").glob("signing*"))) == 1
    relay(capsys, *rotate, "--urgent")


def test_settings_that_read_otherwise_are_left_alone(network: Network, capsys: pytest.CaptureFixture[str]) -> None:
    """A list over several lines is not touched: the command says the line to put there."""
    config = network.node_file("KEYA")
    text = config.read_text().replace('sealing = ["keys/sealing.pem"]', 'sealing = [\n  "keys/sealing.pem",\n]')
    config.write_text(text)
    out, told = relay(capsys, "key", "rotate", "--use", "sealing", "--config", config)
    assert config.read_text() == text
    assert re.search(r'sealing = \["keys/sealing-\d{8}-[0-9a-f]{8}.pem", "keys/sealing.pem"\]', told)
    assert out


def test_a_key_is_destroyed_once_nothing_needs_it(network: Network, capsys: pytest.CaptureFixture[str]) -> None:
    """Sooner only with --yes, the last one of a use never; its file is gone and the settings name it no more."""
    config = network.node_file("KEYA")
    old = next(one for one in keys(capsys, config) if one["use"] == "sealing")
    destroy = ("key", "destroy", old["id"], "--config", config)
    assert "the only sealing key" in relay(capsys, *destroy, "--yes", status=65)[1]
    relay(capsys, "key", "rotate", "--use", "sealing", "--config", config)
    assert "may be needed until" in relay(capsys, *destroy, status=65)[1]
    assert Path(old["file"]).exists()

    def end(register: dict[str, Any]) -> None:
        for key in register["members"][0]["keys"]:
            if key["id"] == old["id"]:
                long_ago = datetime.now(UTC).replace(microsecond=0) - timedelta(days=60)
                key.update(valid_from=(long_ago - timedelta(days=9)).isoformat(), valid_until=long_ago.isoformat())

    redirect(network, end)
    assert [one["needless"] for one in keys(capsys, config) if one["id"] == old["id"]] == [True]
    relay(capsys, *destroy)
    assert not Path(old["file"]).exists()
    assert "keys/sealing.pem" not in tomllib.loads(config.read_text())["keys"]["sealing"]


def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command in a console of the page, in its order; KEY is the centre's first signing key."""
    monkeypatch.chdir(tmp_path)
    consoles = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    commands = [line.strip()[2:] for console in consoles for line in console.splitlines() if line.strip().startswith("$ ")]
    first = ""
    for command in commands:
        relay(capsys, *shlex.split(command.replace("KEY ", f"{first} "))[1:])
        first = first or (keys(capsys, Path("net/centres/AAA/node.toml"))[0]["id"])
    found = {key.id: key for key in load_network(tmp_path / "net").directory.active["AAA"].keys}
    assert found[first].revoked_from is not None
    assert len([key for key in found.values() if key.use == "signing"]) == 2
