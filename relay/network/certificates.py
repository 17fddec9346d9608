"""The certificates of a new network: its own authority, the broker's, and one per centre.

``ca/`` holds the authority with its key, ``broker/tls/`` what the broker shows, ``centres/ID/tls/`` what a centre shows and the
authority by which it knows the broker. In life the authority's key is kept apart, as those of the directory's authorities are.
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
    _save(folder / "broker" / "tls", authority.server(list(hosts), now))
    for centre in centres:
        mine = folder / "centres" / centre / "tls"
        _save(mine, authority.client(centre, now))
        (mine / "ca.pem").write_bytes(authority.issued.certificate)


def _save(folder: Path, issued: Issued) -> None:
    folder.mkdir(mode=0o700)
    (folder / "certificate.pem").write_bytes(issued.certificate)
    write_private(folder / "key.pem", issued.key)
