"""Where a running node finds new versions of the directory besides its peers: the files its settings name, and a URL.

Both are looked at again and again and say at little cost that nothing changed. Nothing they bring is trusted: whoever looks
judges it (:mod:`relay.directory`). What a web server sends is bounded in bytes and in time, and no redirection is followed.

Errors raised: ``Misconfigured`` with the codes of :func:`relay.directory.read_bundle` and with ``directory-unreachable``.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from pathlib import Path
from typing import Protocol

import httpx2

from relay.directory import MAX_BUNDLE_BYTES, Bundle, Paths, read_bundle
from relay.errors import Misconfigured
from relay.settings import DirectorySettings

CONNECT_SECONDS = 10.0
DOWNLOAD_SECONDS = 60.0


class Source(Protocol):
    """Something that may have a newer version."""

    name: str
    pause: float

    async def stamp(self) -> object:
        """Return what is different whenever the source has something else."""

    async def read(self) -> Bundle | None:
        """Return what the source has, nothing of it verified, or None when it is what it had before."""


class Files:
    """The files of the directory on this machine."""

    name = "files"

    def __init__(self, settings: DirectorySettings) -> None:
        self.pause = settings.poll_seconds
        self._paths = paths(settings)

    async def stamp(self) -> object:
        """Return what the file system says of every file that counts."""
        return await asyncio.to_thread(self._stamp)

    async def read(self) -> Bundle | None:
        """Return the bundle in the files."""
        return await asyncio.to_thread(read_bundle, self._paths)

    def _stamp(self) -> tuple[tuple[str, int, int, int], ...]:
        at = self._paths
        found = [at.file, at.signatures, at.bundle, *sorted(at.root.parent.glob("root.*.json"))]
        return tuple(_state(path) for path in found)


class Web:
    """A bundle behind a URL; asked for with ``If-None-Match``, so an unchanged one costs next to nothing."""

    name = "http"

    def __init__(self, url: str, pause: float) -> None:
        self.pause = pause
        self._url = url
        self._tls = ssl.create_default_context()
        self._tag: str | None = None
        self._digest = b""

    async def stamp(self) -> object:
        """Return something new each time: only asking tells."""
        return object()

    async def read(self) -> Bundle | None:
        """Return the bundle, or None when the server says, or its bytes show, that it is the one before."""
        try:
            async with asyncio.timeout(DOWNLOAD_SECONDS):
                raw = await self._fetch()
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError, ValueError) as error:
            raise _unreachable(self._url, f"{type(error).__name__} {error}".strip()) from error
        if raw is None or (digest := hashlib.sha256(raw).digest()) == self._digest:
            return None
        self._digest = digest
        return Bundle.unpack(raw)

    async def _fetch(self) -> bytes | None:
        headers = {"Accept-Encoding": "identity", **({"If-None-Match": self._tag} if self._tag else {})}
        async with (
            httpx2.AsyncClient(timeout=CONNECT_SECONDS, trust_env=False, verify=self._tls) as client,
            client.stream("GET", self._url, headers=headers) as answer,
        ):
            if answer.status_code == httpx2.codes.NOT_MODIFIED:
                return None
            if answer.status_code != httpx2.codes.OK:
                raise _unreachable(self._url, f"the server answers {answer.status_code}")
            raw = await _capped(answer)
            tag = answer.headers.get("ETag", "")
            self._tag = tag if tag.isascii() and tag.isprintable() else None  # any other can't be said back
            return raw


def paths(settings: DirectorySettings) -> Paths:
    """Return the files that the settings name."""
    return Paths(settings.root, settings.file, settings.signatures)


def sources(settings: DirectorySettings) -> list[Source]:
    """Return where the settings say to look."""
    found: list[Source] = [Files(settings)]
    if settings.url is not None:
        found.append(Web(settings.url, settings.url_seconds))
    return found


async def _capped(answer: httpx2.Response) -> bytes:
    raw = bytearray()
    async for chunk in answer.aiter_raw():
        raw += chunk
        if len(raw) > MAX_BUNDLE_BYTES:
            sentence = f"What the server sends as the directory has more than {MAX_BUNDLE_BYTES} bytes; the rest was not read."
            raise Misconfigured("directory-too-large", sentence)
    return bytes(raw)


def _unreachable(url: str, why: str) -> Misconfigured:
    return Misconfigured("directory-unreachable", f"No directory can be had from {url}: {why}.")


def _state(path: Path) -> tuple[str, int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return path.name, 0, 0, 0
    return path.name, found.st_mtime_ns, found.st_size, found.st_ino
