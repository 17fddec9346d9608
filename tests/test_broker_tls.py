"""TLS to the broker: two nodes whose certificates are their accounts, and every way in which a certificate can be wrong."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.exceptions import ChannelClosed, ProbableAuthenticationError

from relay.broker import Broker, BrokerPlan
from relay.certificates import CertificateAuthority, Issued, read_certificate
from relay.cli import run
from relay.errors import Misconfigured
from relay.log import Log
from relay.network import Network, write_network
from relay.rabbit import Management, PrivateBroker
from relay.settings import load
from relay.tls import Identity, client_context, is_loopback
from relay.topology import CONTROL, control_key, exchange, lane_key, queue
from tests.console import taken
from tests.live import Live, eventually, message

A, B = "TLSA", "TLSB"
EXPIRED = timedelta(days=-1)
Context = Callable[[], ssl.SSLContext | None]


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Write an encrypted network, whose broker's certificate names 127.0.0.1 and nothing else."""
    network = write_network(tmp_path_factory.mktemp("tls") / "net", (A, B), tls=True)
    put(network.folder / "broker" / "tls", authority(network).server(["127.0.0.1"], datetime.now(UTC)))
    return network


@pytest.fixture(scope="module")
def rabbit(encrypted: Network) -> Iterator[PrivateBroker]:
    """Run RabbitMQ with TLS."""
    broker = encrypted.broker
    private = PrivateBroker(
        encrypted.broker_folder,
        amqp_port=broker.port,
        management_port=broker.management_port,
        admin=broker.admin,
        password=broker.admin_password,
        definitions=encrypted.definitions(),
        tls=broker.tls,
        temporary=True,
    )
    with private:
        yield private


@dataclass(frozen=True)
class World:
    """An encrypted network with its broker, and certificates made for a test."""

    network: Network
    folder: Path

    @property
    def ca(self) -> Path:
        """The network's authority."""
        return self.network.folder / "ca" / "certificate.pem"

    def own(self, centre: str = A) -> Identity:
        """Return a centre's certificate as the network was written with."""
        folder = self.network.centre(centre) / "tls"
        return Identity(folder / "certificate.pem", folder / "key.pem")

    def keep(self, issued: Issued) -> Identity:
        """Keep a certificate of the test's own."""
        folder = self.folder / f"certificate-{len(list(self.folder.iterdir()))}"
        put(folder, issued)
        return Identity(folder / "certificate.pem", folder / "key.pem")


@pytest.fixture
def world(encrypted: Network, rabbit: PrivateBroker, tmp_path: Path) -> World:
    """Have the network and its running broker."""
    assert rabbit.running
    return World(encrypted, tmp_path)


def authority(network: Network) -> CertificateAuthority:
    """Return the network's certificate authority."""
    return CertificateAuthority.load(network.folder / "ca" / "certificate.pem", network.folder / "ca" / "key.pem")


def put(folder: Path, issued: Issued) -> None:
    """Put a certificate and its key in place, as a renewal does."""
    folder.mkdir(exist_ok=True)
    for name, content in (("certificate.pem", issued.certificate), ("key.pem", issued.key)):
        new = folder / f"{name}.new"
        new.touch(mode=0o600)
        new.write_bytes(content)
        new.replace(folder / name)


def plan(network: Network, tls: Context, **changes: Any) -> BrokerPlan:
    """Return what a node of A would ask of its broker."""
    given: dict[str, Any] = {
        "url": network.broker.url(A),
        "password": lambda: "unused",
        "exchange": exchange(A),
        "queues": ((CONTROL, queue(A, CONTROL)),),
        "prefetch": 8,
        "confirm_seconds": 10,
        "reconnect_seconds": 0.2,
        "heartbeat_seconds": 15,
        "ping_key": control_key(A, A),
        "ping_seconds": 10,
        "ping_limit_seconds": 20,
        "tls": tls,
        "external": True,
    }
    return BrokerPlan(**(given | changes))


@contextlib.asynccontextmanager
async def running(given: BrokerPlan) -> AsyncIterator[Broker]:
    """Run the broker module alone."""
    broker = Broker(given, Log(A))
    task = asyncio.create_task(broker.run(lambda _: None, lambda: None))
    try:
        yield broker
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def trouble(given: BrokerPlan) -> tuple[str, str]:
    """Return the code and the sentence with which the broker module is stuck.

    An attempt that a stalled machine overtook says that the broker was not reached; the next one says what is wrong.
    """
    async with running(given) as broker:
        await eventually(lambda: broker.trouble is not None and broker.trouble.code != "broker-unreachable")
        assert not broker.connected.is_set()
        assert broker.trouble is not None
        return broker.trouble.code, broker.trouble.detail


