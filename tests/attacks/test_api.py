"""Attacks on the API of a real server: on its framing of HTTP, its JSON, its paths and its patience."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from relay.api import Api
from tests.attacks.forge import A, B
from tests.live import PATIENCE, Live, eventually, message

HOST = b"Host: 127.0.0.1\r\n"
BIG = 6 * 1024 * 1024 + 1
Answer = tuple[int, str | None]


@pytest.fixture(scope="module")
async def address(live: Live) -> AsyncIterator[tuple[str, int]]:
    """Serve B's API."""
    served, node = Api(), live[B]
    task = asyncio.create_task(served.run(node), name="api")
    host, _, port = node.centre.settings.api.listen.rpartition(":")

    async def listens() -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            return True
        return False

    await eventually(listens)
    yield host, int(port)
    await served.stop()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def ask(address: tuple[str, int], *parts: bytes) -> list[Answer]:
    """Send bytes as they are and return status and code of each answer, until the server closes, as it always does here."""
    reader, writer = await asyncio.open_connection(*address)
    raw = b""
    with contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
    with contextlib.suppress(ConnectionError):
        while more := await asyncio.wait_for(reader.read(65_536), PATIENCE):
            raw += more
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return [_answer(one) for one in raw.split(b"HTTP/1.1 ")[1:]]


def _answer(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return int(head[:3]), json.loads(body)["code"]
    return int(head[:3]), None


def post(live: Live, body: bytes, path: bytes = b"/v1/messages", headers: bytes = b"", length: bool = True) -> bytes:
    """Return a request of B's system."""
    token = live.network.token(B, "system").encode()
    size = b"Content-Length: %d\r\n" % len(body) if length else b""
    return (
        b"POST " + path + b" HTTP/1.1\r\n" + HOST + b"Authorization: Bearer " + token + b"\r\n"
        b"Connection: close\r\n" + size + headers + b"\r\n" + body
    )  # fmt: skip


def get(live: Live, path: bytes, headers: bytes = b"") -> bytes:
    """Return a request of B's operator."""
    token = live.network.token(B, "operator").encode()
    return (
        b"GET "
        + path
        + b" HTTP/1.1\r\n"
        + HOST
        + b"Authorization: Bearer "
        + token
        + b"\r\nConnection: close\r\n"
        + headers
        + b"\r\n"
    )


GOOD = message(to=["FOEA"])
SMUGGLED = b"GET /v1/peers HTTP/1.1\r\nHost: x\r\n\r\n"

FRAMES: dict[str, bytes] = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "a length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "a length that is none": b"Content-Length: 5, 6\r\n",
    "a negative length": b"Content-Length: -1\r\n",
    "a length of a thousand digits": b"Content-Length: " + b"9" * 1000 + b"\r\n",
    "an encoding of nobody": b"Transfer-Encoding: xchunked\r\n",
    "a bare line feed in a header": b"X-One: a\nContent-Length: 0\r\n",
    "a bare carriage return in a header": b"X-One: a\rContent-Length: 0\r\n",
    "a nul in a header": b"X-One: a\0b\r\n",
    "a space before the colon": b"Content-Length : 5\r\n",
    "a chunk of a negative size": b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n",
    "a chunk of an endless size": b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\nhello\r\n0\r\n",
}


@pytest.mark.parametrize("attack", FRAMES)
async def test_a_request_has_one_length_or_is_none(live: Live, address: tuple[str, int], attack: str) -> None:
    """Two readers never see two requests in the same bytes: it is refused, and what follows is not taken for another request."""
    answers = await ask(address, post(live, b"", headers=FRAMES[attack], length=False), b"hello", SMUGGLED)
    assert [status for status, _ in answers if status < 400] == []
    assert len(answers) <= 1, "the bytes behind were taken for another request"


