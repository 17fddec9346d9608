"""Consoles of live nodes, and people who use them as a browser without scripts would."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import httpx2

from relay.api import Api
from relay.clients import Register, Role
from relay.console import Console
from relay.network import Network
from relay.tls import client_context
from relay.web.served import Here, make_here
from tests.live import Live, eventually

PASSWORD = "five invented words of mine"
WHY = "order 7"


def hire(network: Network, centre: str, name: str, *roles: Role, person: str | None = None) -> str:
    """Add a person who may sign in at a centre's console, and return the token of that client."""
    register = Register(network.centre(centre) / "clients.json")
    _, token = register.add(name, roles, person=person or f"{name.capitalize()} Example", why=WHY)
    register.set_password(name, PASSWORD, why=WHY)
    return token


class Visitor:
    """Somebody with a browser: it keeps cookies, and says from which page a form comes."""

    def __init__(self, url: str, ca: Path | None = None, **headers: str) -> None:
        self.url = url
        given = {"origin": url, **headers}
        verify = client_context(ca) if ca is not None else True
        self.client = httpx2.AsyncClient(base_url=url, headers=given, timeout=60, trust_env=False, verify=verify)

    async def __aenter__(self) -> Visitor:
        """Open the browser."""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close it."""
        await self.client.aclose()

    async def answers(self) -> bool:
        """Whether somebody answers there."""
        with contextlib.suppress(httpx2.TransportError):
            return (await self.get("/sign-in")).status_code == 200
        return False

    async def sign_in(self, name: str, password: str = PASSWORD, target: str = "/") -> httpx2.Response:
        """Send the sign-in form."""
        return await self.post("/sign-in", name=name, password=password, next=target)

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        """Open a page."""
        return await self.client.get(path, headers=headers)

    async def post(self, path: str, **fields: str) -> httpx2.Response:
        """Send a form with just these fields."""
        kind = {"content-type": "application/x-www-form-urlencoded"}
        return await self.client.post(path, content=urlencode(fields).encode(), headers=kind)

    async def token(self, page: str, action: str) -> str:
        """Return the token that a page's form to an address carries."""
        answer = await self.get(page)
        assert answer.status_code == 200, answer.text
        return token_of(answer.text, action)

    async def act(self, page: str, action: str, **fields: str) -> httpx2.Response:
        """Open a page and send its form to an address, with a reason."""
        return await self.post(action, **{"csrf": await self.token(page, action), "reason": WHY, **fields})

    async def events(self, path: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Listen to a page's stream: the names of its events, and what they carry."""
        async with self.client.stream("GET", path, headers={"accept": "text/event-stream"}) as stream:
            assert stream.status_code == 200, await stream.aread()
            name = ""
            async for line in stream.aiter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))


def token_of(page: str, action: str) -> str:
    """Return the token of the form to an address in a page."""
    for form in re.findall(r"<form[^>]*>.*?</form>", page, re.DOTALL):
        if f'action="{html.escape(action)}"' in form:
            return re.findall(r'name="csrf" value="([^"]*)"', form)[0]
    raise AssertionError(f"no form to {action} in {page}")


def code_of(page: str) -> str:
    """Return the code of the error that a page shows."""
    return "".join(re.findall(r'<p class="code"><code>(.*?)</code>', page))


async def taken(live: Live, centre: str, message_id: str) -> None:
    """Let a centre's system take and acknowledge what waits for it, until it was given this message."""

    async def given() -> bool:
        return message_id in [one.id for one in await live.take(centre, 1)]

    await eventually(given)


class Served:
    """Nodes with their APIs and consoles, and visitors of these."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.heres: dict[str, Here] = {}
        self._surfaces: dict[str, tuple[Console, Api, list[asyncio.Task[None]]]] = {}
        self._visitors: list[Visitor] = []

    async def start(self, *centres: str) -> None:
        """Start nodes with API and console, and wait until they answer."""
        await self.live.start(*centres)
        for centre in centres:
            here = self.heres[centre] = make_here(self.live[centre])
            console, api = Console(here), Api(here)
            tasks = [asyncio.create_task(surface.run(self.live[centre])) for surface in (console, api)]
            self._surfaces[centre] = console, api, tasks
            await eventually(self.visitor(centre).answers)

    def visitor(self, centre: str, **headers: str) -> Visitor:
        """Return somebody who opened a centre's console."""
        self._visitors.append(Visitor(f"http://{self.live.network.console(centre)}", **headers))
        return self._visitors[-1]

    async def signed_in(self, centre: str, name: str, password: str = PASSWORD) -> Visitor:
        """Return somebody who signed in at a centre's console."""
        visitor = self.visitor(centre)
        answer = await visitor.sign_in(name, password)
        assert answer.status_code == 303, answer.text
        return visitor

    async def stop_surfaces(self, centre: str) -> None:
        """Stop a node's API and console as the node does."""
        console, api, tasks = self._surfaces.pop(centre)
        for surface in (api, console):
            await surface.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Stop everything."""
        for visitor in self._visitors:
            await visitor.client.aclose()
        for centre in list(self._surfaces):
            await self.stop_surfaces(centre)
        await self.live.close()
