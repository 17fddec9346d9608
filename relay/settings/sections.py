"""The sections of a node's settings: what each key is called, what it may be, what it is when nothing is said, and what it does.

Their descriptions are what the reference and the example say (``docs/reference/settings.md``, ``config/node.toml``).
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import NoDecode

from relay import tls
from relay.errors import Misconfigured, RelayError
from relay.settings.secret import read_secret
from relay.tls import Identity

if TYPE_CHECKING:
    from relay.messages import Limits

MOST_ATTACHED = 4 * 1024 * 1024  # what the models of messages take at most; a centre may set less


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("an address is host:port")
    return value


def _listed(value: object) -> object:
    """Return a single path as the list that it stands for; in the environment a list is JSON."""
    if isinstance(value, str) and value.startswith("["):
        return json.loads(value)
    return [value] if isinstance(value, str | Path) else value


Address = Annotated[str, AfterValidator(_address)]
KeyFiles = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_listed), Field(min_length=1)]


def _identity(certificate: Path | None, key: Path | None) -> Identity | None:
    return Identity(certificate, key) if certificate is not None and key is not None else None


def _both(certificate: Path | None, key: Path | None) -> None:
    if (certificate is None) != (key is None):
        raise ValueError("certificate and key belong together")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WaitingSettings(_Section):
    """What waits at most for a newer directory that it names; beyond it the directory in force decides, and marks repair."""

    seconds: float = Field(60, ge=0, description="how long an envelope waits for the directory that it names")
    envelopes: int = Field(512, ge=0, description="most envelopes that wait at once")
    bytes: int = Field(64 * 1024 * 1024, ge=0, description="most bytes of them together")


class DirectorySettings(_Section):
    """Where the network's register lies."""

    root: Path = Field(Path("root.json"), description="the authorities' public keys")
    file: Path = Field(Path("directory.json"), description="the signed register of centres")
    signatures: Path = Field(Path("directory.signatures.json"), description="the authorities' signatures over it")
    poll_seconds: float = Field(5, gt=0, description="pause between two looks at these files for a new version")
    url: str | None = Field(
        None,
        pattern=r"^https?://[^@\s]+$",
        description="where a `directory.bundle` may be had over HTTP; without it files and peers bring new versions",
        examples=["https://directory.example/directory.bundle"],
    )
    url_seconds: float = Field(300, gt=0, description="pause between two requests to that URL")
    waiting: WaitingSettings = WaitingSettings()


class KeySettings(_Section):
    """Where the centre's private keys lie."""

    signing: KeyFiles = Field(
        (Path("keys/signing.pem"),), description="Ed25519 keys: the newest that the directory lists as valid signs"
    )
    sealing: KeyFiles = Field((Path("keys/sealing.pem"),), description="keys that open what is sealed to this centre")
    checkpoint: Annotated[tuple[Path, ...], BeforeValidator(_listed)] = Field(
        (), description="Ed25519 keys that sign checkpoints of the audit record; without one a signing key does"
    )
    storage: Path = Field(Path("keys/storage.key"), description="key under which content rests in the store")


class BrokerTlsSettings(_Section):
    """How the node and the broker know each other, at an `amqps://` address; read anew at each attempt to connect."""

    ca: Path | None = Field(
        None,
        description="certificates of the authorities that vouch for the broker; without it the system's",
        examples=["tls/ca.pem"],
    )
    certificate: Path | None = Field(
        None, description="this centre's certificate, which names it, in PEM", examples=["tls/certificate.pem"]
    )
    key: Path | None = Field(None, description="the certificate's private key, in PEM", examples=["tls/key.pem"])


