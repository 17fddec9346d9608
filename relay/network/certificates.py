"""The certificates of a new network: its own authority, the broker's, and one per centre.

``ca/`` holds the authority with its key, ``broker/tls/`` what the broker shows, ``centres/ID/tls/`` what a centre shows, each
with the authority by which it knows the others. A centre whose API others reach gets one for that besides (:func:`serve`). In
life the authority's key is kept apart, as those of the directory are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from relay.certificates import CertificateAuthority, Issued
from relay.keys import write_private
from relay.tls import is_loopback


def write(folder: Path, name: str, host: str, centres: Iterable[str], now: datetime) -> None:
    """Write an authority and every certificate of a network whose broker is reached at ``host``."""
    authority = CertificateAuthority.generate(f"{name} transport", now)
    _save(folder / "ca", authority.issued)
    renew(folder, centres, now, host=host)


def renew(folder: Path, centres: Iterable[str], now: datetime, *, host: str | None = None) -> list[Path]:
    """Put new certificates in place by the network's authority, for centres and the broker's ``host``; return their folders.

    Raises ``Misconfigured`` (``bad-certificate``) when the authority or its key is not here.
    """
    authority = CertificateAuthority.load(folder / "ca" / "certificate.pem", folder / "ca" / "key.pem")
    made = {folder / "centres" / centre / "tls": authority.client(centre, now) for centre in centres}
    if host is not None:
        hosts = dict.fromkeys([host, "127.0.0.1", "localhost"] if is_loopback(host) else [host])
        made[folder / "broker" / "tls"] = authority.server(list(hosts), now)
    for place, issued in made.items():
        _save(place, issued, authority)
    return list(made)


def serve(folder: Path, centre: str, hosts: Sequence[str], now: datetime) -> Path:
    """Put a certificate in place by which a centre's API and console are reached at these hosts; return it.

    It names hosts and not the centre: it opens no account at the broker. Raises ``Misconfigured`` as :func:`renew`.
    """
    authority = CertificateAuthority.load(folder / "ca" / "certificate.pem", folder / "ca" / "key.pem")
    place = folder / "centres" / centre / "tls"
    _save(place, authority.server(hosts, now), authority, ("api-key.pem", "api.pem"))
    return place / "api.pem"


def _save(
    folder: Path,
    issued: Issued,
    authority: CertificateAuthority | None = None,
    names: tuple[str, str] = ("key.pem", "certificate.pem"),
) -> None:
    """Put a key and its certificate in place, each at once and whole, and who vouches for the other side."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if authority is not None:
        (folder / "ca.pem").write_bytes(authority.issued.certificate)
    for name, content in zip(names, (issued.key, issued.certificate), strict=True):
        new = folder / f"{name}.new"
        new.unlink(missing_ok=True)
        write_private(new, content)
        new.replace(folder / name)
