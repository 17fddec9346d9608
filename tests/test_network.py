"""A new network: its files, their modes, and what is refused when one of them was tampered with."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay import codes
from relay.certificates import read_certificate
from relay.directory import Directory, Signatures, digest, read_directory, read_root, sign
from relay.errors import Misconfigured, Refused
from relay.keys import SealingKey, SigningKey, StorageKey
from relay.network import Network, default_centres, load_network, write_network
from relay.settings import load
from relay.topology import NO_PASSWORD

SECRETS = ("keys/signing.pem", "keys/sealing.pem", "keys/storage.key", "keys/broker.password")


@pytest.fixture
def copy(network: Network, tmp_path: Path) -> Path:
    """Copy the network, to tamper with."""
    return Path(shutil.copytree(network.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("broker")))


def code_of(call: Callable[[], object]) -> str:
    """Return the code with which a call is refused."""
    with pytest.raises((Misconfigured, Refused)) as caught:
        call()
    return caught.value.code


def read_copy(copy: Path, network: Network, *, held: int = 0, now: datetime | None = None) -> Directory:
    """Read a copy's directory as a node does that knows the network's id."""
    root = read_root((copy / "root.json").read_bytes(), network.id)
    raw, signatures = ((copy / file).read_bytes() for file in ("directory.json", "directory.signatures.json"))
    return read_directory(raw, signatures, root, network.id, now or datetime.now(UTC), held=held)


def test_the_default_network_has_the_six_centres(network: Network) -> None:
    """With no centre named, the network is the one that must work first."""
    assert set(network.directory.active) == {"BRU", "LYO", "SIN", "BUE", "BE-CUS", "BE-NCB"} == set(default_centres())


def test_a_centres_folder_is_whole(network: Network) -> None:
    """Everything ``node.toml`` names is in the centre's own folder, so the folder can move to another machine."""
    for centre in network.directory.active:
        folder = network.centre(centre)
        node = tomllib.loads((folder / "node.toml").read_text())
        assert node["centre"] == centre
        assert node["network"] == network.id == digest((folder / node["directory"]["root"]).read_bytes())
        named = [
            *node["directory"].values(),
            node["keys"]["signing"],
            *node["keys"]["sealing"],
            node["keys"]["storage"],
        ]
        for file in (*named, node["broker"]["password_file"], "tokens/system", "tokens/operator", "clients.json"):
            assert (folder / file).is_file()
        assert node["broker"]["url"] == f"amqp://{centre}@127.0.0.1:{network.broker.port}/%2F"
        assert node["store"]["file"] == "store/relay.db"


def test_the_directory_names_the_keys_in_the_folders(network: Network) -> None:
    """A centre's private keys are the ones whose public halves the directory has."""
    for centre, member in network.directory.active.items():
        keys = network.centre(centre) / "keys"
        ids = {SigningKey.load(keys / "signing.pem").id, SealingKey.load(keys / "sealing.pem").id}
        assert ids == {key.id for key in member.keys}
        assert all(key.usable(datetime.now(UTC)) for key in member.keys)
        StorageKey.load(keys / "storage.key")


def test_every_secret_is_for_its_owner_alone(network: Network) -> None:
    """Private keys, passwords and tokens have mode 0600, and no two centres share one."""
    files = [network.centre(centre) / file for centre in network.directory.active for file in SECRETS]
    files += [path for path in network.folder.rglob("tokens/*") if path.is_file()]
    files += [*network.folder.rglob("authorities/*/key-?.pem"), network.folder / "broker" / "admin.password"]
    assert len(files) == 6 * 6 + 4 + 1
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}
    assert len({path.read_bytes() for path in files}) == len(files)


def test_each_node_has_an_address_of_its_own(network: Network) -> None:
    """No two APIs, nor the broker, share a port, and all are on loopback."""
    addresses = [network.listen(centre) for centre in network.directory.active]
    addresses += [f"{network.broker.host}:{network.broker.port}", f"127.0.0.1:{network.broker.management_port}"]
    assert len(set(addresses)) == len(addresses)
    assert all(address.startswith("127.0.0.1:") for address in addresses)


