"""Settings of the console: where it listens, its certificate, how long who is signed in stays so."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from pydantic import Field, model_validator

from relay import tls
from relay.errors import RelayError
from relay.settings.api import ApiTlsSettings
from relay.settings.section import Address, Section, check_pair, paired
from relay.tls import Identity


class ConsoleTlsSettings(Section):
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
        check_pair(self.certificate, self.key)
        return self


class ConsoleSettings(Section):
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
        return paired(self.tls.certificate, self.tls.key) or paired(api.certificate, api.key)
