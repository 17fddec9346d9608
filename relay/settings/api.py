"""Settings of the API: where it listens and to whom, its certificate, how much one client may ask; and of the health listener."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from relay import tls
from relay.errors import RelayError
from relay.settings.section import Address, Section, check_pair, paired


class ApiTlsSettings(Section):
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
        if (identity := paired(self.certificate, self.key)) is None:
            return None
        required = self.client_certificates == "required"
        return tls.ServedTls(identity, self.client_ca, required=required, trouble=trouble).context

    @model_validator(mode="after")
    def _fits(self) -> ApiTlsSettings:
        check_pair(self.certificate, self.key)
        if self.certificate is None and self.client_ca is not None:
            raise ValueError("client_ca needs certificate and key")
        return self


class RateSettings(Section):
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


class ApiSettings(Section):
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


class HealthSettings(Section):
    """Whether the node lives and is ready, for supervisors: a listener of its own, since it needs no token."""

    listen: Address = Field("127.0.0.1:8081", description="host:port of /livez and /readyz, which say yes or no and nothing else")