@contextlib.asynccontextmanager
async def impostor(identity: Identity | None) -> AsyncIterator[str]:
    """Listen on loopback as something that is not the broker, with a certificate or in clear; give its address."""
    context = None
    if identity is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"AMQP\x00\x00\x09\x01")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield f"amqps://{A}@127.0.0.1:{server.sockets[0].getsockname()[1]}/%2F"
    finally:
        server.close()
        await server.wait_closed()


async def test_two_nodes_talk_through_tls_by_their_certificates_alone(world: World, rabbit: PrivateBroker) -> None:
    """No centre has a password; a message is delivered, and the plan of the broker finds nothing to change."""
    live = Live(world.network, rabbit)
    try:
        await live.start(A, B)
        stored = await live.submit(A, message())
        await taken(live, B, stored.id)
        assert "delivered" in await live.reaches(A, stored.id, B, "delivered")
    finally:
        await live.close()
    with rabbit.management() as management:
        assert management.plan(world.network.topology, world.network.passwords) == []


async def test_a_renewed_certificate_is_taken_without_a_restart(world: World, rabbit: PrivateBroker) -> None:
    """A connection made after the certificate expired fails and says so; the renewed one lets the same node in again."""
    folder, signer = world.network.centre(A) / "tls", authority(world.network)
    live = Live(world.network, rabbit)
    try:
        await live.start(A)
        broker = live[A].broker
        put(folder, signer.client(A, datetime.now(UTC), valid=EXPIRED))
        cut(broker)
        await eventually(lambda: broker.trouble is not None and broker.trouble.code == "certificate-expired")
        assert not (await live[A].health()).ready
        put(folder, signer.client(A, datetime.now(UTC)))
        await asyncio.wait_for(broker.connected.wait(), 60)
        await eventually(lambda: broker.trouble is None)
    finally:
        await live.close()


def test_the_network_renews_its_certificates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One command makes new ones by the same authority, for those who are named or for all; the broker's is for its host."""
    network = write_network(tmp_path / "net", (A, B), "amqps://broker.example/", tls=True)
    folders = [network.centre(A) / "tls", network.centre(B) / "tls", network.folder / "broker" / "tls"]

    def renewed(*arguments: str) -> list[bool]:
        before = [(folder / "certificate.pem").read_bytes() for folder in folders]
        assert run(["network", "renew", str(network.folder), *arguments]) == 0
        for folder in folders:
            client_context(folder / "ca.pem", Identity(folder / "certificate.pem", folder / "key.pem"))
        return [(folder / "certificate.pem").read_bytes() != old for folder, old in zip(folders, before, strict=True)]

    assert renewed("--centre", A) == [True, False, False]
    assert renewed("--broker") == [False, False, True]
    assert renewed() == [True, True, True]
    assert read_certificate(folders[2] / "certificate.pem").names == {"broker.example"}
    assert read_certificate(folders[1] / "certificate.pem").names == {B}
    assert run(["network", "renew", str(network.folder), "--centre", "../x"]) == 78
    assert "not-a-member" in capsys.readouterr().err
    (network.folder / "ca" / "key.pem").unlink()
    assert run(["network", "renew", str(network.folder)]) == 78
    assert "bad-certificate" in capsys.readouterr().err


def cut(broker: Broker) -> None:
    """Cut the sockets to the broker, as a network does."""
    assert broker._link is not None
    broker._link._sockets.cut()


async def test_a_node_without_a_certificate_is_refused(world: World) -> None:
    """The broker asks everybody for one, under TLS 1.3 too, where its answer comes late; the code names it."""
    code, said = await trouble(plan(world.network, lambda: client_context(world.ca)))
    assert code == "client-certificate-refused", said


async def test_a_certificate_that_the_broker_does_not_know_is_refused(world: World) -> None:
    """Another authority may write our name as often as it likes."""
    other = world.keep(CertificateAuthority.generate("another", datetime.now(UTC)).client(A, datetime.now(UTC)))
    code, said = await trouble(plan(world.network, lambda: client_context(world.ca, other, owner=A)))
    assert code == "client-certificate-refused", said