class BrokerSettings(_Section):
    """The RabbitMQ that carries the network's envelopes."""

    url: str = Field(description="amqps://ACCOUNT@HOST:PORT/VHOST, without the password; amqp:// on loopback alone")
    authentication: Literal["auto", "certificate", "password"] = Field(
        "auto", description="how the account is proven; auto: by `tls.certificate` where there is one, else by the password"
    )
    password_file: Path = Field(Path("keys/broker.password"), description="file with the account's password, where one is used")
    prefetch: int = Field(32, ge=1, le=2000, description="envelopes taken from a lane before they are acknowledged")
    publish_window: int = Field(64, ge=1, le=1000, description="envelopes published and not yet confirmed")
    confirm_seconds: float = Field(30, gt=0, description="how long to wait for the broker to confirm an envelope")
    reconnect_seconds: float = Field(15, gt=0, description="longest pause between two attempts to reach the broker")
    heartbeat_seconds: int = Field(15, ge=1, le=600, description="AMQP heartbeat, proposed to the broker")
    ping_seconds: float = Field(10, gt=0, description="pause between two pings that a node sends to itself through the broker")
    ping_limit_seconds: float = Field(20, gt=0, description="how long a ping may take before the connections are made anew")
    tls: BrokerTlsSettings = BrokerTlsSettings()

    @property
    def by_certificate(self) -> bool:
        """Whether the account is proven by the certificate (EXTERNAL) rather than by a password (PLAIN)."""
        return self.authentication == "certificate" or (self.authentication == "auto" and self.tls.certificate is not None)

    def context(self, centre: str) -> ssl.SSLContext | None:
        """Return how to speak to an `amqps` broker, the files read now; None for another.

        A certificate that proves the account must name the centre; ``Misconfigured`` otherwise, and when a file can't be used.
        """
        if not self.url.lower().startswith("amqps:"):
            return None
        identity = _identity(self.tls.certificate, self.tls.key)
        return tls.client_context(self.tls.ca, identity, owner=centre if self.by_certificate else None)

    def check(self, centre: str) -> None:
        """Raise ``Misconfigured`` when password or certificate can't be used; one that expired may be renewed meanwhile."""
        if not self.by_certificate:
            read_secret(self.password_file)
        try:
            self.context(centre)
        except Misconfigured as error:
            if error.code != "certificate-expired":
                raise

    @model_validator(mode="after")
    def _fits(self) -> BrokerSettings:
        _both(self.tls.certificate, self.tls.key)
        if self.tls != BrokerTlsSettings() and not self.url.lower().startswith("amqps:"):
            raise ValueError("tls is set, but the address is not amqps://")
        if self.authentication == "certificate" and self.tls.certificate is None:
            raise ValueError("authentication by certificate needs tls.certificate and tls.key")
        return self


class StoreSettings(_Section):
    """The centre's store."""

    file: Path = Field(Path("store/relay.db"), description="the SQLite file")
    disk_floor_bytes: int = Field(256 * 1024 * 1024, ge=0, description="free disk below which no message is taken (507)")


class ApiTlsSettings(_Section):
    """The certificate of the API; with one it speaks HTTPS. Files that change are read at the next connection."""

    certificate: Path | None = Field(
        None, description="the API's certificate, its chain after it, in PEM", examples=["tls/api.pem"]
    )
    key: Path | None = Field(None, description="the certificate's private key, in PEM", examples=["tls/api-key.pem"])
    client_ca: Path | None = Field(
        None,
        description="certificates of the authorities that vouch for clients; without it no client is asked for a certificate",
        examples=["tls/clients.pem"],
    )
    client_certificates: Literal["required", "optional"] = Field(
        "required", description="with `client_ca`: whether a client without a certificate is let in; every client needs a token"
    )
    ca: Path | None = Field(
        None,
        description="certificates by which commands on this machine verify the API; without it the system's",
        examples=["tls/ca.pem"],
    )
    name: str | None = Field(
        None,
        description="host name in the certificate, for commands on this machine; without it the host they ask",
        examples=["relay.bru.example"],
    )

    def context(self, trouble: Callable[[RelayError], None] = lambda _: None) -> ssl.SSLContext | None:
        """Return the TLS that the API serves, None when it speaks plain HTTP; ``trouble`` hears of later files that are no use.

        Raises ``Misconfigured`` when a file can't be used now.
        """
        if (identity := _identity(self.certificate, self.key)) is None:
            return None
        required = self.client_certificates == "required"
        return tls.ServedTls(identity, self.client_ca, required=required, trouble=trouble).context

    @model_validator(mode="after")
    def _fits(self) -> ApiTlsSettings:
        _both(self.certificate, self.key)
        if self.certificate is None and self.client_ca is not None:
            raise ValueError("client_ca needs certificate and key")
        return self


class RateSettings(_Section):
    """How much one client of the API may ask for; a second each. More is answered 429 with ``Retry-After``."""

    submit: float = Field(5000, gt=0, description="requests a second under the role of this name")
    receive: float = Field(5000, gt=0, description="requests a second under the role of this name")
    operate: float = Field(200, gt=0, description="requests a second under the role of this name")
    audit: float = Field(200, gt=0, description="requests a second under the role of this name")
    watch: float = Field(200, gt=0, description="requests a second under the role of this name")
    read: float = Field(20, gt=0, description="requests a second under the role of this name")
    admin: float = Field(20, gt=0, description="requests a second under the role of this name")
    messages: float = Field(50_000, gt=0, description="messages a second that a client submits or takes, together")
    burst_seconds: float = Field(10, gt=0, description="how many seconds' worth may come at once after a pause")
    failures_per_minute: float = Field(600, gt=0, description="requests without a right token from one address")


