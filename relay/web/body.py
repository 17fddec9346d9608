"""Request bodies, read within a limit of bytes and of time.

A body over its limit is never held: what is left of it is thrown away, for as long as it makes sense to let the sender finish
and read the answer, and then the connection is closed.

Errors raised: ``Refused`` with ``too-large``, ``body-timeout``, ``body-incomplete`` and ``bad-idempotency-key``.
"""

from __future__ import annotations

import asyncio
import re

from starlette.requests import ClientDisconnect, Request

from relay.errors import Problem, Refused
from relay.web.served import here

LINGER_BYTES = 64 * 1024 * 1024

_KEY = re.compile(r"[!-~]{1,255}")


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body of a request."""
    seconds = here(request).centre.settings.api.body_seconds
    try:
        async with asyncio.timeout(seconds):
            chunks, size = await _read(request, limit)
    except TimeoutError:
        raise Refused("body-timeout", f"The body did not arrive within {seconds:g} s.") from None
    except ClientDisconnect:
        raise Refused("body-incomplete", "The connection ended before the body did.") from None
    if size > limit:
        sentence = f"the body has more than the {limit} bytes this node takes"
        raise Refused("too-large", sentence, (Problem("", "too-large", sentence),))
    return b"".join(chunks)


def idempotency_key(request: Request) -> str | None:
    """Return the request's idempotency key, if it has one."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise Refused("bad-idempotency-key", "Idempotency-Key is one header of 1 to 255 visible ASCII characters.")
    return given[0]


async def _read(request: Request, limit: int) -> tuple[list[bytes], int]:
    chunks: list[bytes] = []
    size = _declared(request)
    if size > limit + LINGER_BYTES:
        return [], size
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        else:
            chunks.clear()
        if size > limit + LINGER_BYTES:
            break
    return chunks, size


def _declared(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else 0
