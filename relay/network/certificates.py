"""The certificates of a new network: its own authority, the broker's, and one per centre.

``ca/`` holds the authority with its key, ``broker/tls/`` what the broker shows, ``centres/ID/tls/`` what a centre shows, each
with the authority by which it knows the others. In life the authority's key is kept apart, as those of the directory are.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from relay.certificates import CertificateAuthority, Issued
from relay.keys import write_private
from relay.tls import is_loopback


def write(folder: Path, name: str, host: str, centres: Iterable[str], now: datetime) -> None:
    """Write every certificate of a network whose broker is reached at ``host``."""
    authority = CertificateAuthority.generate(f"{name} transport", now)
    _save(folder / "ca", authority.issued)
    hosts = dict.fromkeys([host, "127.0.0.1", "localhost"] if is_loopback(host) else [host])
    _save(folder / "broker" / "tls", authority.server(list(hosts), now), authority)
    for centre in centres:
        _save(folder / "centres" / centre / "tls", authority.client(centre, now), authority)


def _save(folder: Path, issued: Issued, authority: CertificateAuthority | None = None) -> None:
    """Write a certificate and its key, and who vouches for the other side."""
    folder.mkdir(mode=0o700)
    if authority is not None:
        (folder / "ca.pem").write_bytes(authority.issued.certificate)
    (folder / "certificate.pem").write_bytes(issued.certificate)
    write_private(folder / "key.pem", issued.key)