JSON: dict[str, tuple[bytes, Answer]] = {
    "a member twice": (GOOD[:-1] + b',"kind":"alert"}', (400, "duplicate-key")),
    "deep nesting": (b"[" * 100_000, (400, "too-deep")),
    "deep nesting that ends": (b'{"kind":' + b"[" * 500 + b"]" * 500 + b"}", (400, "too-deep")),
    "a number of a thousand digits": (GOOD[:-1] + b',"version":' + b"9" * 1000 + b"}", (422, "wrong-type")),
    "not a number": (GOOD[:-1] + b',"weight":NaN}', (400, "not-finite")),
    "a lone surrogate": (GOOD[:-1] + b',"case":"\\ud800"}', (400, "lone-surrogate")),
    "bytes that are no text": (b'{"kind":"\xff"}', (400, "not-utf8")),
    "another encoding": (GOOD.decode().encode("utf-16"), (400, "not-utf8")),
    "nothing": (b"", (400, "not-json")),
    "a list": (b"[]", (400, "not-an-object")),
}


@pytest.mark.parametrize("attack", JSON)
async def test_a_body_that_is_no_message_is_refused_with_its_code(live: Live, address: tuple[str, int], attack: str) -> None:
    """However it is spelled: nothing is stored, and the answer says what is wrong."""
    body, answer = JSON[attack]
    assert await ask(address, post(live, body)) == [answer]


CONTROLS = {"line end": "\r\n", "escape": "\x1b[2J", "bell": "\x07", "delete": "\x7f", "next line": "\x85", "override": "\u202e"}
FIELDS: dict[str, tuple[Callable[[str], Any], str]] = {
    "kind": (lambda bad: f"seizure{bad}", "unknown-kind"),
    "precedence": (lambda bad: f"{bad}flash", "not-in-list"),
    "status": (lambda bad: f"actual{bad}", "not-in-list"),
    "to": (lambda bad: [f"{A}{bad}"], "bad-format"),
    "crime_types": (lambda bad: [f"drugs.cocaine{bad}"], "unknown-crime-type"),
    "countries": (lambda bad: [f"BE{bad}"], "unknown-country"),
    "expires_at": (lambda bad: f"2126-01-01T00:00:00Z{bad}", "bad-format"),
}


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("field", FIELDS)
async def test_a_control_character_in_a_mark_is_refused(live: Live, address: tuple[str, int], field: str, control: str) -> None:
    """What routes a message, or is a code, a time or a centre, holds no control character: nothing is trimmed, nothing stored."""
    make, code = FIELDS[field]
    ((status, given),) = await ask(address, post(live, message(**{"to": [A], field: make(CONTROLS[control])})))
    assert (status, given) == (422, code)


@pytest.mark.parametrize("control", CONTROLS)
async def test_a_control_character_in_a_text_is_content(live: Live, address: tuple[str, int], control: str) -> None:
    """Prose may have line ends and more; it is taken as content, and no header or line of the answer is made of it."""
    bad = f"one{CONTROLS[control]}Set-Cookie: a=b"
    ((status, _),) = await ask(address, post(live, message(to=[A], remarks=bad)))
    assert status == 202


async def test_a_nul_in_a_message_is_refused_wherever_it_stands(live: Live, address: tuple[str, int]) -> None:
    """Not every system keeps it, so no field has it."""
    for field in ("kind", "remarks", "case_number"):
        assert await ask(address, post(live, message(to=[A], **{field: "a\0b"}))) == [(400, "nul")]


BAD_HEADERS: dict[str, tuple[bytes, Answer]] = {
    "a bell in the key": (b"Idempotency-Key: a\x07b\r\n", (400, None)),
    "an escape in the key": (b"Idempotency-Key: a\x1b[2Jb\r\n", (400, None)),
    "a delete in the key": (b"Idempotency-Key: a\x7fb\r\n", (400, None)),
    "a next line in the key": (b"Idempotency-Key: a\x85b\r\n", (400, "bad-idempotency-key")),
    "a tab in the key": (b"Idempotency-Key: a\tb\r\n", (400, "bad-idempotency-key")),
    "a space in the key": (b"Idempotency-Key: a b\r\n", (400, "bad-idempotency-key")),
    "a key folded over two lines": (b"Idempotency-Key: a\r\n b\r\n", (400, None)),
    "an escape in a token": (b"Authorization: Bearer x\x1b\r\n", (400, None)),
}


