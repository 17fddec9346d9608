"""The API under TLS: certificates of both sides, their renewal while the node runs, and no token in clear to another machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from relay.api import Api
from relay.certificates import CertificateAuthority, Issued
from relay.cli import run
from relay.cli.client import Client, Tls, Where
from relay.errors import Misconfigured, RelayError
from relay.keys import write_private
from relay.network import Network, write_network
from relay.node import open_node
from relay.settings import load
from relay.tls import Identity, client_context
from tests.live import eventually

W = "TLSW"
NAME = "relay.tlsw.example"
NOW = datetime.now(UTC)


class Site:
    """A centre whose API has a certificate; nobody answers at its broker's address, which is no matter of the API's."""

    def __init__(self, folder: Path) -> None:
        self.network: Network = write_network(folder / "net", (W,))
        self.folder = self.network.centre(W) / "tls"
        self.folder.mkdir()
        self.signer = CertificateAuthority.generate("the API's", NOW)
        self.clients = CertificateAuthority.generate("the clients'", NOW)
        for name, authority in (("ca", self.signer), ("clients", self.clients)):
            (self.folder / f"{name}.pem").write_bytes(authority.issued.certificate)
        self.put("api", self.signer.server([NAME], NOW))
        self.put("client", self.clients.client("the-centre-s-system", NOW))
        self.put("stranger", self.signer.client("stranger", NOW))

    @property
    def config(self) -> Path:
        """The node's settings file."""
        return self.network.node_file(W)

    def put(self, name: str, issued: Issued) -> None:
        """Put a certificate and its key in place, as a renewal does."""
        for suffix, content in ((".pem", issued.certificate), ("-key.pem", issued.key)):
            new = self.folder / f"{name}{suffix}.new"
            write_private(new, content)
            new.replace(self.folder / f"{name}{suffix}")

    def identity(self, name: str) -> Identity:
        """Return the files of a certificate."""
        return Identity(self.folder / f"{name}.pem", self.folder / f"{name}-key.pem")

    def encrypt(self, *lines: str) -> None:
        """Give the API its certificate, and further settings."""
        tls = ["certificate = 'tls/api.pem'", "key = 'tls/api-key.pem'", "ca = 'tls/ca.pem'", f"name = '{NAME}'", *lines]
        with self.config.open("a") as file:
            file.write("\n[api.tls]\n" + "\n".join(tls) + "\n")

    def client(self, shown: str | None = None, ca: str = "ca") -> Client:
        """Return a client as a command makes it."""
        given = self.identity(shown) if shown else None
        tls = Tls(self.folder / f"{ca}.pem", given and given.certificate, given and given.key, NAME)
        url = f"https://{self.network.listen(W)}"
        return Client(Where(url, lambda role: self.network.token(W, role), tls), "operator")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Write a network of one centre with certificates for its API."""
    return Site(tmp_path)


@contextlib.asynccontextmanager
async def serving(site: Site) -> AsyncIterator[None]:
    """Run the node with its API."""
    node = await open_node(load(site.config))
    task = asyncio.create_task(node.run(Api()))
    host, port = site.network.listen(W).split(":")
    try:
        await eventually(lambda: task.done() or listens(host, int(port)))
        yield
    finally:
        node.stop()
        await task


def listens(host: str, port: int) -> bool:
    """Return whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


async def asked(client: Client) -> str:
    """Return the centre of the node that answers."""
    with contextlib.closing(client):
        answer = await asyncio.to_thread(client.ask, "GET", "/v1/health")
        return str(answer.json()["centre"])


async def refused(client: Client) -> str:
    """Return what a client says that gets no answer."""
    with pytest.raises(RelayError) as caught:
        await asked(client)
    assert caught.value.code == "node-unreachable"
    return caught.value.detail


async def shown(site: Site) -> bytes:
    """Return the certificate that the API shows now."""
    host, port = site.network.listen(W).split(":")
    context = client_context(site.folder / "ca.pem")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=NAME)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return found


async def test_a_command_speaks_https_with_what_the_settings_say(site: Site) -> None:
    """The settings name the authority and the name; without encryption nothing answers, and another authority is not believed."""
    site.encrypt()
    async with serving(site):
        assert await asyncio.to_thread(run, ["peer", "list", "--config", str(site.config)]) == 0
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as clear:
            with pytest.raises(httpx2.RemoteProtocolError):
                await clear.get(f"http://{site.network.listen(W)}/v1/health")
        assert "certificate" in await refused(site.client(ca="clients"))


async def test_a_command_without_the_settings_names_the_authority(site: Site) -> None:
    """`relay --ca FILE` goes before the command; without it the system's authorities are asked, who know nothing of this one."""
    site.put("api", site.signer.server(["127.0.0.1"], NOW))
    site.encrypt()
    url = ["--url", f"https://{site.network.listen(W)}", "--token-file", str(site.network.centre(W) / "tokens" / "operator")]
    async with serving(site):
        assert await asyncio.to_thread(run, ["--ca", str(site.folder / "ca.pem"), "peer", "list", *url]) == 0
        assert await asyncio.to_thread(run, ["peer", "list", *url]) != 0


