"""TLS: who may be spoken to in clear, and the contexts of both sides of an encrypted connection.

One rule decides what may go in clear, and no setting changes it: only what does not leave the machine. Loopback is what is
literally so, ``localhost``, ``127.0.0.0/8`` or ``::1``; a name that merely resolves to such an address is not, since whoever
answers for names could change that.

The protocol is TLS 1.2 (RFC 5246) or newer; two sides that both speak 1.3 (RFC 8446) take that. The peer's certificate and, of a
server, its host name are always verified. Files are read when a context is made: a client makes one for each attempt to
connect, a server looks at each handshake whether they changed (:class:`ServedTls`), so certificates are renewed without restart.

Errors raised: ``Misconfigured`` with the codes ``broker-not-encrypted``, ``management-not-encrypted``, ``api-not-encrypted``,
``console-not-encrypted``, ``bad-certificate``, ``certificate-expired`` and ``wrong-certificate``, and those of
:mod:`relay.private`.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from yarl import URL

from relay import private
from relay.certificates import read_certificate
from relay.errors import Misconfigured, RelayError


def is_loopback(host: str | None) -> bool:
    """Return whether a host is literally this machine."""
    name = (host or "").strip("[]").lower()
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback and (address.version == 4 or address == ipaddress.IPv6Address(1))


def refuse_clear_amqp(url: str) -> None:
    """Raise ``Misconfigured`` when an address of a broker would send what is secret to another machine in clear."""
    address = URL(url)
    if address.scheme != "amqps" and not is_loopback(address.host):
        sentence = (
            f"The broker at {address.host} is another machine, and {address.scheme or 'this'} is not encrypted: use amqps://."
        )
        raise Misconfigured("broker-not-encrypted", sentence)


def refuse_clear_management(url: str) -> None:
    """Raise ``Misconfigured`` when the management API's address would send the administrator's password in clear."""
    address = URL(url)
    if address.scheme != "https" and not is_loopback(address.host):
        sentence = f"The management API at {address.host} is another machine's: use https://."
        raise Misconfigured("management-not-encrypted", sentence)


def refuse_clear_request(url: str) -> None:
    """Raise ``Misconfigured`` when a request would carry a token to another machine in clear."""
    address = URL(url)
    if address.scheme != "https" and not is_loopback(address.host):
        raise Misconfigured("api-not-encrypted", f"The node at {address.host} is another machine's: use https://.")


def refuse_clear_api(listen: str) -> None:
    """Raise ``Misconfigured`` when an API without a certificate would listen (``host:port``) to other machines."""
    host = listen.rpartition(":")[0]
    if not is_loopback(host):
        sentence = f"The API would listen on {host} for other machines, and without a certificate it is not encrypted."
        raise Misconfigured("api-not-encrypted", sentence)


def refuse_clear_console(listen: str) -> None:
    """Raise ``Misconfigured`` when a console without a certificate would listen (``host:port``) to other machines."""
    host = listen.rpartition(":")[0]
    if not is_loopback(host):
        sentence = f"The console would listen on {host} for other machines, and without a certificate it is not encrypted."
        raise Misconfigured("console-not-encrypted", sentence)


@dataclass(frozen=True, slots=True)
class Identity:
    """The files of one side's certificate: the PEM of the certificate (its chain after it) and of its private key."""

    certificate: Path
    key: Path

    def check(self, now: datetime, *, owner: str | None = None) -> None:
        """Raise ``Misconfigured`` when others may read the key, or the certificate is not valid now or not of its ``owner``."""
        private.read(self.key)
        found = read_certificate(self.certificate)
        if not found.valid_from <= now < found.valid_until:
            sentence = f"The certificate {self.certificate} is valid from {found.valid_from:%Y-%m-%d %H:%M} to "
            raise Misconfigured("certificate-expired", f"{sentence}{found.valid_until:%Y-%m-%d %H:%M} UTC, and not now.")
        if owner is not None and owner not in found.names:
            names = ", ".join(sorted(found.names)) or "nobody"
            raise Misconfigured("wrong-certificate", f"The certificate {self.certificate} names {names}, not {owner}.")


@dataclass(frozen=True, slots=True)
class ServerTls:
    """A server's certificate, and the authorities that vouch for its clients and for itself."""

    identity: Identity
    ca: Path


def client_context(ca: Path | None, identity: Identity | None = None, *, owner: str | None = None) -> ssl.SSLContext:
    """Return the client's side, its files read now.

    ``ca`` holds the authorities by which the server is verified; None means the system's. With an ``identity`` the server may
    learn who asks; ``owner`` is whom it must name.
    """
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    except OSError as error:  # an SSLError is one
        raise Misconfigured("bad-certificate", f"{ca} can't be read as certificates in PEM: {_said(error)}.") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if identity is not None:
        identity.check(datetime.now(UTC), owner=owner)
        _load(context, identity)
    return context


def server_context(identity: Identity, client_ca: Path | None = None, *, required: bool = True) -> ssl.SSLContext:
    """Return the server's side, its files read now.

    With ``client_ca`` a client's certificate is verified by these authorities; ``required`` refuses a client that shows none.
    """
    identity.check(datetime.now(UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, identity)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        try:
            context.load_verify_locations(client_ca)
        except OSError as error:
            raise Misconfigured(
                "bad-certificate", f"{client_ca} can't be read as certificates in PEM: {_said(error)}."
            ) from error
    return context


class ServedTls:
    """The server's side for as long as it serves: files that changed are read at the next handshake.

    Files that can't be used leave the last good context in place; ``trouble`` hears of each change that could not be taken, once.
    """

    def __init__(
        self,
        identity: Identity,
        client_ca: Path | None = None,
        *,
        required: bool = True,
        trouble: Callable[[RelayError], None] = lambda _: None,
    ) -> None:
        self._make = partial(server_context, identity, client_ca, required=required)
        self._files = [identity.certificate, identity.key, *([client_ca] if client_ca else [])]
        self._trouble = trouble
        self._seen = self._stamps()
        self._current = self._make()
        self.context = self._make()
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        """Give a connection that begins the newest context; OpenSSL asks even when the client names no host."""
        if (stamps := self._stamps()) != self._seen:
            self._seen = stamps
            try:
                self._current = self._make()
            except RelayError as error:
                self._trouble(error)
        connection.context = self._current

    def _stamps(self) -> list[tuple[int, int, int]]:
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> tuple[int, int, int]:
    """Return what changes when a file is written anew or another takes its place; zeros when there is none."""
    try:
        status = file.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_ino, status.st_size)


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    try:
        context.load_cert_chain(identity.certificate, identity.key, password=_no_password)
    except OSError as error:
        files = f"{identity.certificate} and {identity.key}"
        raise Misconfigured("bad-certificate", f"{files} are no certificate and its key: {_said(error)}.") from error


def _no_password() -> str:
    """Answer for a person who is not there: a key under a password would stop the process to ask for it."""
    return ""


def _said(error: OSError) -> str:
    return (error.strerror or error.__class__.__name__).rstrip(".")
