"""What every surface of a node has in common: the guard before its routes, and how it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message

from relay.api import Api
from relay.console import Console
from relay.network import write_network
from relay.node import open_node
from relay.settings import load
from relay.web.guard import Guard, Headers

MARK = (b"x-guarded", b"yes")


def look(request: Request) -> Response | None:
    """Turn away, send elsewhere or let through, as the address says."""
    if request.url.path == "/stranger":
        raise PermissionError("secret")
    return PlainTextResponse("elsewhere") if request.url.path == "/elsewhere" else None


def guarded(given: Headers) -> Headers:
    """Mark an answer."""
    return [*given, MARK]


async def answer(_request: Request, error: Exception) -> Response:
    """Say of what kind an error was."""
    return PlainTextResponse(type(error).__name__, 500)


async def stream(_request: Request) -> Response:
    """Begin an answer, and fail."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"begun"
        raise ValueError("secret")

    return StreamingResponse(pieces())


async def fault(_request: Request) -> Response:
    """Fail before an answer."""
    raise KeyError("secret")


APP = Starlette(routes=[Route("/fault", fault), Route("/stream", stream)])
APP.add_middleware(Guard, look=look, headers=guarded, answer=answer)


async def ask(path: str) -> list[Message]:
    """Return what the guard sends, as the server sees it."""
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    address = {"type": "http", "method": "GET", "scheme": "http", "server": ("test", 80), "path": path}
    scope = {**address, "headers": [], "query_string": b""}
    await APP(scope, receive, send)
    return sent


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [("/stranger", 500, b"PermissionError"), ("/elsewhere", 200, b"elsewhere"), ("/fault", 500, b"KeyError")],
)
async def test_whatever_happens_there_is_one_answer(path: str, status: int, body: bytes) -> None:
    """Who is turned away, sent elsewhere or met by a fault is answered once, without the fault's content."""
    sent = await ask(path)
    assert [one["status"] for one in sent if one["type"] == "http.response.start"] == [status]
    assert b"".join(one.get("body", b"") for one in sent) == body


async def test_every_answer_of_the_application_has_the_guards_headers() -> None:
    """What a route or the look answers carries what the guard adds to it."""
    for path in ("/elsewhere", "/nothing", "/stranger"):
        (start,) = (one for one in await ask(path) if one["type"] == "http.response.start")
        assert MARK in start["headers"]


async def test_an_answer_that_has_begun_is_not_followed_by_another() -> None:
    """A fault amid an answer ends it: no second one is sent behind it, and the fault goes no further."""
    sent = await ask("/stream")
    assert [one["type"] for one in sent] == ["http.response.start", "http.response.body"]


async def test_a_surface_that_was_told_to_stop_serves_nobody(tmp_path: Path) -> None:
    """A node may be stopped before its surfaces listen: they end at once then, and the addresses are free."""
    network = write_network(tmp_path / "net", ("SURFACED",))
    surfaces = (Api(), Console())
    for surface in surfaces:
        await surface.stop()
    node = await open_node(load(network.node_file("SURFACED")))
    running = asyncio.create_task(node.run(*surfaces))
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
            async with asyncio.timeout(60):
                for surface in surfaces:
                    await surface._stopped.wait()
            with pytest.raises(httpx2.ConnectError):
                await client.get(f"http://{network.listen('SURFACED')}/v1/codes")
    finally:
        node.stop()
        await running