def test_every_settings_key_has_a_line_of_prose_above(network: Network) -> None:
    """Whoever opens ``node.toml`` or ``network.toml`` reads what each key means."""
    for file in (network.node_file("BRU"), network.folder / "network.toml"):
        lines = file.read_text().splitlines()
        keys = [number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")]
        assert keys
        assert all(lines[number - 1].startswith("# ") for number in keys)


def test_everyone_hears_of_something_and_not_everyone_of_everything(network: Network) -> None:
    """The default entitlements differ, so that routing by crime type and region has something to decide."""
    members = network.directory.active.values()

    def hears(crime_type: str, region: str) -> set[str]:
        kind = codes.KINDS[0]
        return {
            member.id
            for member in members
            if any(held.covers(crime_type, (region,), kind, nominal=False) for held in member.subscribe)
        }

    assert hears("environment.timber", "035") == {"BRU", "LYO", "SIN"}
    assert hears("drugs.cocaine", "005") == {"BRU", "LYO", "BUE"}
    assert hears("cultural-goods", "155") == {"BRU", "LYO", "BE-CUS", "BE-NCB"}
    assert hears("environment.timber", "155") == {"BRU", "LYO", "SIN", "BE-CUS"}


def test_personal_data_goes_to_the_police_side(network: Network) -> None:
    """Customs centres receive non-nominal messages only."""
    nominal = {member.id for member in network.directory.active.values() if any(held.nominal for held in member.subscribe)}
    assert nominal == {"LYO", "SIN", "BUE", "BE-NCB"}


def test_named_centres_and_a_broker_address_are_taken(tmp_path: Path) -> None:
    """An unknown id becomes a generic member; the account in the address administers the broker and reaches no node."""
    made = write_network(tmp_path / "new", ["BRU", "NBO"], "amqps://boss:s%2Fcret@broker.example:5673/relay")
    assert list(made.directory.active) == ["BRU", "NBO"]
    assert (made.broker.host, made.broker.port, made.broker.vhost) == ("broker.example", 5673, "relay")
    assert (made.broker.admin, made.broker.admin_password) == ("boss", "s/cret")
    assert made.broker.management == "https://broker.example:15671"
    assert 'url = "amqps://NBO@broker.example:5673/relay"' in made.node_file("NBO").read_text()
    assert "cret" not in made.node_file("NBO").read_text() + repr(made)
    families = {crime for held in made.directory.active["NBO"].subscribe for crime in held.crime_types}
    assert families == {"drugs", "medicines", "environment", "cultural-goods"}


def test_an_address_of_another_machine_in_clear_is_refused(tmp_path: Path) -> None:
    """Neither the broker nor its management API is written down where a password would go to another machine in clear."""
    assert code_of(lambda: write_network(tmp_path / "new", amqp="amqp://broker.example/")) == "broker-not-encrypted"
    managed = {"amqp": "amqps://broker.example/", "management": "http://broker.example:15672"}
    assert code_of(lambda: write_network(tmp_path / "new", **managed)) == "management-not-encrypted"
    assert code_of(lambda: write_network(tmp_path / "new", amqp="amqp://127.0.0.1/", tls=True)) == "bad-amqp-url"
    assert not (tmp_path / "new").exists()


def test_an_encrypted_network_has_certificates_and_no_passwords(tmp_path: Path) -> None:
    """Each centre gets a certificate in its name and the authority by which it knows the broker; keys are for their owners."""
    made = write_network(tmp_path / "new", ["BRU", "NBO"], tls=True)
    assert made.broker.amqp.startswith("amqps://127.0.0.1:")
    assert made.broker.management.startswith("https://127.0.0.1:")
    for centre in ("BRU", "NBO"):
        settings = load(made.node_file(centre))
        assert settings.broker.by_certificate
        assert settings.broker.context(centre) is not None
        assert centre in read_certificate(made.centre(centre) / "tls" / "certificate.pem").names
        assert not (made.centre(centre) / "keys" / "broker.password").exists()
    assert made.passwords == {"BRU": NO_PASSWORD, "NBO": NO_PASSWORD}
    assert [user["password_hash"] for user in made.definitions()["users"] if user["name"] != "relay-admin"] == ["", ""]
    assert {path.stat().st_mode & 0o777 for path in made.folder.rglob("key.pem")} == {0o600}


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    """Nothing is overwritten: a second network in the same folder is refused before a file is written."""
    (tmp_path / "mine.txt").write_text("precious")
    assert code_of(lambda: write_network(tmp_path)) == "folder-not-empty"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("centre", ["bru", "B", "BRU/..", "../X", "BRU.X", "BRU-", "", "ABCDEFGHI", "BRU\n"])
def test_an_id_that_could_be_mistaken_is_refused(centre: str, tmp_path: Path) -> None:
    """An id goes into file names, queue names and routing keys: capitals, digits and one hyphen, nothing else."""
    assert code_of(lambda: write_network(tmp_path / "new", [centre])) == "bad-centre-id"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("amqp", ["http://broker", "amqp://", "broker:5672", "amqp://host:port/", "amqp://host:99999/"])
def test_an_address_that_is_no_broker_is_refused(amqp: str, tmp_path: Path) -> None:
    """A wrong address is found when the network is written, not when a node starts."""
    assert code_of(lambda: write_network(tmp_path / "new", amqp=amqp)) == "bad-amqp-url"
    assert not (tmp_path / "new").exists()


def test_a_whole_copy_loads(network: Network, copy: Path) -> None:
    """What the next tests tamper with is accepted while it is untouched."""
    assert read_copy(copy, network) == network.directory


def test_a_changed_directory_is_refused(network: Network, copy: Path) -> None:
    """One changed byte and no signature holds."""
    file = copy / "directory.json"
    file.write_bytes(file.read_bytes().replace(b'"150"', b'"001"', 1))
    assert code_of(lambda: read_copy(copy, network)) == "directory-unsigned"


def test_an_unsigned_directory_is_refused(network: Network, copy: Path) -> None:
    """A directory without signatures counts for nothing."""
    (copy / "directory.signatures.json").write_text('{"signatures": []}')
    assert code_of(lambda: read_copy(copy, network)) == "directory-unsigned"


@pytest.mark.parametrize("authority", ["WCO", "INTERPOL"])
def test_one_authority_alone_is_not_enough(authority: str, network: Network, copy: Path) -> None:
    """Neither authority can change the directory without the other, not even with both of its keys."""
    raw = (copy / "directory.json").read_bytes()
    keys = [SigningKey.load(copy / "authorities" / authority / f"key-{number}.pem") for number in (1, 2)]
    signatures = Signatures(signatures=tuple(sign(raw, authority, key) for key in keys))
    (copy / "directory.signatures.json").write_text(signatures.model_dump_json())
    assert code_of(lambda: read_copy(copy, network)) == "directory-unsigned"


def test_one_authority_cannot_sign_in_the_others_name(network: Network, copy: Path) -> None:
    """A signature counts for the authority that holds the key, whatever name stands beside it."""
    raw = (copy / "directory.json").read_bytes()
    key = SigningKey.load(copy / "authorities" / "WCO" / "key-1.pem")
    signatures = Signatures(signatures=(sign(raw, "WCO", key), sign(raw, "INTERPOL", key)))
    (copy / "directory.signatures.json").write_text(signatures.model_dump_json())
    assert code_of(lambda: read_copy(copy, network)) == "directory-unsigned"


def test_either_key_of_an_authority_signs_for_it(network: Network, copy: Path) -> None:
    """An authority that lost one key goes on with the other."""
    raw = (copy / "directory.json").read_bytes()
    keys = {id_: SigningKey.load(copy / "authorities" / id_ / "key-2.pem") for id_ in ("WCO", "INTERPOL")}
    signatures = Signatures(signatures=tuple(sign(raw, id_, key) for id_, key in keys.items()))
    (copy / "directory.signatures.json").write_text(signatures.model_dump_json())
    assert read_copy(copy, network) == network.directory


def test_another_root_is_refused(network: Network, copy: Path) -> None:
    """A node starts from the root whose digest it was told, never from the one it finds."""
    root = json.loads((copy / "root.json").read_text())
    (copy / "root.json").write_text(json.dumps(root))
    assert code_of(lambda: read_copy(copy, network)) == "root-mismatch"


def test_a_directory_of_another_network_is_refused(network: Network, tmp_path: Path) -> None:
    """Files of one network are worth nothing in another."""
    other = write_network(tmp_path / "other")
    shutil.copyfile(network.folder / "root.json", other.folder / "root.json")
    assert code_of(lambda: load_network(other.folder)) == "root-mismatch"
    assert code_of(lambda: read_copy(other.folder, network)) == "directory-unsigned"


def test_an_older_directory_is_refused(network: Network, copy: Path) -> None:
    """A version lower than the one in force is not taken, however well it is signed; the same one is."""
    assert code_of(lambda: read_copy(copy, network, held=2)) == "directory-rollback"
    assert read_copy(copy, network, held=1).version == 1


def test_an_expired_directory_is_refused(network: Network, copy: Path) -> None:
    """After its expiry a directory is no longer valid, at the very second."""
    end = network.directory.expires_at
    assert code_of(lambda: read_copy(copy, network, now=end)) == "directory-expired"
    assert read_copy(copy, network, now=end - timedelta(seconds=1)) == network.directory


@pytest.mark.parametrize("file", ["network.toml", "root.json", "directory.json", "broker/admin.password"])
def test_a_missing_file_is_named(file: str, tmp_path: Path) -> None:
    """A folder that is not a whole network is refused, and the sentence says which file is missing."""
    made = write_network(tmp_path / "new", ["BRU"])
    (made.folder / file).unlink()
    with pytest.raises(Misconfigured, match=Path(file).name) as caught:
        load_network(made.folder)
    assert caught.value.code == "not-a-network"


def test_a_centre_that_moved_away_is_no_obstacle(tmp_path: Path) -> None:
    """When a centre took its folder away, its broker password is unknown here and the rest still loads."""
    made = write_network(tmp_path / "new", ["BRU", "LYO"])
    shutil.rmtree(made.centre("LYO"))
    assert set(load_network(made.folder).passwords) == {"BRU"}