class ApiSettings(_Section):
    """The HTTP interface of the centre's own system and its operators."""

    listen: Address = Field("127.0.0.1:8080", description="host:port; plain HTTP on loopback alone, see `api.tls`")
    clients: Path = Field(Path("clients.json"), description="the clients of the API, their roles and the digests of their tokens")
    tokens: Path = Field(
        Path("tokens"),
        description="folder with the tokens `system` and `operator` that commands on this machine use; not the node",
    )
    header_seconds: float = Field(10, gt=0, description="how long a request's headers may take to come")
    header_bytes: int = Field(32 * 1024, ge=1024, description="most bytes of a request's line and headers")
    body_seconds: float = Field(30, gt=0, description="how long a request's body may take to come")
    rate: RateSettings = RateSettings()
    tls: ApiTlsSettings = ApiTlsSettings()


class ConsoleTlsSettings(_Section):
    """The certificate of the console where it is another than the API's. Files that change are read at the next connection."""

    certificate: Path | None = Field(
        None,
        description="the console's certificate, its chain after it, in PEM; without it the API's",
        examples=["tls/console.pem"],
    )
    key: Path | None = Field(None, description="the certificate's private key, in PEM", examples=["tls/console-key.pem"])
    client_ca: Path | None = Field(
        None,
        description="certificates of the authorities that vouch for browsers; without it none is asked for a certificate",
        examples=["tls/browsers.pem"],
    )

    @model_validator(mode="after")
    def _fits(self) -> ConsoleTlsSettings:
        _both(self.certificate, self.key)
        return self


class ConsoleSettings(_Section):
    """The web pages on which operators see how the centre does, and act."""

    listen: Address | None = Field(
        None,
        description="host:port of the console; without it there is none. Plain HTTP on loopback alone, see `console.tls`",
        examples=["127.0.0.1:8082"],
    )
    session_minutes: float = Field(30, gt=0, description="how long who is signed in may do nothing")
    session_hours: float = Field(12, gt=0, description="how long who is signed in stays so at most")
    attempts_per_minute: float = Field(
        10,
        gt=0,
        description="sign-ins tried with one name from one address; three times that from an address, ten times with a name",
    )
    live_seconds: float = Field(2, ge=0.5, description="shortest pause between two looks at what an open page shows")
    last_words_seconds: float = Field(
        60, ge=0, description="how long a node that can't run says why at the console's address before it ends; 0: not at all"
    )
    tls: ConsoleTlsSettings = ConsoleTlsSettings()

    def context(self, api: ApiTlsSettings, trouble: Callable[[RelayError], None] = lambda _: None) -> ssl.SSLContext | None:
        """Return the TLS that the console serves, by the API's certificate where it has none of its own; None: plain HTTP.

        Raises ``Misconfigured`` when a file can't be used now.
        """
        if (identity := self._identity(api)) is None:
            return None
        return tls.ServedTls(identity, self.tls.client_ca, trouble=trouble).context

    def encrypted(self, api: ApiTlsSettings) -> bool:
        """Whether the console speaks HTTPS."""
        return self._identity(api) is not None

    def _identity(self, api: ApiTlsSettings) -> Identity | None:
        return _identity(self.tls.certificate, self.tls.key) or _identity(api.certificate, api.key)


class HealthSettings(_Section):
    """Whether the node lives and is ready, for supervisors: a listener of its own, since it needs no token."""

    listen: Address = Field("127.0.0.1:8081", description="host:port of /livez and /readyz, which say yes or no and nothing else")


class LimitSettings(_Section):
    """What a node takes at most."""

    message_bytes: int = Field(6 * 1024 * 1024, ge=1024, description="largest message")
    batch_lines: int = Field(10_000, ge=1, description="most lines of an NDJSON batch")
    batch_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="largest NDJSON batch")
    queued_envelopes: int = Field(20_000, ge=1, description="envelopes not yet sent above which submit answers 429")

    attachment_bytes: int = Field(1024 * 1024, ge=1, le=MOST_ATTACHED, description="largest attachment, decoded")
    attachments_bytes: int = Field(
        MOST_ATTACHED, ge=1, le=MOST_ATTACHED, description="most bytes of a message's attachments together, decoded"
    )

    @property
    def attachments(self) -> Limits:
        """The bounds of attachments, as ``messages.parse`` and ``messages.read`` take them."""
        from relay.messages import Limits  # noqa: PLC0415 - who only reads settings does not wait for the models

        return Limits(self.attachment_bytes, self.attachments_bytes)


