"""What authorities do at their command lines, and the page that tells them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.cli import run
from relay.cli.ends import CANT_CREATE, NO_INPUT, OK, REFUSED, SETTINGS
from relay.directory import Directory, digest, parse_directory
from relay.network import load_network, write_network
from tests.make_vectors import listed, signing
from tests.test_howto import HOWTO, commands

PAGE = HOWTO.with_name("change-the-directory.md")
AMQP = "amqp://127.0.0.1:5999/%2F"

Do = Callable[..., int]


@pytest.fixture
def do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Do:
    """Run commands in a folder with a network `net` of three centres."""
    monkeypatch.chdir(tmp_path)
    write_network(tmp_path / "net", ("AAA", "BBB", "CCC"), AMQP)
    return lambda *words: run(["directory", *map(str, words)])


def in_force(place: str = "net") -> Directory:
    """Return the version in force in a network's folder."""
    return load_network(Path(place)).directory


def sign(do: Do, file: str, *names: str, more: tuple[str, ...] = ()) -> None:
    """Sign a proposal with the first key of each authority."""
    for name in names:
        assert do("sign", file, "--current", "net", "--key", f"net/authorities/{name}/key-1.pem", *more) == OK


def propose(do: Do, *words: object, out: str = "next.json") -> Directory:
    """Propose the next version and return it."""
    assert do("propose", "--current", "net", "--why", "Test", "--out", out, *words) == OK
    return parse_directory(Path(out).read_bytes())


def test_the_page_works_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command of the page in its turn: suspended, revoked, admitted again, and at the end under a new root."""
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    Path("members.toml").write_text(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0])
    names: dict[str, str] = {}
    for command in commands(PAGE):
        words = [names.get(word, word) for word in shlex.split(command)[1:]]
        amqp = ["--amqp", AMQP] if words[0] == "network" else []
        assert run([*words, *amqp]) == OK, (command, capsys.readouterr())
        said = capsys.readouterr().out
        if amqp:
            names = {"KEY": in_force().members[0].keys[0].id, "ROOTKEY": load_network(Path("net")).root.authorities[0].keys[1].id}
        if words[-1] == "wco-3.pem" and words[2] == "key":
            Path("wco-3.json").write_text(said)
    network = load_network(Path("net"))
    assert (network.root.version, network.directory.version, network.directory.reason) == (2, 5, "First under root 2")
    assert network.directory.members[0].keys[0].revoked_from is not None
    assert network.directory.member("CCC") is not None
    assert "version 5" in said


def test_a_suspension_by_one_authority_reaches_every_centre(do: Do, capsys: pytest.CaptureFixture[str]) -> None:
    """Proposed, signed once, verified, published: each centre's folder has it, and the folder still loads as a network."""
    propose(do, "--suspend", "CCC")
    assert do("verify", "next.json", "--current", "net") == REFUSED
    sign(do, "next.json", "WCO")
    capsys.readouterr()
    assert do("verify", "next.json", "--current", "net", "--json") == OK
    report = json.loads(capsys.readouterr().out)
    assert (report["signed"], report["missing"], report["narrowing"], report["taken"]) == (["WCO"], ["INTERPOL"], True, True)
    assert report["changes"] == [{"sentence": "CCC: suspended", "narrowing": True}]
    assert do("publish", "next.json", "--current", "net") == OK
    found = in_force()
    assert (found.version, found.member("CCC"), found.reason) == (2, None, "Test")
    for centre in ("AAA", "BBB", "CCC"):
        assert digest(Path(f"net/centres/{centre}/directory.json").read_bytes()) == found.digest
        assert do("show", f"net/centres/{centre}", "--json") == OK


