"""Renewals: says in time that a certificate of this node's connections ends, as custody does of keys.

The files are read at each look, so a renewed one ends the warning by itself. What can't be read is left to whoever uses it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from relay.centre import Centre
from relay.certificates import read_certificate
from relay.clock import from_ms, iso, to_ms
from relay.errors import Misconfigured
from relay.keyring import threshold
from relay.log import Event


class Renewals:
    """Looks after the certificates that the settings name."""

    def __init__(self, centre: Centre) -> None:
        settings = centre.settings
        self._files = {
            "broker-certificate": settings.broker.tls.certificate,
            "api-certificate": settings.api.tls.certificate,
            "console-certificate": settings.console.tls.certificate,
        }
        self._centre = centre
        self._warned: dict[str, int | None] = {}

    def look(self) -> tuple[str, ...]:
        """Set the metric, log each threshold once (60, 14 and 3 days), and return what an operator should know."""
        return tuple(self._sentences(from_ms(self._centre.now())))

    def _sentences(self, now: datetime) -> Iterator[str]:
        for use, file in self._files.items():
            if file is not None and (end := _end(file)) is not None:
                self._centre.metrics.key_expiry.labels(use).set(end.timestamp())
                days = threshold(end, now)
                if days is not None:
                    yield f"The certificate {file} is valid until {end:%Y-%m-%d} only: put a renewed one in its place."
                if days is not None and days != self._warned.get(use):
                    self._centre.log.warning(Event.KEY_EXPIRING, use=use, days=days, until=iso(to_ms(end)))
                self._warned[use] = days


def _end(file: Path) -> datetime | None:
    with contextlib.suppress(Misconfigured):
        return read_certificate(file).valid_until
    return None
