"""Settings: every unclear one is refused with the key and the file, and secrets are files."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from relay.errors import Misconfigured
from relay.messages import LIMITS, Limits
from relay.messages.attachments import MAX_CONTENT
from relay.settings import MOST_ATTACHED, Settings, load

MINIMAL = f'centre = "BRU"\nnetwork = "{"0" * 64}"\n[broker]\nurl = "amqp://BRU@127.0.0.1/"\n'


def written(folder: Path, content: str) -> Path:
    """Write a settings file."""
    file = folder / "node.toml"
    file.write_text(content)
    return file


def test_paths_start_from_the_files_folder(tmp_path: Path) -> None:
    """A relative path in the file is found beside it, wherever the process was started."""
    settings = load(written(tmp_path, MINIMAL))
    assert settings.keys.signing == (tmp_path / "keys" / "signing.pem",)
    assert settings.keys.sealing == (tmp_path / "keys" / "sealing.pem",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (MINIMAL + "speed = 1\n", "broker.speed"),
        ("colour = 1\n" + MINIMAL, "colour"),
        (MINIMAL.replace('centre = "BRU"\n', ""), "centre"),
        (MINIMAL + '[api]\nlisten = "nowhere"\n', "api.listen"),
        (MINIMAL + "[limits]\nmessage_bytes = -1\n", "limits.message_bytes"),
        ("centre = \n", "can't be read"),
    ],
)
def test_an_unclear_setting_names_the_key_and_the_file(tmp_path: Path, content: str, said: str) -> None:
    """Unknown keys, missing keys, bad values and bad TOML are refused with what to mend."""
    file = written(tmp_path, content)
    with pytest.raises(Misconfigured) as refused:
        load(file)
    assert refused.value.code == "bad-settings"
    assert said in refused.value.detail
    assert str(file) in refused.value.detail


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """No settings file is an error that names it."""
    with pytest.raises(Misconfigured, match="no settings file"):
        load(tmp_path / "absent.toml")


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment variable of the key's name overrides the file, and leaves the section's other keys."""
    monkeypatch.setenv("RELAY_API__LISTEN", "127.0.0.1:9")
    settings = load(written(tmp_path, MINIMAL + '[api]\nlisten = "127.0.0.1:8"\ntokens = "here"\n'))
    assert settings.api.listen == "127.0.0.1:9"
    assert settings.api.tokens == tmp_path / "here"


def test_a_credential_is_found_where_systemd_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`credential:NAME` is a file of $CREDENTIALS_DIRECTORY, and an error without it."""
    file = written(tmp_path, MINIMAL + '[keys]\nsigning = "credential:signing"\n')
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(Misconfigured, match="CREDENTIALS_DIRECTORY"):
        load(file)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "run"))
    assert load(file).keys.signing == (tmp_path / "run" / "signing",)


def test_the_example_has_every_key_at_its_default(tmp_path: Path) -> None:
    """config/node.toml loads, and changes nothing but what must be given."""
    example = Path(__file__).resolve().parent.parent / "config" / "node.toml"
    settings = load(written(tmp_path, example.read_text()))
    given = tomllib.loads(example.read_text())
    expected = load(written(tmp_path, MINIMAL.replace("amqp://BRU@127.0.0.1/", given["broker"]["url"])))
    assert settings == expected
    assert {key for key in given if isinstance(given[key], dict)} == {
        name
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and name not in ("centre", "network")
    }


def test_no_setting_is_left_in_the_environment_of_the_tests() -> None:
    """The tests run with the settings they write, not with somebody's environment, save one wait and the ports of conftest."""
    known = {"RELAY_REPAIR__ECHO_SECONDS", "RELAY_CONSOLE__LAST_WORDS_SECONDS", "RELAY_PORTS"}
    assert {name for name in os.environ if name.startswith("RELAY_")} == known


def test_the_bounds_of_attachments_are_those_that_messages_take(tmp_path: Path) -> None:
    """Settings may lower them, and raise them to what the models take at most."""
    assert load(written(tmp_path, MINIMAL)).limits.attachments == LIMITS
    lower = load(written(tmp_path, MINIMAL + "[limits]\nattachment_bytes = 1000\nattachments_bytes = 2000\n"))
    assert lower.limits.attachments == Limits(1000, 2000)
    assert (MOST_ATTACHED + 2) // 3 * 4 == MAX_CONTENT
    higher = load(written(tmp_path, MINIMAL + f"[limits]\nattachment_bytes = {MOST_ATTACHED}\n"))
    assert higher.limits.attachments.each == MOST_ATTACHED


@pytest.mark.parametrize("key", ["attachment_bytes", "attachments_bytes"])
def test_more_attached_than_the_models_take_is_refused(tmp_path: Path, key: str) -> None:
    """A bound that could not be kept is no setting."""
    with pytest.raises(Misconfigured, match=f"limits.{key}"):
        load(written(tmp_path, MINIMAL + f"[limits]\n{key} = {MOST_ATTACHED + 1}\n"))


def test_own_code_lists_lie_where_the_settings_say(tmp_path: Path) -> None:
    """A folder beside the file; by default none."""
    assert load(written(tmp_path, MINIMAL)).codes.folder is None
    assert load(written(tmp_path, MINIMAL + '[codes]\nfolder = "lists"\n')).codes.folder == tmp_path / "lists"


@pytest.mark.parametrize(("given", "found"), [("other.pem", ("other.pem",)), ('["new.pem", "old.pem"]', ("new.pem", "old.pem"))])
def test_key_files_are_named_in_the_environment_as_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, found: tuple[str, ...]
) -> None:
    """One path stands for a list of one, here, too."""
    monkeypatch.setenv("RELAY_KEYS__SIGNING", given)
    assert load(written(tmp_path, MINIMAL)).keys.signing == tuple(tmp_path / name for name in found)


def test_a_table_in_the_environment_that_is_not_json_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be read at all is the same coded error as a bad value."""
    monkeypatch.setenv("RELAY_LIMITS", "many")
    with pytest.raises(Misconfigured) as refused:
        load(written(tmp_path, MINIMAL))
    assert refused.value.code == "bad-settings"
    assert '"limits"' in refused.value.detail