@pytest.mark.parametrize("attack", BAD_HEADERS)
async def test_a_control_character_in_a_header_is_refused(live: Live, address: tuple[str, int], attack: str) -> None:
    """No header that the API reads has one (without a code: it is no HTTP), and a line that goes on in the next is no header."""
    headers, answer = BAD_HEADERS[attack]
    assert await ask(address, post(live, GOOD, headers=headers)) == [answer]


PATHS = [
    b"/v1/messages/../../../../etc/passwd",
    b"/v1/messages/..%2f..%2f..%2fetc%2fpasswd",
    b"/v1/messages/%2e%2e/%2e%2e/etc/passwd",
    b"/v1/messages/..\\..\\etc\\passwd",
    b"/v1/messages/%00",
    b"/v1/messages/%0d%0aSet-Cookie:%20a=b",
    b"/v1/messages/" + b"a" * 8000,
    b"/docs/../../../../etc/passwd",
    b"/docs/..%2f..%2fapp.py",
    b"//etc/passwd",
]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
async def test_a_path_leads_nowhere_else(live: Live, address: tuple[str, int], path: bytes) -> None:
    """An id that is a path, encoded or not, finds nothing, and no header of the answer is made of it."""
    ((status, code),) = await ask(address, get(live, path))
    assert status in (400, 404, 405, 422), (status, code)


QUERIES = [b"limit=9" + b"9" * 1000, b"limit=-1", b"limit=NaN", b"limit=1&limit=2%00", b"after=../x", b"wait=inf", b"wait=1e400"]


@pytest.mark.parametrize("query", QUERIES)
async def test_a_query_that_is_not_of_its_form_is_refused(live: Live, address: tuple[str, int], query: bytes) -> None:
    """Numbers without end and text in their place are the caller's fault, not the server's."""
    for path in (b"/v1/messages?", b"/v1/received?"):
        ((status, _),) = await ask(address, get(live, path + query))
        assert status < 500


async def test_a_body_beyond_the_limit_is_never_held(live: Live, address: tuple[str, int]) -> None:
    """Declared or in chunks: 413, and the connection is closed."""
    declared = post(live, b"", headers=b"Content-Length: %d\r\n" % (100 * BIG), length=False)
    assert await ask(address, declared) == [(413, "too-large")]
    chunk = b"%x\r\n" % 65_536 + b"x" * 65_536 + b"\r\n"
    chunks = [chunk] * (BIG // 65_536 + 2)
    chunked = post(live, b"", headers=b"Transfer-Encoding: chunked\r\n", length=False)
    assert await ask(address, chunked, *chunks, b"0\r\n\r\n") == [(413, "too-large")]


async def test_headers_have_a_size(live: Live, address: tuple[str, int]) -> None:
    """A megabyte of headers, in one or in many, is refused."""
    for headers in (b"X-One: " + b"a" * 1_000_000 + b"\r\n", b"X-One: a\r\n" * 50_000):
        answers = await ask(address, get(live, b"/v1/peers", headers))
        assert [status for status, _ in answers if status < 400] == []


TOKENS = [
    b"",
    b"Authorization: Bearer \r\n",
    b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
    b"Authorization: Basic OnRva2Vu\r\n",
    b"Authorization: Bearer \xff\xfe\r\n",
    b"X-Forwarded-For: 127.0.0.1\r\n",
]


@pytest.mark.parametrize("header", TOKENS)
async def test_without_a_right_token_nothing_is_said(address: tuple[str, int], header: bytes) -> None:
    """No token, an empty one, two, another scheme, or a claim to come from nearer: 401, on known and unknown paths alike."""
    for path in (b"/v1/messages", b"/no/such/path"):
        raw = b"GET " + path + b" HTTP/1.1\r\n" + HOST + header + b"Connection: close\r\n\r\n"
        assert await ask(address, raw) == [(401, "not-authenticated")]
