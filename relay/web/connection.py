"""A connection that ends when its caller is slow or long-winded: a request has seconds to bring its headers, and so many bytes.

uvicorn waits for ever for the first byte and for the end of the headers, and takes any number of them. :class:`Connection` is its
protocol with a deadline: the headers must be there within ``header_seconds`` of the opening or, later, of their first byte, else
the caller is told ``headers-timeout`` (408) and the connection closed; more than ``header_bytes`` of them are
``headers-too-large`` (431). The body has its own deadline where it is read (:mod:`relay.web.body`); here a connection whose body
is still not whole some seconds after that is closed, whoever reads it.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from relay.errors import Refused
from relay.settings import ApiSettings
from relay.web import problems

GRACE_SECONDS = 5.0


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with patience that ends."""

    settings: ApiSettings = ApiSettings()

    def __init__(self, *args: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's own, handed through
        super().__init__(*args, **named)
        self._deadline: asyncio.TimerHandle | None = None
        self._heading = False
        self._head = 0
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, as long as they come in time and are not too many."""
        if self._refused:
            return
        if self._deadline is None:
            self._wait_for_headers()
        was_heading = self._heading
        super().data_received(data)
        if was_heading and self._heading and not self._refused:  # of the bytes that began it, some may be another request's
            self._head += len(data)
            self._check(self._head)

    def on_message_begin(self) -> None:
        """Begin to count a request's headers."""
        super().on_message_begin()
        self._heading, self._head = True, 0
        if self._deadline is None:
            self._wait_for_headers()

    def on_headers_complete(self) -> None:
        """Let the request begin, and wait for its body."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if self._check(size):
            self._heading = False
            self._wait(self.settings.body_seconds + GRACE_SECONDS, self._close)
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand on a part of a body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request is whole."""
        if not self._refused:
            self._stop_waiting()
            super().on_message_complete()

    def _wait_for_headers(self) -> None:
        self._wait(self.settings.header_seconds, self._too_slow)

    def _wait(self, seconds: float, then: Any) -> None:  # noqa: ANN401 - a method of this object
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, then)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        seconds = self.settings.header_seconds
        self._refuse(Refused("headers-timeout", f"The request's headers did not arrive within {seconds:g} s."))

    def _check(self, size: int) -> bool:
        """Return whether a request's line and headers are short enough; refuse it when they are not."""
        limit = self.settings.header_bytes
        if size > limit:
            self._refuse(Refused("headers-too-large", f"The request's line and headers have more than {limit} bytes."))
        return size <= limit

    def _refuse(self, error: Refused) -> None:
        """Answer a request that never got to the application, and close."""
        self._refused = True
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(_raw(error))
        self._close()

    def _close(self) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.close()


def connection(settings: ApiSettings) -> type[Connection]:
    """Return the connections of a listener with these settings, as uvicorn takes them."""
    return type("Connection", (Connection,), {"settings": settings})


def _raw(error: Refused) -> bytes:
    document = problems.document(error)
    body = json.dumps(document).encode()
    status = HTTPStatus(document["status"])
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {problems.MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\ncache-control: no-store\r\n\r\n"
    )
    return head.encode() + body
