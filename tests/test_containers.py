"""What is deployed in containers, as far as it can be judged without an engine: schema, files, settings, instructions."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.cli import run
from relay.network import load_network, write_network
from relay.ports import HOST, free_ports
from relay.rabbit import PrivateBroker
from relay.rabbit import configuration as private
from relay.settings import Settings, load
from relay.tls import Identity, ServerTls
from tests.live import Live, message

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
CONTAINERFILE = DEPLOY / "container" / "Containerfile"
PAGE = ROOT / "docs" / "howto" / "deploy-with-containers.md"
CENTRES = {"node-aaa": "AAA", "node-bbb": "BBB"}
INSTRUCTIONS = {"FROM", "WORKDIR", "RUN", "COPY", "ENV", "USER", "VOLUME", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
MOUNTED = "${RELAY_NETWORK:-../net}"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """Read the compose file."""
    read: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the network as the page says it, by its commands."""
    folder = tmp_path_factory.mktemp("containers")
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in (line[2:] for block in blocks for line in block.splitlines()):
            words = shlex.split(command)
            status = run(words[1:]) if words[0] == "relay" else subprocess.run(words, check=False).returncode
            assert status == 0, command
    return folder / "net"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the container file, each with what it is given; lines that go on are one."""
    lines = [line for line in CONTAINERFILE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.strip().partition(" ") for line in joined.splitlines())]


def test_the_compose_file_is_one() -> None:
    """It is valid by the Compose Specification's schema."""
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_that_the_compose_file_mounts_exists(compose: dict[str, Any], network: Path) -> None:
    """Those of the repository, and those of a network that was written as the page says."""
    volumes = [one for service in compose["services"].values() for one in service.get("volumes", ())]
    sources = [one.removeprefix(MOUNTED).partition(":")[0] if one.startswith(MOUNTED) else "" for one in volumes]
    assert [one for one in sources if one and not (network / one.lstrip("/")).exists()] == []
    own = [one.partition(":")[0] for one in volumes if one.startswith(".")]
    assert [one for one in own if not (DEPLOY / one).exists()] == []
    named = {one.partition(":")[0] for one in volumes} - set(own)
    assert {one for one in named if not one.startswith("${")} == set(compose["volumes"])
    secrets = [one["file"].removeprefix(MOUNTED).lstrip("/") for one in compose["secrets"].values()]
    assert [one for one in secrets if not (network / one).is_file()] == []