class CodeSettings(_Section):
    """The code lists that this centre's messages are written with."""

    folder: Path | None = Field(
        None,
        description="folder with this centre's own versions of code lists, read at the start; without it those shipped",
        examples=["codes"],
    )


class RepairSettings(_Section):
    """When a node asks again; seconds."""

    mark_first: float = Field(1, gt=0, description="how long a message is open before the first mark")
    mark_longest: float = Field(900, gt=0, description="longest pause between two marks to a peer")
    gap: float = Field(10, ge=0, description="how long a gap is left to close by itself before it is asked for")
    heartbeat_seconds: float = Field(30, gt=0, description="pause between two heartbeats to a peer; three missed are silence")
    echo_seconds: float = Field(30, ge=0, description="how long a start waits for a peer's word that the store is no older copy")


class WindowSettings(_Section):
    """How many bytes of envelopes may be under way to one peer without its receipt, per lane; beyond them it catches up alone."""

    flash: int = Field(256 * 1024 * 1024, ge=1024, description="unreceipted bytes per peer in the lane of this name")
    immediate: int = Field(64 * 1024 * 1024, ge=1024, description="unreceipted bytes per peer in the lane of this name")
    priority: int = Field(64 * 1024 * 1024, ge=1024, description="unreceipted bytes per peer in the lane of this name")
    routine: int = Field(64 * 1024 * 1024, ge=1024, description="unreceipted bytes per peer in the lane of this name")
    exercise: int = Field(64 * 1024 * 1024, ge=1024, description="unreceipted bytes per peer in the lane of this name")


class DeadlineSettings(_Section):
    """When a message without a final word of its recipient ends; seconds."""

    grace: float = Field(60, ge=0, description="how long after a message's deadline its receipt is still waited for")


class AlarmSettings(_Section):
    """After how many seconds a message that is not accepted raises an alarm; one not delivered does after twice that."""

    flash: float = Field(120, gt=0, description="seconds until a message of this precedence must be accepted")
    immediate: float = Field(600, gt=0, description="seconds until a message of this precedence must be accepted")
    priority: float = Field(3600, gt=0, description="seconds until a message of this precedence must be accepted")
    routine: float = Field(28800, gt=0, description="seconds until a message of this precedence, or of an exercise, is accepted")


class HandoverSettings(_Section):
    """How the centre's own system gets what arrived."""

    attempts: int = Field(20, ge=1, description="how often the system may put a message off before it is dead")


class RetentionSettings(_Section):
    """When a node purges what is due; how long a kind is kept is the directory's to say."""

    every_seconds: float = Field(3600, gt=0, description="pause between two runs of retention")


class AuditSettings(_Section):
    """The audit record, and how centres watch each other's."""

    checkpoint_seconds: float = Field(60, gt=0, description="pause between two checkpoints, while there is something new")
    verify_seconds: float = Field(3600, gt=0, description="pause between two checks of the whole record")
    comparison_seconds: float = Field(
        3600, gt=0, description="length of the times in which what was sent is compared with what peers hold of it, seconds"
    )
    comparison_grace_seconds: float = Field(
        600, ge=0, description="how long after its end a time is compared first, and a difference looked at again, seconds"
    )


class LogSettings(_Section):
    """The node's log: on standard error or output, or in files of its own."""

    format: Literal["auto", "json", "pretty"] = Field("auto", description="auto: pretty on a terminal, else JSON")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe events that are written")
    messages: bool = Field(
        True, description="whether each step of each message is a line; what goes wrong with one is in any case"
    )
    stream: Literal["stderr", "stdout"] = Field("stderr", description="where the log goes when there is no `file`")
    file: Path | None = Field(
        None,
        description="file for the log, readable by its owner alone; it is renamed when it is full",
        examples=["log/relay.jsonl"],
    )
    file_bytes: int = Field(100 * 1024 * 1024, ge=4096, description="size at which the file becomes `.1`, and `.1` becomes `.2`")
    files: int = Field(10, ge=1, le=1000, description="how many such full files are kept")
