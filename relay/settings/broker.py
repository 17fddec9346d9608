"""Settings of the broker: where it is, how the account is proven, how patient the node is with it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from relay import tls
from relay.errors import Misconfigured
from relay.settings.secret import read_secret
from relay.settings.section import Section, check_pair, paired


class BrokerTlsSettings(Section):
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


class BrokerSettings(Section):
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
        identity = paired(self.tls.certificate, self.tls.key)
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
        check_pair(self.tls.certificate, self.tls.key)
        if self.tls != BrokerTlsSettings() and not self.url.lower().startswith("amqps:"):
            raise ValueError("tls is set, but the address is not amqps://")
        if self.authentication == "certificate" and self.tls.certificate is None:
            raise ValueError("authentication by certificate needs tls.certificate and tls.key")
        return self