def test_nothing_is_published_beyond_this_machine_and_no_secret_is_in_the_environment(compose: dict[str, Any]) -> None:
    """Ports are published on loopback; what is secret is a file."""
    for name, service in compose["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        given = service.get("environment", {})
        assert [key for key in given if re.search("PASSWORD|TOKEN|SECRET", key) and not key.endswith("__FILE")] == []


@pytest.mark.parametrize("service", CENTRES)
def test_a_node_is_confined(compose: dict[str, Any], service: str) -> None:
    """No root, no capability, nothing to write to but its store; time enough to drain."""
    node = compose["services"][service]
    assert node["user"] == "10001:10001"
    assert node["read_only"] is True
    assert node["cap_drop"] == ["ALL"]
    assert node["security_opt"] == ["no-new-privileges:true"]
    assert [one for one in node["volumes"] if not one.endswith(":ro")] == [
        f"store-{service.removeprefix('node-')}:/var/lib/intercentre-relay"
    ]
    assert int(node["stop_grace_period"].removesuffix("s")) > 10


@pytest.mark.parametrize(("service", "centre"), CENTRES.items())
def test_a_node_loads_the_settings_of_its_container(
    compose: dict[str, Any], network: Path, service: str, centre: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment of the service, over the network's own file, gives a node that listens encrypted, with usable files."""
    for name, value in compose["services"][service]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = load(network / "centres" / centre / "node.toml")
    settings.broker.check(centre)
    assert settings.api.tls.context() is not None
    assert settings.console.encrypted(settings.api.tls)
    assert settings.broker.url == f"amqps://{centre}@rabbitmq:5671/%2F"
    assert settings.api.tls.name == service
    assert [port.split(":")[-1] for port in compose["services"][service]["ports"]] == [
        str(settings.api.listen).rpartition(":")[2],
        str(settings.console.listen).rpartition(":")[2],
    ]
    health = json.loads(next(rest for word, rest in instructions() if word == "HEALTHCHECK").partition("CMD ")[2])
    assert f"http://{settings.health.listen}/livez" in health[-1]
    assert str(settings.store.file).startswith(next(rest for word, rest in instructions() if word == "VOLUME"))


def test_the_environment_of_a_node_names_settings_only(compose: dict[str, Any]) -> None:
    """A variable that no setting has would be ignored silently."""

    def known(name: str) -> bool:
        model: Any = Settings
        for part in name.removeprefix("RELAY_").lower().split("__"):
            if part not in model.model_fields:
                return False
            model = model.model_fields[part].annotation
        return True

    names = {name for service in CENTRES for name in compose["services"][service]["environment"]}
    assert [name for name in names if not known(name)] == []


def test_prometheus_of_the_compose_file_is_that_which_is_deployed(compose: dict[str, Any]) -> None:
    """It asks the nodes by the names in their certificates, with the tokens that are mounted; else it is as the one beside."""
    mine = yaml.safe_load((DEPLOY / "container" / "prometheus.yml").read_text(encoding="utf-8"))
    theirs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    assert mine["global"] == theirs["global"]
    assert mine["rule_files"] == theirs["rule_files"]
    secrets = set(compose["services"]["prometheus"]["secrets"])
    for job, (service, centre) in zip(mine["scrape_configs"], CENTRES.items(), strict=True):
        assert job["metrics_path"] == theirs["scrape_configs"][0]["metrics_path"]
        assert job["metric_relabel_configs"] == theirs["scrape_configs"][0]["metric_relabel_configs"]
        assert job["static_configs"] == [
            {"targets": [f"{service}:8443"], "labels": {"centre": centre, "job": theirs["scrape_configs"][0]["job_name"]}}
        ]
        assert Path(job["authorization"]["credentials_file"]).name in secrets
    said = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", str(DEPLOY / "container" / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr


def test_the_container_file_is_made_of_instructions_and_copies_what_exists() -> None:
    """Each line is an instruction; what is copied is in the repository and is let through to the build."""
    ignored = (DEPLOY / "container" / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1:2] == ["*"]
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    for word, rest in instructions():
        assert word in INSTRUCTIONS, word
        if word == "COPY" and not rest.startswith("--from="):
            sources = rest.split()[:-1]
            assert [one for one in sources if not (ROOT / one).exists() or one not in let_through] == []
        if word in {"ENTRYPOINT", "CMD"}:
            assert isinstance(json.loads(rest), list)


def test_the_image_runs_as_nobody_in_particular_from_the_hashed_lock() -> None:
    """Installed by hash alone, run by a user with a number, ended by the signal that the node drains on."""
    lines = instructions()
    installs = [rest for word, rest in lines if word == "RUN" and " pip install" in rest]
    assert all("--require-hashes" in one or "--no-deps" in one for one in installs)
    assert ("USER", "10001:10001") in lines
    assert ("STOPSIGNAL", "SIGTERM") in lines
    python = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert {rest.split()[0].rpartition(":")[2] for word, rest in lines if word == "FROM"} == {
        f"{python.removeprefix('>=')}-slim-bookworm"
    }


def rabbitmq(file: Path) -> dict[str, str]:
    """Return the keys and values of a RabbitMQ configuration."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def test_rabbitmq_s_configuration_says_what_the_page_and_the_private_broker_say(network: Path) -> None:
    """Whatever the page about encryption asks of a broker stands there, and what our own broker runs with, places aside."""
    given = rabbitmq(DEPLOY / "rabbitmq" / "rabbitmq.conf")
    text = (ROOT / "docs" / "howto" / "encrypt-the-connections.md").read_text(encoding="utf-8")
    asked = dict(
        re.findall(r"^([a-z_.0-9]+) = (\S+)$", text.partition("rabbitmq.conf")[2].partition("Enable the plugin")[0], re.MULTILINE)
    )
    assert "ssl_cert_login_from" in asked
    assert {key: value for key, value in asked.items() if given.get(key) != value} == {}
    tls = load_network(network).broker.tls
    assert isinstance(tls, ServerTls)
    assert isinstance(tls.identity, Identity)
    ours = private.configuration("127.0.0.1", 5671, 15671, Path("/etc/rabbitmq/definitions.json"), tls)
    own = dict(line.split(" = ") for line in ours.splitlines())
    places = re.compile(r"\.(ip|port|1|cacertfile|certfile|keyfile)$|^log\.")
    assert {key: value for key, value in own.items() if not places.search(key) and given.get(key) != value} == {}
    assert (DEPLOY / "rabbitmq" / "enabled_plugins").read_text(encoding="utf-8") == private.plugins(tls)


class Deployed(PrivateBroker):
    """A private RabbitMQ that runs with the configuration that is deployed, at other places and ports, on loopback."""

    def _configuration(self) -> str:
        text = (DEPLOY / "rabbitmq" / "rabbitmq.conf").read_text(encoding="utf-8")
        for there, here in {
            "listeners.ssl.default = 5671": f"listeners.ssl.1 = {HOST}:{self.amqp_port}",
            "management.ssl.port = 15671": f"management.ssl.ip = {HOST}\nmanagement.ssl.port = {self.management_port}",
            "/etc/rabbitmq/tls/": f"{self.folder}/tls/",
            "/etc/rabbitmq/definitions.json": str(self.folder / "definitions.json"),
        }.items():
            assert there in text
            text = text.replace(there, here)
        return text


async def test_rabbitmq_runs_with_the_configuration_and_nodes_reach_it_by_certificate(tmp_path: Path) -> None:
    """A real RabbitMQ takes every line of it, and a message goes from one centre to another over TLS, without a password."""
    amqp, management = free_ports(2)
    network = write_network(
        tmp_path / "net", ("CONA", "CONB"), f"amqps://{HOST}:{amqp}/", management=f"https://{HOST}:{management}"
    )
    broker = Deployed(
        network.broker_folder,
        amqp_port=amqp,
        management_port=management,
        admin=network.broker.admin,
        password=network.broker.admin_password,
        definitions=network.definitions(),
        tls=network.broker.tls,
        temporary=True,
    )
    with broker:
        live = Live(network, broker)
        try:
            await live.start("CONA", "CONB")
            stored = await live.submit("CONA", message(to=["CONB"]))
            await live.reaches("CONA", stored.id, "CONB", "accepted")
            assert [one.id for one in await live.take("CONB")] == [stored.id]
        finally:
            await live.close()
        with broker.management() as administrator:
            assert administrator.plan(network.topology) == []
