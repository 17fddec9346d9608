"""The console in a real browser: by keyboard, in three languages, light and dark, enlarged, live, and against hostile messages.

Each tab is watched: a test fails when its pages report an error, break their security policy, or ask another origin for anything
(:mod:`tests.browsing`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import Browser, async_playwright, expect

from relay.api import Api
from relay.clients import Register, Role
from relay.console import Console
from relay.console.languages import translations
from relay.console.pages import pages
from relay.network import Network
from relay.node import open_node
from relay.rabbit import PrivateBroker
from relay.settings import load
from relay.web.served import make_here
from tests.browsing import NARROW, PATIENCE_MS, Visit, launch, visit
from tests.live import Live, message, private_network, redirect

HOME, AWAY, SILENT = "LUMA", "LUMB", "LUMC"
SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
PASSWORD = "an-invented-password"
OFFICER: tuple[Role, ...] = ("watch", "operate", "audit", "read")

expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Desk:
    """The console of ``HOME``: who may sign in there, its peers, and a message that came from one of them."""

    live: Live
    browser: Browser
    address: str
    states: dict[str, Any] = field(default_factory=dict)
    received: str = ""
    sent: str = ""

    def visit(self, who: str = "officer", **how: Any) -> Any:
        """Open a tab, signed in as somebody."""
        return visit(self.browser, self.address, state=self.states[who], **how)


class Surfaced(Live):
    """Nodes with their APIs and consoles."""

    async def start(self, *centres: str) -> None:
        """Start nodes and wait until they reach the broker."""
        for centre in centres:
            node = self.nodes[centre] = await open_node(load(self.network.node_file(centre)))
            here = make_here(node)
            self._tasks[centre] = asyncio.create_task(node.run(Api(here), Console(here)), name=centre)
        for centre in centres:
            await asyncio.wait_for(self.nodes[centre].broker.connected.wait(), 20)


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Run Chromium, once for all tests."""
    async with async_playwright() as play:
        browser = await launch(play)
        yield browser
        await browser.close()


@pytest.fixture(scope="module")
def offices(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Write a network in which one centre tries to put scripts into what the directory says of it."""
    network = private_network(tmp_path_factory.mktemp("browser") / "network", broker, "browser", (HOME, AWAY, SILENT))

    def inject(register: dict[str, Any]) -> None:
        member = next(one for one in register["members"] if one["id"] == AWAY)
        member["name"] = f"Office {SCRIPT}"
        member["contact"]["name"] = f"Officer {SCRIPT}"

    register = Register(network.centre(HOME) / "clients.json")
    for name, roles, person in (("officer", OFFICER, "Ines Aldermoor"), ("guest", ("watch",), "Tomas Verhelst")):
        register.add(name, roles, person=person)
        register.set_password(name, PASSWORD)
    return redirect(network, inject)


@pytest.fixture(scope="module")
async def desk(offices: Network, broker: PrivateBroker, browser: Browser) -> AsyncIterator[Desk]:
    """Run three nodes that notice silence within seconds, let messages pass, and sign two people in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__HEARTBEAT_SECONDS", "1")
        patch.setenv("RELAY_CONSOLE__LIVE_SECONDS", "0.5")
        live = Surfaced(offices, broker)
        try:
            await live.start(HOME, AWAY, SILENT)
            desk = Desk(live, browser, offices.console(HOME))
            desk.sent = (await live.submit(HOME, message(to=[AWAY, SILENT]))).id
            desk.received = (await live.submit(AWAY, message(to=[HOME]))).id
            await live.reaches(AWAY, desk.received, HOME, "accepted")
            for name in ("officer", "guest"):
                async with visit(browser, desk.address) as tab:
                    await tab.sign_in(name, PASSWORD)
                    desk.states[name] = await tab.page.context.storage_state()
            yield desk
        finally:
            await live.close()


async def test_one_signs_in_and_goes_everywhere_by_keyboard(desk: Desk) -> None:
    """Name, password, Enter; the first Tab of a page skips to its content; each page of the menu can be reached and opened."""
    async with visit(desk.browser, desk.address) as tab:
        keys = tab.page.keyboard
        await tab.go("/")
        await keys.type("officer")  # the form takes the focus by itself
        await keys.press("Tab")
        await keys.type(PASSWORD)
        await keys.press("Enter")
        await expect(tab.page.locator("h1")).to_have_text("Network")
        await keys.press("Tab")
        assert await tab.focused() == "Skip to the content"
        await keys.press("Enter")
        assert await tab.page.evaluate("() => document.activeElement.id") == "main"
        for name in await tab.page.locator("nav ul a").all_inner_texts():
            await _open(tab, name)


async def _open(tab: Visit, name: str) -> None:
    """Open a page of the menu with Tab and Enter alone."""
    await tab.page.evaluate("() => { document.activeElement.blur(); getSelection().removeAllRanges() }")
    for _ in range(30):
        await tab.page.keyboard.press("Tab")
        if await tab.focused() == name:
            await tab.page.keyboard.press("Enter")
            await expect(tab.page.locator("nav [aria-current=page]")).to_have_text(name)
            return
    pytest.fail(f"{name} can't be reached by Tab")


ADDRESSES = {page.name: page.path for page in pages()} | {"sign-in": "/sign-in"}


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize(("language", "dark", "width"), [("en", False, 1280), ("fr", True, NARROW), ("es", False, NARROW)])
async def test_a_page_is_readable_for_everybody(desk: Desk, name: str, language: str, dark: bool, width: int) -> None:
    """It says its language and has no text of another; at 200 % zoom nothing sticks out; axe-core finds nothing, light or dark."""
    path = ADDRESSES[name].replace("{id}", desk.received)
    assert "{" not in path, "say what stands in this address"
    async with desk.visit("officer" if name != "sign-in" else "nobody", language=language, dark=dark, width=width) as tab:
        assert await tab.go(path) == 200
        assert await tab.page.locator("html").get_attribute("lang") == language
        assert _left_in_english(await tab.texts(), language) == []
        assert await tab.overflow() <= 0
        assert await tab.violations() == []


def _left_in_english(texts: list[str], language: str) -> list[str]:
    """Return the texts that have a translation, and are not it."""
    words = translations(language)
    return [text for text in texts if words.gettext(text) != text]


async def test_a_peer_is_seen_to_fall_silent_and_to_come_back(desk: Desk) -> None:
    """Without a reload: silent, with what waits for it growing older, and after its return neither."""
    async with desk.visit() as tab:
        await tab.go("/")
        await tab.page.evaluate("() => { window.same = true }")
        row = tab.page.locator("tbody tr", has=tab.page.locator(f"th b:text-is('{SILENT}')"))
        state, oldest = row.locator(".state"), row.locator("td").nth(2)
        await expect(state).to_contain_text("heard")
        await desk.live.abort(SILENT)
        await desk.live.submit(HOME, message(to=[SILENT]))
        await expect(state).to_contain_text("silent")
        await expect(tab.page.locator("tbody tr").first).to_contain_text(SILENT)
        await expect(oldest).to_contain_text("routine: 3 s")
        await expect(oldest).to_contain_text("routine: 5 s")
        await desk.live.start(SILENT)
        await expect(state).to_contain_text("heard")
        await desk.live.take(SILENT)
        await expect(oldest).to_contain_text("nothing")
        assert await tab.page.evaluate("() => window.same")