async def test_a_renewed_certificate_is_shown_without_a_restart(site: Site) -> None:
    """The next connection sees it; files that are no pair leave the last good certificate in place."""
    site.encrypt()
    async with serving(site):
        first = await shown(site)
        site.put("api", site.signer.server([NAME], NOW))
        second = await shown(site)
        assert second != first
        (site.folder / "api-key.pem").write_bytes(site.signer.issued.key)
        assert await shown(site) == second
        site.put("api", site.signer.server([NAME], NOW, valid=timedelta(days=-1)))
        assert await shown(site) == second
        site.put("api", site.signer.server([NAME], NOW))
        assert await shown(site) not in {first, second}
        assert await asked(site.client()) == W


async def test_a_certificate_that_ends_soon_is_said(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """The log, the metric and `relay check` name it 60 days before, and fall silent once it is renewed."""
    site.put("api", site.signer.server([NAME], NOW, valid=timedelta(days=10)))
    site.encrypt()
    node = await open_node(load(site.config))
    node.custody.look()
    assert any("api.pem" in warning for warning in node.custody.warnings)
    assert 'relay_key_expiry_timestamp_seconds{use="api-certificate"}' in node.centre.metrics.text().decode()
    assert await asyncio.to_thread(run, ["check", "--config", str(site.config)]) == 2  # the node does not run
    assert "warning   certificates" in capsys.readouterr().out
    site.put("api", site.signer.server([NAME], NOW))
    node.custody.look()
    assert not any("api.pem" in warning for warning in node.custody.warnings)
    await node.centre.store.close()


async def test_clients_show_a_certificate_where_the_settings_ask_for_one(site: Site) -> None:
    """None, or one of another authority, and the connection ends; the right one lets the token be looked at, and no more."""
    site.encrypt("client_ca = 'tls/clients.pem'")
    async with serving(site):
        assert await asked(site.client("client")) == W
        await refused(site.client())
        await refused(site.client("stranger"))
        context = client_context(site.folder / "ca.pem", site.identity("client"))
        async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=60) as client:
            answer = await client.get(f"https://{site.network.listen(W)}/v1/health", extensions={"sni_hostname": NAME})
        assert answer.status_code == 401


async def test_a_new_authority_for_clients_is_taken_without_a_restart(site: Site) -> None:
    """Who is no longer vouched for is out at the next connection."""
    site.encrypt("client_ca = 'tls/clients.pem'")
    async with serving(site):
        assert await asked(site.client("client")) == W
        (site.folder / "clients.pem").write_bytes(site.signer.issued.certificate)
        await refused(site.client("client"))
        assert await asked(site.client("stranger")) == W


async def test_a_client_certificate_may_be_optional(site: Site) -> None:
    """Without one the token alone counts; a wrong one is refused all the same."""
    site.encrypt("client_ca = 'tls/clients.pem'", "client_certificates = 'optional'")
    async with serving(site):
        assert await asked(site.client()) == W
        assert await asked(site.client("client")) == W
        await refused(site.client("stranger"))


async def test_an_old_protocol_is_not_spoken(site: Site) -> None:
    """TLS 1.1 and older end in the handshake."""
    site.encrypt()
    host, port = site.network.listen(W).split(":")
    context = client_context(site.folder / "ca.pem")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with serving(site):
        with pytest.raises(OSError):  # noqa: PT011 - an alert, or an end before it is read
            await asyncio.open_connection(host, int(port), ssl=context, server_hostname=NAME)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.1.2.3", "relay.example"])  # noqa: S104 - what must be refused
def test_an_api_for_other_machines_has_a_certificate(site: Site, host: str) -> None:
    """Without one the node does not start."""
    text = site.config.read_text()
    site.config.write_text(text.replace(f'listen = "{site.network.listen(W)}"', f'listen = "{host}:8443"', 1))
    with pytest.raises(Misconfigured) as caught:
        load(site.config)
    assert caught.value.code == "api-not-encrypted"
    site.encrypt()
    assert load(site.config).api.listen == f"{host}:8443"


def test_no_token_goes_to_another_machine_in_clear(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends before it looks for the host."""
    token = str(site.network.centre(W) / "tokens" / "operator")
    assert run(["peer", "list", "--url", "http://node.example:8080", "--token-file", token]) == 78
    assert "api-not-encrypted" in capsys.readouterr().err


async def test_a_key_that_others_may_read_is_not_used(site: Site) -> None:
    """The node ends and says which file."""
    site.encrypt()
    (site.folder / "api-key.pem").chmod(0o644)
    node = await open_node(load(site.config))
    with pytest.raises(BaseExceptionGroup) as caught:
        await node.run(Api())
    assert caught.group_contains(Misconfigured, match=r"api-key\.pem")