def test_widening_by_one_authority_goes_nowhere(do: Do, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused when it is verified and when it is published, and nothing is written."""
    propose(do, "--renew", "--days", "700")
    sign(do, "next.json", "WCO")
    capsys.readouterr()
    assert do("verify", "next.json", "--current", "net", "--json") == REFUSED
    report = json.loads(capsys.readouterr().out)
    assert (report["narrowing"], report["taken"], report["code"]) == (False, False, "directory-unsigned")
    assert do("publish", "next.json", "--current", "net") == SETTINGS
    assert in_force().version == 1
    sign(do, "next.json", "INTERPOL")
    assert do("publish", "next.json", "--current", "net") == OK
    assert in_force().expires_at > datetime.now(UTC) + timedelta(days=690)


def test_a_key_is_added_revoked_and_removed(do: Do, capsys: pytest.CaptureFixture[str]) -> None:
    """A centre's new key comes as a file, with a warning when it counts too soon; the old one is revoked by its id."""
    key = json.loads(in_force().members[0].keys[0].model_dump_json())
    other = json.loads(in_force().members[1].keys[0].model_dump_json())
    Path("keys.json").write_text(json.dumps({"member": "AAA", "keys": [other]}))
    assert do("propose", "--current", "net", "--why", "x", "--out", "bad.json", "--add-key", "keys.json") == SETTINGS
    assert "[bad-directory]" in capsys.readouterr().err
    new = json.loads(listed(signing("AAA anew")).model_dump_json())
    Path("keys.json").write_text(json.dumps({"member": "AAA", "keys": [new]}))
    edited = propose(do, "--remove-key", other["id"], "--add-key", "keys.json", "--revoke-key", key["id"])
    said = capsys.readouterr().err
    assert f"widens   AAA: signing key {new['id']} added" in said
    assert f"narrows  BBB: signing key {other['id']} removed" in said
    assert f"warning: key {new['id']} of AAA counts in 0 h" in said
    assert f"narrows  AAA: signing key {key['id']} revoked from" in said
    assert edited.members[0].keys[0].revoked_from is not None
    Path("keys.json").write_text(json.dumps({"keys": [other]}))
    assert do("propose", "--current", "net", "--why", "x", "--out", "bad.json", "--add-key", "keys.json") == REFUSED
    assert not Path("bad.json").exists()


def test_a_version_edited_by_hand_gets_its_place(do: Do) -> None:
    """Number, link and time of issue are set anew, whatever the file says."""
    made = json.loads(Path("net/directory.json").read_bytes())
    made.update(version=77, previous="f" * 64)
    made["members"].pop()
    Path("edited.json").write_text(json.dumps(made))
    found = propose(do, "--edited", "edited.json")
    assert (found.version, found.previous, len(found.members)) == (2, in_force().digest, 2)


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("propose", "--suspend", "ZZZ"), REFUSED, "bad-proposal"),
        (("propose", "--revoke-key", "0" * 32), REFUSED, "bad-proposal"),
        (("propose", "--revoke-key", "0" * 32, "--from", "yesterday"), REFUSED, "bad-proposal"),
        (("propose", "--members", "net/root.json"), REFUSED, "bad-proposal"),
        (("propose", "--members", "missing.json"), NO_INPUT, "no-input"),
        (("propose", "--edited", "net/network.toml"), SETTINGS, "bad-directory"),
        (("propose", "--renew", "--days", "0"), REFUSED, "bad-proposal"),
        (("propose", "--network", "0" * 64), SETTINGS, "root-mismatch"),
    ],
)
def test_a_proposal_that_can_t_be_made_is_not_written(
    words: tuple[str, ...], status: int, code: str, do: Do, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with its code and leaves no file."""
    assert do(*words, "--current", "net", "--why", "x", "--out", "next.json") == status
    assert f"[{code}]" in capsys.readouterr().err
    assert not Path("next.json").exists()


def test_nobody_signs_what_can_t_follow(do: Do, capsys: pytest.CaptureFixture[str]) -> None:
    """Not a second version of a number in force, not with a stranger's key, not without knowing the network."""
    propose(do, "--suspend", "CCC", out="one.json")
    propose(do, "--suspend", "BBB", out="other.json")
    sign(do, "one.json", "WCO")
    assert do("publish", "one.json", "--current", "net") == OK
    capsys.readouterr()
    assert do("sign", "other.json", "--current", "net", "--key", "net/authorities/INTERPOL/key-1.pem") == SETTINGS
    assert "[directory-fork]" in capsys.readouterr().err
    propose(do, "--suspend", "BBB", out="third.json")
    assert do("sign", "third.json", "--current", "net", "--key", "net/centres/AAA/keys/signing.pem") == REFUSED
    assert "[no-authority-key]" in capsys.readouterr().err
    Path("net/network.toml").rename("network.toml")
    assert do("show", "net") == REFUSED
    assert "[no-network]" in capsys.readouterr().err
    assert do("show", "net", "--network", in_network("network.toml")) == OK


def test_what_is_no_version_is_not_taken_either(do: Do, capsys: pytest.CaptureFixture[str]) -> None:
    """To verify a file that is none ends as for one that nodes would not take: 65, and the code."""
    propose(do, "--suspend", "CCC")
    Path("next.json").write_bytes(Path("next.json").read_bytes()[:-9])
    capsys.readouterr()
    assert do("verify", "next.json", "--current", "net", "--json") == REFUSED
    assert json.loads(capsys.readouterr().out) == {"taken": False, "code": "bad-directory"}
    assert do("verify", "missing.json", "--current", "net") == NO_INPUT


def in_network(file: str) -> str:
    """Return the network's id that a settings file names."""
    return re.findall(r'network = "([0-9a-f]{64})"', Path(file).read_text())[0]


def test_what_is_published_never_goes_back(do: Do, capsys: pytest.CaptureFixture[str]) -> None:
    """A place that has gone further, or elsewhere, is left as it is, and so are all others."""
    propose(do, "--suspend", "CCC", out="one.json")
    propose(do, "--suspend", "BBB", out="other.json")
    sign(do, "one.json", "WCO")
    sign(do, "other.json", "INTERPOL")
    assert do("publish", "one.json", "--current", "net", "--to", "net/centres/BBB") == OK
    capsys.readouterr()
    assert do("publish", "other.json", "--current", "net") == SETTINGS
    assert "centres/BBB" in capsys.readouterr().err
    assert in_force().version == 1
    assert do("publish", "one.json", "--current", "net") == OK
    assert do("publish", "one.json", "--current", "net") == OK
    assert in_force().member("CCC") is None


def test_signing_again_changes_nothing(do: Do) -> None:
    """A signature by the same key takes the place of the one before; a file that is there is never overwritten."""
    propose(do, "--suspend", "CCC")
    sign(do, "next.json", "WCO", "WCO", "INTERPOL")
    found = json.loads(Path("next.signatures.json").read_bytes())["signatures"]
    assert [one["authority"] for one in found] == ["WCO", "INTERPOL"]
    assert do("propose", "--current", "net", "--why", "x", "--out", "next.json", "--suspend", "BBB") == CANT_CREATE


def test_a_root_needs_all_of_both(do: Do, capsys: pytest.CaptureFixture[str]) -> None:
    """An authority that joins signs, too; until then publishing is refused, and it says who is missing."""
    assert do("root", "key", "west.pem") == OK
    Path("west.json").write_text(capsys.readouterr().out)
    assert do("root", "propose", "--current", "net", "--add-key", "WEST=west.json", "--out", "root.2.json") == OK
    for name in ("WCO", "INTERPOL"):
        key = f"net/authorities/{name}/key-2.pem"
        assert do("root", "sign", "root.2.json", "--current", "net", "--key", key) == OK
    assert capsys.readouterr().err.splitlines()[-1] == "Missing, with a key of root 2: WEST"
    propose(do, "--suspend", "CCC")
    sign(do, "next.json", "WCO", "INTERPOL", more=("--root", "root.2.json"))
    publish: tuple[Any, ...] = ("publish", "next.json", "--current", "net", "--root", "root.2.json")
    assert do(*publish) == SETTINGS
    assert "[root-unsigned]" in capsys.readouterr().err
    assert do("root", "sign", "root.2.json", "--current", "net", "--key", "west.pem") == OK
    assert do(*publish) == SETTINGS
    assert "[directory-unsigned]" in capsys.readouterr().err
    assert do("sign", "next.json", "--current", "net", "--root", "root.2.json", "--key", "west.pem") == OK
    assert do(*publish) == OK
    assert [one.id for one in load_network(Path("net")).root.authorities] == ["WCO", "INTERPOL", "WEST"]