async def test_under_tls_1_2_it_is_refused_alike(world: World) -> None:
    """The older protocol says it in the handshake, with another alert."""
    code, said = await trouble(plan(world.network, lambda: older(client_context(world.ca))))
    assert code == "client-certificate-refused", said


def older(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let a context speak TLS 1.2 at most."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


async def test_an_expired_certificate_is_not_even_shown_and_would_be_refused(world: World) -> None:
    """The node sees it before the broker does; a node that did not would be refused by the broker."""
    mine = world.keep(authority(world.network).client(A, datetime.now(UTC), valid=EXPIRED))
    code, said = await trouble(plan(world.network, lambda: client_context(world.ca, mine, owner=A)))
    assert code == "certificate-expired", said
    assert str(mine.certificate) in said
    code, said = await trouble(plan(world.network, lambda: shown(world.ca, mine)))
    assert code == "client-certificate-refused", said


def shown(ca: Path, identity: Identity) -> ssl.SSLContext:
    """Return a context that shows a certificate without a look at it."""
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(identity.certificate, identity.key)
    return context


async def test_a_broker_that_nobody_known_vouches_for_gets_nothing(world: World) -> None:
    """Whose authority is another is not the network's broker, and learns neither name nor certificate."""
    other = world.keep(CertificateAuthority.generate("another", datetime.now(UTC)).issued)
    code, said = await trouble(plan(world.network, lambda: client_context(other.certificate, world.own())))
    assert code == "broker-certificate-unknown", said


async def test_a_broker_under_another_name_gets_nothing(world: World) -> None:
    """The certificate is good, but not the one of the host in the address."""
    url = world.network.broker.url(A).replace("127.0.0.1", "localhost")
    code, said = await trouble(plan(world.network, lambda: client_context(world.ca, world.own()), url=url))
    assert code == "broker-certificate-wrong-host", said
    assert "localhost" in said


async def test_a_broker_whose_certificate_expired_gets_nothing(world: World) -> None:
    """The sentence is about the broker's certificate, not about ours."""
    old = world.keep(authority(world.network).server(["127.0.0.1"], datetime.now(UTC), valid=EXPIRED))
    async with impostor(old) as url:
        code, said = await trouble(plan(world.network, lambda: client_context(world.ca, world.own()), url=url))
    assert code == "broker-certificate-expired", said


async def test_no_centre_can_pose_as_the_broker(world: World) -> None:
    """A centre's certificate is for a client, so it serves nobody, even when the authority wrote the host's name into it."""
    posing = world.keep(authority(world.network).client("127.0.0.1", datetime.now(UTC)))
    for identity in (posing, world.own(B)):
        async with impostor(identity) as url:
            code, said = await trouble(plan(world.network, lambda: client_context(world.ca, world.own()), url=url))
        assert code in {"broker-certificate-unknown", "broker-certificate-wrong-host"}, said


async def test_something_that_does_not_speak_tls_is_said_to_be_that(world: World) -> None:
    """Whoever gives the port without encryption learns which kind of trouble it is."""
    async with impostor(None) as url:
        code, said = await trouble(plan(world.network, lambda: client_context(world.ca, world.own()), url=url))
    assert code == "broker-tls-failed", said


async def test_the_certificate_of_another_centre_is_not_shown(world: World) -> None:
    """A node whose files were mixed up says so; it neither acts as the other centre nor lets the broker think it does."""
    code, said = await trouble(plan(world.network, lambda: client_context(world.ca, world.own(B), owner=A)))
    assert code == "wrong-certificate", said
    assert B in said


async def test_the_certificate_of_another_centre_opens_nothing_of_ours(world: World) -> None:
    """Whoever holds B's certificate is B to the broker, whatever account he asks for: nothing of A's can be read or written."""
    url = world.network.broker.url(A) + "?auth=external"
    connection = await aio_pika.connect(url, ssl_context=client_context(world.ca, world.own(B)))
    async with connection:
        for refused in (read, publish):
            channel = await connection.channel()
            with pytest.raises(ChannelClosed, match="ACCESS_REFUSED"):
                await refused(channel)


async def read(channel: aio_pika.abc.AbstractChannel) -> None:
    """Try to read A's queue."""
    await (await channel.get_queue(queue(A, CONTROL), ensure=False)).get()


async def publish(channel: aio_pika.abc.AbstractChannel) -> None:
    """Try to write A's exchange."""
    outbox = await channel.get_exchange(exchange(A), ensure=False)
    await outbox.publish(aio_pika.Message(b"as if from A"), lane_key(A, B, "routine"))


async def test_a_password_inside_tls_works_and_an_account_without_one_has_none(world: World, rabbit: PrivateBroker) -> None:
    """PLAIN is for accounts that have a password, as the administrator's; a centre's has none that could be guessed."""
    admin = plan(
        world.network,
        lambda: client_context(world.ca, world.own()),
        url=f"amqps://{rabbit.admin}@127.0.0.1:{rabbit.amqp_port}/%2F",
        password=lambda: rabbit.password,
        external=False,
    )
    async with running(admin) as broker:
        await asyncio.wait_for(broker.connected.wait(), 60)
    for guess in ("", A, "x"):
        with pytest.raises(ProbableAuthenticationError):
            await aio_pika.connect(rabbit.url(A, guess), ssl_context=client_context(world.ca, world.own()))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.8.7", "::1", "[::1]"])
def test_what_is_literally_this_machine_may_be_in_clear(host: str, tmp_path: Path) -> None:
    """Loopback needs no encryption."""
    assert is_loopback(host)
    assert load(settings(tmp_path, f"amqp://{A}@{host if ':' not in host else '[::1]'}/")).centre == A


@pytest.mark.parametrize(
    "host",
    ["broker.example", "localhost.example", "10.0.0.1", "127.0.0.1.example", "0", "[::ffff:127.0.0.1]", "127.1", "[::]"],
)
def test_nothing_goes_to_another_machine_in_clear(host: str, tmp_path: Path) -> None:
    """The settings are refused, the link refuses by itself, and the management API's address is judged alike."""
    for scheme in ("amqp", "AMQP"):
        assert code_of(lambda scheme=scheme: load(settings(tmp_path, f"{scheme}://{A}@{host}/"))) == "broker-not-encrypted"
    assert code_of(lambda: Management(f"http://{host}:15672", "admin", "secret")) == "management-not-encrypted"
    Management(f"https://{host}:15671", "admin", "secret").close()


async def test_the_link_itself_refuses_to_send_in_clear(world: World) -> None:
    """Whatever made the plan, no socket is opened to another machine without TLS."""
    code, said = await trouble(plan(world.network, lambda: None, url=f"amqp://{A}@broker.example/%2F", external=False))
    assert code == "broker-not-encrypted", said


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('url = "amqps://x/"\n[broker.tls]\ncertificate = "a.pem"\n', "belong together"),
        ('url = "amqp://127.0.0.1/"\n[broker.tls]\nca = "a.pem"\n', "not amqps"),
        ('url = "amqps://x/"\nauthentication = "certificate"\n', "needs tls.certificate"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(lines: str, said: str, tmp_path: Path) -> None:
    """Half a certificate, or TLS at an address that has none, is a mistake and not a preference."""
    file = tmp_path / "node.toml"
    file.write_text(f'centre = "{A}"\nnetwork = "{"0" * 64}"\n[broker]\n{lines}')
    with pytest.raises(Misconfigured, match=said):
        load(file)


def test_files_that_are_no_certificate_are_named(tmp_path: Path) -> None:
    """Missing, of another kind, not belonging together, under a password, readable by others: each is said, with its file."""
    now = datetime.now(UTC)
    signer = CertificateAuthority.generate("x", now)
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        put(folder, signer.client(A, now))
    one, two = (Identity(folder / "certificate.pem", folder / "key.pem") for folder in folders)
    assert code_of(lambda: client_context(tmp_path / "none.pem")) == "bad-certificate"
    assert code_of(lambda: client_context(one.key)) == "bad-certificate"
    assert code_of(lambda: client_context(None, Identity(one.certificate, two.key))) == "bad-certificate"
    assert code_of(lambda: client_context(None, Identity(tmp_path / "none.pem", one.key))) == "bad-certificate"
    assert code_of(lambda: client_context(None, Identity(one.key, one.key))) == "bad-certificate"
    one.key.chmod(0o640)
    assert code_of(lambda: client_context(None, one)) == "key-file-exposed"


def settings(folder: Path, url: str) -> Path:
    """Write settings with a broker's address."""
    file = folder / "node.toml"
    file.write_text(f'centre = "{A}"\nnetwork = "{"0" * 64}"\n[broker]\nurl = "{url}"\n')
    return file


def code_of(call: Callable[[], object]) -> str:
    """Return the code with which a call is refused."""
    with pytest.raises(Misconfigured) as caught:
        call()
    return caught.value.code
