"""Certificates of transport: an authority of a network's own, what it signs, and what a certificate says of itself.

A network may have its own certificate authority (CA): it signs one certificate for the broker, which names hosts and serves
nothing but the server's side, and one per centre, which names the centre and serves nothing but the client's side. So no centre
can pose as the broker, whatever the broker's host is. Keys are ECDSA over P-256 (RFC 5480), which RabbitMQ and every TLS library
take. These keys sign and open nothing that a centre says: they protect the road, not the message.

A network may as well use the certificates of an authority that it has already; nothing here is needed then but
:func:`read_certificate`.

Errors raised: ``Misconfigured`` with the code ``bad-certificate``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from relay.errors import Misconfigured

VALID = timedelta(days=397)
AUTHORITY_VALID = timedelta(days=3650)
SKEW = timedelta(minutes=5)  # a certificate is valid on a machine whose clock is a little behind, too


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says of itself; nothing here verified it."""

    names: frozenset[str]
    """Its common name and its alternative names."""
    valid_from: datetime
    valid_until: datetime


class CertificateAuthority:
    """A certificate authority with its private key."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def generate(cls, name: str, now: datetime) -> CertificateAuthority:
        """Make an authority, valid for ten years; it signs certificates and no further authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = _builder(subject, subject, key, now - SKEW, now + AUTHORITY_VALID)
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> CertificateAuthority:
        """Read an authority from two PEM files."""
        private = _private(key)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise Misconfigured("bad-certificate", f"{key} is no key of an authority that this made.")
        return cls(_read(certificate), private)

    @property
    def issued(self) -> Issued:
        """The authority's own certificate and key."""
        return Issued(_pem(self._certificate), _key_pem(self._key))

    def server(self, hosts: Sequence[str], now: datetime, *, valid: timedelta = VALID) -> Issued:
        """Return a certificate for a server that is reached under these host names or addresses."""
        names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
        return self._issue(hosts[0], (names,), ExtendedKeyUsageOID.SERVER_AUTH, now, valid)

    def client(self, name: str, now: datetime, *, valid: timedelta = VALID) -> Issued:
        """Return a certificate for a client; its common name is the account's, for a centre its id."""
        return self._issue(name, (), ExtendedKeyUsageOID.CLIENT_AUTH, now, valid)

    def _issue(
        self, name: str, further: Iterable[x509.ExtensionType], use: ObjectIdentifier, now: datetime, valid: timedelta
    ) -> Issued:
        """Sign a certificate that begins with the authority at the earliest; a negative ``valid`` makes an expired one."""
        key = ec.generate_private_key(ec.SECP256R1())
        begins = min(now, now + valid) - SKEW
        builder = (
            _builder(_name(name), self._certificate.subject, key, begins, now + valid)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for extension in further:
            builder = builder.add_extension(extension, critical=False)
        return Issued(_pem(builder.sign(self._key, hashes.SHA256())), _key_pem(key))


def read_certificate(path: Path) -> Certificate:
    """Return what the first certificate of a PEM file says; raise ``Misconfigured`` when there is none."""
    found = _read(path)
    common = [str(item.value) for item in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return Certificate(frozenset((*common, *_alternatives(found))), found.not_valid_before_utc, found.not_valid_after_utc)


def _alternatives(found: x509.Certificate) -> list[str]:
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def _read(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise Misconfigured("bad-certificate", f"The certificate {path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise Misconfigured("bad-certificate", f"{path} holds no certificate in PEM.") from error


def _private(path: Path) -> object:
    try:
        return serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise Misconfigured("bad-certificate", f"The key {path} can't be read: {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise Misconfigured("bad-certificate", f"{path} holds no private key in PEM that is free of a password.") from error


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
